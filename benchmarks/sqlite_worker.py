"""A worker process: ``python -m benchmarks.sqlite_worker KIND FOLDER THREADS POLL``.

It says ``ready``, then ``began NUMBER TIME`` of each job. ``idle SECONDS`` on its input asks for
what it costs meanwhile, answered by ``idle CPU-SECONDS STATEMENTS``; the end of its input ends it.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.sqlite_queues import opened


def main(kind: str, folder: str, threads: str, poll: str) -> None:
    """Be a worker process; see above."""
    statements = counted()

    def began(number: int) -> None:
        sys.stdout.write(f"began {number} {time.monotonic()}\n")
        sys.stdout.flush()

    where = None if folder == "memory" else Path(folder)
    with opened(kind, where, began, float(poll)) as queue:
        queue.start(int(threads))
        if where is None:
            statements = transactions(queue)
        print("ready", flush=True)
        for line in sys.stdin:
            before, cpu = len(statements), time.process_time()
            time.sleep(float(line.split()[1]))
            used, asked = time.process_time() - cpu, len(statements) - before
            print("idle", used, asked, flush=True)


def counted() -> list[str]:
    """Every statement that any connection of this process will run from now on."""
    seen: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(seen.append)
        return connection

    sqlite3.connect = sqlite3.dbapi2.connect = traced
    return seen


def transactions(queue: Any) -> list[str]:
    """Every read and write of a ledger in memory, which knows no statements."""
    seen: list[str] = []
    store = queue.sandbox.store
    for name in ("read", "write"):
        ask = getattr(store, name)
        setattr(store, name, lambda *a, _ask=ask, **o: (seen.append(""), _ask(*a, **o))[1])
    return seen


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    main(*sys.argv[1:])
