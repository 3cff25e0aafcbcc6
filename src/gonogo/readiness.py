"""Readiness: GO, NO-GO or HOLD, with the evidence for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct, structs

from gonogo.clock import Clock, SystemClock, iso
from gonogo.deadlines import Check, CheckResult, ask_all
from gonogo.decisions import decision, require_who_and_why
from gonogo.errors import ConfigurationError, NotReady, Refused
from gonogo.events import Event, EventBus, control_changed
from gonogo.records import Control, Verdict
from gonogo.said import HALT, HOLD, Line, halted, held, is_switch, unreadable
from gonogo.secrets import describe
from gonogo.standing import HOLD_SUBJECT, outlasts, replacing, standing
from gonogo.store.port import Store, Transaction

_NOT_LOOKED: tuple[list[Line], float] = [], float("-inf")
"""Of halts: those that are known, and until when they are believed."""

_ORDER = (Verdict.GO, Verdict.NO_GO, Verdict.HOLD)
"""What wins over what stands before it."""

_MOMENT = 0.1
"""Seconds for which a verdict must still be fresh where nobody may be kept waiting."""

GROUPS = ("call", "worker")


class Readiness(Struct, frozen=True, kw_only=True):
    """A verdict and what it rests on.

    Attributes:
        verdict: GO, NO-GO, or HOLD, which a person said and which wins over both.
        evidence: what each check said, also those that were well; halts and a hold come first.
        at: epoch seconds.
    """

    verdict: Verdict
    evidence: tuple[CheckResult, ...]
    at: float

    @property
    def failing(self) -> tuple[CheckResult, ...]:
        """The critical checks that were not well."""
        return tuple(result for result in self.evidence if result.critical and not result.ok)


class SandboxReadinessChecker:
    """Asks its checks whether actions may run. Thread-safe.

    Checks run at the same time, each within its time limit. One that raises, answers anything
    but exactly ``True``, or hangs is NO-GO; it is not started again while it hangs. Failing checks
    that are not critical are reported and change nothing. With no check registered the verdict is
    GO: the component alone has nothing to object; the orchestrator always registers some.

    Args:
        store: the ledger that keeps a hold and who said it; without one it is kept in memory.
        hold_cache: seconds for which a hold read from the ledger is believed, and by `is_ready`
            the halts. Those of another process are seen that much later, except by those who check
            them in their own transaction, as every call does.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        store: Store | None = None,
        events: EventBus | None = None,
        hold_cache: float = 1.0,
    ) -> None:
        self._events = events
        self._clock = clock or SystemClock()
        self._store = store
        self._hold_cache = hold_cache if store is not None else float("inf")
        self._checks: dict[str, Check] = {}
        self._lock = threading.Lock()
        self._held: Control | None = None
        self._held_until = float("-inf") if store is not None else float("inf")
        self._go_until: dict[str | None, float] = {}
        self._generation = 0
        self._unsaved: tuple[Control, ...] = ()  # they hold here; the ledger has them not (yet)
        self._halts = _NOT_LOOKED  # one attribute: other threads may look as well
        if events is not None:
            events.subscribe(self._heed, names=("control.changed",), quick=True)

    @property
    def checks(self) -> dict[str, Check]:
        """The registered checks by name; a copy."""
        with self._lock:
            return dict(self._checks)

    def register_check(
        self,
        name: str,
        fn: Callable[[], Any],
        *,
        timeout: float = 5.0,
        critical: bool = True,
        cache: float = 0.0,
        groups: Collection[str] = GROUPS,
    ) -> None:
        """Ask ``fn`` for every verdict of ``groups``; a check of the same name is replaced.

        It returns a bool or ``(bool, evidence)``. Numbers are seconds; an answer, good or bad, is
        used again for ``cache`` seconds.

        Raises:
            ConfigurationError: an argument makes no sense.
        """
        if isinstance(groups, str) or not groups:
            raise ConfigurationError(f"check {name!r}: groups must be a list of names")
        if is_switch(name):
            raise ConfigurationError(f"a check cannot be named {name!r}; that is what people say")
        check = Check(
            name,
            fn,
            clock=self._clock,
            timeout=timeout,
            critical=critical,
            cache=cache,
            groups=groups,
        )
        with self._lock:
            self._checks[name] = check
            self._forget()

    def unregister(self, name: str) -> bool:
        """Ask it no more; false when there is no check of that name."""
        with self._lock:
            self._forget()
            return self._checks.pop(name, None) is not None

    def evaluate(self, group: str | None = None) -> Readiness:
        """Ask every check of ``group`` (of all groups when ``None``) and give the verdict.

        A halt of everything is a HOLD as well; that of one action is told and changes nothing.

        Raises:
            ConfigurationError: no such group; a typing error is not a GO.
        """
        judged = self._judge(group)
        halts = self._look_for_halts()
        verdict = max((judged.verdict, *(verdict for verdict, _ in halts)), key=_ORDER.index)
        evidence = (*(line for _, line in halts), *judged.evidence)
        return structs.replace(judged, verdict=verdict, evidence=evidence)

    def _judge(self, group: str | None) -> Readiness:
        """`evaluate` for who is told of halts by the governor."""
        with self._lock:
            generation = self._generation
            checks = [
                check for check in self._checks.values() if group is None or group in check.groups
            ]
            if not checks:
                self._require_group(group)
        hold = self._look_for_hold()
        results = ask_all(checks)
        verdict = Verdict.GO
        if any(result.critical and not result.ok for result in results):
            verdict = Verdict.NO_GO
        if hold is not None:
            verdict = hold[0]
            results = (hold[1], *results)
        readiness = Readiness(verdict=verdict, evidence=results, at=self._clock.now())
        with self._lock:
            if generation == self._generation:
                self._remember(group, readiness, checks)
        return readiness

    def run_all_checks(self, group: str | None = None) -> dict[str, bool]:
        """What each check of ``group`` (of all) says, by name. A hold or a halt is not a check."""
        return {result.name: result.ok for result in _answers(self._judge(group))}

    def is_ready(self, group: str | None = None) -> bool:
        """Whether the verdict of ``group`` is GO."""
        go = self._is_known_go(group) or self._judge(group).verdict is Verdict.GO
        return go and all(verdict is Verdict.GO for verdict, _ in self._known_halts())

    def require(self, group: str, action: str | None = None, key: str | None = None) -> None:
        """Return when the verdict of ``group`` is GO; while its answers are fresh, at once.

        Raises:
            NotReady: it is not; the message names the failing checks and what to do.
        """
        until = self._go_until.get(group)
        if until is not None and self._clock.now() < until:
            return
        readiness = self._judge(group)
        if readiness.verdict is not Verdict.GO:
            raise _refusal(readiness.verdict, readiness.failing, action, key)

    def require_not_held(
        self, controls: Mapping[str, Control], action: str | None = None, key: str | None = None
    ) -> None:
        """Refuse while ``controls``, read in the caller's own transaction, hold everything.

        Raises:
            NotReady: a person said hold.
        """
        now = self._clock.now()
        if (control := standing(controls, HOLD, now)) is not None:
            raise _refusal(Verdict.HOLD, (held(control, now),), action, key)

    def hold(self, *, by: str, reason: str, until: float | None = None) -> None:
        """Say stop: the verdict is HOLD until `release`, or until ``until`` (epoch seconds).

        Raises:
            ConfigurationError: nobody, or no reason, was named, or ``until`` is over.
            Refused: a hold that lasts longer stands; `release` ends it first.
            StoreError: the ledger could not keep it. It holds in this process all the same.
        """
        require_who_and_why("a hold", by, reason)
        now = self._clock.now()
        if until is not None and until <= now:
            raise ConfigurationError("a hold must end in the future; leave until out for no end")
        control = Control(name=HOLD, actor=by, reason=reason, set_at=now, until=until)
        with self._lock:
            if self._store is None:
                replacing(_if_on(self._held, now), control)
                self._held = control
            self._unsaved += (control,)
            self._forget()
        try:
            self._keep(control)
        except Refused:
            with self._lock:
                self._unsaved = tuple(one for one in self._unsaved if one is not control)
                self._forget()
            raise
        except BaseException:
            with self._lock:  # also where one that lasts as long was written meanwhile
                self._unsaved = (*self._longer_than(control), control)
                self._forget()
            raise
        with self._lock:
            self._believe(control, self._longer_than(control))
        control_changed(self._events, now, HOLD, by, on=True)

    def _keep(self, control: Control) -> None:
        """Write a hold on the ledger, with who decided it, why, and in whose place."""

        def work(tx: Transaction) -> None:
            replaced = replacing(standing(tx.controls.all(), HOLD, control.set_at), control)
            end = {} if control.until is None else {"until": control.until}
            by, reason, now = control.actor, control.reason, control.set_at
            made = decision("hold", HOLD_SUBJECT, by=by, reason=reason, now=now, **end, **replaced)
            tx.controls.put(control)
            tx.decisions.append(made)

        if self._store is not None:
            self._store.write(work)

    def release(self, *, by: str, reason: str) -> bool:
        """End a hold; false when there was none.

        Raises:
            ConfigurationError: nobody, or no reason, was named.
            StoreError: the ledger could not be written; the hold stays.
        """
        require_who_and_why("releasing a hold", by, reason)
        now = self._clock.now()
        with self._lock:
            mine = (*self._unsaved, self._held if self._store is None else None)
            here = any(_if_on(control, now) for control in mine)
        made = decision("release", HOLD_SUBJECT, by=by, reason=reason, now=now)

        def work(tx: Transaction) -> bool:
            if not here and standing(tx.controls.all(), HOLD, now) is None:
                return False
            tx.controls.clear(HOLD)
            tx.decisions.append(made)
            return True

        released = here if self._store is None else self._store.write(work)
        with self._lock:
            self._believe(None)
        if released:
            control_changed(self._events, now, HOLD, by, on=False)
        return released

    def get_status(self) -> dict[str, Any]:
        """The verdict over all groups as plain data.

        ``last_check`` is ISO 8601 in UTC; ``checks`` maps names to what they said; ``evidence``
        gives each answer in full.
        """
        readiness = self.evaluate()
        answers = _answers(readiness)
        passed = sum(result.ok for result in answers)
        return {
            "is_ready": readiness.verdict is Verdict.GO,
            "verdict": readiness.verdict.value,
            "last_check": iso(readiness.at),
            "checks": {result.name: result.ok for result in answers},
            "total_checks": len(answers),
            "passed_checks": passed,
            "failed_checks": len(answers) - passed,
            "evidence": [_plain(result) for result in readiness.evidence],
        }

    def knows_go(self, group: str) -> bool:
        """Whether the verdict of ``group`` is GO and fresh, for a moment at least.

        Then `require` runs no check and keeps nobody waiting.
        """
        return self._is_known_go(group, _MOMENT)

    def _is_known_go(self, group: str | None, longer: float = 0.0) -> bool:
        until = self._go_until.get(group)
        return until is not None and self._clock.now() + longer < until

    def _remember(self, group: str | None, readiness: Readiness, checks: Iterable[Check]) -> None:
        if readiness.verdict is not Verdict.GO:
            return
        caches = {check.name: check.cache for check in checks}
        ends = [answer.at + caches.get(answer.name, 0.0) for answer in readiness.evidence]
        self._go_until[group] = min([self._held_until, *ends])

    def _forget(self) -> None:
        self._generation += 1
        self._go_until.clear()

    def _require_group(self, group: str | None) -> None:
        known = set(GROUPS).union(*(check.groups for check in self._checks.values()))
        if group is not None and group not in known:
            raise ConfigurationError(
                f"readiness group {group!r} is not known; there are {', '.join(sorted(known))}"
            )

    def _longer_than(self, control: Control) -> tuple[Control, ...]:
        return tuple(one for one in self._unsaved if outlasts(one, control))

    def _believe(self, control: Control | None, unsaved: tuple[Control, ...] = ()) -> None:
        """What was just written stands: verdicts and readings begun before do not count."""
        self._held, self._unsaved = control, unsaved
        self._held_until = self._clock.now() + self._hold_cache
        self._forget()

    def _look_for_hold(self) -> Line | None:
        """The verdict and evidence of a hold; ``None`` when nobody holds."""
        now = self._clock.now()
        with self._lock:
            generation = self._generation
            control, until = self._held, self._held_until
        if self._store is not None and now >= until:
            try:
                control = self._store.read(lambda tx: tx.controls.all().get(HOLD))
            except Exception as error:  # noqa: BLE001  a guard that cannot look says no
                evidence = f"the ledger does not say whether a person holds: {describe(error)}"
                return unreadable(evidence, now, HOLD)
            with self._lock:
                if generation == self._generation:
                    self._held, self._held_until = control, now + self._hold_cache
        for hold in (*self._unsaved, control):
            if hold is not None and hold.active(now):
                return Verdict.HOLD, held(hold, now)
        return None

    def _known_halts(self) -> list[Line]:
        """`_look_for_halts`, or what it found within the time that a hold is believed."""
        halts, until = self._halts
        return halts if self._clock.now() < until else self._look_for_halts()

    def _look_for_halts(self) -> list[Line]:
        """What each halt on the ledger means for the verdict, and its line in the evidence."""
        if self._store is None:
            return []
        now = self._clock.now()
        self._halts = _NOT_LOOKED
        generation = self._generation
        try:
            found = halted(self._store.read(lambda tx: tx.controls.all()), now)
        except Exception as error:  # noqa: BLE001  a guard that cannot look says no
            evidence = f"the ledger does not say what is halted: {describe(error)}"
            return [unreadable(evidence, now, HALT)]
        with self._lock:
            if generation == self._generation:
                self._halts = found, now + self._hold_cache
        return found

    def _heed(self, _: Event) -> None:
        """Somebody in this process threw a switch: halts read before do not count."""
        with self._lock:
            self._halts = _NOT_LOOKED
            self._generation += 1


def _if_on(control: Control | None, now: float) -> Control | None:
    return control if control is not None and control.active(now) else None


def _answers(readiness: Readiness) -> list[CheckResult]:
    """What the checks said, without what people did."""
    return [result for result in readiness.evidence if not is_switch(result.name)]


def _refusal(
    verdict: Verdict, failing: Iterable[CheckResult], action: str | None, key: str | None
) -> NotReady:
    what = f"action {action!r}" if action else "the sandbox"
    with_key = f" (key {key!r})" if key else ""
    reasons = "; ".join(f"{result.name}: {result.evidence}" for result in failing)
    remedy = "release the hold" if verdict is Verdict.HOLD else "mend what the checks name"
    refusal = NotReady(
        f"{what}{with_key} was not performed, the verdict is {verdict.value}: {reasons}. "
        f"To go on, {remedy} and call again",
        action=action,
        key=key,
    )
    refusal.held = verdict is Verdict.HOLD
    return refusal


def _plain(result: CheckResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "ok": result.ok,
        "evidence": result.evidence,
        "critical": result.critical,
        "at": iso(result.at),
        "seconds": result.seconds,
    }
