"""Alerts that end by themselves: what they told of is over, and the ledger proves it."""

from __future__ import annotations

import math
from collections.abc import Callable

from gonogo.alerts import AlertSystem
from gonogo.clock import Clock
from gonogo.errors import Halted
from gonogo.halts import switches
from gonogo.records import Alert, AlertState, Call, CallFilter, State
from gonogo.settlement import FOR_GOOD, IN_DOUBT, NEVER_BEGUN, NOT_DONE, REJECTED, TOO_LATE
from gonogo.standing import standing
from gonogo.store.port import Store, Transaction

EVERY = 60.0
"""Seconds between two rounds of one process."""

MOST = 100
"""Failed calls behind an alert that are looked at; of more, a person says that it is over."""

SLACK = 60.0
"""Seconds by which a failure may be older than its alert: some are raised after the commit."""

BY = "gonogo"
REFUSED = "refused: "
"""How the reasons of alerts about refusals begin; the name of the error follows."""

_HALTED = f"{REFUSED}{Halted.__name__}"


class Closings:
    """Resolves alerts about doubts, halts and failures once these are over.

    A failure is over when a later call with its key has succeeded. Of a call without a key, or one
    that was forgotten, nobody can tell: a person does.

    Args:
        retention: seconds for which finished calls are kept; see `Retention`.
    """

    def __init__(
        self, store: Store, clock: Clock, alerts: AlertSystem, *, retention: float | None
    ) -> None:
        self._store = store
        self._clock = clock
        self._alerts = alerts
        self._keep = math.inf if retention is None else retention
        self._next = float("-inf")

    @property
    def due(self) -> bool:
        """Whether it is time again."""
        return self._clock.monotonic() >= self._next

    def step(self) -> None:
        """`run_once`, when it is time again."""
        if self.due:
            self.run_once()

    def run_once(self) -> None:
        """Look at each alert that is not resolved. Raises `StoreError` without the ledger."""
        self._next = self._clock.monotonic() + EVERY
        found = self._store.read(self._open)
        for task, reason in dict.fromkeys((alert.task, alert.reason) for alert in found):
            self._close(task, reason)

    def close_doubts(self, action: str) -> None:
        """Resolve the alert about unknown outcomes of ``action``, if there is none any more."""
        self._close(action, IN_DOUBT)

    def _close(self, task: str, reason: str) -> None:
        why, lasts = _MATTERS[reason]

        def goes_on(tx: Transaction, alert: Alert) -> bool:
            now = self._clock.now()
            return lasts(tx, alert, now, now - self._keep)

        self._alerts.close(task, reason, by=BY, why=why, lasts=goes_on)

    def _open(self, tx: Transaction) -> list[Alert]:
        found = tx.alerts.find(limit=self._alerts.most)
        return [a for a in found if a.state is not AlertState.RESOLVED and a.reason in _MATTERS]


Lasts = Callable[[Transaction, Alert, float, float], bool]
"""Whether it is not over now; calls that ended before the second moment may be forgotten."""


def _in_doubt(tx: Transaction, alert: Alert, now: float, kept: float) -> bool:
    doubts = CallFilter(states=(State.UNKNOWN,), action=alert.task, limit=1)
    return bool(tx.calls.find(doubts))


def _halted(tx: Transaction, alert: Alert, now: float, kept: float) -> bool:
    controls = tx.controls.all()
    return any(standing(controls, name, now) for name in switches(alert.task))


def _failed(tx: Transaction, alert: Alert, now: float, kept: float) -> bool:
    if alert.count == 1:
        only = tx.calls.get(str(alert.context.get("call")))
        return only is None or not _made_good(tx, only)
    since = alert.first_seen - SLACK
    failures = tx.calls.find(CallFilter(states=_FAILED, action=alert.task, limit=MOST + 1))
    if since <= kept or len(failures) > MOST or _in_doubt(tx, alert, now, kept):
        return True  # some of them may not be among these
    found = [call for call in failures if (call.settled_at or 0.0) >= since]
    return alert.count > len(found) or not all(_made_good(tx, call) for call in found)


def _made_good(tx: Transaction, call: Call) -> bool:
    if call.state is State.FAILED and call.key is not None:
        call = tx.calls.holder(call.action, call.key) or call
    return call.state is State.SUCCEEDED


_FAILED = (State.FAILED,)
_FAILURES = (NOT_DONE, REJECTED, FOR_GOOD, TOO_LATE, NEVER_BEGUN)
_DONE_SINCE = "what failed has been done by later calls with the same keys"
_MATTERS: dict[str, tuple[str, Lasts]] = {
    IN_DOUBT: ("no call of this action is in doubt any more", _in_doubt),
    _HALTED: ("it is not halted any more", _halted),
    **dict.fromkeys(_FAILURES, (_DONE_SINCE, _failed)),
}
