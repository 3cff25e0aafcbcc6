"""Why a call is where it is, in sentences that a person understands at three in the morning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gonogo.durations import spell_duration, spell_time
from gonogo.handout import BROKER
from gonogo.records import NEVER, Attempt, Call, Decision, Outcome, State

_HAPPENED = {
    Outcome.SUCCEEDED: "it succeeded",
    Outcome.NOT_APPLIED: "it surely did not happen",
    Outcome.REJECTED: "the other side refused it for good",
    Outcome.UNKNOWN: "nobody heard whether it happened",
}


def explain(
    call: Call,
    attempts: Sequence[Attempt],
    decisions: Iterable[Decision],
    now: float,
    holder: Call | None = None,
) -> list[str]:
    """The story of a call, oldest first: request, decisions and attempts in order, where it is.

    ``holder`` is the call that holds its key now, be it this one, another one or none.
    """
    told = [(call.created_at, _requested(call))]
    told += [(a.ended_at, _tried(a)) for a in attempts]
    told += [(d.at, f"{spell_time(d.at)}: {d.what} by {d.actor}: {d.reason}.") for d in decisions]
    story = [sentence for _, sentence in sorted(told, key=lambda pair: pair[0])]
    story.append(_standing(call, now))
    if key := _key(call, holder):
        story.append(key)
    return story


def _requested(call: Call) -> str:
    how = "as a direct call" if call.queue is None else f"in queue {call.queue!r}"
    if call.plan_id is not None:
        how = f"by plan {call.plan_id}, as its call {(call.position or 0) + 1},"
    name = f"{call.action} ({call.key})" if call.key else call.action
    return f"{spell_time(call.created_at)}: {name} was requested {how} as {call.id}."


def _tried(attempt: Attempt) -> str:
    took = max(0.0, attempt.ended_at - attempt.started_at)
    sentence = f"{spell_time(attempt.started_at)}: attempt {attempt.attempt} ran for {took:.3g} s"
    if attempt.owner:
        sentence += f" in {attempt.owner}"
    sentence += f"; {_HAPPENED[attempt.outcome]}"
    if attempt.fault is not None:
        sentence += f" ({attempt.fault.type}: {attempt.fault.message})"
    return sentence + (f", {attempt.note}." if attempt.note else ".")


def _standing(call: Call, now: float) -> str:
    why = f" {call.note[0].upper()}{call.note[1:].rstrip('.')}." if call.note else ""
    return f"Now: {_STANDINGS[call.state](call, now)}{why}"


def _pending(call: Call, now: float) -> str:
    if call.waits:
        return "it waits; no time brings it on."
    if call.run_at > now:
        wait = spell_duration(call.run_at - now)
        return f"it waits until {spell_time(call.run_at)} (in {wait})."
    return "it is due and waits for a free worker."


def _dispatched(call: Call, now: float) -> str:
    if call.lease_until is not None and call.lease_until <= now:
        return f"{call.owner} was performing it and went silent; recovery will settle it."
    return f"it is being performed by {call.owner} (attempt {call.attempt})."


def _unknown(call: Call, now: float) -> str:
    sentence = "unknown: it may or may not have happened, and it is not run again by itself."
    if call.run_at >= NEVER:
        return f"{sentence} It waits for a person: gonogo resolve {call.id}."
    wait = spell_duration(call.run_at - now) if call.run_at > now else "a moment"
    return f"{sentence} Evidence is looked for in {wait}."


def _failed(call: Call, now: float) -> str:
    if call.outcome is Outcome.UNKNOWN:
        return "failed, possibly after having had its effect; it is safe to call again."
    return "failed; it did not happen."


def _cancelled(call: Call, now: float) -> str:
    if call.outcome is Outcome.UNKNOWN:
        return "cancelled, possibly after having had its effect in an earlier attempt."
    return "cancelled; it did not happen."


_STANDINGS: dict[State, Callable[[Call, float], str]] = {
    State.PLANNED: lambda call, now: f"planned ({call.verdict or 'waits for approval'}).",
    State.PENDING: _pending,
    State.CLAIMED: lambda call, now: (
        "its id is on its way through a broker; nothing was begun yet."
        if call.owner == BROKER
        else f"claimed by {call.owner}; nothing was sent yet."
    ),
    State.DISPATCHED: _dispatched,
    State.SUCCEEDED: lambda call, now: f"succeeded at {spell_time(call.settled_at or now)}.",
    State.FAILED: _failed,
    State.UNKNOWN: _unknown,
    State.CANCELLED: _cancelled,
    State.DISCARDED: lambda call, now: "discarded; it was planned and never queued.",
}


def _key(call: Call, holder: Call | None) -> str:
    if call.key is None:
        return ""
    if call.held:
        until = "" if call.expires_at is None else f" until {spell_time(call.expires_at)}"
        return f"Its key {call.key!r} is taken{until}: the same call again {_again(call)}."
    if holder is not None:
        whose = f"is taken by call {holder.id}, which is {holder.state.value}"
        return f"The key {call.key!r} {whose}: the same call again {_again(holder)}."
    return f"The key {call.key!r} is free: the same call again would be performed."


def _again(holder: Call) -> str:
    if holder.state is State.SUCCEEDED:
        return "gets its answer"
    if holder.state is State.FAILED:
        return "is refused like it"
    if holder.state is State.UNKNOWN:
        return "does not run before that is settled"
    return "does not run beside it"
