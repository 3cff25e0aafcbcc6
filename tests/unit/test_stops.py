"""What people stopped stays in its place, says who stopped it, and goes on the moment it may."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.scene import WHO, Provider, Sandboxes, drain, payment, reminder, story

from gonogo.handout import HandOut
from gonogo.jobs import Handle
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State

THROWN: dict[str, Any] = {
    "halt of the action": lambda s: s.halt("pay", **WHO),
    "halt of everything": lambda s: s.halt(**WHO),
    "hold": lambda s: s.hold(**WHO),
    "pause": lambda s: s.pause("default", **WHO),
}
ENDED: dict[str, Any] = {
    "halt of the action": lambda s: s.resume("pay", **WHO),
    "halt of everything": lambda s: s.resume(**WHO),
    "hold": lambda s: s.release(**WHO),
    "pause": lambda s: s.unpause("default", **WHO),
}
TOLD = {
    "halt of the action": ("pay is halted", "gonogo resume pay lets it go"),
    "halt of everything": ("everything is halted", "gonogo resume lets it go"),
    "hold": ("what is irreversible is held", "gonogo release lets it go"),
    "pause": ("queue 'default' is paused", "gonogo queues resume default lets it go"),
}


def jobs(sandbox: SandboxOrchestrator, provider: Provider) -> list[Handle]:
    sandbox.arm(**WHO)
    handles: list[Handle] = payment(sandbox, provider).enqueue_many([("A",), ("B",), ("C",)])
    return handles


@pytest.mark.parametrize("switch", THROWN)
def test_what_is_stopped_keeps_its_place(sandboxes: Sandboxes, switch: str) -> None:
    """Nothing of it is claimed, however long it lasts; then it is due at once, in its order."""
    sandbox, provider = sandboxes(), Provider()
    handles = jobs(sandbox, provider)
    before = [handle.call() for handle in handles]
    THROWN[switch](sandbox)
    for _ in range(3):
        drain(sandbox)
        sandboxes.clock.advance(40)
    assert [handle.call() for handle in handles] == before
    ENDED[switch](sandbox)
    drain(sandbox)
    assert provider.book == ["A", "B", "C"]


@pytest.mark.parametrize("switch", THROWN)
def test_a_story_tells_the_switch_while_it_is_on(sandboxes: Sandboxes, switch: str) -> None:
    """Who threw it and why, and how it ends; once it has ended, nothing of it."""
    sandbox = sandboxes()
    first, *_ = jobs(sandbox, Provider())
    THROWN[switch](sandbox)
    drain(sandbox)
    for text in (*TOLD[switch], "by ann@example.com since 20", ": checked the books. gonogo"):
        assert text in story(first)
    ENDED[switch](sandbox)
    assert "ann@example.com" not in first.explain()[-2]
    assert first.explain()[-2].startswith("Now: it is due, and no worker that takes queue")


@pytest.mark.parametrize("switch", THROWN)
def test_what_was_claimed_before_goes_back_without_a_word(
    sandboxes: Sandboxes, switch: str
) -> None:
    """The switch came between its claim and its beginning; it is not late when that has ended."""
    sandbox, provider = sandboxes(), Provider()
    first, *_ = jobs(sandbox, provider)
    claimed: Any = sandbox.delivery.claim()
    THROWN[switch](sandbox)
    after = sandbox.delivery.perform(claimed)
    assert (after.state, after.attempt, after.id) == (State.PENDING, 0, first.id)
    assert after.note is None or switch == "pause"
    ENDED[switch](sandbox)
    sandboxes.clock.advance(1)
    drain(sandbox)
    assert sorted(provider.book) == ["A", "B", "C"]


def test_a_hold_that_another_process_ended_is_not_waited_for(shared: Sandboxes) -> None:
    """Though this one may believe in it for a moment."""
    sandbox, other, provider = shared(), shared(), Provider()
    handles = jobs(sandbox, provider)
    sandbox.hold(**WHO)
    other.release(**WHO)
    drain(sandbox)
    assert provider.book == []
    assert [handle.call().note for handle in handles] == [None] * 3
    shared.clock.advance(1.1)
    drain(sandbox)
    assert sorted(provider.book) == ["A", "B", "C"]


def test_a_hold_and_a_halt_leave_others_alone(sandboxes: Sandboxes) -> None:
    """What is not irreversible, or not named, goes on beside it."""
    sandbox, provider, sent = sandboxes(), Provider(), list[str]()
    handles = jobs(sandbox, provider)
    remind = reminder(sandbox, sent.append)
    sandbox.hold(**WHO)
    remind.enqueue("held")
    drain(sandbox)
    sandbox.release(**WHO)
    sandbox.halt("pay", **WHO, until=sandboxes.clock.now() + 60)
    remind.enqueue("halted")
    drain(sandbox)
    assert (sent, provider.book) == (["held", "halted"], [])
    assert ", until 20" in story(handles[0])
    sandboxes.clock.advance(60)
    drain(sandbox)
    assert provider.book == ["A", "B", "C"]


def test_nobody_waits_for_what_is_stopped(sandboxes: Sandboxes) -> None:
    """A worker looks again within a second, and one that is to end when idle ends."""
    sandbox, provider = sandboxes(), Provider()
    jobs(sandbox, provider)
    sandbox.halt("pay", **WHO)
    for _ in range(5):
        assert not sandbox.worker.run_once()
        assert sandbox.delivery.next_due() == 1.0
        assert not sandbox.delivery.idle(5.0)
        sandboxes.clock.advance(1.1)
    assert sandbox.delivery.idle(5.0)
    sandbox.resume("pay", **WHO)
    assert sandbox.delivery.next_due() == 0
    assert sandbox.worker.run_once()
    assert not sandbox.delivery.idle(5.0)


def test_a_halt_that_keeps_nothing_back_ends_no_worker(sandboxes: Sandboxes) -> None:
    """What falls due of others within its patience is waited for."""
    sandbox, sent = sandboxes(), list[str]()
    payment(sandbox)
    sandbox.halt("pay", **WHO)
    reminder(sandbox, sent.append).enqueue_in(9.0, "soon")
    for _ in range(3):
        sandboxes.clock.advance(2.0)
        assert not sandbox.worker.run_once()
    assert not sandbox.delivery.idle(5.0)
    sandboxes.clock.advance(3.0)
    drain(sandbox)
    assert sent == ["soon"]


def test_what_is_stopped_hides_nobody(sandboxes: Sandboxes) -> None:
    """What others have due is done in its time, and a worker that ends when idle waits for it."""
    sandbox, provider, sent = sandboxes(), Provider(), list[str]()
    jobs(sandbox, provider)
    remind = reminder(sandbox, sent.append)
    sandbox.halt("pay", **WHO)
    assert not sandbox.worker.run_once()
    remind.enqueue("now")
    assert sandbox.delivery.next_due() == 0
    assert not sandbox.delivery.idle()
    drain(sandbox)
    sandboxes.clock.advance(6.0)
    assert not sandbox.worker.run_once()
    assert sandbox.delivery.idle(5.0)
    remind.enqueue_in(0.5, "soon")
    assert sandbox.delivery.next_due() == pytest.approx(0.5)
    assert not sandbox.delivery.idle(5.0)
    sandboxes.clock.advance(0.5)
    drain(sandbox)
    assert (sent, provider.book) == (["now", "soon"], [])


@pytest.mark.parametrize("switch", ["halt of the action", "halt of everything"])
def test_a_halted_call_is_not_handed_out_by_who_does_not_know_it(
    shared: Sandboxes, switch: str
) -> None:
    """Its message would come back, and be sent again, for as long as the halt lasts."""
    sandbox, stranger, provider = shared(), shared(), Provider()
    first, *_ = jobs(sandbox, provider)
    THROWN[switch](sandbox)
    broker = HandOut(
        stranger.store, shared.clock, {}, queues=("default",), resend_after=60.0, ahead=10
    )
    before = first.call()
    assert broker.give() == []
    assert first.call() == before
    ENDED[switch](sandbox)
    assert len(broker.give()) == 3


def test_what_is_halted_by_name_is_not_parked(shared: Sandboxes) -> None:
    """A worker that does not know the action leaves it in its place as well."""
    sandbox, stranger, provider = shared(), shared(), Provider()
    first, *_ = jobs(sandbox, provider)
    sandbox.halt("pay", **WHO)
    before = first.call()
    drain(stranger)
    assert first.call() == before
    sandbox.resume("pay", **WHO)
    drain(sandbox)
    assert provider.book == ["A", "B", "C"]
