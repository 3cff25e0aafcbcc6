"""The same operations on ledgers small and large: what is over must cost nothing."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bare_looks import BareLooks, bare_looks
from benchmarks.ledgers import AHEAD, KNOWN, Ledger, ledger
from benchmarks.measure import EACH, Effort, Scene, Stage, Target, seconds_each
from benchmarks.pg import servers
from gonogo.records import State
from gonogo.retention import AT_ONCE

_SMALL = 10_000
_QUICK = {"SQLite": 300_000, "PostgreSQL": 100_000}
_FULL = (1_000_000, 10_000_000)
_MOST = 1.2
_BATCH = 60
"""Calls that a round prunes: the smallest ledger has enough of them for all rounds."""
_COUNTING = "count all calls by state"
"""Grows by its nature: shown, and nothing asked of it."""
_BARE = ", bare driver"
"""The same statements without us: shown, so that it can be seen how much of a growth is theirs."""


class Hot:
    """What workers, callers and people ask of one ledger, over and over; and ``bare`` beside us."""

    def __init__(self, on: Ledger, bare: BareLooks, times: int) -> None:
        self._on = on
        self._sandbox = sandbox = on.sandbox
        self._times = times
        self._fresh = itertools.count(1)
        self._others = itertools.count(1)
        ask = sandbox.calls
        self._steps: dict[str, Callable[[int], object]] = {
            "guarded call": self._call,
            "enqueue": self._enqueue,
            "claim and perform": self._work,
            "replay of a key": self._replay,
            "holder of a key": self._holder,
            f"holder of a key{_BARE}": lambda _: bare.holder(self._key()),
            "newest calls": lambda _: ask(),
            "newest calls of an action": lambda _: ask(action="payment"),
            "calls in doubt": lambda _: ask(states=(State.UNKNOWN,)),
            "failed calls": lambda _: ask(states=(State.FAILED,), limit=10),
            "calls of a key": lambda _: ask(key=self._key()),
            f"calls of a key{_BARE}": lambda _: bare.calls(self._key()),
            "nothing to claim": lambda _: sandbox.delivery.claim(),
            f"nothing to claim{_BARE}": lambda _: bare.due(sandbox.clock.now()),
            "next due": lambda _: sandbox.delivery.next_due(),
            "backlog by queue": lambda _: sandbox.queues(),
            "chores": lambda _: sandbox.delivery.maintain(),
        }
        self._rarely: dict[str, Callable[[int], object]] = {
            f"prune {_BATCH}": lambda _: prune(on, _BATCH),
            _COUNTING: lambda _: sandbox.counts(),
        }

    @property
    def asked(self) -> list[str]:
        """The operations that must not grow."""
        steps = (*self._steps, *self._rarely)
        return [step for step in steps if step != _COUNTING and not step.endswith(_BARE)]

    def measure(self) -> Mapping[str, float]:
        """Seconds of each operation."""
        often = {step: seconds_each(work, self._times) for step, work in self._steps.items()}
        return often | {step: seconds_each(work, 1) for step, work in self._rarely.items()}

    def _invoice(self) -> str:
        return f"NEW-{next(self._fresh):09}"

    def _call(self, _: int) -> None:
        self._on.pay(self._invoice(), 100)

    def _enqueue(self, _: int) -> None:
        self._on.pay.enqueue(self._invoice(), 100)

    def _work(self, _: int) -> None:
        assert self._sandbox.worker.run_once()

    def _replay(self, _: int) -> None:
        assert self._on.pay.call(self._on.known(next(self._others) * 37), 100).replayed

    def _key(self) -> str:
        return self._on.any(next(self._others))

    def _holder(self, _: int) -> None:
        key = self._key()
        assert self._sandbox.store.read(lambda tx: tx.calls.holder("payment", key))


def prune(on: Ledger, most: int) -> None:
    """Forget the oldest calls that nobody can ask for by their key."""
    before = on.sandbox.clock.now() - 1.0
    on.sandbox.store.write(lambda tx: tx.calls.prune(before, most), durable=False)


@contextmanager
def _growth(kind: str, effort: Effort) -> Iterator[Scene]:
    sizes = (_SMALL, *(_FULL if effort.full else (_QUICK[kind],)))
    with ExitStack() as stack:
        urls = stack.enter_context(_databases(kind))
        hot = {}
        for size in sizes:
            url = urls()
            filled = stack.enter_context(ledger(url, size))
            hot[size] = Hot(filled, stack.enter_context(bare_looks(url)), 20)
        yield Scene(
            f"The same operation as the ledger grows, {kind}",
            f"ledgers with so many finished calls, {KNOWN} of them replayed here, and {AHEAD} jobs "
            f"that are due in a year; {_durability(kind)}; bare driver: the ledger's own "
            "statements in a transaction on a connection of their own, nothing around them",
            {_name(size): of.measure for size, of in hot.items()},
            [
                Target(f"{_name(size)} {step}", f"{_name(_SMALL)} {step}", _MOST)
                for size in sizes[1:]
                for step in hot[size].asked
            ],
            EACH,
            rounds=effort.of(21, 31),
        )


def _name(size: int) -> str:
    return f"gonogo, {size:,} rows:"


def _durability(kind: str) -> str:
    if kind == "SQLite":
        return "synchronous FULL where something is promised, else NORMAL"
    return f"{servers.SETTINGS}, synchronous_commit off for claims and settles"


@contextmanager
def _pruning(kind: str, effort: Effort) -> Iterator[Scene]:
    size = effort.of(200_000, 3_000_000)
    with _databases(kind) as urls, ledger(urls(), size) as filled:
        work = partial(_worked, filled, effort.of(30, 200))
        yield Scene(
            f"Claim and perform while old calls are pruned, {kind}",
            f"{size:,} finished calls; one thread works, another prunes {AT_ONCE} calls at a time; "
            "a worker does so once a second",
            {
                "gonogo, nobody prunes": work,
                "gonogo, pruned once a second": lambda: _beside(filled, 1.0, work),
                "gonogo, pruned without a pause": lambda: _beside(filled, 0.0, work),
            },
            [Target("gonogo, pruned once a second middle", "gonogo, nobody prunes middle", _MOST)],
            EACH,
            rounds=min(7, effort.rounds),
        )


def _worked(on: Ledger, times: int) -> Mapping[str, float]:
    """Seconds of the middle one and of the longest of so many jobs."""
    on.pay.enqueue_many([{"invoice": f"W-{time.time_ns()}-{i}", "cents": 1} for i in range(times)])
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        assert on.sandbox.worker.run_once()
        seconds.append(time.perf_counter() - began)
    seconds.sort()
    return {"middle": seconds[times // 2], "longest": seconds[-1]}


def _beside(
    on: Ledger, pause: float, work: Callable[[], Mapping[str, float]]
) -> Mapping[str, float]:
    over = threading.Event()

    def keep() -> None:
        while not over.is_set():
            prune(on, AT_ONCE)
            over.wait(pause)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        return work()
    finally:
        over.set()
        keeper.join()


@contextmanager
def _databases(kind: str) -> Iterator[Callable[[], str]]:
    """A maker of empty databases, which are gone afterwards."""
    numbers = itertools.count()
    if kind == "SQLite":
        with TemporaryDirectory(prefix="gonogo-bench-") as folder:
            yield lambda: f"sqlite:///{Path(folder)}/{next(numbers)}.db"
        return
    with servers.databases() as fresh:
        yield fresh


SCENES: dict[str, Stage] = {
    "growth.sqlite": partial(_growth, "SQLite"),
    "growth.postgres": partial(_growth, "PostgreSQL"),
    "prune.sqlite": partial(_pruning, "SQLite"),
    "prune.postgres": partial(_pruning, "PostgreSQL"),
}
