"""Random kills under load: many processes on one ledger, and never a quiet moment."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from gonogo.action import Action
from gonogo.clock import SystemClock
from gonogo.records import TERMINAL, State
from gonogo.testing.child import Order, Seen
from gonogo.testing.crash import LEASE, SLACK, report_of, require_empty
from gonogo.testing.report import CrashReport
from gonogo.testing.subject import Given, Probe, Subject
from gonogo.testing.victims import Victim

BATCH = 100
"""Calls queued at a time; as long as fewer wait, more are."""

_POLL = 0.1


def soak(
    action: str | Action[..., Any],
    probe: str | Probe,
    calls: Iterable[Given],
    *,
    kills: int = 50,
    processes: int = 4,
    threads: int = 2,
    pause: float = 0.25,
    seed: int = 0,
    db_url: str | None = None,
    lease: float = LEASE,
    timeout: float = 900.0,
) -> CrashReport:
    """Kill one of several processes under load again and again, and hold the ledger to the books.

    ``processes`` processes with ``threads`` workers each work on one ledger. One of them, by
    chance, is killed with SIGKILL and replaced, ``kills`` times, at most ``pause`` seconds after
    the one before. Then they finish.

    The other arguments, and what is raised, are those of `crash_test`.
    """
    subject, clock = Subject(action, probe, calls), SystemClock()
    until = clock.monotonic() + timeout
    with tempfile.TemporaryDirectory(prefix="gonogo-soak-") as folder:
        url = db_url or f"sqlite:///{folder}/ledger.db"
        if db_url:
            require_empty(subject, db_url, clock)
        order = Order(target=subject.target, url=url, lease=lease, threads=threads)
        with Victim(order, clock) as feeder, _crew(order, clock, processes) as crew:
            feeder.begin()
            load = _Load(subject, feeder)
            crew.start()
            killed = _rampage(crew, load, clock, random.Random(seed), kills, pause, until)  # noqa: S311 - times to kill at
            last = clock.now()
            patience = lease + 2 * subject.action.policy.verify_after + SLACK + len(load.calls) / 50
            load.wait(clock, min(until, clock.monotonic() + patience))
            seen = load.seen()
    row, findings = subject.judge("random", load.calls, seen, kills=killed, killed_at=last)
    if killed < kills:
        findings.append(f"the time was over after {killed} of {kills} kills")
    return report_of(subject, seed, [(row, findings)])


class _Load:
    """The calls of a soak, queued by a process that nobody kills."""

    def __init__(self, subject: Subject, feeder: Victim) -> None:
        self._subject = subject
        self._feeder = feeder
        self._batches = 0
        self.calls: list[str] = []
        self.feed()

    def feed(self) -> None:
        """Queue more calls, if there are any."""
        if texts := self._subject.take(BATCH, at_least=0 if self._batches else 1):
            self._feeder.enqueue(f"soak-{self._batches}", texts)
            self._batches += 1
            self.calls += texts

    def keep_up(self) -> None:
        """Queue more when few are left."""
        if self._feeder.count().get(State.PENDING, 0) < BATCH:
            self.feed()

    def wait(self, clock: SystemClock, until: float) -> None:
        """Until every call is over, or the time is."""
        while clock.monotonic() < until and self._open(self._feeder.count()):
            clock.sleep(_POLL)

    def _open(self, counts: dict[State, int]) -> int:
        over = set(TERMINAL)
        if self._subject.action.verifier is None:
            over.add(State.UNKNOWN)
        return sum(number for state, number in counts.items() if state not in over)

    def seen(self) -> list[Seen]:
        """What the ledger has of all of them."""
        found: list[Seen] = []
        for batch in range(self._batches):
            found += self._feeder.look(f"soak-{batch}") or ()
        return found


class _Crew:
    """The processes at work, and one that is warming up to replace the next that dies."""

    def __init__(self, order: Order, clock: SystemClock, processes: int) -> None:
        self._order = order
        self._clock = clock
        self._spares = [Victim(order, clock) for _ in range(processes + 1)]
        self._at_work: list[Victim] = []

    def start(self) -> None:
        """Let all but the spare one work."""
        while len(self._spares) > 1:
            self._hire()

    def _hire(self) -> None:
        victim = self._spares.pop(0)
        self._at_work.append(victim)
        victim.begin()
        victim.work()

    def kill_one(self, chance: random.Random) -> None:
        """Kill one by chance, and let another take its place."""
        victim = self._at_work.pop(chance.randrange(len(self._at_work)))
        victim.close()
        self._spares.append(Victim(self._order, self._clock))
        self._hire()

    def close(self) -> None:
        """End all of them."""
        for victim in (*self._at_work, *self._spares):
            victim.close()


@contextmanager
def _crew(order: Order, clock: SystemClock, processes: int) -> Iterator[_Crew]:
    crew = _Crew(order, clock, processes)
    try:
        yield crew
    finally:
        crew.close()


def _rampage(
    crew: _Crew,
    load: _Load,
    clock: SystemClock,
    chance: random.Random,
    kills: int,
    pause: float,
    until: float,
) -> int:
    """Kill, until it was done often enough or the time is over; returns how often."""
    for killed in range(kills):
        if clock.monotonic() >= until:
            return killed
        load.keep_up()
        clock.sleep(chance.random() * pause)
        crew.kill_one(chance)
    return kills
