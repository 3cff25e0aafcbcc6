"""What it takes to be there: imports, first commands, memory and threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from benchmarks.children import Children, children
from benchmarks.measure import EACH, MEGABYTES, NUMBER, Effort, Measure, Scene, Stage, Target

_FLOOR = "import sqlite3, json, logging"
_PEERS = ("celery", "dbos", "huey", "procrastinate", "tenacity", "sqlalchemy")

_ALONE = """
import time
began = time.perf_counter()
{statement}
print(time.perf_counter() - began)
"""
"""What it says is all that it does beside its statement: one process tells both figures."""

_RESIDENT = """
import json
{statement}
with open("/proc/self/status") as status:
    sizes = dict(line.split(":", 1) for line in status)
print(json.dumps(int(sizes["VmRSS"].split()[0]) * 1024))
"""

_REMEMBERING = """
from gonogo import SandboxOrchestrator
sandbox = SandboxOrchestrator({where}).initialize()
for i in range(1000):
    sandbox.idempotency_manager.process_idempotent(f"operation-{{i}}", lambda: {{"id": i}})
assert len(sandbox.idempotency_manager.seen_operations) == 1000
"""

_THREADS = """
import threading
before = threading.active_count()
from gonogo import SandboxOrchestrator
sandbox = SandboxOrchestrator({where}, max_workers={workers}).initialize()
print(threading.active_count() - before)
sandbox.cleanup()
"""

_APP = """
from gonogo import SandboxOrchestrator

sandbox = SandboxOrchestrator("sqlite:///app.db")

@sandbox.action("payment", key="payment:{invoice}", irreversible=True)
def pay(invoice: str, cents: int) -> str:
    return invoice
"""


@contextmanager
def imports(effort: Effort) -> Iterator[Scene]:
    """From nothing to the first name of the library."""
    statements = {
        "gonogo": "import gonogo",
        "gonogo's sandbox": "from gonogo import SandboxOrchestrator",
        "gonogo's sandbox on a file": "from gonogo import SandboxOrchestrator\n"
        "SandboxOrchestrator('sqlite:///import.db').counts()",
        "floor": _FLOOR,
        "floor and msgspec": f"{_FLOOR}, msgspec, inspect",
        **{peer: f"import {peer}" for peer in _PEERS},
    }
    with children() as run:
        contenders = {name: _imported(run, text) for name, text in statements.items()}
        contenders["python"] = lambda: {"whole process": run.seconds("-c", "")}
        yield Scene(
            "From nothing to a library that can be used",
            f"a fresh process each, modules compiled; the floor is `{_FLOOR}`; alone: the import "
            "without the start of Python and of its site",
            contenders,
            [
                Target("gonogo alone", None, 0.080),
                Target("gonogo alone", "floor alone", 2.0),
                Target("gonogo whole process", "floor whole process", 2.0),
                Target("gonogo's sandbox alone", None, 0.080),
                Target("gonogo's sandbox alone", "floor alone", 2.0),
            ],
            EACH,
            rounds=effort.of(3, 9),
        )


def _imported(run: Children, statement: str) -> Measure:
    words = _ALONE.format(statement=statement)

    def measure() -> Mapping[str, float]:
        began = time.perf_counter()
        alone: float = run.answer("-c", words)
        return {"alone": alone, "whole process": time.perf_counter() - began}

    return measure


@contextmanager
def commands(effort: Effort) -> Iterator[Scene]:
    """The command line, from its start to its end."""
    said = {
        "gonogo --version": ("--version",),
        "gonogo --help": ("--help",),
        "gonogo calls list": ("--app", "app:sandbox", "calls", "list"),
        "gonogo status": ("--app", "app:sandbox", "status"),
    }
    with children() as run:
        (run.folder / "app.py").write_text(_APP)
        run.seconds("-m", "gonogo", "--app", "app:sandbox", "db", "upgrade")  # looking makes none
        contenders: dict[str, Measure] = {
            name: _timed(run, "-m", "gonogo", *arguments) for name, arguments in said.items()
        }
        contenders["python"] = _timed(run, "-c", "")
        contenders["import click"] = _timed(run, "-c", "import click")
        contenders["import click, sqlalchemy"] = _timed(run, "-c", "import click, sqlalchemy")
        contenders["celery --version"] = _timed(run, "-m", "celery", "--version")
        yield Scene(
            "Commands of the command line",
            "a fresh process each, modules compiled; the lists are of an empty SQLite ledger",
            contenders,
            unit=EACH,
            rounds=effort.of(3, 9),
        )


def _timed(run: Children, *arguments: str) -> Callable[[], float]:
    return lambda: run.seconds(*arguments)


@contextmanager
def memory(effort: Effort) -> Iterator[Scene]:
    """What a process weighs."""
    statements = {
        "gonogo, in memory": _REMEMBERING.format(where="use_memory_db=True"),
        "gonogo, on a SQLite file": _REMEMBERING.format(where="'sqlite:///memory.db'"),
        "python": "",
        "floor": _FLOOR,
        "floor and sqlalchemy": f"{_FLOOR}, sqlalchemy",
    }
    with children() as run:
        yield Scene(
            "Resident memory of a sandbox that remembers 1,000 operations",
            f"VmRSS of a process of its own, initialized; the floor is `{_FLOOR}`",
            {name: _weighed(run, text) for name, text in statements.items()},
            [
                Target("gonogo, in memory", None, 45e6),
                Target("gonogo, on a SQLite file", None, 45e6),
            ],
            MEGABYTES,
            rounds=3,
        )


def _weighed(run: Children, statement: str) -> Callable[[], float]:
    return lambda: float(run.answer("-c", _RESIDENT.format(statement=statement)))


@contextmanager
def threads(effort: Effort) -> Iterator[Scene]:
    """What a worker starts."""
    ledgers = {"in memory": "use_memory_db=True", "on a file": "'sqlite:///threads.db'"}
    rows = {
        f"gonogo {name}, {workers} workers": (where, workers)
        for name, where in ledgers.items()
        for workers in (1, 4, 16)
    }
    with children() as run:
        yield Scene(
            "Threads that an initialized sandbox adds",
            "worker threads, their keeper and the heartbeat; the keeper of a file hears of other "
            "processes' jobs as well",
            {name: _counted(run, *row) for name, row in rows.items()},
            [Target(name, None, workers + 2) for name, (_, workers) in rows.items()],
            NUMBER,
            rounds=1,
        )


def _counted(run: Children, where: str, workers: int) -> Callable[[], float]:
    return lambda: float(run.answer("-c", _THREADS.format(where=where, workers=workers)))


SCENES: dict[str, Stage] = {
    "import.process": imports,
    "command.process": commands,
    "memory.process": memory,
    "threads.process": threads,
}
