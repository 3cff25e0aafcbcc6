"""A worker under load for minutes, with pruning on: nothing decays, nothing grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from tempfile import TemporaryDirectory

from benchmarks.children import children
from benchmarks.measure import NUMBER, Effort, Scene, Stage, Target
from benchmarks.pg import servers
from benchmarks.steady import BATCH, THREADS
from gonogo.retention import LEAST


@contextmanager
def _file() -> Iterator[str]:
    with TemporaryDirectory(prefix="gonogo-bench-") as folder:
        yield f"sqlite:///{folder}/ledger.db"


LEDGERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "SQLite": _file,
    "PostgreSQL": servers.database,
}
_COMMITS = {"SQLite": "WAL, synchronous FULL", "PostgreSQL": servers.SETTINGS}


@contextmanager
def _steady(kind: str, effort: Effort) -> Iterator[Scene]:
    """Ten periods of a minute; of a second where it has to be quick."""
    period, periods, keep = effort.of(1, 60), effort.of(5, 10), LEAST
    with children() as run, LEDGERS[kind]() as url:

        def measure() -> Mapping[str, float]:
            told = (str(value) for value in (period, periods, keep))
            found: Mapping[str, float] = run.answer("-m", "benchmarks.steady", url, *told)
            return found

        yield Scene(
            f"minutes of load, with pruning of what is over for long, {kind}",
            f"{THREADS} threads, {_COMMITS[kind]}; {periods} periods of {period} s, jobs queued "
            f"by {BATCH} as they are done, finished calls kept {keep:g} s; a process of its own; "
            "open: the files of the ledger, or the connections to it",
            {"gonogo": measure},
            _targets((periods + 1) // 2, periods) if effort.full else [],
            NUMBER,
            rounds=1,
        )


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
