"""Who goes first: a queued call waits for the one it comes after, and for its turn in its lane."""

from __future__ import annotations

from msgspec import structs

from gonogo.errors import NotFound, Refused
from gonogo.records import TERMINAL, Call, State, advance
from gonogo.store.port import Transaction

_BARREN = frozenset({State.FAILED, State.CANCELLED, State.DISCARDED})


def queued(tx: Transaction, call: Call, ahead: Call | None = None) -> Call:
    """``call`` as it enters the queue: waiting for another one, or for nothing but its time.

    Args:
        ahead: a call of its lane that the same transaction is about to insert before it.

    Raises:
        NotFound: the call it comes after does not exist.
        Refused: that one ended badly, so this one would never run.
    """
    require_hope(tx, call)
    note = _dependence(tx, call) or _behind(tx, call, ahead)
    waits = note is not None
    if waits == call.waits and note == call.note:
        return call
    return structs.replace(call, waits=waits, note=note)


def require_hope(tx: Transaction, call: Call) -> None:
    """Refuse a call that comes after one which is not there or ended badly; see `queued`."""
    if call.after is None:
        return
    first = tx.calls.get(call.after)
    if first is None:
        raise NotFound(
            f"{call.name} waits for call {call.after}, which does not exist",
            action=call.action,
            key=call.key,
        )
    if first.state in _BARREN:
        raise Refused(
            f"{call.name} waits for call {first.id}, which ended as "
            f"{first.state.value}: it will not run",
            action=call.action,
            key=call.key,
        )


def follow(tx: Transaction, call: Call, now: float) -> None:
    """Give the turn to those that waited for ``call``, or cancel them where it ended badly."""
    ended = [call]
    while ended:
        first = ended.pop()
        if first.state not in TERMINAL:
            continue
        for waiting in tx.calls.waiting_on(first.id):
            if first.state is State.SUCCEEDED:
                _look_again(tx, waiting)
                continue
            cancelled = _cancelled(waiting, first, now)
            if tx.calls.replace(waiting, cancelled):
                ended.append(cancelled)
        if first.lane is not None:
            for head in tx.calls.in_lane(first.lane, 1):
                _look_again(tx, head)


def _look_again(tx: Transaction, call: Call) -> None:
    """Let a call go that waits for nobody any more, or say for whom it waits now."""
    if call.waits:
        note = _dependence(tx, call) or _behind(tx, call)
        tx.calls.replace(call, structs.replace(call, waits=note is not None, note=note))


def _cancelled(waiting: Call, first: Call, now: float) -> Call:
    return advance(
        waiting,
        State.CANCELLED,
        held=False,
        waits=False,
        settled_at=now,
        note=f"it waited for {first.name}, which ended as {first.state.value} in call {first.id}",
    )


def _dependence(tx: Transaction, call: Call) -> str | None:
    """Why the call it comes after keeps it waiting; one that is gone had ended before."""
    first = None if call.after is None else tx.calls.get(call.after)
    if first is None or first.state is State.SUCCEEDED:
        return None
    return f"waits until call {first.id} has succeeded"


def _behind(tx: Transaction, call: Call, ahead: Call | None = None) -> str | None:
    """Why its lane keeps it waiting: somebody is out, or goes before it."""
    if call.lane is None:
        return None
    others = [other for other in tx.calls.in_lane(call.lane, 2) if other.id != call.id][:1]
    for other in [*others, ahead] if ahead is not None else others:
        if not other.waits or (other.run_at, other.id) < (call.run_at, call.id):
            return f"waits for its turn in {call.lane!r}, behind call {other.id}"
    return None
