"""A worker under load for minutes, with pruning on: nothing decays, nothing grows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg

from benchmarks.measure import NUMBER, Effort, Scene, Stage, Target
from benchmarks.pg import servers
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.retention import LEAST

THREADS = 4
BATCH = 500
"""Jobs that are queued at once, as soon as fewer wait."""

Sizes = Callable[[], Mapping[str, float]]
"""What a ledger takes: its place on the disk, and what is open to it."""


class Load:
    """Keeps a worker busy, and says what a period of it looks like."""

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
def _file() -> Iterator[tuple[str, Sizes]]:
    with TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "ledger.db"

        def sizes() -> Mapping[str, float]:
            files = [file.path for file in psutil.Process().open_files()]
            opened = sum(name.startswith(str(path)) for name in files)
            return {"MB on the disk": path.stat().st_size / 1e6, "open": float(opened)}

        yield f"sqlite:///{path}", sizes


@contextmanager
def _server() -> Iterator[tuple[str, Sizes]]:
    asked = "SELECT pg_database_size(current_database()) / 1e6, (SELECT count(*) FROM "
    asked += "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())"
    with servers.database() as url, psycopg.connect(url, autocommit=True) as raw:

        def sizes() -> Mapping[str, float]:
            size, connections = raw.execute(asked).fetchone()
            return {"MB on the disk": float(size), "open": float(connections)}

        yield url, sizes


LEDGERS = {"SQLite": _file, "PostgreSQL": _server}
_COMMITS = {"SQLite": "WAL, synchronous FULL", "PostgreSQL": servers.SETTINGS}


@contextmanager
def _steady(kind: str, effort: Effort) -> Iterator[Scene]:
    """Ten periods of a minute; of a second where it has to be quick."""
    period, periods, keep = float(effort.of(1, 60)), effort.of(5, 10), LEAST
    logging.disable(logging.CRITICAL)

    def measure() -> Mapping[str, float]:
        figures: dict[str, float] = {}
        with LEDGERS[kind]() as (url, sizes), Load(url, keep, sizes) as load:
            for number in range(1, periods + 1):
                for name, value in load.run(period).items():
                    figures[f"{name}, period {number}"] = value
        return figures

    middle = (periods + 1) // 2
    try:
        yield Scene(
            f"minutes of load, with pruning of what is over for long, {kind}",
            f"{THREADS} threads, {_COMMITS[kind]}; {periods} periods of {period:g} s, jobs queued "
            f"by {BATCH} as they are done, finished calls kept {keep:g} s; open: the files of the "
            "ledger, or the connections to it",
            {"gonogo": measure},
            _targets(middle, periods) if effort.full else [],
            NUMBER,
            rounds=1,
        )
    finally:
        logging.disable(logging.NOTSET)


def _targets(middle: int, last: int) -> list[Target]:
    """The last period is as the middle one: by then the first calls have been forgotten."""
    row = "gonogo {}, period {}".format
    return [
        Target(row("jobs a second", middle), row("jobs a second", last), 1.25),
        Target(row("MB of memory", last), row("MB of memory", middle), 1.1),
        Target(row("MB on the disk", last), row("MB on the disk", middle), 1.1),
        Target(row("open", last), row("open", middle), 1.5),
    ]


SCENES: dict[str, Stage] = {
    "steady.sqlite": partial(_steady, "SQLite"),
    "steady.postgres": partial(_steady, "PostgreSQL"),
}
