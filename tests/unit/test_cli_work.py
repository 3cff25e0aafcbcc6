"""What a worker of the command line says at its end."""

from __future__ import annotations

import pytest
from tests.support.scene import WHO, Provider, Sandboxes, payment, reminder

from gonogo.backoff import Retry
from gonogo.cli.exits import Exit
from gonogo.cli.stopped import kept_back
from gonogo.cli.work import Tally, _exit, _held_by_others, _remaining
from gonogo.evidence import absent, landed
from gonogo.limits import Limit
from gonogo.records import Call, State
from gonogo.signals import NotApplied
from gonogo.writing import alone


def test_what_it_recovered_and_resolved_is_counted(sandboxes: Sandboxes) -> None:
    """A worker that performed nothing, but settled what a dead one left, was not idle."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, verify_after=5.0)
    pay.verify(lambda call: landed("found"))
    handle = pay.enqueue("A")
    call = sandbox.delivery.claim()
    assert isinstance(call, Call)
    alone(sandbox.store, sandbox.delivery._beginning(call))
    tally = Tally(sandbox)
    assert _remaining(sandbox) == "1 dispatched"

    sandboxes.clock.advance(30)
    sandbox.recovery.run_once()
    assert (handle.state(), tally.counts()["unknown"]) == (State.UNKNOWN, 1)
    sandboxes.clock.advance(5)
    assert sandbox.recovery.run_once() == 1
    counts = tally.counts()
    assert handle.state() is State.SUCCEEDED
    assert counts == {"succeeded": 1, "failed": 0, "unknown": 0, "resolved": 1}
    assert _remaining(sandbox) == ""


def test_it_counts_calls_where_they_came_to_rest(sandboxes: Sandboxes) -> None:
    """What was in doubt, proved absent and has no try left counts as failed, once."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, verify_after=5.0, retry=Retry(max_retries=0))
    pay.verify(lambda call: absent("not on the statement"))
    provider.script = [TimeoutError("lost")]
    tally = Tally(sandbox)
    pay.enqueue("A")
    sandbox.worker.run_once()
    assert tally.counts()["unknown"] == 1
    sandboxes.clock.advance(6)
    sandbox.recovery.run_once()
    counts = tally.counts()
    assert counts == {"succeeded": 0, "failed": 1, "unknown": 0, "resolved": 1}
    assert _exit(counts, ended=True) is Exit.FAILED


def test_the_status_tells_doubt_before_what_is_left_and_that_before_failures() -> None:
    """0 only when everything ended well."""
    nothing = {"succeeded": 0, "failed": 0, "unknown": 0, "resolved": 3}
    assert _exit(nothing, ended=True) is Exit.OK
    assert _exit({**nothing, "failed": 2}, ended=True) is Exit.FAILED
    assert _exit({**nothing, "failed": 2}, ended=False) is Exit.UNFINISHED
    assert _exit({**nothing, "unknown": 1, "failed": 2}, ended=False) is Exit.UNKNOWN


def test_a_lease_that_ends_soon_is_waited_for(shared: Sandboxes) -> None:
    """A call that a dead process claimed is not left by a worker that is patient enough."""
    sandbox, provider = shared(), Provider()
    sandbox.arm(**WHO)
    payment(sandbox, provider).enqueue("A")
    other = shared()
    payment(other, provider)
    assert other.delivery.claim() is not None
    lease = sandbox.delivery.lease
    assert sandbox.delivery.idle(lease / 2)
    assert not sandbox.delivery.idle(lease)
    shared.clock.advance(1)
    assert not sandbox.delivery.idle(lease)


def test_a_lease_that_its_owner_renews_is_not_waited_for(shared: Sandboxes) -> None:
    """Nor one of a queue that is not ours: who lives sees to its own calls."""
    sandbox, other = shared(), shared()
    remind, _ = (reminder(each, lambda text: None) for each in (sandbox, other))
    remind.enqueue("A")
    other.delivery.keep()
    assert other.delivery.claim() is not None
    lease = sandbox.delivery.lease
    assert not sandbox.delivery.idle(lease)
    shared.clock.advance(1)
    other.delivery.keep()
    assert sandbox.delivery.idle(lease)
    elsewhere = shared(queues="mail")
    assert elsewhere.delivery.idle(lease)


def test_what_waits_for_a_limit_is_not_waited_for(sandboxes: Sandboxes) -> None:
    """Once nothing could be begun for so long, however many calls still fall due meanwhile."""
    sandbox = sandboxes()
    limits = [Limit("units", 1, per="1h")]
    reminder(sandbox, lambda text: None, limits=limits).enqueue_many([(str(n),) for n in range(9)])
    assert sandbox.worker.run_once()
    assert not sandbox.delivery.idle(5.0)
    for _ in range(4):
        sandboxes.clock.advance(1.1)
        assert sandbox.worker.run_once()
        assert not sandbox.delivery.idle(5.0)
    sandboxes.clock.advance(1.1)
    assert sandbox.delivery.idle(5.0)
    other = reminder(sandbox, lambda text: None, name="other")
    other.enqueue_in(4.0, "x")
    assert not sandbox.delivery.idle(5.0), "nothing was refused of the other one"
    sandboxes.clock.advance(4.0)
    assert sandbox.worker.run_once()
    assert not sandbox.delivery.idle(5.0)


def test_what_a_budget_may_have_room_for_is_waited_for(sandboxes: Sandboxes) -> None:
    """A dear call that was refused says nothing of a cheaper one behind it."""
    sandbox, done = sandboxes(), list[str]()
    limit = Limit("cents", 100, per="1h", cost=lambda arguments: int(arguments["text"]))
    remind = reminder(sandbox, done.append, limits=[limit])
    remind("90")
    remind.enqueue_many([*(("50",) for _ in range(3)), ("10",)])
    sandboxes.clock.advance(6)
    for _ in range(3):
        assert sandbox.worker.run_once()
        assert not sandbox.delivery.idle(5.0)
    assert sandbox.worker.run_once()
    assert done == ["90", "10"]
    sandboxes.clock.advance(6)
    assert sandbox.delivery.idle(5.0)


def test_what_was_refused_and_waits_is_told_with_the_reason(sandboxes: Sandboxes) -> None:
    """A due call that a guard refused is not done, though nothing is left to do; once each."""
    sandbox, sent = sandboxes(), list[str]()
    limits = [Limit("units", 1, per="1h")]
    remind = reminder(sandbox, sent.append, limits=limits, key="{text}")
    tally = Tally(sandbox)
    remind.enqueue_many([("A",), ("B",)])
    for _ in range(3):
        sandbox.worker.run_once()
        sandboxes.clock.advance(1.1)
    (refused,) = tally.refused()
    assert (sent, refused.calls) == (["A"], 1)
    assert refused.why.startswith("remind (B): Rate limit exceeded for 'units'")
    sandboxes.clock.advance(3700)
    sandbox.worker.run_once()
    assert (sent, tally.refused()) == (["A", "B"], [])


def test_a_refusal_whose_cause_a_switch_is_now_is_told_once(sandboxes: Sandboxes) -> None:
    """With the switch; nor is a retry a refusal, or what a job of the application called itself."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.readiness_checker.register_check("bank", lambda: (not down, "the bank is down"))
    down = [True]
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, retry=Retry(base_delay=600.0))
    tally = Tally(sandbox)
    pay.enqueue("A")
    sandbox.worker.run_once()
    (refused,) = tally.refused()
    assert refused.calls == 1
    assert "the bank is down" in refused.why
    sandbox.halt("pay", **WHO)
    sandboxes.clock.advance(60)
    assert tally.refused() == []
    assert [kept.calls for kept in kept_back(sandbox)] == [1]
    sandbox.resume("pay", **WHO)
    down.clear()
    provider.script = [NotApplied("busy")]
    sandboxes.clock.advance(60)
    sandbox.worker.run_once()
    assert provider.script == []
    assert tally.refused() == []


def test_a_due_call_behind_the_newest_is_not_taken_for_done(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more wait than are looked at, it is said that one is due, and where was looked."""
    monkeypatch.setattr("gonogo.cli.stopped.MOST", 2)
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    payment(sandbox).enqueue("A")
    sandboxes.clock.advance(1)
    sandbox.halt("pay", **WHO)
    remind = reminder(sandbox, lambda text: None)
    for text in ("later", "and later"):
        remind.enqueue_in(600.0, text)
    (kept,) = kept_back(sandbox)
    assert kept.calls == 1
    assert kept.why.startswith("it is older than the newest 2 that wait")
    sandbox.resume("pay", **WHO)
    sandbox.worker.run_once()
    assert kept_back(sandbox) == []


def test_what_others_hold_is_told_from_what_this_worker_did_not_end(shared: Sandboxes) -> None:
    """Of its own it is said that it had not ended in time."""
    sandbox, other = shared(), shared()
    remind, _ = (reminder(each, lambda text: None) for each in (sandbox, other))
    handles = remind.enqueue_many([("A",), ("B",)])
    assert sandbox.delivery.claim() is not None
    assert other.delivery.claim() is not None
    assert [held.id for held in _held_by_others(sandbox)] == [handles[1].id]
    assert [held.id for held in _held_by_others(other)] == [handles[0].id]
