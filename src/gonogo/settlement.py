"""The judgement in settle: from what an attempt did to what the ledger will say. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from gonogo.backoff import rule
from gonogo.endings import ended
from gonogo.errors import GonogoError
from gonogo.outcomes import classify, retry_after
from gonogo.performed import Performed
from gonogo.records import (
    NEVER,
    Attempt,
    Call,
    Fault,
    Outcome,
    Severity,
    State,
    advance,
    move,
)
from gonogo.signals import Cancel, Signal, Snooze

if TYPE_CHECKING:
    from gonogo.action import Action

DIRECT_GRACE = 30.0
"""Seconds beyond its time-out after which the silent caller of a direct call counts as dead."""

_SUCCEEDED, _HAPPENED, _UNKNOWN = State.SUCCEEDED, Outcome.SUCCEEDED, Outcome.UNKNOWN

IN_DOUBT = "outcome unknown: it may have happened"
NOT_DONE = "failed: it did not happen"
REJECTED = "rejected by the other side"
FOR_GOOD = "refused for good"
TOO_LATE = "deadline passed"
NEVER_BEGUN = "attempts used up without ever being performed"
"""Reasons of alerts, which group them: of an action with any number of such calls there is one."""

FOUND_SILENT = "its process was found silent"
"""Note of an attempt whose end nobody saw: its ``ended_at`` is when that was noticed."""

LONGEST_DELAY = 366 * 86_400.0
"""Seconds by which a call is put off at most, whatever it or the other side asks for."""


class Notice(Struct, frozen=True):
    """An alert to raise in the transaction that settles."""

    reason: str
    severity: Severity
    context: dict[str, Any]


class Settlement(Struct, frozen=True, kw_only=True):
    """What settling will write.

    Attributes:
        after: the call as it will stand.
        attempt: the line for the attempt's history; ``None`` when no attempt was used up, and for
            one that succeeded, of which the call's own row says it all.
    """

    after: Call
    attempt: Attempt | None
    notice: Notice | None = None


def in_doubt(call: Call) -> bool:
    """Whether an earlier attempt of a call that is not over may have had its effect.

    Only repeatable calls run again in doubt. It lasts until they succeed, or evidence settles them:
    that a later attempt was turned away says nothing about the one before it.
    """
    return call.outcome is _UNKNOWN and call.settled_at is None


def judge(
    action: Action[Any, Any],
    call: Call,
    performed: Performed,
    error: BaseException,
    random: float,
    began: float,
) -> Settlement:
    """Decide what becomes of ``call`` after an attempt that raised ``error``.

    Args:
        random: in [0, 1), feeds the jitter.
        began: epoch seconds at which the first attempt began.
    """
    if isinstance(error, Snooze):
        return _snoozed(action, call, performed, error)
    if isinstance(error, Cancel) and not in_doubt(call):
        return _cancelled(call, performed)
    outcome = outcome_of(action, error)
    asked = retry_after(error)
    ruling = rule(
        action.policy.retry,
        attempt=call.attempt - 1,
        elapsed=performed.ended_at - began,
        outcome=outcome,
        repeatable=call.repeatable,
        error=error,
        retry_after=asked,
        deadline_in=None if call.deadline_at is None else call.deadline_at - performed.ended_at,
        random=random,
    )
    if isinstance(ruling, str):
        return _ended(action, call, performed, outcome, ruling)
    return _retried(call, performed, outcome, ruling, asked)


def outcome_of(action: Action[Any, Any], error: BaseException) -> Outcome:
    """The action's own classification where it has an answer, else the common one.

    A signal is the action's word already.
    """
    own_word = isinstance(error, Signal) or not isinstance(error, Exception)
    if action.policy.classify is not None and not own_word:
        try:
            own = action.policy.classify(error)
        except Exception:  # noqa: BLE001 - a broken classifier proves nothing
            return Outcome.UNKNOWN
        if isinstance(own, Outcome) and own is not Outcome.SUCCEEDED:
            return own
    if isinstance(error, GonogoError):  # of a call within this one: it says nothing about this one
        return Outcome.UNKNOWN
    return classify(error)


def runs_again(call: Call) -> bool:
    """Whether a dispatched call goes back to its queue when its process went silent."""
    return call.repeatable and call.attempt < call.max_attempts and call.queue is not None


def unheard(action: Action[Any, Any] | None, call: Call, now: float, why: str) -> Settlement:
    """What becomes of a dispatched call whose process went silent."""
    performed = Performed(ended_at=now, error=ConnectionAbortedError(why))
    if runs_again(call):
        settlement = _retried(call, performed, Outcome.UNKNOWN, 0.0, None)
    else:
        may = "the effect may have happened"
        settlement = _ended(action, call, performed, Outcome.UNKNOWN, may)
    attempt = structs.replace(attempt_of(call, performed, Outcome.UNKNOWN), note=FOUND_SILENT)
    return structs.replace(settlement, attempt=attempt)


def succeeded(action: Action[Any, Any], call: Call, performed: Performed) -> Settlement:
    """What becomes of ``call`` after an attempt that returned."""
    result, note = action.encode_result(performed.value)
    secrets = performed.secrets
    if secrets and result is not None and any(secret in result for secret in secrets):
        result, note = None, "the result was not kept: a secret argument stands in it"
    ttl = action.policy.key_ttl
    after = structs.replace(
        call,
        state=move(call, _SUCCEEDED),
        outcome=_HAPPENED,
        result=result,
        note=note,
        fault=None,
        lease_until=None,
        settled_at=performed.ended_at,
        expires_at=None if ttl is None else performed.ended_at + ttl,
    )
    notice = None
    if note is not None:
        notice = Notice("result not kept", Severity.WARNING, _context(call, why=note))
    return Settlement(after=after, attempt=None, notice=notice)


def _snoozed(
    action: Action[Any, Any], call: Call, performed: Performed, signal: Snooze
) -> Settlement:
    """Nothing happened and no attempt is used up; the budget waits in its place."""
    asked = retry_after(signal)  # None for what is no finite number
    delay = action.policy.retry.base_delay if asked is None else asked
    if call.deadline_at is not None and performed.ended_at + delay >= call.deadline_at:
        why = "it would run again after the deadline"
        return _ended(action, call, performed, Outcome.NOT_APPLIED, why)
    note = f"snoozed: {performed.fault.message}"
    return Settlement(
        after=_waiting(call, performed, delay, attempt=call.attempt - 1, note=note),
        attempt=None,
    )


def _cancelled(call: Call, performed: Performed) -> Settlement:
    after = advance(
        call,
        State.CANCELLED,
        outcome=Outcome.NOT_APPLIED,
        held=False,
        note=performed.fault.message,
        reservations=(),
        lease_until=None,
        settled_at=performed.ended_at,
    )
    return Settlement(after=after, attempt=attempt_of(call, performed, Outcome.NOT_APPLIED))


def _retried(
    call: Call, performed: Performed, outcome: Outcome, delay: float, asked: float | None
) -> Settlement:
    why = f"attempt {call.attempt} {_said(outcome)} ({performed.fault.message})"
    if asked is not None:
        why += f"; the other side asked for {asked:g} s"
    after = _waiting(
        call,
        performed,
        delay,
        outcome=Outcome.UNKNOWN if in_doubt(call) else outcome,
        fault=performed.fault,
        note=f"{why}; it runs again",
    )
    return Settlement(after=after, attempt=attempt_of(call, performed, outcome))


def withdrawn(
    action: Action[Any, Any] | None, call: Call, state: State, now: float, note: str
) -> Call:
    """A call that will not be performed (again), ended as ``state``.

    An irreversible one of which an earlier attempt may have happened becomes unknown instead, and
    keeps its key and its units until there is evidence.
    """
    if not in_doubt(call) or not _irreversible(action):
        return ended(call, state, now, note)
    return advance(
        call,
        State.UNKNOWN,
        run_at=_first_look(action, now),
        lease_until=None,
        settled_at=now,
        note=f"{note}; an earlier attempt may have happened",
    )


def _waiting(call: Call, performed: Performed, delay: float, **changes: Any) -> Call:
    """Back to pending. A direct call keeps a lease, so that it is noticed when its caller dies."""
    run_at = performed.ended_at + min(delay, LONGEST_DELAY)
    lease = run_at + DIRECT_GRACE if call.queue is None else None
    return advance(call, State.PENDING, run_at=run_at, lease_until=lease, **changes)


def _ended(
    action: Action[Any, Any] | None,
    call: Call,
    performed: Performed,
    last: Outcome,
    why: str,
) -> Settlement:
    outcome = Outcome.UNKNOWN if in_doubt(call) else last
    if outcome is not last:
        why += "; an earlier attempt may have happened"
    harmless = outcome is Outcome.UNKNOWN and call.repeatable and not _irreversible(action)
    proven = outcome in {Outcome.NOT_APPLIED, Outcome.REJECTED}
    state = State.FAILED if proven or harmless else State.UNKNOWN
    fault = performed.fault
    changes: dict[str, Any] = {}
    if proven:
        changes["reservations"] = ()
    if state is State.UNKNOWN:
        changes["run_at"] = _first_look(action, performed.ended_at)
    if outcome is Outcome.REJECTED and action is not None and action.policy.key_ttl is not None:
        changes["expires_at"] = performed.ended_at + action.policy.key_ttl
    after = advance(
        call,
        state,
        outcome=outcome,
        fault=fault,
        held=call.held and (outcome is Outcome.REJECTED or state is State.UNKNOWN),
        note=f"{_said(last)}: {fault.message}; {why}",
        lease_until=None,
        settled_at=performed.ended_at,
        **changes,
    )
    return Settlement(
        after=after,
        attempt=attempt_of(call, performed, last),
        notice=_notice(after, fault, irreversible=_irreversible(action)),
    )


def _notice(after: Call, fault: Fault, *, irreversible: bool) -> Notice:
    context = _context(after, fault=f"{fault.type}: {fault.message}")
    if after.state is State.UNKNOWN:
        severity = Severity.CRITICAL if irreversible else Severity.ERROR
        return Notice(IN_DOUBT, severity, context)
    if after.outcome is Outcome.REJECTED:
        return Notice(REJECTED, Severity.WARNING, context)
    if after.outcome is Outcome.UNKNOWN:
        return Notice("failed: it may have happened, and may be repeated", Severity.ERROR, context)
    return Notice(NOT_DONE, Severity.ERROR, context)


def _first_look(action: Action[Any, Any] | None, now: float) -> float:
    """When evidence is looked for; never by itself when nothing is known that could give it."""
    if action is None:
        return now
    return now + action.policy.verify_after if action.verifier is not None else NEVER


def _irreversible(action: Action[Any, Any] | None) -> bool:
    return action is None or action.policy.irreversible


def _said(outcome: Outcome) -> str:
    return {
        Outcome.NOT_APPLIED: "was not applied",
        Outcome.REJECTED: "was rejected",
        Outcome.UNKNOWN: "ended without proof of what happened",
        Outcome.SUCCEEDED: "succeeded",
    }[outcome]


def attempt_of(call: Call, performed: Performed, outcome: Outcome) -> Attempt:
    """The line of an attempt that is over."""
    return Attempt(
        call_id=call.id,
        attempt=call.attempt,
        epoch=call.epoch,
        owner=call.owner,
        started_at=call.dispatched_at or call.created_at,
        ended_at=performed.ended_at,
        outcome=outcome,
        fault=None if performed.error is None else performed.fault,
    )


def _context(call: Call, **more: Any) -> dict[str, Any]:
    return {"call": call.id, "key": call.key, "attempt": call.attempt, **more}
