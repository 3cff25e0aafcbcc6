"""Reconciliation: every way in which two books can disagree is found."""

from __future__ import annotations

import pytest
from examples.payday.reconcile import Finding, Line, reconcile

from gonogo.records import Call, State

TERMS = ("DE89", "10.00", "EUR")


def call(state: State, attempt: int = 1, note: str | None = None) -> Call:
    return Call(id="c", action="payment", state=state, created_at=0, attempt=attempt, note=note)


def compare(calls: dict[str, Call], entries: list[tuple[str, tuple[str, ...]]]) -> list[Line]:
    """INV-1 is ordered, on `TERMS`."""
    return reconcile(["INV-1"], calls, entries, terms=lambda _: TERMS)


@pytest.mark.parametrize(
    ("state", "entries", "finding"),
    [
        (State.SUCCEEDED, [TERMS], Finding.DONE),
        (State.SUCCEEDED, [], Finding.LOST),
        (State.SUCCEEDED, [TERMS, TERMS], Finding.DUPLICATE),
        (State.SUCCEEDED, [("DE89", "11.00", "EUR")], Finding.ALTERED),
        (State.FAILED, [], Finding.NOT_DONE),
        (State.FAILED, [TERMS], Finding.DENIED),
        (State.CANCELLED, [], Finding.NOT_DONE),
        (State.CANCELLED, [TERMS], Finding.DENIED),
        (State.UNKNOWN, [], Finding.IN_DOUBT),
        (State.UNKNOWN, [TERMS], Finding.IN_DOUBT),
        (State.UNKNOWN, [TERMS, TERMS], Finding.DUPLICATE),
        (State.PENDING, [], Finding.OPEN),
        (State.CLAIMED, [], Finding.OPEN),
        (State.DISPATCHED, [TERMS], Finding.OPEN),
        (None, [TERMS], Finding.STRANGE),
        (None, [], Finding.LOST),
    ],
)
def test_each_combination_has_one_finding(
    state: State | None, entries: list[tuple[str, ...]], finding: Finding
) -> None:
    """The ledger's state and the other side's entries together decide what is found."""
    calls = {} if state is None else {"INV-1": call(state)}

    (line,) = compare(calls, [("INV-1", entry) for entry in entries])

    assert line.finding is finding
    assert line.entries == len(entries)


def test_what_nobody_ordered_is_found_too() -> None:
    """An entry without an order or a call is a line of its own, and not in order."""
    entries = [("INV-1", TERMS), ("INV-9", TERMS)]

    lines = compare({"INV-1": call(State.SUCCEEDED)}, entries)

    assert [(line.reference, line.finding) for line in lines] == [
        ("INV-1", Finding.DONE),
        ("INV-9", Finding.STRANGE),
    ]
    assert [line.in_order for line in lines] == [True, False]


@pytest.mark.parametrize(
    ("done", "eventful"),
    [
        (call(State.SUCCEEDED), False),
        (call(State.SUCCEEDED, attempt=2), True),
        (call(State.SUCCEEDED, note="found by its verifier"), True),
        (call(State.UNKNOWN), True),
    ],
)
def test_lines_that_did_not_go_smoothly_are_told_apart(done: Call, eventful: bool) -> None:
    """Only what was done at the first attempt, without a note, needs no explanation."""
    (line,) = compare({"INV-1": done}, [("INV-1", TERMS)])

    assert line.eventful is eventful
