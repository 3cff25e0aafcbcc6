"""A process whose threads reserve two limits, half of them in the opposite order."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter

from gonogo.records import Denial
from gonogo.store.postgres import PostgresStore
from tests.store.making import NOW, charge

THREADS = 6
ROUNDS = 10


def main(url: str) -> None:
    """Print how often what came of it."""
    store, seen = PostgresStore(url), Counter[str]()

    def reserve(rows: list[str]) -> None:
        for _ in range(ROUNDS):
            try:
                found = store.write(
                    lambda tx: [tx.limits.reserve([charge(row, most=10_000)], NOW) for row in rows]
                )
            except Exception as error:
                seen[repr(error)] += 1
            else:
                denied = any(isinstance(one, Denial) for one in found)
                seen["denied" if denied else "reserved"] += 1

    threads = [
        threading.Thread(target=reserve, args=(["a", "b"] if number % 2 else ["b", "a"],))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
