"""The ledger's records: frozen, JSON both ways, and moved by `advance` alone."""

from __future__ import annotations

import msgspec
import pytest

from gonogo.records import (
    AHEAD,
    Call,
    Control,
    Fault,
    IllegalTransition,
    Outcome,
    Reservation,
    State,
    advance,
    counted,
    numbers,
)


def test_a_record_cannot_be_changed() -> None:
    """Another one is made instead."""
    call = Call(id="1", action="pay", state=State.PENDING, created_at=0.0)
    with pytest.raises(AttributeError):
        call.state = State.SUCCEEDED
    moved = advance(call, State.CLAIMED, epoch=1, owner="w")
    assert (call.state, moved.state, moved.epoch, moved.owner) == ("pending", "claimed", 1, "w")
    assert moved.fence == ("1", 1, State.CLAIMED)


def test_an_illegal_move_names_itself() -> None:
    """The message says from where to where, and which call."""
    call = Call(id="c-1", action="pay", state=State.SUCCEEDED, created_at=0.0)
    with pytest.raises(IllegalTransition, match="call c-1: succeeded → pending"):
        advance(call, State.PENDING)


@pytest.mark.parametrize(
    ("state", "note", "begins"),
    [
        (State.PENDING, "it runs again", (3, 2)),
        (State.CLAIMED, None, (2, 1)),
        (State.CLAIMED, AHEAD, (2, 2)),
    ],
)
def test_an_attempt_counts_once(state: State, note: str | None, begins: tuple[int, int]) -> None:
    """A claim raises epoch and attempt; one ahead of its turn has raised the epoch already."""
    call = Call(id="1", action="pay", state=state, created_at=0.0, epoch=2, attempt=1, note=note)
    assert numbers(call) == begins
    claimed = counted(call)
    assert (claimed.state, claimed.epoch, claimed.attempt) == (State.CLAIMED, *begins)
    assert counted(claimed) is claimed
    assert numbers(claimed) == begins


@pytest.mark.parametrize("state", [State.PLANNED, State.SUCCEEDED, State.UNKNOWN, State.CANCELLED])
def test_no_attempt_begins_of_what_does_not_wait_for_one(state: State) -> None:
    """Only a pending or a claimed call is performed."""
    with pytest.raises(IllegalTransition):
        numbers(Call(id="1", action="pay", state=state, created_at=0.0))


def test_records_travel_as_json() -> None:
    """What is written is what is read, nested records and enums included."""
    call = Call(
        id="1",
        action="pay",
        state=State.UNKNOWN,
        created_at=1.5,
        outcome=Outcome.UNKNOWN,
        fault=Fault("TimeoutError", "read"),
        reservations=(Reservation("units", 3, 60.0, 3600.0),),
        slots=("pay",),
    )
    assert msgspec.json.decode(msgspec.json.encode(call), type=Call) == call


@pytest.mark.parametrize(
    ("until", "now", "on"), [(None, 1e12, True), (5.0, 4.9, True), (5.0, 5.0, False)]
)
def test_a_switch_falls_back_by_itself(until: float | None, now: float, on: bool) -> None:
    """On until its time, off from then; without a time it stays on."""
    control = Control(name="armed", actor="ann", reason="x", set_at=0.0, until=until)
    assert control.active(now) is on


@pytest.mark.parametrize(
    ("state", "outcome", "happened"),
    [
        (State.PENDING, None, "no"),
        (State.PENDING, Outcome.UNKNOWN, "maybe"),
        (State.CLAIMED, Outcome.UNKNOWN, "maybe"),
        (State.DISPATCHED, None, "maybe"),
        (State.SUCCEEDED, Outcome.SUCCEEDED, "yes"),
        (State.FAILED, Outcome.REJECTED, "no"),
        (State.FAILED, Outcome.UNKNOWN, "maybe"),
        (State.UNKNOWN, Outcome.UNKNOWN, "maybe"),
        (State.UNKNOWN, None, "maybe"),
        (State.CANCELLED, Outcome.NOT_APPLIED, "no"),
        (State.CANCELLED, Outcome.UNKNOWN, "maybe"),
    ],
)
def test_a_call_says_whether_it_happened(
    state: State, outcome: Outcome | None, happened: str
) -> None:
    """An earlier attempt that ended without proof is not denied, whatever came of the call."""
    call = Call(id="1", action="pay", state=state, created_at=0.0, outcome=outcome)
    assert call.happened == happened
