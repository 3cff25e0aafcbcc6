"""What was tried: the attempts of a call, whether they are rows of their own or not."""

from __future__ import annotations

from gonogo.records import Attempt, Call, Outcome, State
from gonogo.store.port import Transaction


def attempts_of(tx: Transaction, call: Call) -> list[Attempt]:
    """The attempts of ``call`` that are over, in the order in which they were written.

    The one that succeeded has no row where the call's own says the same, which saves every call
    that succeeds at once a row.
    """
    told = tx.attempts.of(call.id)
    told_of = {attempt.attempt for attempt in told}
    if call.state is State.SUCCEEDED and call.attempt not in told_of:
        told.append(_successful(call))
    return told


def _successful(call: Call) -> Attempt:
    return Attempt(
        call_id=call.id,
        attempt=call.attempt,
        epoch=call.epoch,
        owner=call.owner,
        started_at=call.dispatched_at or call.created_at,
        ended_at=call.settled_at or call.created_at,
        outcome=Outcome.SUCCEEDED,
    )
