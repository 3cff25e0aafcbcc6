"""The third step: what an attempt did, written once, fenced, with all that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from gonogo.action import Action
from gonogo.alerts import AlertSystem
from gonogo.bell import Bell
from gonogo.call_events import CallEvents
from gonogo.dry_run import DryRunLock
from gonogo.endings import given_back
from gonogo.errors import OutcomeUnknown
from gonogo.governor import GovernorEnforcer
from gonogo.performed import Performed
from gonogo.precedence import follow
from gonogo.records import Alert, Call, Outcome, Severity, State, advance
from gonogo.settlement import Settlement, attempt_of, judge, succeeded
from gonogo.store.port import Store, Transaction
from gonogo.writing import Writing

_SUCCEEDED = State.SUCCEEDED
Written = tuple[Call, Alert | None, bool]


class Settling:
    """Classify, write, settle or refund, free who waits, alert: one transaction."""

    def __init__(
        self,
        *,
        store: Store,
        lock: DryRunLock,
        governor: GovernorEnforcer,
        alerts: AlertSystem,
        call_events: CallEvents,
        random: Callable[[], float],
        settled: Bell,
    ) -> None:
        self._store = store
        self._lock = lock
        self._governor = governor
        self._alerts = alerts
        self._call_events = call_events
        self._random = random
        self._settled = settled

    def settling(self, action: Action[Any, Any], call: Call, performed: Performed) -> Writing[Call]:
        """See `Pipeline.settling`."""
        try:
            if (error := performed.error) is None:
                settlement = succeeded(action, call, performed)
            else:
                began = self._began(action, call)
                settlement = judge(action, call, performed, error, self._random(), began)
            written: Written = yield (
                lambda tx: self._write(tx, call, settlement, performed),
                False,
            )
        except Exception as broken:  # noqa: BLE001 - whatever it is, the effect was tried and nothing is written
            raise OutcomeUnknown(
                f"{call.name} ran, but its outcome could not be written: "
                f"{broken}. The ledger will call it unknown when its lease ends",
                action=call.action,
                key=call.key,
                call_id=call.id,
            ) from (performed.cause or broken)
        settled, alert, late = written
        if alert is not None:
            self._alerts.publish(alert)
        if settled.state is _SUCCEEDED and not late:
            self._lock.note_executed(settled.action, performed.ended_at)
        self._call_events.settled(settled, settlement, late=late)
        self._settled.ring()
        return settled

    def _began(self, action: Action[Any, Any], call: Call) -> float:
        """When the first attempt began; looked up only where something depends on it."""
        now = call.dispatched_at or call.created_at
        if action.policy.retry.max_elapsed is None or call.attempt == 1:
            return now
        attempts = self._store.read(lambda tx: tx.attempts.of(call.id))
        return min([attempt.started_at for attempt in attempts], default=now)

    def _write(
        self, tx: Transaction, call: Call, settlement: Settlement, performed: Performed
    ) -> Written:
        now = performed.ended_at
        if performed.spent and settlement.after.state is State.SUCCEEDED:
            stands = tx.calls.get(call.id)
            if stands is not None and stands.fence == call.fence:
                kept = self._governor.settle(tx, call.reservations, performed.spent)
                after = structs.replace(settlement.after, reservations=kept)
                settlement = structs.replace(settlement, after=after)
        after = settlement.after
        if not self.conclude(tx, call, after, now):
            return self._late(tx, call, settlement, performed)
        if settlement.attempt is not None:
            tx.attempts.append(settlement.attempt)
        alert = None
        if (notice := settlement.notice) is not None:
            alert = self._alerts.fire(
                tx, call.action, notice.reason, notice.severity, notice.context, now
            )
        return after, alert, False

    def _late(
        self, tx: Transaction, call: Call, settlement: Settlement, performed: Performed
    ) -> Written:
        """The claim was lost. A known outcome is evidence about the attempt it is the outcome of.

        Once that attempt was taken for absent and another began, or its call was settled
        otherwise, an effect that did land may be there twice: a person must look.
        """
        now = performed.ended_at
        stands = tx.calls.get(call.id) or call
        outcome, attempt = settlement.after.outcome, settlement.attempt
        if outcome is Outcome.SUCCEEDED:
            attempt = attempt_of(call, performed, outcome)
        if attempt is not None:
            tx.attempts.append(structs.replace(attempt, note="came late; kept as evidence"))
        known = outcome in {Outcome.SUCCEEDED, Outcome.REJECTED}
        same = stands.attempt == call.attempt
        severity = Severity.WARNING
        if known and same and stands.state in {State.UNKNOWN, State.PENDING}:
            stands = self._adopt(tx, stands, settlement, performed)
        elif _contradicts(outcome, stands, same=same):
            severity = Severity.CRITICAL
        context = {"call": call.id, "key": call.key, "outcome": str(outcome)}
        reason = "a result came after the claim was lost"
        return stands, self._alerts.fire(tx, call.action, reason, severity, context, now), True

    def _adopt(
        self, tx: Transaction, stands: Call, settlement: Settlement, performed: Performed
    ) -> Call:
        after = settlement.after
        kept = stands.reservations if after.reservations else ()
        if kept and performed.spent:
            kept = self._governor.settle(tx, kept, performed.spent)
        adopted = advance(
            stands,
            after.state,
            outcome=after.outcome,
            result=after.result,
            fault=after.fault,
            held=after.held,
            lease_until=None,
            settled_at=performed.ended_at,
            expires_at=after.expires_at,
            note="; ".join(filter(None, (after.note, "settled by its own late result"))),
            reservations=kept,
        )
        self.conclude(tx, stands, adopted, performed.ended_at)
        return adopted

    def conclude(self, tx: Transaction, before: Call, after: Call, now: float) -> bool:
        """Write ``after``, give back the units it no longer holds, and move who waits for it.

        False, with nothing written, when the call is not as it was in ``before`` any more.
        """
        if not tx.calls.replace(before, after):
            return False
        if units := given_back(before, after):
            self._governor.release(tx, units)
        follow(tx, after, now)
        return True


def _contradicts(outcome: Outcome | None, stands: Call, *, same: bool) -> bool:
    """Whether a late ``outcome`` and the call as it stands cannot both be the whole truth."""
    if outcome is Outcome.SUCCEEDED:
        proven = stands.state is State.SUCCEEDED or stands.outcome is Outcome.UNKNOWN
        return not same or not proven
    return outcome is Outcome.REJECTED and same and stands.state is State.SUCCEEDED
