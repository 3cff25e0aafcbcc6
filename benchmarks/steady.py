"""A worker under load for some periods, in this process: ``steady URL SECONDS PERIODS KEEP``."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from gonogo.orchestrator import SandboxOrchestrator

THREADS = 4
BATCH = 500
"""Jobs that are queued at once, as soon as fewer wait."""

Sizes = Callable[[], Mapping[str, float]]
"""What a ledger takes: its place on the disk, and what is open to it."""


class Load:
    """Keeps a worker busy, and says what a period of it looks like.

    Args:
        keep: seconds for which finished calls are kept.
    """

    def __init__(self, url: str, keep: float, sizes: Sizes) -> None:
        self._sizes = sizes
        self._sandbox = SandboxOrchestrator(url, max_workers=THREADS, retention=keep)
        self._done = 0
        self._queued = 0
        self._counting = threading.Lock()

        @self._sandbox.action("job", irreversible=False)
        def job(number: int) -> int:
            with self._counting:
                self._done += 1
            return number

        self._job = job

    def __enter__(self) -> Load:
        self._sandbox.worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.cleanup()

    def run(self, seconds: float) -> dict[str, float]:
        """One period: its rate, and what there is at its end."""
        began, done = time.perf_counter(), self._done
        while time.perf_counter() - began < seconds:
            if self._queued - self._done < BATCH:
                self._job.enqueue_many([(n,) for n in range(self._queued, self._queued + BATCH)])
                self._queued += BATCH
            else:
                time.sleep(0.01)
        return {
            "jobs a second": (self._done - done) / (time.perf_counter() - began),
            "MB of memory": psutil.Process().memory_info().rss / 1e6,
            **self._sizes(),
        }


@contextmanager
def _file(url: str) -> Iterator[Sizes]:
    path = Path(url.removeprefix("sqlite:///"))

    def sizes() -> Mapping[str, float]:
        files = [file.path for file in psutil.Process().open_files()]
        opened = sum(name.startswith(str(path)) for name in files)
        return {"MB on the disk": path.stat().st_size / 1e6, "open": float(opened)}

    yield sizes


@contextmanager
def _server(url: str) -> Iterator[Sizes]:
    asked = "SELECT pg_database_size(current_database()) / 1e6, (SELECT count(*) FROM "
    asked += "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())"
    with psycopg.connect(url, autocommit=True) as raw:

        def sizes() -> Mapping[str, float]:
            size, connections = raw.execute(asked).fetchone()
            return {"MB on the disk": float(size), "open": float(connections)}

        yield sizes


def main(url: str, seconds: float, periods: int, keep: float) -> None:
    """Write the figures of all periods as one JSON document."""
    logging.disable(logging.CRITICAL)
    look = _file if url.startswith("sqlite") else _server
    with look(url) as sizes, Load(url, keep, sizes) as load:
        figures = {
            f"{name}, period {number}": value
            for number in range(1, periods + 1)
            for name, value in load.run(seconds).items()
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
