"""A worker under load for minutes, with pruning on: nothing decays, nothing grows."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.measure import NUMBER, Effort, Scene, Target
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.retention import LEAST

THREADS = 4
BATCH = 500
"""Jobs that are queued at once, as soon as fewer wait."""


class Load:
    """Keeps a worker busy, and says what a period of it looks like."""

    def __init__(self, folder: Path, keep: float) -> None:
        self._file = folder / "ledger.db"
        self._sandbox = SandboxOrchestrator(
            f"sqlite:///{self._file}", max_workers=THREADS, retention=keep
        )
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
        process = psutil.Process()
        opened = sum(file.path.startswith(str(self._file)) for file in process.open_files())
        return {
            "jobs a second": (self._done - done) / (time.perf_counter() - began),
            "MB of memory": process.memory_info().rss / 1e6,
            "MB of file": self._file.stat().st_size / 1e6,
            "open files": float(opened),
        }


@contextmanager
def steady(effort: Effort) -> Iterator[Scene]:
    """Ten periods of a minute; of two seconds where it has to be quick."""
    period, periods, keep = float(effort.of(2, 60)), effort.of(5, 10), LEAST
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    logging.disable(logging.CRITICAL)

    def measure() -> Mapping[str, float]:
        figures: dict[str, float] = {}
        with Load(folder, keep) as load:
            for number in range(1, periods + 1):
                for name, value in load.run(period).items():
                    figures[f"{name}, period {number}"] = value
        return figures

    middle = (periods + 1) // 2
    try:
        yield Scene(
            "minutes of load, with pruning of what is over for long, SQLite",
            f"{THREADS} threads, WAL, synchronous FULL; {periods} periods of {period:g} s, jobs "
            f"queued by {BATCH} as they are done, finished calls kept {keep:g} s",
            {"gonogo": measure},
            _steady(middle, periods) if effort.full else [],
            NUMBER,
            rounds=1,
        )
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(folder, ignore_errors=True)


def _steady(middle: int, last: int) -> list[Target]:
    """The last period is as the middle one: by then the first calls have been forgotten."""
    row = "gonogo {}, period {}".format
    return [
        Target(row("jobs a second", middle), row("jobs a second", last), 1.25),
        Target(row("MB of memory", last), row("MB of memory", middle), 1.1),
        Target(row("MB of file", last), row("MB of file", middle), 1.1),
        Target(row("open files", last), row("open files", middle), 1.5),
    ]
