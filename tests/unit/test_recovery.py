"""Recovery: what died comes back to a defined state, what is unknown is settled by evidence."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs
from tests.support.scene import (
    SOON,
    WHO,
    Provider,
    Sandboxes,
    drain,
    payment,
    reminder,
    story,
)

from gonogo.action import CallView
from gonogo.errors import ConfigurationError, EffectRejected, OutcomeUnknown, Refused
from gonogo.evidence import absent, cannot_tell, landed
from gonogo.jobs import Handle
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.performed import Performed
from gonogo.records import Call, Outcome, State
from gonogo.retry import Retry
from gonogo.signals import Rejected
from gonogo.underway import Begun
from gonogo.writing import alone


class Crash(BaseException):
    """Stands for the death of the process at the place where it is raised."""


def dispatched(sandbox: SandboxOrchestrator) -> Call:
    """The next job as its worker left it when it died inside the effect."""
    delivery = sandbox.delivery
    call = delivery.claim()
    assert isinstance(call, Call)
    begun = alone(sandbox.store, delivery._beginning(call))
    assert isinstance(begun, Begun)
    return begun.call


def in_doubt(sandbox: SandboxOrchestrator, **declared: Any) -> tuple[Any, Handle]:
    """An action and a call of it that may or may not have landed."""
    provider = Provider()
    provider.script = [TimeoutError("no answer")]
    pay = payment(sandbox, provider, verify_after=0.0, **declared)
    return pay, pay.enqueue("A")


# expired leases


def test_a_claimed_job_of_a_dead_worker_runs_again(sandboxes: Sandboxes) -> None:
    """Claimed and never dispatched: nothing was sent, so it goes back and runs elsewhere."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    handle = payment(sandbox, provider).enqueue("A")
    assert sandbox.delivery.claim() is not None
    assert sandbox.recovery.run_once() == 0
    sandboxes.clock.advance(30)
    assert sandbox.recovery.run_once() == 1
    assert "went silent; safe to run" in story(handle)
    drain(sandbox)
    assert (handle.state(), provider.book) == (State.SUCCEEDED, ["A"])


def test_a_dispatched_job_of_a_dead_worker_is_unknown(sandboxes: Sandboxes) -> None:
    """Dispatched: it may have happened; it is never run again by itself, and somebody is told."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    handle = payment(sandbox, provider).enqueue("A")
    dispatched(sandbox)
    sandboxes.clock.advance(30)
    assert sandbox.recovery.run_once() == 1
    drain(sandbox)
    assert (handle.state(), provider.book) == (State.UNKNOWN, [])
    with pytest.raises(OutcomeUnknown):
        handle.result(0)
    assert f"gonogo resolve {handle.id}" in story(handle)
    assert "which was found silent at" in story(handle)
    assert "ran for" not in story(handle)
    assert (sandbox.call(handle.id).note or "").count("went silent") == 1
    assert sandbox.alert_system.get_alerts(severity="critical", task_name="pay")


def test_a_repeatable_job_of_a_dead_worker_runs_again(sandboxes: Sandboxes) -> None:
    """Repeatable: it runs again under the same key, until its attempts are used up."""
    sandbox, sent = sandboxes(), []
    handle = reminder(sandbox, sent.append, retry=Retry(max_retries=1)).enqueue("hello")
    dispatched(sandbox)
    sandboxes.clock.advance(30)
    sandbox.recovery.run_once()
    assert handle.state() is State.PENDING
    dispatched(sandbox)
    sandboxes.clock.advance(30)
    sandbox.recovery.run_once()
    assert (handle.state(), handle.call().attempt, sent) == (State.FAILED, 2, [])
    assert "possibly after having had its effect" in story(handle)


def test_a_repeatable_irreversible_job_keeps_its_key(sandboxes: Sandboxes) -> None:
    """Where the provider deduplicates on our key, running again with the same key is safe."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    handle = payment(sandbox, provider, repeatable=True).enqueue("A")
    dispatched(sandbox)
    sandboxes.clock.advance(30)
    sandbox.recovery.run_once()
    drain(sandbox)
    assert (handle.state(), handle.call().attempt, provider.book) == (State.SUCCEEDED, 2, ["A"])


def test_a_job_that_kills_its_worker_ends(sandboxes: Sandboxes) -> None:
    """Attempts count at claim: a poison job stops at its limit, with an alert and a sentence."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, retry=Retry(max_retries=2))
    handle = pay.enqueue("A")
    for _ in range(3):
        assert sandbox.delivery.claim() is not None
        sandboxes.clock.advance(30)
        sandbox.recovery.run_once()
    assert sandbox.delivery.claim() is None
    assert (handle.state(), provider.book) == (State.FAILED, [])
    assert "3 times; it is not tried again" in story(handle)
    assert sandbox.alert_system.get_alerts(task_name="pay")
    assert pay.enqueue("A").is_new


def test_a_direct_call_whose_caller_went_silent(sandboxes: Sandboxes) -> None:
    """A direct call that waits for its retry is cancelled when its caller is gone; should the
    caller come back, it is refused and performs nothing."""
    sandbox, asleep, wake = sandboxes(), threading.Event(), threading.Event()
    tries: list[str] = []

    def fail(text: str) -> None:
        tries.append(text)
        raise OSError("not now")

    def sleep(seconds: float) -> None:
        asleep.set()
        wake.wait(SOON)

    remind = reminder(sandbox, fail, key="{text}")
    errors: list[BaseException] = []

    def call() -> None:
        try:
            remind("hello")
        except Refused as error:
            errors.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandboxes.clock, "sleep", sleep)
        caller = threading.Thread(target=call)
        caller.start()
        assert asleep.wait(SOON)
        (waiting,) = sandbox.calls()
        assert waiting.state is State.PENDING
        assert sandbox.recovery.run_once() == 0
        sandboxes.clock.advance(3600)
        assert sandbox.recovery.run_once() == 1
        wake.set()
        caller.join(SOON)
    ended = sandbox.call(waiting.id)
    assert (ended.state, ended.held, tries) == (State.CANCELLED, False, ["hello"])
    assert [type(error).__name__ for error in errors] == ["InFlight"]


def test_recovery_is_done_once(shared: Sandboxes) -> None:
    """Two that recover at the same time change each call once between them."""
    first, second = shared(), shared()
    first.arm(**WHO)
    payment(first).enqueue_many([("A",), ("B",)])
    payment(second)
    dispatched(first)
    dispatched(first)
    shared.clock.advance(30)
    ready = threading.Barrier(2, timeout=SOON)
    changed: list[int] = []

    def recover(sandbox: SandboxOrchestrator) -> None:
        ready.wait()
        changed.append(sandbox.recovery.run_once())

    threads = [threading.Thread(target=recover, args=(s,)) for s in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(changed) == 2
    attempts = [first.store.read(lambda tx, i=c.id: tx.attempts.of(i)) for c in first.calls()]
    assert [len(of) for of in attempts] == [1, 1]
    assert first.counts() == {State.UNKNOWN: 2}


def test_recovery_that_dies_half_way_is_finished_by_the_next(sandboxes: Sandboxes) -> None:
    """Each call is recovered in a transaction of its own, so that nothing is left half done."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    payment(sandbox).enqueue_many([("A",), ("B",), ("C",)])
    for _ in range(3):
        dispatched(sandbox)
    sandboxes.clock.advance(30)
    recover, done = sandbox.recovery.recover, []

    def dying(call: Call) -> Call:
        if done:
            raise Crash
        done.append(call.id)
        return recover(call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.recovery, "recover", dying)
        with pytest.raises(Crash):
            sandbox.recovery.run_once()
    assert sandbox.counts() == {State.DISPATCHED: 2, State.UNKNOWN: 1}
    assert sandbox.recovery.run_once() == 2
    assert sandbox.counts() == {State.UNKNOWN: 3}


def test_recovery_that_dies_inside_a_transaction_changed_nothing(sandboxes: Sandboxes) -> None:
    """State, attempt and alert are one commit: all of it or none."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    handle = payment(sandbox).enqueue("A")
    dispatched(sandbox)
    sandboxes.clock.advance(30)

    def die(*_: Any) -> None:
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.alert_system, "fire", die)
        with pytest.raises(Crash):
            sandbox.recovery.run_once()
    assert handle.state() is State.DISPATCHED
    assert sandbox.store.read(lambda tx: tx.attempts.of(handle.id)) == []
    assert sandbox.recovery.run_once() == 1


def test_one_call_that_cannot_be_recovered_strands_no_other(sandboxes: Sandboxes) -> None:
    """A defect met on one call is logged, and the others are recovered all the same."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    handles = payment(sandbox).enqueue_many([("A",), ("B",)])
    for _ in range(2):
        dispatched(sandbox)
    sandboxes.clock.advance(30)
    recover = sandbox.recovery.recover

    def faulty(call: Call) -> Call:
        if call.id == handles[0].id:
            raise RuntimeError("a defect")
        return recover(call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.recovery, "recover", faulty)
        assert sandbox.recovery.run_once() == 1
    assert handles[1].state() is State.UNKNOWN


# deadlines


def test_a_job_whose_deadline_passed_fails(sandboxes: Sandboxes) -> None:
    """After its deadline no attempt begins: it ends as failed, and gives its key back."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, deadline=60.0)
    handle, dependant = pay.enqueue_in(50, "A"), None
    dependant = pay.enqueue("B", after=handle)
    sandboxes.clock.advance(60)
    assert drain(sandbox) == 1  # claimed, and refused for good
    assert handle.state() is State.FAILED
    assert "deadline passed" in story(handle)
    assert dependant.state() is State.CANCELLED
    assert (provider.book, pay.enqueue("A").is_new) == ([], True)


def test_a_deadline_passes_without_a_worker_too(sandboxes: Sandboxes) -> None:
    """Recovery ends waiting jobs whose deadline has passed."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    handle = payment(sandbox, deadline=60.0).enqueue_in(3600, "A")
    sandboxes.clock.advance(60)
    assert sandbox.recovery.run_once() == 1
    assert handle.state() is State.FAILED
    assert sandbox.alert_system.get_alerts(task_name="pay")


def test_a_deadline_does_not_deny_what_may_have_happened(sandboxes: Sandboxes) -> None:
    """A call that timed out once and then ran out of time may have happened: it is unknown."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError("no answer")]
    limits = [Limit("budget", 10, per="1h")]
    retry = Retry(base_delay=50.0, jitter="none")
    pay = payment(sandbox, provider, repeatable=True, deadline=60.0, limits=limits, retry=retry)
    handle = pay.enqueue("A")
    drain(sandbox)
    assert handle.state() is State.PENDING
    sandboxes.clock.advance(60)
    sandbox.recovery.run_once()
    assert (handle.state(), handle.call().held) == (State.UNKNOWN, True)
    assert sandbox.governor.get_status("budget")["current_actions"] == 1


# evidence


def test_a_verifier_that_found_it_settles_the_call(armed: SandboxOrchestrator) -> None:
    """landed: the call succeeded with the verifier's result, and never runs again."""
    pay, handle = in_doubt(armed)
    seen: list[CallView] = []

    @pay.verify
    def _(call: CallView) -> Any:
        seen.append(call)
        return landed({"id": "tr-1"})

    drain(armed)
    assert armed.recovery.run_once() == 1
    assert (handle.result(0), drain(armed)) == ({"id": "tr-1"}, 0)
    assert (seen[0].key, seen[0].arguments["invoice"]) == ("pay:A", "A")
    assert "resolved as landed by verify of pay: the provider has it" in story(handle)


def test_a_verifier_that_did_not_find_it_lets_it_run_again(armed: SandboxOrchestrator) -> None:
    """absent: proven not applied, so the job runs again under the same key."""
    pay, handle = in_doubt(armed)
    pay.verify(lambda call: absent())
    drain(armed)
    armed.recovery.run_once()
    assert (handle.state(), handle.call().held) == (State.PENDING, True)
    drain(armed)
    assert (handle.result(0), handle.call().attempt) == ("paid A", 2)


def test_absent_after_the_last_attempt_fails(armed: SandboxOrchestrator) -> None:
    """absent without attempts left: it failed, did not happen, and the key and units are free."""
    limits = [Limit("budget", 10, per="1h")]
    pay, handle = in_doubt(armed, retry=Retry(max_retries=0), limits=limits)
    pay.verify(lambda call: absent())
    drain(armed)
    assert armed.governor.get_status("budget")["current_actions"] == 1
    armed.recovery.run_once()
    assert (handle.state(), handle.call().outcome) == (State.FAILED, Outcome.NOT_APPLIED)
    assert armed.governor.get_status("budget")["current_actions"] == 0
    assert pay.enqueue("A").is_new


def test_absent_is_not_believed_too_early(sandboxes: Sandboxes) -> None:
    """A request may still be on its way for verify_after seconds; only then absence is proof."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    provider = Provider()
    provider.script = [TimeoutError("no answer")]
    pay = payment(sandbox, provider, verify_after=60.0)
    pay.verify(lambda call: absent())
    handle = pay.enqueue("A")
    drain(sandbox)
    doubtful = handle.call()
    assert sandbox.recovery.run_once() == 0  # not due for a look yet
    assert sandbox.recovery.verify(pay, doubtful).state is State.UNKNOWN
    assert "may still arrive" in story(handle)
    sandboxes.clock.advance(60)
    sandbox.recovery.run_once()
    assert handle.state() is State.PENDING


def test_landed_is_believed_at_once(sandboxes: Sandboxes) -> None:
    """Presence is proof whenever it is seen."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay, handle = in_doubt(sandbox)
    pay.verify(lambda call: landed("x"))
    drain(sandbox)
    assert sandbox.recovery.verify(pay, handle.call()).state is State.SUCCEEDED


def raising(call: CallView) -> Any:
    raise OSError("provider is down")


async def asynchronous(call: CallView) -> Any:
    return landed("seen by a coroutine")


@pytest.mark.parametrize(
    ("verifier", "why"),
    [
        (lambda call: cannot_tell("their search is down"), "their search is down"),
        (raising, "OSError: provider is down"),
        (lambda call: True, "returned bool, not evidence"),
        (lambda call: None, "returned NoneType, not evidence"),
    ],
)
def test_a_verifier_that_proves_nothing_is_asked_again_later(
    sandboxes: Sandboxes, verifier: Callable[[CallView], Any], why: str
) -> None:
    """cannot_tell, an error and a senseless answer leave it unknown; the pauses grow."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    asked: list[float] = []
    pay, handle = in_doubt(sandbox)

    @pay.verify
    def _(call: CallView) -> Any:
        asked.append(sandboxes.clock.now())
        return verifier(call)

    drain(sandbox)
    for _ in range(3000):
        sandbox.recovery.run_once()
        sandboxes.clock.advance(10)
    assert handle.state() is State.UNKNOWN
    assert why in story(handle)
    pauses = [b - a for a, b in itertools.pairwise(asked)]
    assert pauses == sorted(pauses)
    assert max(pauses) <= 3610.0
    assert 10 < len(asked) < 40


def test_a_verifier_may_be_async(armed: SandboxOrchestrator) -> None:
    """An ``async def`` verifier is awaited."""
    pay, handle = in_doubt(armed)
    pay.verify(asynchronous)
    drain(armed)
    armed.recovery.run_once()
    assert handle.result(0) == "seen by a coroutine"


def test_a_hanging_verifier_keeps_nobody_waiting(sandboxes: Sandboxes) -> None:
    """The keeper's round goes on without the answer; silence becomes cannot tell."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    let_go = threading.Event()
    pay, handle = in_doubt(sandbox)
    pay.verify(lambda call: let_go.wait(SOON))
    drain(sandbox)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gonogo.doubt.A_MOMENT", 0.001)
        sandbox.worker.keep_once()
        assert not sandbox.delivery.idle()
        sandboxes.clock.advance(30)
        sandbox.worker.keep_once()
    assert "no answer in 30 s" in story(handle)
    let_go.set()


def test_hanging_verifiers_are_few(sandboxes: Sandboxes) -> None:
    """A verifier that always hangs takes a bounded number of threads, whatever the backlog."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    let_go = threading.Event()
    provider = Provider()
    provider.script = [TimeoutError("no answer")] * 30
    pay = payment(sandbox, provider, verify_after=0.0)
    pay.verify(lambda call: let_go.wait(SOON))
    handles = pay.enqueue_many([(f"{n}",) for n in range(30)])
    drain(sandbox)
    before = threading.active_count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gonogo.doubt.A_MOMENT", 0.001)
        for _ in range(20):
            sandbox.worker.keep_once()
            sandboxes.clock.advance(100)
    assert threading.active_count() - before <= 4
    assert any("still hang" in story(handle) for handle in handles)
    assert sandbox.counts() == {State.UNKNOWN: 30}
    let_go.set()


def test_a_slow_verifier_is_heard_by_a_later_round(sandboxes: Sandboxes) -> None:
    """What is answered after the moment is acted on in the next round."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    let_go = threading.Event()
    pay, handle = in_doubt(sandbox)

    @pay.verify
    def _(call: CallView) -> Any:
        let_go.wait(SOON)
        return landed("late but true")

    drain(sandbox)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gonogo.doubt.A_MOMENT", 0.001)
        sandbox.worker.keep_once()
    assert handle.state() is State.UNKNOWN
    let_go.set()
    sandbox.worker.keep_once()
    assert handle.result(0) == "late but true"


def test_arguments_that_no_longer_fit_prove_nothing(sandboxes: Sandboxes) -> None:
    """A verifier that cannot be handed the call leaves it unknown, and others are looked into."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay, handle = in_doubt(sandbox)
    pay.verify(lambda call: landed("x"))
    drain(sandbox)
    before = handle.call()
    broken = structs.replace(before, args='{"old":1}')
    sandbox.store.write(lambda tx: tx.calls.replace(before, broken))
    assert sandbox.recovery.run_once() == 0
    assert "no longer fit" in story(handle)


def test_two_processes_look_once(shared: Sandboxes) -> None:
    """The look is claimed in the ledger: however many recover, the verifier is asked once."""
    asked: list[str] = []
    both = [shared(), shared()]
    both[0].arm(**WHO)
    provider = Provider()
    provider.script = [TimeoutError("no answer")]
    for sandbox in both:
        pay = payment(sandbox, provider, verify_after=5.0)
        pay.verify(lambda call: asked.append(call.id) or cannot_tell())
    handle = both[0].actions["pay"].enqueue("A")
    drain(both[0])
    shared.clock.advance(5)
    stale = handle.call()
    both[0].recovery.run_once()
    both[1].recovery.verify(both[1].pipeline.actions["pay"], stale)
    both[1].recovery.run_once()
    assert asked == [handle.id]


def test_an_action_nobody_knows_is_left_to_who_does(shared: Sandboxes) -> None:
    """A process without the action puts the look off, and one that has it settles it."""
    knows, other = shared(), shared()
    knows.arm(**WHO)
    pay, handle = in_doubt(knows)
    pay.verify(lambda call: landed("x"))
    drain(knows)
    assert other.recovery.run_once() == 0
    assert handle.state() is State.UNKNOWN
    shared.clock.advance(60)
    assert knows.recovery.run_once() == 1


# a person's decision


def test_a_person_says_it_landed(armed: SandboxOrchestrator) -> None:
    """landed: succeeded with the given result, and by whom and why is recorded."""
    _, handle = in_doubt(armed)
    drain(armed)
    armed.resolve(handle, "landed", result={"id": 7}, **WHO)
    assert handle.result(0) == {"id": 7}
    assert "resolved as landed by ann@example.com: checked the books" in story(handle)


def test_a_person_says_it_did_not_happen(armed: SandboxOrchestrator) -> None:
    """absent: failed, key and units free."""
    limits = [Limit("budget", 10, per="1h")]
    pay, handle = in_doubt(armed, limits=limits)
    drain(armed)
    armed.resolve(handle.id, "absent", **WHO)
    assert (handle.state(), handle.call().held) == (State.FAILED, False)
    assert armed.governor.get_status("budget")["current_actions"] == 0
    assert pay.enqueue("A").is_new


def test_a_person_says_run_it_again(armed: SandboxOrchestrator) -> None:
    """retry: it runs again, even beyond its attempts, with the same key."""
    _, handle = in_doubt(armed, retry=Retry(max_retries=0))
    drain(armed)
    armed.resolve(handle, "retry", **WHO)
    drain(armed)
    assert (handle.result(0), handle.call().attempt) == ("paid A", 2)


def test_a_direct_call_is_run_again_by_a_worker(armed: SandboxOrchestrator) -> None:
    """retry of a direct call makes a job of it, in its action's queue."""
    provider = Provider()
    provider.script = [TimeoutError("no answer")]
    pay = payment(armed, provider, queue="default")
    with pytest.raises(OutcomeUnknown) as caught:
        pay("A")
    armed.resolve(caught.value.call_id or "", "retry", **WHO)
    assert drain(armed) == 1
    assert pay.call("A").replayed


@pytest.mark.parametrize("who", [{"by": " ", "reason": "x"}, {"by": "ann", "reason": ""}])
def test_a_decision_needs_who_and_why(armed: SandboxOrchestrator, who: dict[str, str]) -> None:
    """Nobody resolves anonymously or without a reason."""
    _, handle = in_doubt(armed)
    drain(armed)
    with pytest.raises(ConfigurationError, match="who"):
        armed.resolve(handle, "absent", **who)
    assert handle.state() is State.UNKNOWN


def test_a_decision_must_make_sense(armed: SandboxOrchestrator) -> None:
    """Only landed, absent or retry; only a result with a JSON form; only a call there is."""
    _, handle = in_doubt(armed)
    drain(armed)
    with pytest.raises(ConfigurationError, match="say landed, absent or retry"):
        armed.resolve(handle, "maybe", **WHO)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ConfigurationError, match="no JSON form"):
        armed.resolve(handle, "landed", result=object(), **WHO)
    with pytest.raises(ConfigurationError, match="no call"):
        armed.resolve("nowhere", "landed", **WHO)
    assert handle.state() is State.UNKNOWN


def test_only_the_unknown_is_resolved(armed: SandboxOrchestrator) -> None:
    """A call in any other state is refused, also one that was resolved a moment ago."""
    pay, handle = in_doubt(armed)
    with pytest.raises(Refused, match="is pending, not unknown"):
        armed.resolve(handle, "absent", **WHO)
    drain(armed)
    armed.resolve(handle, "landed", **WHO)
    with pytest.raises(Refused, match="is succeeded, not unknown"):
        armed.resolve(handle, "retry", **WHO)
    assert handle.state() is State.SUCCEEDED
    assert not pay.enqueue("A").is_new


def test_what_a_silent_process_left_is_resolved_without_a_worker(sandboxes: Sandboxes) -> None:
    """Once its lease is over, and not before; its story tells of the silence too."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    handle = payment(sandbox, provider).enqueue("A")
    dispatched(sandbox)
    with pytest.raises(Refused, match=r"performs it\. If that process died"):
        sandbox.resolve(handle, "landed", **WHO)
    sandboxes.clock.advance(sandbox.settings.lease)
    with pytest.raises(ConfigurationError):
        sandbox.resolve(handle, "landed", by="", reason="")
    assert handle.state() is State.DISPATCHED
    assert sandbox.resolve(handle, "landed", result="seen", **WHO).state is State.SUCCEEDED
    assert (handle.result(0), provider.book) == ("seen", [])
    assert "was found silent" in " ".join(sandbox.explain(handle))


def test_what_a_silent_process_left_and_may_be_repeated_is_not_resolved(
    sandboxes: Sandboxes,
) -> None:
    """It waits for its next attempt, so that there is nothing to decide."""
    sandbox = sandboxes()
    handle = reminder(sandbox, str).enqueue("a")
    dispatched(sandbox)
    sandboxes.clock.advance(60)
    with pytest.raises(Refused, match="is pending, not unknown: nothing to resolve"):
        sandbox.resolve(handle, "landed", **WHO)


def test_a_decision_during_a_look_stands(armed: SandboxOrchestrator) -> None:
    """A person decides while the verifier is asked: the decision counts, the answer is too late."""
    pay, handle = in_doubt(armed)
    pay.verify(lambda call: armed.resolve(handle, "landed", result="seen", **WHO) and absent())
    drain(armed)
    armed.recovery.run_once()
    assert handle.result(0) == "seen"


def test_a_decision_is_not_lost_to_a_look_that_began(shared: Sandboxes) -> None:
    """A look that begins between reading and deciding does not swallow the decision."""
    sandbox, other = shared(), shared()
    sandbox.arm(**WHO)
    _, handle = in_doubt(sandbox)
    drain(sandbox)
    write = sandbox.store.write

    def after_a_look(work: Any, **how: Any) -> Any:
        call = other.call(handle.id)
        other.store.write(
            lambda tx: tx.calls.replace(call, structs.replace(call, epoch=call.epoch + 1))
        )
        return write(work, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.store, "write", after_a_look)
        assert sandbox.resolve(handle, "landed", **WHO).state is State.SUCCEEDED


# late results


def test_a_late_success_settles_the_doubt(sandboxes: Sandboxes) -> None:
    """A result that comes after the lease was lost is evidence, and settles the unknown call."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox)
    handle = pay.enqueue("A")
    call = dispatched(sandbox)
    sandboxes.clock.advance(30)
    sandbox.recovery.run_once()
    assert handle.state() is State.UNKNOWN
    sandbox.pipeline.settle(pay, call, Performed(ended_at=sandboxes.clock.now(), value="late"))
    assert handle.result(0) == "late"
    assert "late" in story(handle)


def test_a_late_success_overwrites_no_other_outcome(sandboxes: Sandboxes) -> None:
    """When the call ran again meanwhile, the late result is kept as evidence and alerted loudly."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox)
    handle = pay.enqueue("A")
    call = dispatched(sandbox)
    sandboxes.clock.advance(30)
    sandbox.recovery.run_once()
    sandbox.resolve(handle, "absent", **WHO)
    sandbox.pipeline.settle(pay, call, Performed(ended_at=sandboxes.clock.now(), value="late"))
    assert handle.state() is State.FAILED
    assert sandbox.alert_system.get_alerts(severity="critical", task_name="pay")
    assert len(sandbox.store.read(lambda tx: tx.attempts.of(handle.id))) == 2


# rejected calls


def test_a_rejected_call_gives_its_key_back_once_somebody_says_so(
    armed: SandboxOrchestrator,
) -> None:
    """absent: the cause is mended, the same call can be made again, and it is recorded who said."""
    provider = Provider()
    provider.script = [Rejected("no funds")]
    pay = payment(armed, provider)
    with pytest.raises(EffectRejected, match="resolve it as absent"):
        pay("A")
    (call,) = armed.calls()
    freed = armed.resolve(call.id, "absent", by="ann", reason="the account has money now")
    assert (freed.state, freed.held) == (State.FAILED, False)
    assert any("key freed by ann: the account" in line for line in armed.explain(call.id))
    pay("A")
    assert provider.book == ["A"]


@pytest.mark.parametrize("resolution", ["landed", "retry"])
def test_a_rejected_call_takes_no_other_word(armed: SandboxOrchestrator, resolution: Any) -> None:
    """What is known not to have happened cannot be declared to have, nor be run again as it is."""
    provider = Provider()
    provider.script = [Rejected("no funds")]
    pay = payment(armed, provider)
    with pytest.raises(EffectRejected):
        pay("A")
    (call,) = armed.calls()
    with pytest.raises(Refused, match="is failed, not unknown"):
        armed.resolve(call.id, resolution, by="ann", reason="r")
