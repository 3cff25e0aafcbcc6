"""The durable queue on SQLite beside Huey, DBOS and the driver alone."""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import sqlite_floors
from benchmarks.measure import (
    NUMBER,
    RATE,
    Effort,
    Measure,
    Scene,
    Stage,
    Target,
    Together,
    repeated,
)
from benchmarks.sqlite_queues import Began, Queue, opened
from benchmarks.sqlite_worker import Worker

EQUAL = "one file, WAL, synchronous FULL on all sides: a job is on the disk when it is queued"
DBOS_WAL = "DBOS' file was set to WAL for it, which it does not do itself"
PATIENCE = 120.0
"""Seconds after which a queue that does not empty is given up."""


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of its own for each contender, on the same disk."""
    made = Path(tempfile.mkdtemp(prefix="bench-"))
    logging.disable(logging.CRITICAL)
    try:
        yield made
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def enqueue_one(effort: Effort) -> Iterator[Scene]:
    times = effort.of(100, 400)
    with folder() as where, ExitStack() as stack:
        bare = stack.enter_context(sqlite_floors.table(where, "bare"))
        like = stack.enter_context(sqlite_floors.table(where, "indexed", indexed=True))
        contenders: dict[str, Measure] = {}
        for kind, each in (("gonogo", times), ("Huey", times), ("DBOS", times // 4)):
            queue = stack.enter_context(opened(kind, where, lambda _: None))
            contenders[f"{kind} enqueue"] = repeated(queue.put, each)
        contenders["insert and commit, our columns and indexes"] = lambda: like.alone(times)
        contenders["insert and commit, our columns"] = lambda: bare.alone(times)
        yield Scene(
            "queue a job, SQLite",
            f"{EQUAL}; {DBOS_WAL}; one caller, {times} jobs a round (DBOS {times // 4}); floors: "
            "one bare INSERT and COMMIT on the driver, into a copy of our table with all its "
            "indexes and into one with its primary key alone",
            contenders,
            [Target("gonogo enqueue", "Huey enqueue", 1.0)],
            RATE,
        )


@contextmanager
def enqueue_many(effort: Effort) -> Iterator[Scene]:
    size = effort.of(5_000, 50_000)
    few = size // 50
    with folder() as where, ExitStack() as stack:
        bare = stack.enter_context(sqlite_floors.table(where, "bare"))
        like = stack.enter_context(sqlite_floors.table(where, "indexed", indexed=True))
        contenders: dict[str, Measure] = {}
        for kind, jobs in (("gonogo", size), ("Huey", few), ("DBOS", few)):
            queue = stack.enter_context(opened(kind, where, lambda _: None))
            contenders[f"{kind} enqueue many"] = _each(queue.put_many, jobs)
        contenders["executemany, our table and indexes"] = lambda: like.together(size)
        contenders["executemany, our table, bare"] = lambda: bare.together(size)
        yield Scene(
            "queue many jobs, SQLite",
            f"{EQUAL}; {DBOS_WAL}; {size:,} jobs in one transaction, ours and the floors'; Huey "
            f"and DBOS have no batch, so they queue {few} one by one. The floors: ready-made rows "
            "of our columns by executemany and one COMMIT, into a copy of our table with all its "
            "indexes and into one with its primary key alone",
            contenders,
            [Target("gonogo enqueue many", "executemany, our table and indexes", 2.0)],
            RATE,
        )


def _each(put: Callable[[range], object], size: int) -> Measure:
    numbers = (range(n, n + size) for n in range(0, 1 << 62, size))

    def measure() -> float:
        these = next(numbers)
        began = time.perf_counter()
        put(these)
        return (time.perf_counter() - began) / size

    return measure


def process(threads: int) -> Stage:
    """Drain a queue that was filled before."""

    @contextmanager
    def stage(effort: Effort) -> Iterator[Scene]:
        jobs, few = effort.of(2_000, 10_000), effort.of(40, 200)
        ours, huey, dbos = (f"{kind}, {threads} threads" for kind in ("gonogo", "Huey", "DBOS"))
        with folder() as where:
            yield Scene(
                f"carry out jobs, {threads} threads, SQLite",
                f"{EQUAL}; {DBOS_WAL}, and it polls every 10 ms here, as fast as it goes; "
                f"{jobs:,} jobs a round ({few} of DBOS) that return their number, results kept; "
                "from the first job's beginning to the last one's outcome in the file",
                {
                    ours: lambda: drained("gonogo", where, jobs, threads),
                    huey: lambda: drained("Huey", where, jobs // 2, threads),
                    dbos: lambda: drained("DBOS", where, few, threads, poll=0.01),
                },
                [Target(ours, huey, 1 / 3), Target(ours, dbos, 1 / 20)] if threads > 1 else [],
                RATE,
                rounds=effort.few,
                fresh=True,
            )

    return stage


def drained(kind: str, where: Path, jobs: int, threads: int, poll: float = 0.0) -> float:
    """Seconds a job, from when the first began until the last is settled."""
    began: list[float] = []
    own = Path(tempfile.mkdtemp(dir=where))
    with opened(kind, own, lambda _: began.append(time.perf_counter()), poll) as queue:
        queue.put_many(range(jobs))
        queue.start(threads)
        give_up = time.perf_counter() + PATIENCE
        while len(began) < jobs or queue.unsettled():
            if time.perf_counter() > give_up:
                raise TimeoutError(f"{len(began)} of {jobs} jobs began")
            time.sleep(0.002)
        return (time.perf_counter() - began[0]) / jobs


# pickup


@contextmanager
def pickup_inside(effort: Effort) -> Iterator[Scene]:
    jobs, of_dbos = effort.of(20, 100), effort.of(2, 5)
    with folder() as where, ExitStack() as stack:
        floor = stack.enter_context(sqlite_floors.table(where))
        contenders: dict[str, Measure] = {"insert and commit": _commits(floor, jobs)}
        for kind in ("gonogo", "Huey", "DBOS"):
            began: dict[int, float] = {}
            queue = stack.enter_context(opened(kind, where, _noting(began)))
            queue.start(1)
            few = {"gonogo": jobs, "DBOS": of_dbos}.get(kind, jobs // 4)
            contenders[kind] = _pickups(queue, began, few)
        yield Scene(
            "an idle worker picks up a job queued in its process, SQLite",
            f"{EQUAL}; every side as it comes (Huey polls every 0.1 s and ever less often, DBOS "
            f"every second); {jobs} lone jobs a round (Huey {jobs // 4}, DBOS {of_dbos}) at random "
            "moments; from the return of enqueue to the job's first line. The floor is one commit: "
            "one has to be on the disk before an effect may begin",
            contenders,
            [
                Target("gonogo p95", None, 2e-3),
                Target("gonogo p95", "insert and commit p95", 2.0),
                *_below_peers(),
            ],
            rounds=effort.few,
        )


@contextmanager
def pickup_across(effort: Effort) -> Iterator[Scene]:
    jobs, of_dbos = effort.of(20, 100), effort.of(2, 5)
    with folder() as where, ExitStack() as stack:
        contenders = {}
        for name, poll in (("gonogo", 0.0), ("Huey", 0.0), ("DBOS", 0.0), ("Huey, 10 ms", 0.01)):
            own = Path(tempfile.mkdtemp(dir=where))
            kind = name.partition(",")[0]
            queue = stack.enter_context(opened(kind, own, lambda _: None))
            worker = stack.enter_context(Worker(kind, str(own), poll=poll))
            few = {"Huey": jobs // 4, "DBOS": of_dbos}.get(name, jobs)
            contenders[name] = _pickups(queue, worker.began, few)
        yield Scene(
            "an idle worker picks up a job queued by another process, SQLite",
            f"{EQUAL}; every side as it comes, and Huey polling every 10 ms beside; {jobs} lone "
            f"jobs a round (Huey as it comes {jobs // 4}, DBOS {of_dbos}) at random moments; from "
            "the return of enqueue to the job's first line in the other process",
            contenders,
            [
                Target("gonogo p95", None, 10e-3),
                Target("gonogo p95", "Huey, 10 ms p95", 1.0),
                *_below_peers(),
            ],
            rounds=effort.few,
        )


def _commits(floor: sqlite_floors.Table, times: int) -> Measure:
    """Lone commits at random moments, as the pickups are."""

    def measure() -> Mapping[str, float]:
        took = []
        for _ in range(times):
            time.sleep(random.uniform(0.03, 0.06))
            took.append(floor.alone(1))
        return _quantiles(took)

    return measure


def _quantiles(waits: list[float]) -> Mapping[str, float]:
    waits.sort()
    return {"p50": waits[len(waits) // 2], "p95": waits[int(len(waits) * 0.95)]}


def _below_peers() -> list[Target]:
    return [Target("gonogo p95", "Huey p95", 1.0), Target("gonogo p95", "DBOS p95", 1.0)]


def _noting(began: dict[int, float]) -> Began:
    def note(number: int) -> None:
        began[number] = time.monotonic()

    return note


def _pickups(queue: Queue, began: Mapping[int, float], jobs: int) -> Measure:
    numbers = iter(range(1 << 62))

    def measure() -> Mapping[str, float]:
        waits = []
        for _ in range(jobs):
            time.sleep(random.uniform(0.03, 0.06))
            number = next(numbers)
            queue.put(number)
            returned = time.monotonic()
            while number not in began:
                if time.monotonic() - returned > PATIENCE:
                    raise TimeoutError(f"job {number} was not picked up")
                time.sleep(0.0005)
            waits.append(max(1e-6, began[number] - returned))
        return _quantiles(waits)

    return measure


# idle


@contextmanager
def idle(effort: Effort) -> Iterator[Scene]:
    seconds = float(effort.of(4, 30))
    sides = (
        ("gonogo", "gonogo", 0.0),
        ("gonogo, 4 threads", "gonogo", 0.0),
        ("gonogo in memory", "gonogo", 0.0),
        ("Huey", "Huey", 0.0),
        ("Huey, 10 ms", "Huey", 0.01),
        ("DBOS", "DBOS", 0.0),
    )
    with folder() as where, ExitStack() as stack:
        workers = {}
        for name, kind, poll in sides:
            own = "memory" if "memory" in name else tempfile.mkdtemp(dir=where)
            threads = 4 if "4" in name else 1
            worker = stack.enter_context(Worker(kind, own, threads=threads, poll=poll))
            workers[name] = worker
        together = Together(lambda: _idling(workers, seconds))
        yield Scene(
            "an idle worker process, SQLite",
            f"as each side comes, and Huey polling every 10 ms; the same {seconds:g} s of a round "
            "for all, in which nothing is queued; statements are all that SQLite runs, BEGIN and "
            "COMMIT too (in memory: reads and writes of the ledger)",
            {name: together.of(name) for name in workers},
            [
                target
                for name in ("gonogo", "gonogo, 4 threads", "gonogo in memory")
                for target in (
                    Target(f"{name} CPU share", None, 0.005),
                    Target(f"{name} statements a second", None, 2.0),
                )
            ],
            NUMBER,
            rounds=effort.of(1, 3),
            fresh=True,
        )


def _idling(workers: Mapping[str, Worker], seconds: float) -> dict[str, Mapping[str, float]]:
    for worker in workers.values():
        worker.ask(seconds)
    spent = {name: worker.answer() for name, worker in workers.items()}
    return {
        name: {"CPU share": cpu / seconds, "statements a second": statements / seconds}
        for name, (cpu, statements) in spent.items()
    }


SCENES: dict[str, Stage] = {
    "enqueue-one.sqlite": enqueue_one,
    "enqueue-many.sqlite": enqueue_many,
    "process-1.sqlite": process(1),
    "process-4.sqlite": process(4),
    "pickup-inside.sqlite": pickup_inside,
    "pickup-across.sqlite": pickup_across,
    "idle.sqlite": idle,
}
