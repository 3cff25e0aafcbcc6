"""``make bench``: the checklist's promises, and the guarded call beside its floors.

Every row is measured in interleaved rounds in this one process, and compared with a floor from
the same round; what is reported is the median, with minimum and maximum. Two cores that are shared
make single times worth little: read the ratios.
"""

from __future__ import annotations

import argparse
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from gonogo import (
    DryRunLock,
    GovernorEnforcer,
    IdempotencyManager,
    SandboxOrchestrator,
    WorkerProcess,
)

Measure = Callable[[int], float]


def seconds_each(work: Callable[[int], object], times: int) -> float:
    """Seconds of one ``work(i)``, averaged over ``times``."""
    began = time.perf_counter()
    for i in range(times):
        work(i)
    return (time.perf_counter() - began) / times


class Row:
    """One thing that is measured, and the floor it stands on."""

    def __init__(self, name: str, times: int, work: Callable[[int], object]) -> None:
        self.name = name
        self.times = times
        self.work = work
        self.seconds: list[float] = []

    def measure(self) -> None:
        self.seconds.append(seconds_each(self.work, self.times))

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def line(self, floor: Row | None) -> str:
        spread = f"{min(self.seconds) * 1e6:,.1f}–{max(self.seconds) * 1e6:,.1f}"
        ratio = "floor" if floor is None else f"{self.median / floor.median:5.1f} × {floor.name}"
        return f"  {self.name:<44} {self.median * 1e6:>10,.1f} µs  ({spread})  {ratio}"


def memory_floor() -> Callable[[int], object]:
    """A locked dict update with JSON of the arguments: the least a guarded call could do."""
    lock, calls = threading.Lock(), {}

    def work(i: int) -> None:
        text = msgspec.json.encode({"invoice": f"INV-{i}", "cents": 100}, order="sorted")
        with lock:
            calls[i % 10_000] = text

    return work


def window_floor() -> Callable[[int], object]:
    """Lock, dict, clock: the least a limit could cost."""
    lock, counts = threading.Lock(), {"payment": 0}

    def work(_: int) -> None:
        with lock:
            time.monotonic()
            counts["payment"] += 1

    return work


def commits(path: Path, each: int) -> Callable[[int], object]:
    """``each`` raw sqlite3 commits: the first at synchronous=FULL, the rest at NORMAL."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")

    def work(i: int) -> None:
        for n in range(each):
            connection.execute(f"PRAGMA synchronous={'NORMAL' if n else 'FULL'}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t (body) VALUES (?)", (f"INV-{i}",))
            connection.execute("COMMIT")

    return work


def guarded(sandbox: SandboxOrchestrator, tag: str) -> Callable[[int], object]:
    """A direct call of an irreversible action with a key."""
    sandbox.arm(by="benchmark", reason="measures the direct call")

    @sandbox.action("payment", key="payment:{invoice}", irreversible=True)
    def pay(invoice: str, cents: int) -> int:
        return cents

    return lambda i: pay(f"{tag}-{time.perf_counter_ns()}-{i}", 100)


def resident(code: str) -> float:
    """Megabytes resident of a fresh interpreter after running ``code``."""
    script = f"{code}\nfor line in open('/proc/self/status'):\n    print(line)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    line = next(line for line in out.stdout.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


ORCHESTRATOR = """
import gonogo
s = gonogo.SandboxOrchestrator(use_memory_db=True).initialize()
for i in range(1000):
    s.idempotency_manager.process_idempotent(f'key-{i}', lambda: i)
"""


def threads_of(workers: int) -> int:
    """Threads that an initialized orchestrator with ``workers`` workers adds."""
    before = threading.active_count()
    sandbox = SandboxOrchestrator(max_workers=workers).initialize()
    added = threading.active_count() - before
    sandbox.cleanup()
    return added


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    print(f"{versions}, {rounds} rounds, interleaved")

    with tempfile.TemporaryDirectory() as folder:
        governor = GovernorEnforcer()
        governor.set_limit("payment", 10_000_000, 3600)
        lock, keys, worker = DryRunLock(), IdempotencyManager(), WorkerProcess(max_workers=2)
        worker.start()
        memory = SandboxOrchestrator()
        ledger = SandboxOrchestrator(f"sqlite:///{folder}/ledger.db")
        floor_call = Row("locked dict + JSON of the arguments", 5000, memory_floor())
        floor_limit = Row("lock + dict + clock", 20000, window_floor())
        floor_disk = Row(
            "two raw sqlite3 commits (FULL, NORMAL)", 60, commits(Path(folder, "raw.db"), 2)
        )
        rows = [
            (floor_limit, None),
            (
                Row("governor check, one limit", 3000, lambda _: governor.check_limit("payment")),
                floor_limit,
            ),
            (
                Row("dry-run check, blocked", 2000, lambda _: lock.execute("payment", print)),
                floor_limit,
            ),
            (
                Row(
                    "idempotency, first",
                    1000,
                    lambda i: keys.process_idempotent(f"{time.perf_counter_ns()}", int),
                ),
                floor_limit,
            ),
            (
                Row("idempotency, replay", 2000, lambda _: keys.process_idempotent("same", int)),
                floor_limit,
            ),
            (Row("worker submission", 1000, lambda _: worker.submit_job("noop", int)), floor_limit),
            (floor_call, None),
            (Row("guarded direct call, memory", 1000, guarded(memory, "m")), floor_call),
            (floor_disk, None),
            (Row("guarded direct call, SQLite file", 60, guarded(ledger, "s")), floor_disk),
        ]
        for _ in range(rounds):
            for row, _floor in rows:
                row.measure()
        for row, floor in rows:
            print(row.line(floor))
        worker.stop()
        memory.cleanup()
        ledger.cleanup()
        by_name = {row.name: row.median for row, _ in rows}

    megabytes = resident(ORCHESTRATOR)
    added = {n: threads_of(n) for n in (1, 4, 8)}
    bare = resident("")
    print(
        f"  orchestrator with 1,000 remembered operations: {megabytes:.0f} MB (bare: {bare:.0f} MB)"
    )
    print(f"  threads added by N workers: {added}")
    promises = {
        "over 1,000 governor checks a second": 1 / by_name["governor check, one limit"] > 1000,
        "dry-run, governor and idempotency checks under 1 ms": max(
            by_name[n]
            for n in (
                "governor check, one limit",
                "dry-run check, blocked",
                "idempotency, first",
                "idempotency, replay",
            )
        )
        < 0.001,
        "worker submission under 5 ms": by_name["worker submission"] < 0.005,
        "about 50 MB with 1,000 remembered operations": megabytes < 55,
        "N+2 threads for N workers": all(count <= n + 2 for n, count in added.items()),
    }
    for promise, kept in promises.items():
        print(f"  {'kept' if kept else 'BROKEN'}: {promise}")
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
