"""Killing an action at every boundary, and at random, to see what becomes of its calls."""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from gonogo.action import Action
from gonogo.boundaries import Boundary, Step, after, before, inside
from gonogo.clock import SystemClock
from gonogo.errors import ConfigurationError
from gonogo.testing.child import Order, Seen
from gonogo.testing.report import CrashReport, Row, total
from gonogo.testing.subject import Given, Probe, Subject
from gonogo.testing.victims import Victim

LEASE = 2.0
"""Seconds of lease in a crash test: what died is found after that."""

CALLS = 2
"""Calls of one kill at a boundary: one that is under way, and one that waits."""

RANDOM_CALLS = 20
"""Calls of one kill at random."""

SLACK = 20.0
"""Seconds beyond lease and verification that a call may take to settle."""

_POLL = 0.02
_MOST_FINDINGS = 50


def _around(*steps: Step) -> frozenset[Boundary]:
    return frozenset(place(step) for step in steps for place in (before, inside, after))


_EVIDENCE = _around(Step.LOOK, Step.RESOLVE) | {
    Boundary.VERIFIER_ASKED,
    Boundary.VERIFIER_ANSWERED,
}
_SECOND = _around(Step.RECOVER) | _EVIDENCE
_PLANNED = _around(Step.APPROVE, Step.APPLY)
_RETRIES = frozenset({Boundary.INSIDE_RETRY, Boundary.AFTER_RETRY})
_ELSEWHERE = _around(Step.TICK, Step.RELEASE)


@dataclass(kw_only=True)
class _Trial:
    """One way to die. ``places``: where its first lives end; ``delay``: when, for a random kill.

    Trials of one ``name`` are one row; ``mark`` tells them apart on a ledger that they share.
    """

    name: str
    mark: str = ""
    url: str
    calls: int = CALLS
    places: tuple[Boundary, ...] = ()
    delay: float | None = None
    planned: bool = False
    fails_first: bool = False


@dataclass
class _Test:
    """The trials of one crash test."""

    subject: Subject
    lease: float
    until: float
    clock: SystemClock
    stopped: threading.Event = field(default_factory=threading.Event)
    took: float = 0.0

    def run(self, trial: _Trial) -> tuple[Row, list[str]] | None:
        """Kill, let another process finish, and look; ``None`` when the time is over."""
        if self.stopped.is_set() or self.clock.monotonic() >= self.until:
            return None
        texts, kills, killed_at = self.subject.take(trial.calls), 0, None
        seen: tuple[Seen, ...] | None = None
        for place in trial.places or (None,):
            seen = self._live(trial, texts, place, trial.delay)
            if seen is not None:
                break
            kills, killed_at = kills + 1, self.clock.now()
        if seen is None:
            seen = self._live(trial, texts) or ()
        if self.clock.monotonic() >= self.until and not all(one.over for one in seen):
            return None
        return self.subject.judge(trial.name, texts, seen, kills=kills, killed_at=killed_at)

    def _live(
        self,
        trial: _Trial,
        texts: tuple[str, ...],
        place: Boundary | None = None,
        delay: float | None = None,
    ) -> tuple[Seen, ...] | None:
        """One process's life; its calls when they or the time are over. ``None``: it was killed."""
        order = Order(
            target=self.subject.target,
            url=trial.url,
            lease=self.lease,
            boundary=place,
            fails_first=trial.fails_first,
        )
        with Victim(order, self.clock) as victim:
            if not (
                victim.begin()
                and victim.enqueue(trial.name + trial.mark, texts, planned=trial.planned)
            ):
                return None
            if not victim.work():
                return None
            if delay is not None:
                self.clock.sleep(delay)
                victim.kill()
                return None
            began = self.clock.monotonic()
            seen = self._watch(victim, trial.name + trial.mark)
            self.took = self.clock.monotonic() - began
            return seen

    def _watch(self, victim: Victim, trial: str) -> tuple[Seen, ...] | None:
        patience = self.lease + 2 * self.subject.action.policy.verify_after + SLACK
        until = min(self.until, self.clock.monotonic() + patience)
        while True:
            seen = victim.look(trial)
            if seen is None or (seen and all(one.over for one in seen)):
                return seen
            if self.clock.monotonic() >= until:
                return seen
            self.stopped.wait(_POLL)
            if self.stopped.is_set():
                return seen


def crash_test(
    action: str | Action[..., Any],
    probe: str | Probe,
    calls: Iterable[Given],
    *,
    boundaries: Iterable[Boundary | str] | None = None,
    random_kills: int = 5,
    seed: int = 0,
    db_url: str | None = None,
    lease: float = LEASE,
    processes: int = 4,
    timeout: float = 600.0,
) -> CrashReport:
    """Kill the action's process at every boundary and at random, and hold the ledger to the books.

    Each trial starts a fresh process that imports ``action``, moves it to a ledger of the test's
    own (the user's is not opened), queues a few calls and works until it is killed with SIGKILL.
    Another one then recovers what died and finishes. Time is real: the lease is short, and
    ``verify_after`` lasts as long as the action declares.

    Args:
        action: ``"module:attribute"``, or the action where a fresh process can import it.
        probe: asks the other side's books: takes the arguments of a call by name and returns how
            often they had their effect. A function, or ``"module:attribute"``.
        calls: arguments, a tuple or mapping a call; each must be new to the other side. About
            200 are needed, so give a generator that does not end.
        boundaries: where to kill; unless given, wherever such an action can get to.
        random_kills: how many more processes to kill at random times.
        seed: of those times.
        db_url: an empty database for the ledger; unless given, SQLite files that are removed.
            Trials on a given one run one after another.
        lease: seconds; what died is found after that.
        processes: trials that run at the same time.
        timeout: seconds for all of it; what was not tried by then is said in the report.

    Raises:
        ConfigurationError: the action, probe or calls do not fit, the ledger given is not empty,
            or a process ended by itself; the message has its last words.
    """
    subject, clock = Subject(action, probe, calls), SystemClock()
    wanted = places_of(subject.action) if boundaries is None else _named(boundaries)
    test = _Test(subject, lease, clock.monotonic() + timeout, clock)
    with tempfile.TemporaryDirectory(prefix="gonogo-crash-") as folder:

        def url(name: object) -> str:
            return db_url or f"sqlite:///{folder}/{name}.db"

        if db_url:
            require_empty(subject, db_url, clock)
        first = _Trial(name="none", url=url(0), calls=RANDOM_CALLS)
        undisturbed = test.run(first)
        span = test.took
        chance = random.Random(seed)  # noqa: S311 - times to kill at, not secrets
        trials = [_at(place, url(n)) for n, place in enumerate(wanted, 1)]
        trials += [
            _Trial(
                name="random",
                mark=f"-{n}",
                url=url(f"r{n}"),
                calls=RANDOM_CALLS,
                delay=chance.random() * span,
            )
            for n in range(random_kills)
        ]
        results = [undisturbed, *_all(test, trials, 1 if db_url else processes)]
    return report_of(subject, seed, results)


def places_of(action: Action[..., Any]) -> tuple[Boundary, ...]:
    """The boundaries that a queued call of ``action`` can get to, in order."""
    unreachable = set(_ELSEWHERE)
    if action.verifier is None or action.policy.repeatable:
        unreachable |= _EVIDENCE
    if action.policy.retry.max_retries == 0 or action.is_async:
        unreachable |= _RETRIES
    return tuple(place for place in Boundary if place not in unreachable)


def _named(boundaries: Iterable[Boundary | str]) -> tuple[Boundary, ...]:
    try:
        return tuple(map(Boundary, boundaries))
    except ValueError as error:
        raise ConfigurationError(f"{error}; there are {', '.join(Boundary)}") from None


def require_empty(subject: Subject, url: str, clock: SystemClock) -> None:
    """Raise `ConfigurationError` for a ledger that somebody uses."""
    order = Order(target=subject.target, url=url, lease=LEASE)
    with Victim(order, clock) as victim:
        victim.begin()
        if victim.count():
            raise ConfigurationError(
                "a crash test kills workers: give it a database of its own, whose ledger is empty"
            )


def report_of(
    subject: Subject, seed: int, results: Iterable[tuple[Row, list[str]] | None]
) -> CrashReport:
    """The results of all trials; those of equal name are one row."""
    rows: dict[str, list[Row]] = {}
    findings: list[str] = []
    missed = 0
    for result in results:
        if result is None:
            missed += 1
            continue
        rows.setdefault(result[0].boundary, []).append(result[0])
        findings += result[1]
    if missed:
        findings.append(f"the time was over before {missed} trials were made")
    return CrashReport(
        action=subject.action.name,
        irreversible=subject.action.policy.irreversible,
        seed=seed,
        rows=tuple(total(some, name) for name, some in rows.items()),
        findings=tuple(findings[:_MOST_FINDINGS]),
    )


def _at(place: Boundary, url: str) -> _Trial:
    """The trial that kills at ``place``; some are only reached after an earlier death."""
    places = (Boundary.EFFECT_HAPPENED, place) if place in _SECOND else (place,)
    return _Trial(
        name=place.value,
        url=url,
        places=places,
        planned=place in _PLANNED,
        fails_first=place in _RETRIES,
    )


def _all(test: _Test, trials: list[_Trial], processes: int) -> list[tuple[Row, list[str]] | None]:
    with ThreadPoolExecutor(processes, "gonogo-crash") as pool:
        try:
            return list(pool.map(test.run, trials))
        except BaseException:
            test.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
