"""Lanes: jobs of one lane are performed one after the other, in the order they were queued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.scene import WHO, Sandboxes

from gonogo.errors import ConfigurationError
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Call, State
from gonogo.signals import NotApplied

BOOK = "book"


@pytest.fixture
def armed(sandboxes: Sandboxes) -> SandboxOrchestrator:
    """A sandbox that performs what it is asked."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    return sandbox


def ledger_entry(
    sandbox: SandboxOrchestrator, book: list[str], name: str = "enter", **declared: Any
) -> Any:
    """An action whose calls for one account stand in one lane."""
    declared = {"ordered": "account:{account}", "irreversible": False, **declared}

    @sandbox.action(name, **declared)
    def enter(account: str, entry: str) -> None:
        book.append(f"{account} {entry}")

    return enter


def claim_all(sandbox: SandboxOrchestrator) -> list[Call]:
    """Everything that could be claimed at this moment."""
    claimed = []
    while (call := sandbox.delivery.claim()) is not None:
        claimed.append(call)
    return claimed


def test_one_of_a_lane_at_a_time(armed: SandboxOrchestrator) -> None:
    """However many workers there are, one call of a lane is out; other lanes are not held up."""
    book: list[str] = []
    enter = ledger_entry(armed, book)
    enter.enqueue_many([("a", "1"), ("a", "2"), ("b", "1"), ("a", "3")])
    first, other = claim_all(armed)
    assert {first.lane, other.lane} == {"account:a", "account:b"}
    armed.delivery.perform(other)
    assert claim_all(armed) == []
    armed.delivery.perform(first)
    (second,) = claim_all(armed)
    armed.delivery.perform(second)
    (third,) = claim_all(armed)
    armed.delivery.perform(third)
    assert [entry for entry in book if entry[0] == "a"] == ["a 1", "a 2", "a 3"]


def test_a_retry_keeps_its_place(sandboxes: Sandboxes) -> None:
    """A call that was put off holds its lane, so nothing overtakes it."""
    sandbox = sandboxes()
    book: list[str] = []
    script = [NotApplied("busy")]

    @sandbox.action("enter", ordered="{account}", irreversible=False)
    def enter(account: str, entry: str) -> None:
        if script:
            raise script.pop()
        book.append(entry)

    enter.enqueue_many([("a", "1"), ("a", "2")])
    while sandbox.worker.run_once():
        pass
    assert book == []
    sandboxes.clock.advance(60)
    while sandbox.worker.run_once():
        pass
    assert book == ["1", "2"]


def test_a_doubt_holds_its_lane(armed: SandboxOrchestrator) -> None:
    """What comes behind a call whose outcome is unknown waits until that is settled."""
    book: list[str] = []
    script = [TimeoutError("no answer")]

    @armed.action("pay", key="{invoice}", ordered="{account}", irreversible=True)
    def pay(account: str, invoice: str) -> None:
        if script:
            raise script.pop()
        book.append(invoice)

    first, second = pay.enqueue("a", "1"), pay.enqueue("a", "2")
    while armed.worker.run_once():
        pass
    assert (first.state(), second.state()) == (State.UNKNOWN, State.PENDING)
    assert first.id in " ".join(second.explain())
    armed.resolve(first, "absent", **WHO)
    while armed.worker.run_once():
        pass
    assert book == ["2"]


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_an_end_without_success_frees_the_lane(armed: SandboxOrchestrator, end: str) -> None:
    """Order is not dependence: the next one runs, however the one before it ended."""
    book: list[str] = []
    enter = ledger_entry(armed, book)
    first, second, third = enter.enqueue_many([("a", "1"), ("a", "2"), ("a", "3")])
    second.cancel(**WHO)
    if end == "cancelled":
        first.cancel(**WHO)
    else:
        claimed = armed.delivery.claim()
        assert claimed is not None
        armed.delivery._returns.fail(claimed, "it must not be")
    while armed.worker.run_once():
        pass
    assert book == ["a 3"]
    assert third.state() is State.SUCCEEDED


def test_a_lane_is_shared_by_the_actions_that_name_it(armed: SandboxOrchestrator) -> None:
    """Two actions with one lane text take turns in it."""
    book: list[str] = []
    debit = ledger_entry(armed, book, "debit")
    credit = ledger_entry(armed, book, "credit")
    debit.enqueue("a", "-1")
    credit.enqueue("a", "+1")
    assert [call.action for call in claim_all(armed)] == ["debit"]


def test_order_and_dependence_together(sandboxes: Sandboxes) -> None:
    """A call with both waits for both, and holds back those behind it meanwhile."""
    armed = sandboxes()
    book: list[str] = []
    enter = ledger_entry(armed, book)
    other = enter.enqueue("b", "1")
    held = enter.enqueue("a", "1", after=other)
    sandboxes.clock.advance(1)
    behind = enter.enqueue("a", "2")
    assert [call.id for call in claim_all(armed)] == [other.id]
    armed.delivery.perform(other.call())
    assert [call.id for call in claim_all(armed)] == [held.id]
    armed.delivery.perform(held.call())
    assert [call.id for call in claim_all(armed)] == [behind.id]


def test_nobody_waits_for_ever_for_a_later_one(sandboxes: Sandboxes) -> None:
    """A call that is due before one which waits for something else goes before it."""
    sandbox = sandboxes()
    book: list[str] = []
    enter = ledger_entry(sandbox, book)
    other = enter.enqueue("b", "1")
    enter.enqueue_in(60, "a", "late", after=other)
    enter.enqueue("a", "early")
    while sandbox.worker.run_once():
        pass
    assert sorted(book) == ["a early", "b 1"]
    sandboxes.clock.advance(60)
    while sandbox.worker.run_once():
        pass
    assert book[-1] == "a late"


def test_a_plan_keeps_the_order_of_its_lanes(locked: SandboxOrchestrator) -> None:
    """Applied calls stand in their lane in the plan's order, behind what was queued before."""
    book: list[str] = []
    enter = ledger_entry(locked, book)
    enter.enqueue("a", "0")
    with locked.rehearse("entries") as plan:
        for number in "123":
            enter.enqueue("a", number)
    locked.approve(plan, **WHO)
    locked.apply(plan)
    while locked.worker.run_once():
        pass
    assert book == ["a 0", "a 1", "a 2", "a 3"]


@pytest.mark.parametrize("lane", ["", 7, "x" * 600])
def test_a_lane_is_a_text(armed: SandboxOrchestrator, lane: object) -> None:
    """A lane function that returns no text is an error, and nothing is queued."""

    @armed.action("enter", ordered=lambda arguments: lane, irreversible=False)
    def enter(account: str) -> None: ...

    with pytest.raises(ConfigurationError, match="lane function returned"):
        enter.enqueue("a")
    assert armed.counts() == {}


def test_a_lane_names_parameters(armed: SandboxOrchestrator) -> None:
    """A template with a field that is no parameter is an error at the declaration."""
    declare: Callable[..., Any] = armed.action("enter", ordered="{nobody}", irreversible=False)
    with pytest.raises(ConfigurationError, match="nobody"):

        @declare
        def enter(account: str) -> None: ...
