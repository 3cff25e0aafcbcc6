"""What is looked at closely, each over and over: ``python -m benchmarks.works WORK TIMES [URL]``.

A work is known as ``what.where``; where says which ledger it wants.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from gonogo import SandboxOrchestrator
from gonogo.clock import SystemClock

Do = Callable[[int], object]


@dataclass(frozen=True)
class Work:
    """One operation.

    Attributes:
        run: does it ``times``, none of them a second time; whoever asks sees nothing else.
        before: has ready what ``times`` of it need.
    """

    run: Callable[[int], object]
    before: Callable[[int], object] = lambda _: None


class Unhurried(SystemClock):
    """Time at a hundredth of its pace, so that work slowed down by being watched seems brief.

    What a worker begins together depends on how long its jobs take.
    """

    def __init__(self) -> None:
        super().__init__()
        self._since, self._at = time.monotonic(), time.time()

    def monotonic(self) -> float:
        return self._since + (time.monotonic() - self._since) / 100

    def now(self) -> float:
        return self._at + (time.monotonic() - self._since) / 100


def _each(do: Do) -> Work:
    numbers = iter(range(1 << 62))

    def run(times: int) -> None:
        for _ in range(times):
            do(next(numbers))

    return Work(run)


@contextmanager
def _guarded(url: str | None) -> Iterator[Work]:
    """A direct call: a key, two arguments and one limit, armed."""
    from benchmarks.calls import guarded

    with guarded(url) as call:
        yield _each(call)


@contextmanager
def _floor(_: str | None) -> Iterator[Work]:
    """What remembering a call costs at least: a locked dict and sorted JSON."""
    from benchmarks.calls import locked_dict

    yield _each(locked_dict())


@contextmanager
def _least(_: str | None) -> Iterator[Work]:
    """Two records, a key and a limit, with nothing around them."""
    from benchmarks.calls import two_records

    yield _each(two_records())


@contextmanager
def _first(_: str | None) -> Iterator[Work]:
    """The first call behind a key of a manager alone."""
    from benchmarks.idempotency import order, our_manager

    ours = our_manager()
    yield _each(lambda i: ours(order(i)))


@contextmanager
def _replay(_: str | None) -> Iterator[Work]:
    """The answer to a key that a manager knows."""
    from benchmarks.idempotency import order, our_manager

    ours, known = our_manager(), order(-1)
    ours(known)
    yield _each(lambda _: ours(known))


@contextmanager
def _line(_: str | None) -> Iterator[Work]:
    """One JSON line of five short fields, redacted."""
    from benchmarks.log_lines import FIELDS, our_line

    yield _each(our_line(FIELDS))


@contextmanager
def _queue(url: str | None, clock: SystemClock | None = None) -> Iterator[tuple[Any, Any]]:
    """A sandbox, and a repeatable action that returns its number."""
    sandbox = SandboxOrchestrator(url, clock=clock)

    @sandbox.action("job", irreversible=False)
    def job(number: int) -> int:
        return number

    try:
        yield sandbox, job
    finally:
        sandbox.cleanup()


@contextmanager
def _enqueue(url: str | None) -> Iterator[Work]:
    """Queue one job."""
    with _queue(url) as (_, job):
        yield _each(job.enqueue)


@contextmanager
def _lone(url: str | None) -> Iterator[Work]:
    """Claim, perform and settle one job by itself."""
    with _queue(url) as (sandbox, job):
        yield Work(_each(lambda _: sandbox.worker.run_once()).run, _filled(job))


@contextmanager
def _job(url: str | None) -> Iterator[Work]:
    """One job of many that wait, by a worker with one thread."""
    with _queue(url, Unhurried()) as (sandbox, job):

        def run(times: int) -> None:
            while sandbox.worker._run(None, lambda: True):
                pass

        yield Work(run, _filled(job))


def _filled(job: Any) -> Callable[[int], object]:
    return lambda times: job.enqueue_many([(number,) for number in range(times)])


WORKS: dict[str, Callable[[str | None], AbstractContextManager[Work]]] = {
    "floor.memory": _floor,
    "least.memory": _least,
    "call.memory": _guarded,
    "call.sqlite": _guarded,
    "call.postgres": _guarded,
    "first.memory": _first,
    "replay.memory": _replay,
    "line.memory": _line,
    "enqueue.sqlite": _enqueue,
    "enqueue.postgres": _enqueue,
    "lone.sqlite": _lone,
    "lone.postgres": _lone,
    "job.sqlite": _job,
    "job.postgres": _job,
}
WARM = 100
"""Times after which everything that is made once is there."""


@contextmanager
def warm(name: str, url: str | None) -> Iterator[Work]:
    """A work that was done `WARM` times already."""
    warnings.filterwarnings("ignore", message="there was no ledger")
    with WORKS[name](url) as work:
        work.before(WARM)
        work.run(WARM)
        yield work


def main(name: str, times: str, url: str = "") -> None:
    """Do it so many times between two words to whoever watches, each answered by a line."""
    with warm(name, url or None) as work:
        work.before(int(times))
        print("ready", flush=True)
        sys.stdin.readline()
        next(map(work.run, [int(times)]))  # enters the interpreter's loop anew, which is seen
        print("done", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
