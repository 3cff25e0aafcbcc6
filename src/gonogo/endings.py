"""How a call ends that is not performed (any more): cancelled, refused for good, out of time."""

from __future__ import annotations

from gonogo.records import Call, Outcome, Reservation, State, advance


def ended(call: Call, state: State, now: float, note: str) -> Call:
    """The call ended as ``state`` without a further attempt; its key is free.

    It did not happen, and gives its units back, unless an earlier attempt of this (repeatable)
    call ended without proof: then that stays its outcome, and the units stay used.
    """
    doubtful = call.outcome is Outcome.UNKNOWN
    return advance(
        call,
        state,
        outcome=Outcome.UNKNOWN if doubtful else Outcome.NOT_APPLIED,
        held=False,
        waits=False,
        reservations=call.reservations if doubtful else (),
        lease_until=None,
        settled_at=now,
        note=note,
    )


def given_back(before: Call, after: Call) -> tuple[Reservation, ...]:
    """The reservations that ``after`` no longer holds, to be released with the same commit."""
    return () if after.reservations else before.reservations
