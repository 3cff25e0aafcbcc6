"""Why a call is where it is, in sentences that a person understands at three in the morning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from gonogo.durations import spell_duration, spell_time
from gonogo.handout import BROKER
from gonogo.lines import clean
from gonogo.records import NEVER, Attempt, Beat, Call, Control, Decision, Outcome, State
from gonogo.settlement import FOUND_SILENT, runs_again
from gonogo.standing import THROWN, remedy, spell_switch, spell_throw

_HAPPENED = {
    Outcome.SUCCEEDED: "it succeeded",
    Outcome.NOT_APPLIED: "it surely did not happen",
    Outcome.REJECTED: "the other side refused it for good",
    Outcome.UNKNOWN: "nobody heard whether it happened",
}


class Workers(Struct, frozen=True):
    """The last signs of life of the workers on a ledger.

    Attributes:
        beats: of each that did not leave by itself.
        lease: seconds after which one that gave none counts as dead.
    """

    beats: Sequence[Beat]
    lease: float

    def serve(self, queue: str, now: float) -> bool:
        """Whether one of them is alive and takes calls from ``queue``."""
        alive = [beat for beat in self.beats if beat.is_fresh(now, self.lease)]
        return any(queue in str(beat.detail.get("queues", "")).split(",") for beat in alive)

    def seen(self, owner: str | None) -> float | None:
        """When ``owner`` was last heard of, epoch seconds; ``None`` when it is no worker."""
        return next((beat.at for beat in self.beats if beat.name == owner), None)


def explain(
    call: Call,
    attempts: Sequence[Attempt],
    decisions: Iterable[Decision],
    now: float,
    holder: Call | None = None,
    workers: Workers | None = None,
    stop: Control | None = None,
    short: str | None = None,
) -> list[str]:
    """The story of a call, oldest first: request, decisions and attempts in order, where it is.

    Args:
        holder: the call that holds its key now, be it this one, another one or none.
        workers: their signs of life; nothing is said of them where they are not known.
        stop: the switch that keeps it from being claimed now, if any.
        short: what has no room for it now, if any; see `gonogo.shortage`.
    """
    told = [(call.created_at, _requested(call))]
    told += [(a.ended_at, _tried(a)) for a in attempts]
    told += [(d.at, f"{spell_time(d.at)}: {_decided(d)}.") for d in decisions]
    story = [sentence for _, sentence in sorted(told, key=lambda pair: pair[0])]
    story.append(_standing(call, now, workers, stop, short))
    if key := _key(call, holder):
        story.append(key)
    return [clean(sentence) for sentence in story]


PLAN_CANCELLED = "plan cancelled"


def cancelled_by(who: str, why: str) -> str:
    """The note of a call that a person cancelled."""
    return f"cancelled by {who}: {why}"


def concerns(call: Call, about_plan: Decision) -> bool:
    """Whether a decision about its plan changed the call: cancelling leaves some calls alone.

    Of one that is in doubt by it, a decision of its own tells.
    """
    if about_plan.what != PLAN_CANCELLED:
        return True
    told = (call.note or "").startswith(cancelled_by(about_plan.actor, about_plan.reason))
    return told and call.state is State.CANCELLED


def _requested(call: Call) -> str:
    how = "as a direct call" if call.queue is None else f"in queue {call.queue!r}"
    if call.plan_id is not None:
        how = f"by plan {call.plan_id}, as its call {(call.position or 0) + 1},"
    name = f"{call.action} ({call.key})" if call.key else call.action
    return f"{spell_time(call.created_at)}: {name} was requested {how} as {call.id}."


def _tried(attempt: Attempt) -> str:
    if attempt.note == FOUND_SILENT:
        return (
            f"{spell_time(attempt.started_at)}: attempt {attempt.attempt} began in "
            f"{attempt.owner or 'an unknown process'}, which was found silent at "
            f"{spell_time(attempt.ended_at)}; {_HAPPENED[attempt.outcome]}."
        )
    took = max(0.0, attempt.ended_at - attempt.started_at)
    sentence = f"{spell_time(attempt.started_at)}: attempt {attempt.attempt} ran for {took:.3g} s"
    if attempt.owner:
        sentence += f" in {attempt.owner}"
    sentence += f"; {_HAPPENED[attempt.outcome]}"
    if attempt.fault is not None:
        sentence += f" ({attempt.fault.type}: {attempt.fault.message})"
    return sentence + (f", {attempt.note}." if attempt.note else ".")


def _decided(by_whom: Decision) -> str:
    if by_whom.what in THROWN:
        return spell_throw(by_whom)
    return f"{by_whom.what} by {by_whom.actor}: {by_whom.reason}"


def _standing(
    call: Call, now: float, workers: Workers | None, stop: Control | None, short: str | None
) -> str:
    why = f" {call.note[0].upper()}{call.note[1:].rstrip('.')}." if call.note else ""
    return f"Now: {_where(call, now, workers, stop, short)}{why}"


def _where(
    call: Call, now: float, workers: Workers | None, stop: Control | None, short: str | None
) -> str:
    if call.state is State.PENDING and stop is not None and not call.waits:
        return _kept(call, now, stop)
    if call.state is State.PENDING:
        return _pending(call, now, workers, short)
    if call.state is State.CLAIMED and call.owner != BROKER:
        return f"claimed by {call.owner}{_sign(call, now, workers)}; nothing was sent yet."
    if call.state is State.DISPATCHED:
        return _dispatched(call, now, workers)
    return _STANDINGS[call.state](call, now)


def _kept(call: Call, now: float, stop: Control) -> str:
    """What keeps it in its place, and how it is let go."""
    place = "it is due" if call.run_at <= now else f"it waits until {spell_time(call.run_at)}"
    return f"{place}, but {spell_switch(stop)}. {remedy(stop)} lets it go."


def _pending(call: Call, now: float, workers: Workers | None, short: str | None) -> str:
    if call.waits:
        return "it waits; no time brings it on."
    if call.run_at > now:
        wait = spell_duration(call.run_at - now)
        return f"it waits until {spell_time(call.run_at)} (in {wait})."
    if call.queue is not None and workers is not None and not workers.serve(call.queue, now):
        return (
            f"it is due, and no worker that takes queue {call.queue!r} is alive: start one, with "
            f"gonogo worker --queues {call.queue} or sandbox.initialize()."
        )
    if short is not None:
        return f"it is due, and there is no room for it in {short}."
    return "it is due and waits for a free worker."


def _dispatched(call: Call, now: float, workers: Workers | None) -> str:
    if call.lease_until is not None and call.lease_until <= now:
        end = "and runs it again" if runs_again(call) else f"or gonogo resolve {call.id} settles it"
        return (
            f"{call.owner} was performing it and went silent: a worker (gonogo worker) finds that, "
            f"{end}."
        )
    sign = _sign(call, now, workers)
    return f"it is being performed by {call.owner} (attempt {call.attempt}){sign}."


def _sign(call: Call, now: float, workers: Workers | None) -> str:
    """How long ago its owner gave a sign of life, and when it would count as dead."""
    seen = None if workers is None else workers.seen(call.owner)
    if seen is None:
        return ""
    sign = f", whose last sign of life was {spell_duration(max(0.0, now - seen))} ago"
    if call.lease_until is None:
        return sign
    return f"{sign}; its lease ends at {spell_time(call.lease_until)}"


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
    State.CLAIMED: lambda call, now: (
        "its id is on its way through a broker; nothing was begun yet."
    ),
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
        if holder.fingerprint != call.fingerprint:
            return f"The key {call.key!r} {whose}, with other arguments: {_REFUSED}."
        return f"The key {call.key!r} {whose}: the same call again {_again(holder)}."
    if call.verdict == "conflict" and call.state is State.PLANNED:
        return f"The key {call.key!r} is still free; once the other call is queued, {_REFUSED}."
    return f"The key {call.key!r} is free: the same call again would be performed."


_REFUSED = "the same call again is refused (KeyConflict)"


def _again(holder: Call) -> str:
    if holder.state is State.SUCCEEDED:
        return "gets its answer"
    if holder.state is State.FAILED:
        return "is refused like it"
    if holder.state is State.UNKNOWN:
        return "does not run before that is settled"
    return "does not run beside it"
