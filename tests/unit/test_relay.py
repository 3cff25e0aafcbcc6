"""A settlement and the next admission in one commit: each has its own fate."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from msgspec import structs
from tests.support.scene import SOON, WHO, Provider, Sandboxes, drain, payment, reminder

from gonogo.errors import StoreUnavailable
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import AHEAD, Call, State
from gonogo.testing import Boundary, FaultyStore
from gonogo.testing.boundaries import instrument


def carry_out(sandbox: SandboxOrchestrator) -> None:
    """What a worker's thread does until it runs out of what was claimed."""
    work: Any = sandbox.delivery.claim(1, ahead=True)
    while work is not None:
        work = sandbox.delivery.carry_on(work, more=lambda: True)


def used_to(sandbox: SandboxOrchestrator, pace: int) -> None:
    """Let it have begun so many calls in no time."""
    sandbox.delivery._pace.note(sandbox.clock.monotonic(), pace)


def commits(sandbox: SandboxOrchestrator, patch: pytest.MonkeyPatch) -> list[int]:
    """How many pieces each joint commit from now on had."""
    seen: list[int] = []
    write_all = sandbox.store.write_all
    patch.setattr(
        sandbox.store, "write_all", lambda pieces: (seen.append(len(pieces)), write_all(pieces))[1]
    )
    return seen


def test_jobs_in_a_row_share_commits(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are done once, in order; a settlement has the next call's admission beside it."""
    sandbox, sent = sandboxes(), list[str]()
    remind = reminder(sandbox, sent.append)
    handles = remind.enqueue_many([(str(n),) for n in range(5)])
    seen = commits(sandbox, monkeypatch)
    used_to(sandbox, 5)
    carry_out(sandbox)
    assert sent == list("01234")
    assert [handle.state() for handle in handles] == [State.SUCCEEDED] * 5
    assert [handle.call().attempt for handle in handles] == [1] * 5
    assert [handle.call().note for handle in handles] == [None] * 5
    assert seen == [2] * 4


def test_what_is_claimed_ahead_costs_no_attempt(sandboxes: Sandboxes) -> None:
    """Its worker may die as often as it likes: what it never began runs in the end."""
    sandbox = sandboxes(lease=10.0)
    reminder(sandbox, lambda text: None).enqueue_many([(str(n),) for n in range(4)])
    for _ in range(9):
        used_to(sandbox, 4)
        begun = sandbox.delivery.claim(1, ahead=True)
        assert begun is not None
        ahead = [call for call in sandbox.calls(states=(State.CLAIMED,)) if call.note == AHEAD]
        assert [call.attempt for call in ahead] == [0] * 3
        sandbox.delivery._ready.clear()
        sandbox.delivery._running.clear()
        sandbox.delivery._release(begun, 0, "this one is not what the test is about")
        sandboxes.clock.advance(11)
        sandbox.worker.keep_once()
    used_to(sandbox, 4)
    carry_out(sandbox)
    done = sandbox.calls(states=(State.SUCCEEDED,))
    assert [call.attempt for call in done] == [1] * 4


def test_whose_own_code_runs_first_is_counted_before(sandboxes: Sandboxes) -> None:
    """A limit's cost, a check or a precondition may kill the worker: that uses up an attempt."""
    sandbox, attempts = sandboxes(lease=10.0), list[int]()

    def cost(_: object) -> int:
        (call,) = sandbox.calls(action="second")
        attempts.append(call.attempt)
        return 1

    first = reminder(sandbox, lambda text: None, name="first")
    second = reminder(
        sandbox, lambda text: None, name="second", limits=[Limit("units", 5, per="1h", cost=cost)]
    )
    first.enqueue("a")
    handle = second.enqueue("b")
    used_to(sandbox, 2)
    carry_out(sandbox)
    assert (handle.state(), handle.call().attempt) == (State.SUCCEEDED, 1)
    assert attempts == [1]


def test_nothing_of_a_call_that_was_taken_over_runs(sandboxes: Sandboxes) -> None:
    """Not even what gives its cost, when somebody else has what was claimed ahead."""
    sandbox, asked = sandboxes(), list[object]()

    def cost(arguments: object) -> int:
        asked.append(arguments)
        return 1

    reminder(sandbox, lambda text: None, name="first").enqueue("a")
    limits = [Limit("units", 5, per="1h", cost=cost)]
    handle = reminder(sandbox, lambda text: None, name="second", limits=limits).enqueue("b")
    used_to(sandbox, 2)
    work: Any = sandbox.delivery.claim(1, ahead=True)
    (ahead,) = sandbox.delivery._ready
    other = structs.replace(ahead, epoch=ahead.epoch + 1, owner="somebody else")
    assert sandbox.store.write(lambda tx: tx.calls.replace(ahead, other))
    while work is not None:
        work = sandbox.delivery.carry_on(work, more=lambda: True)
    assert asked == []
    assert (handle.call().owner, handle.state()) == ("somebody else", State.CLAIMED)


def test_payments_share_commits_while_the_verdict_is_fresh(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No check has to run before the next one, and its limits are given by templates."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    cents = Limit("cents", 1_000, per="1h", cost="{cents}")
    handles = payment(sandbox, limits=[cents]).enqueue_many([("A",), ("B",), ("C",)])
    seen = commits(sandbox, monkeypatch)
    used_to(sandbox, 3)
    carry_out(sandbox)
    assert [handle.call().attempt for handle in handles] == [1] * 3
    assert [handle.state() for handle in handles] == [State.SUCCEEDED] * 3
    assert seen == [2] * 2


def test_a_payment_that_must_be_checked_is_not_begun_before_the_last_one_is_settled(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may keep an outcome waiting, so it has its own commit."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    sandbox.readiness_checker.register_check("bank", lambda: True, groups=("worker",))
    handles = payment(sandbox).enqueue_many([("A",), ("B",)])
    seen = commits(sandbox, monkeypatch)
    used_to(sandbox, 2)
    carry_out(sandbox)
    assert [handle.call().attempt for handle in handles] == [1, 1]
    assert [handle.state() for handle in handles] == [State.SUCCEEDED] * 2
    assert seen == []


def test_a_refused_admission_takes_no_settlement_back(sandboxes: Sandboxes) -> None:
    """A halt that stops the next call lets the one before be settled."""
    sandbox = sandboxes()
    first = reminder(sandbox, lambda text: sandbox.halt("second", **WHO), name="first")
    second = reminder(sandbox, lambda text: None, name="second")
    done, held = first.enqueue("a"), second.enqueue("b")
    used_to(sandbox, 2)
    carry_out(sandbox)
    assert (done.state(), held.state(), held.call().attempt) == (
        *(State.SUCCEEDED, State.PENDING, 0),
    )


def test_a_listener_may_stop_what_would_be_next(sandboxes: Sandboxes) -> None:
    """Who hears how a call ended and throws a switch is in time: the next one is not begun yet."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    sandbox.events.subscribe(lambda event: sandbox.halt(**WHO), names=("call.settled",))
    first, second = payment(sandbox, provider).enqueue_many([("A",), ("B",)])
    used_to(sandbox, 2)
    carry_out(sandbox)
    assert provider.book == ["A"]
    assert (first.state(), second.state(), second.call().attempt) == (
        *(State.SUCCEEDED, State.PENDING, 0),
    )


def test_a_pause_stops_what_was_claimed_ahead(sandboxes: Sandboxes) -> None:
    """Nothing of a paused queue is begun; what was claimed goes back unused, in its place."""
    sandbox, sent = sandboxes(), list[str]()

    def send(text: str) -> None:
        sent.append(text)
        if text == "0":
            sandbox.pause("default", **WHO)

    handles = reminder(sandbox, send).enqueue_many([(str(n),) for n in range(3)])
    used_to(sandbox, 3)
    while sandbox.delivery._ready or not sent:
        carry_out(sandbox)
    assert sent == ["0"]
    calls = [handle.call() for handle in handles[1:]]
    assert [(call.state, call.attempt, call.owner) for call in calls] == [
        (State.PENDING, 0, None)
    ] * 2
    sandbox.unpause("default", **WHO)
    drain(sandbox)
    assert sent == ["0", "1", "2"]


def test_a_crash_test_passes_both_boundaries(sandboxes: Sandboxes) -> None:
    """A process can be killed inside and after each of the two, as if they were apart."""
    sandbox, passed = sandboxes(), list[Boundary]()
    reminder(sandbox, lambda text: None).enqueue_many([("a",), ("b",)])
    used_to(sandbox, 2)
    first = sandbox.delivery.claim(1, ahead=True)
    assert first is not None
    instrument(sandbox, passed.append)
    second = sandbox.delivery.carry_on(first, more=lambda: True)
    assert second is not None
    assert passed[passed.index(Boundary.PERFORMED) + 1 :] == [
        Boundary.BEFORE_SETTLE,
        Boundary.BEFORE_ADMIT,
        Boundary.INSIDE_SETTLE,
        Boundary.INSIDE_ADMIT,
        Boundary.AFTER_SETTLE,
        Boundary.AFTER_ADMIT,
    ]


def test_a_lost_commit_leaves_both_to_their_leases(sandboxes: Sandboxes) -> None:
    """Neither is begun a second time by whoever heard the error."""
    store = FaultyStore()
    sandbox, sent = sandboxes(store=store), list[str]()

    def send(text: str) -> None:
        sent.append(text)
        store.down = True

    reminder(sandbox, send).enqueue_many([("a",), ("b",)])
    used_to(sandbox, 2)
    with pytest.raises(StoreUnavailable):
        carry_out(sandbox)
    store.heal()
    assert sent == ["a"]
    states = sorted(state.value for state in sandbox.counts())
    assert states == ["claimed", "dispatched"]
    assert sandbox.delivery._running == {}


def test_a_thread_that_is_to_stop_begins_nothing_more(shared: Sandboxes) -> None:
    """What was claimed ahead goes back to the ledger when its worker stops."""
    sandbox = shared(max_workers=1, worker_interval=3600.0)
    began, go_on = threading.Event(), threading.Event()

    def send(text: str) -> None:
        began.set()
        go_on.wait(SOON)

    remind = reminder(sandbox, send)
    handles = remind.enqueue_many([(str(n),) for n in range(3)])
    used_to(sandbox, 3)
    sandbox.worker.start()
    assert began.wait(SOON)
    stopper = threading.Thread(target=sandbox.worker.stop, args=(SOON,))
    stopper.start()
    while sandbox.worker.is_running:
        pass
    go_on.set()
    stopper.join(SOON)
    calls: list[Call] = [handle.call() for handle in handles]
    assert [call.state for call in calls] == [State.SUCCEEDED, State.PENDING, State.PENDING]
    assert [call.attempt for call in calls] == [1, 0, 0]


def test_what_was_not_begun_keeps_its_place(sandboxes: Sandboxes) -> None:
    """What a worker that stops had claimed goes back to where it was, not behind all others."""
    sandbox, sent = sandboxes(), list[str]()
    remind = reminder(sandbox, sent.append)
    first = remind.enqueue_many([("0",), ("1",)])
    used_to(sandbox, 2)
    assert sandbox.delivery.claim(1, ahead=True) is not None
    sandboxes.clock.advance(0.5)
    remind.enqueue("2")
    sandbox.delivery.leave()
    assert [handle.state() for handle in first] == [State.PENDING] * 2
    sandboxes.clock.advance(0.01)
    drain(sandbox)
    assert sent == ["0", "1", "2"]


def test_an_interrupt_between_two_calls_leaves_the_next_one_to_its_lease(
    sandboxes: Sandboxes,
) -> None:
    """It is not kept alive for a thread that will never begin it."""
    sandbox, sent = sandboxes(lease=10.0), list[str]()

    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    reminder(sandbox, sent.append).enqueue_many([("0",), ("1",)])
    end = sandbox.events.subscribe(interrupt, names=("call.settled",))
    used_to(sandbox, 2)
    with pytest.raises(KeyboardInterrupt):
        carry_out(sandbox)
    end()
    sandboxes.clock.advance(9)
    sandbox.delivery.keep()
    sandboxes.clock.advance(1)
    sandbox.worker.keep_once()
    drain(sandbox)
    assert sent == ["0", "1"]
