"""What a process took from the queue and does not perform goes back, or ends."""

from __future__ import annotations

from gonogo.errors import ConfigurationError, Drifted, Halted, NotReady, RateLimited, Refused
from gonogo.pauses import QueuePaused
from gonogo.pipeline import Pipeline
from gonogo.records import AHEAD, Alert, Call, Severity, State, advance
from gonogo.settlement import FOR_GOOD, in_doubt, withdrawn
from gonogo.store.port import Transaction

PARKED = 60.0
"""Seconds a call waits when this process cannot run it: the action is not declared here."""

HELD = 1.0
"""Seconds a call waits that was refused by a hold: so long one that is over may be believed."""

SHORTEST_WAIT = 0.05
LONGEST_WAIT = 60.0
"""Seconds for which a call that a guard refused is left alone, at least and at most."""


class Returns:
    """Puts claimed calls back, or ends them; each returns the call as it is then.

    Raises `StoreError` when the ledger is out of reach: then the call is found again when its
    lease ends.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._clock = pipeline.clock

    def refused(self, call: Call, refusal: Refused | ConfigurationError) -> Call:
        """A guard said no: for good, for a while, or for this process."""
        why = str(refusal)
        if isinstance(refusal, ConfigurationError):
            return self.park(call, why)
        if isinstance(refusal, QueuePaused | Halted):  # the switch itself says why, while it is on
            return self.put_back(call, _note(call))
        if isinstance(refusal, NotReady) and refusal.held:
            return self.release(call, HELD, _note(call))
        limited = isinstance(refusal, RateLimited)
        if isinstance(refusal, Drifted) or (limited and refusal.retry_after is None):
            return self.fail(call, why)
        wait = refusal.retry_after if limited else refusal.retry_after or LONGEST_WAIT / 2
        return self.release(call, wait or 0.0, why)

    def release(self, call: Call, wait: float, why: str | None) -> Call:
        """Put it back and leave it alone for ``wait`` seconds, within bounds."""
        run_at = self._clock.now() + min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)
        return self.put_back(call, why, run_at)

    def put_back(self, call: Call, why: str | None, run_at: float | None = None) -> Call:
        """Put it back, in its place in the queue: nothing happened, no attempt is used up."""
        unused = call.state is State.DISPATCHED and not in_doubt(call)
        now = self._clock.now()
        after = advance(
            call,
            State.PENDING,
            attempt=call.attempt - (call.note != AHEAD),
            run_at=call.run_at if run_at is None else run_at,
            reservations=() if unused else call.reservations,
            lease_until=None,
            owner=None,
            note=why,
        )
        self._pipeline.store.write(
            lambda tx: self._pipeline.conclude(tx, call, after, now), durable=False
        )
        return after

    def park(self, call: Call, why: str) -> Call:
        """Put it back for a process that can run it: this one cannot."""
        after = self.release(call, PARKED, f"parked: {why}")
        reason, context = "parked: this process cannot run it", _about(call, why)
        self._pipeline.alerts.alert(call.action, reason, Severity.ERROR, context, patience=0)
        return after

    def fail(self, call: Call, why: str) -> Call:
        """End it: nobody may perform it any more."""
        now = self._clock.now()
        action = self._pipeline.actions.get(call.action)
        after = withdrawn(action, call, State.FAILED, now, why)
        alerts, context = self._pipeline.alerts, _about(call, why)

        def work(tx: Transaction) -> Alert | None:
            if not self._pipeline.conclude(tx, call, after, now):
                return None
            return alerts.fire(tx, call.action, FOR_GOOD, Severity.ERROR, context, now)

        alert = self._pipeline.store.write(work, durable=False)
        if alert is None:  # somebody else has the call by now
            return self._pipeline.get(call.id) or call
        self._pipeline.tell("call.withdrawn", after, state=after.state.value, reason=why)
        alerts.publish(alert)
        return after


def _about(call: Call, why: str) -> dict[str, str | None]:
    """What an alert tells of a call."""
    return {"call": call.id, "key": call.key, "why": why}


def _note(call: Call) -> str | None:
    """What was told of the call before it was claimed."""
    return None if call.note == AHEAD else call.note
