"""Jobs: enqueueing all or none, the handle, priorities, delays, dependencies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.scene import WHO, Provider, Sandboxes, drain, payment, reminder, story

from gonogo.errors import (
    ConfigurationError,
    DryRunBlocked,
    EffectFailed,
    EffectRejected,
    KeyConflict,
    OutcomeUnknown,
    Refused,
    ResultUnavailable,
)
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.retry import Retry
from gonogo.signals import NotApplied, Rejected

NEVER_AGAIN = Retry(max_retries=0)


# enqueueing


def test_a_job_is_performed_once_by_a_worker(armed: SandboxOrchestrator) -> None:
    """Enqueueing performs nothing; a worker performs it, once, and the handle has the result."""
    provider = Provider()
    handle = payment(armed, provider).enqueue("A")
    assert (handle.is_new, handle.state(), provider.book) == (True, State.PENDING, [])
    assert drain(armed) == 1
    assert (handle.state(), handle.result(0), provider.book) == (
        State.SUCCEEDED,
        "paid A",
        ["A"],
    )


def test_the_same_key_is_the_same_job(armed: SandboxOrchestrator) -> None:
    """Enqueueing a known key gives a handle to the known call, before and after its end."""
    provider = Provider()
    pay = payment(armed, provider)
    first = pay.enqueue("A")
    again = pay.enqueue("A")
    drain(armed)
    later = pay.enqueue("A")
    assert [(h.id, h.is_new) for h in (again, later)] == [(first.id, False)] * 2
    assert drain(armed) == 0
    assert provider.book == ["A"]


def test_a_known_key_with_other_arguments_is_refused(armed: SandboxOrchestrator) -> None:
    """The same key with different arguments is a conflict, and nothing is queued."""
    pay = payment(armed)
    pay.enqueue("A", 100)
    with pytest.raises(KeyConflict, match="pay:A"):
        pay.enqueue("A", 101)
    assert armed.counts() == {State.PENDING: 1}


def test_a_key_is_free_again_after_a_failure(armed: SandboxOrchestrator) -> None:
    """A call that is proven not applied gives its key back: the next enqueue is a new call."""
    provider = Provider()
    provider.script = [NotApplied("closed")]
    pay = payment(armed, provider, retry=NEVER_AGAIN)
    first = pay.enqueue("A")
    drain(armed)
    second = pay.enqueue("A")
    drain(armed)
    assert second.is_new
    assert (first.state(), second.state()) == (State.FAILED, State.SUCCEEDED)


def test_many_are_enqueued_in_order(armed: SandboxOrchestrator) -> None:
    """enqueue_many takes tuples and mappings, and a worker takes the jobs in the same order."""
    provider = Provider()
    pay = payment(armed, provider)
    handles = pay.enqueue_many([("A",), {"invoice": "B", "cents": 5}, ("C", 7)])
    drain(armed)
    assert provider.book == ["A", "B", "C"]
    assert all(h.is_new for h in handles)


@pytest.mark.parametrize(
    "bad", [("B", "not a number"), ("B", 1, "one too many"), {"invoice": "B", "euros": 1}]
)
def test_one_bad_row_enqueues_nothing(armed: SandboxOrchestrator, bad: Any) -> None:
    """enqueue_many is all or none: an ill-typed, surplus or unknown argument stops every row."""
    pay = payment(armed)
    with pytest.raises(ConfigurationError, match="pay"):
        pay.enqueue_many([("A",), bad, ("C",)])
    assert armed.counts() == {}


def test_a_conflict_in_the_ledger_enqueues_nothing(armed: SandboxOrchestrator) -> None:
    """enqueue_many is all or none: a row that conflicts with a known call stops every row."""
    pay = payment(armed)
    pay.enqueue("B", 100)
    with pytest.raises(KeyConflict, match="cents 101 here, 100 there") as conflict:
        pay.enqueue_many([("A", 1), ("B", 101), ("C", 1)])
    assert str(conflict.value).startswith("row 2 (cents=101, invoice='B'): pay: key 'pay:B'")
    assert str(conflict.value).endswith("; nothing was enqueued")
    assert armed.counts() == {State.PENDING: 1}


def test_duplicates_in_a_batch_are_one_job(armed: SandboxOrchestrator) -> None:
    """Equal rows of a batch get the same call; the first handle alone is new."""
    handles = payment(armed).enqueue_many([("A",), ("A",), ("B",)])
    assert [h.is_new for h in handles] == [True, False, True]
    assert handles[0].id == handles[1].id
    assert armed.counts() == {State.PENDING: 2}


def test_contradicting_duplicates_enqueue_nothing(armed: SandboxOrchestrator) -> None:
    """One key with two meanings in a batch is an error, and nothing is queued."""
    told = r"^row 2 \(.*pay:A.*twice.*\(cents 2 here, 1 there\); nothing was enqueued$"
    with pytest.raises(KeyConflict, match=told):
        payment(armed).enqueue_many([("A", 1), ("A", 2)])
    assert armed.counts() == {}


def test_an_error_of_a_batch_names_the_row(armed: SandboxOrchestrator) -> None:
    """By number, with its arguments, be they ill-typed or no key can be made of them."""

    @armed.action("pay", key=lambda a: a["invoice"].split("-")[1], irreversible=True)
    def pay(invoice: str, cents: int) -> None: ...

    told = r"^row 2 \(invoice='INV-2', cents='1.5'\): .*Expected `int`.*; nothing was enqueued$"
    with pytest.raises(ConfigurationError, match=told):
        pay.enqueue_many([("INV-1", 100), ("INV-2", "1.5")])
    told = r"^row 2 \(cents=1, invoice='INV2'\): .*its key function failed"
    with pytest.raises(ConfigurationError, match=told):
        pay.enqueue_many([("INV-1", 100), ("INV2", 1)])
    told = r"^row 1 \(invoce='INV-1', .*has no parameter invoce; did you mean invoice\?"
    with pytest.raises(ConfigurationError, match=told):
        pay.enqueue_many([{"invoce": "INV-1", "cents": 1}, ("INV-2", 1)])
    assert armed.counts() == {}


def test_the_row_of_an_error_shows_no_secret(armed: SandboxOrchestrator) -> None:
    """Neither one by position nor one whose name is misspelled."""

    @armed.action("login", irreversible=False, secrets=["pin"])
    def login(user: str, pin: str = "") -> None: ...

    for bad in (("ann", "hunter2"), ("ann", "hunter2", "x"), {"user": "ann", "pni": "hunter2"}):
        with pytest.raises(ConfigurationError, match=r"^row 2") as wrong:
            login.enqueue_many([("bob",), bad])
        assert "hunter2" not in str(wrong.value)


def test_an_empty_batch_is_nothing(locked: SandboxOrchestrator) -> None:
    """No rows, no jobs, and no complaint about the lock either."""
    assert payment(locked).enqueue_many([]) == []


def test_a_locked_sandbox_queues_nothing_irreversible(locked: SandboxOrchestrator) -> None:
    """Irreversible jobs outside a plan are refused while locked; reversible ones are not."""
    pay, remind = payment(locked), reminder(locked, str.upper)
    with pytest.raises(DryRunBlocked, match="rehearse"):
        pay.enqueue("A")
    handle = remind.enqueue("hello")
    drain(locked)
    assert (handle.result(0), locked.counts()) == ("HELLO", {State.SUCCEEDED: 1})


def test_a_secret_cannot_wait_in_the_ledger(armed: SandboxOrchestrator) -> None:
    """A secret argument is refused at enqueue, and the error does not show it."""

    @armed.action("login", irreversible=False)
    def login(user: str, password: str) -> None: ...

    with pytest.raises(ConfigurationError, match="secret") as caught:
        login.enqueue("ann", "hunter2")
    assert "hunter2" not in str(caught.value)
    assert armed.counts() == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [("priority", "high"), ("priority", True), ("after", 7), ("queue", " "), ("queue", 3)],
)
def test_a_senseless_option_is_refused(
    armed: SandboxOrchestrator, option: str, value: object
) -> None:
    """priority is a whole number, after a handle or an id, queue a name."""
    with pytest.raises(ConfigurationError, match=option):
        payment(armed).enqueue("A", **{option: value})
    assert armed.counts() == {}


def test_an_unknown_option_of_a_batch_is_refused(armed: SandboxOrchestrator) -> None:
    """A mistyped option is an error and not ignored."""
    with pytest.raises(ConfigurationError, match="prio"):
        payment(armed).enqueue_many([("A",)], prio=3)


@pytest.mark.parametrize("when", [float("nan"), float("inf"), float("-inf")])
def test_a_time_that_is_none_is_refused(armed: SandboxOrchestrator, when: float) -> None:
    """A job cannot wait for a time that does not exist."""
    with pytest.raises(ConfigurationError, match="time"):
        payment(armed).enqueue_at(when, "A")
    assert armed.counts() == {}


# order and time


def test_higher_priority_runs_first(armed: SandboxOrchestrator) -> None:
    """Due jobs run by falling priority, and in order of their arrival within one."""
    provider = Provider()
    pay = payment(armed, provider)
    for invoice, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
        pay.enqueue(invoice, priority=priority)
        armed.clock.sleep(0.001)
    drain(armed)
    assert provider.book == ["high", "first", "second", "low"]


def earliest(sandbox: SandboxOrchestrator) -> float:
    found = sandbox.store.read(lambda tx: tx.calls.next_run_at(["default"]))
    assert found is not None
    return found


def test_a_job_for_now_is_due_by_a_clock_that_is_a_little_behind(sandboxes: Sandboxes) -> None:
    """The clocks of a ledger's processes differ by milliseconds; nobody waits for them to pass."""
    sandbox = sandboxes()
    reminder(sandbox, print).enqueue("now")
    assert earliest(sandbox) <= sandboxes.clock.now() - 0.02


def test_a_planned_job_is_due_by_a_clock_that_is_a_little_behind(sandboxes: Sandboxes) -> None:
    """The same of what a plan queues when it is applied."""
    sandbox = sandboxes()
    pay = payment(sandbox)
    with sandbox.rehearse("march") as plan:
        pay("A-1")
    sandbox.approve(plan, **WHO)
    sandbox.apply(plan)
    assert earliest(sandbox) <= sandboxes.clock.now() - 0.02


@pytest.mark.parametrize("delay", [60, "1m", timedelta(minutes=1)])
def test_a_delayed_job_waits_its_time(sandboxes: Sandboxes, delay: Any) -> None:
    """A delayed job runs when its time has come and not before."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    handle = payment(sandbox).enqueue_in(delay, "A")
    sandboxes.clock.advance(59)
    assert drain(sandbox) == 0
    assert "in 1s" in story(handle)
    sandboxes.clock.advance(1)
    assert drain(sandbox) == 1


def test_a_job_can_wait_for_a_date(sandboxes: Sandboxes) -> None:
    """A date with a zone is a time; one without is refused."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox)
    soon = datetime.fromtimestamp(sandboxes.clock.now() + 5, UTC)
    pay.enqueue_at(soon, "A")
    with pytest.raises(ConfigurationError, match="time zone"):
        pay.enqueue_at(soon.replace(tzinfo=None), "B")
    assert drain(sandbox) == 0
    sandboxes.clock.advance(5)
    assert drain(sandbox) == 1


def test_a_worker_takes_from_its_queues_only(sandboxes: Sandboxes) -> None:
    """Jobs of another queue are left to its workers."""
    provider, sandbox = Provider(), sandboxes(queues="default, slow")
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider)
    pay.enqueue("A", priority=1)
    pay.enqueue("B", queue="slow")
    left = pay.enqueue("C", queue="elsewhere")
    assert drain(sandbox) == 2
    assert (provider.book, left.state()) == (["A", "B"], State.PENDING)


# the handle


def test_a_result_that_does_not_come_in_time(armed: SandboxOrchestrator) -> None:
    """Waiting for a result ends with the time-out, and says where the call is."""
    with pytest.raises(TimeoutError, match="still pending"):
        payment(armed).enqueue("A").result(0)


@pytest.mark.parametrize(
    ("step", "error", "happened"),
    [
        (NotApplied("closed"), EffectFailed, "no"),
        (Rejected("no such account"), EffectRejected, "no"),
        (TimeoutError("read timeout"), OutcomeUnknown, "maybe"),
    ],
)
def test_a_result_says_what_happened(
    armed: SandboxOrchestrator, step: Exception, error: type[Exception], happened: str
) -> None:
    """The handle raises by what is known of the effect."""
    provider = Provider()
    provider.script = [step]
    handle = payment(armed, provider, retry=NEVER_AGAIN).enqueue("A")
    drain(armed)
    with pytest.raises(error, match="pay:A") as caught:
        handle.result(0)
    assert caught.value.happened == happened  # type: ignore[attr-defined]  # all are gonogo's
    assert type(caught.value) is error


def test_a_result_that_was_not_kept(armed: SandboxOrchestrator) -> None:
    """A result without a JSON form does not undo the success: it happened, and is not there."""
    provider = Provider()
    provider.script = [object()]
    handle = payment(armed, provider).enqueue("A")
    drain(armed)
    assert handle.state() is State.SUCCEEDED
    with pytest.raises(ResultUnavailable, match="not kept"):
        handle.result(0)


def test_a_waiting_job_can_be_cancelled(armed: SandboxOrchestrator) -> None:
    """A cancelled job never runs, frees its key, says by whom and why, and ends only once."""
    provider = Provider()
    pay = payment(armed, provider)
    handle = pay.enqueue("A")
    assert handle.cancel(by="ann", reason="paid by hand")
    assert not handle.cancel()
    assert drain(armed) == 0
    with pytest.raises(Refused, match="ann: paid by hand"):
        handle.result(0)
    assert "cancelled by ann: paid by hand" in story(handle)
    assert pay.enqueue("A").is_new


def test_a_job_that_was_sent_cannot_be_cancelled(armed: SandboxOrchestrator) -> None:
    """Once the effect may have left it is too late to cancel."""
    provider = Provider()
    pay = payment(armed, provider)
    answers = []
    provider.script = [lambda invoice: answers.append(handle.cancel())]
    handle = pay.enqueue("A")
    drain(armed)
    assert answers == [False]
    assert handle.state() is State.SUCCEEDED


def test_cancelling_needs_who_and_why(armed: SandboxOrchestrator) -> None:
    """Nobody cancels anonymously."""
    handle = payment(armed).enqueue("A")
    with pytest.raises(ConfigurationError, match="who"):
        handle.cancel(by=" ", reason="x")
    assert handle.state() is State.PENDING


def test_cancelling_a_retry_does_not_deny_what_may_have_happened(
    armed: SandboxOrchestrator,
) -> None:
    """An earlier attempt without proof keeps the key and the units: the call is unknown."""
    armed.governor.set_limit("budget", 10)
    provider = Provider()
    provider.script = [TimeoutError("no answer")]
    pay = payment(armed, provider, repeatable=True, limits=[_budget()])
    handle = pay.enqueue("A")
    drain(armed)
    assert handle.state() is State.PENDING
    assert handle.cancel(by="ann", reason="enough")
    with pytest.raises(OutcomeUnknown, match="an earlier attempt may have happened"):
        handle.result(0)
    assert (handle.state(), handle.call().held) == (State.UNKNOWN, True)
    assert "did not happen" not in handle.explain()[-2]
    assert armed.governor.get_status("budget")["current_actions"] == 1


def _budget() -> Any:
    from gonogo.limits import Limit

    return Limit("budget", 10, per="1h")


def test_a_handle_can_be_had_again(armed: SandboxOrchestrator) -> None:
    """A call is found by its id; one that is not there is an error that says so."""
    handle = payment(armed).enqueue("A")
    assert armed.handle(handle.id).state() is State.PENDING
    with pytest.raises(ConfigurationError, match="no call 'nowhere'"):
        armed.handle("nowhere")
    with pytest.raises(ConfigurationError, match="no call 'nowhere'"):
        armed.explain("nowhere")


# after=


def test_a_job_waits_for_another(armed: SandboxOrchestrator) -> None:
    """A dependent job runs when the first has succeeded, however urgent it is."""
    provider = Provider()
    pay = payment(armed, provider)
    first = pay.enqueue("A")
    second = pay.enqueue("B", after=first, priority=9)
    assert f"waits until call {first.id}" in story(second).replace("Waits", "waits")
    assert drain(armed) == 2
    assert provider.book == ["A", "B"]


def test_a_job_after_a_finished_one_is_free_at_once(armed: SandboxOrchestrator) -> None:
    """A dependency that succeeded already holds nothing back."""
    pay = payment(armed)
    first = pay.enqueue("A")
    drain(armed)
    second = pay.enqueue("B", after=first.id)
    assert drain(armed) == 1
    assert second.state() is State.SUCCEEDED


def test_a_dependency_does_not_shorten_a_delay(sandboxes: Sandboxes) -> None:
    """A job with both waits for the later of the two."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox)
    first = pay.enqueue("A")
    second = pay.enqueue_in(60, "B", after=first)
    assert drain(sandbox) == 1
    sandboxes.clock.advance(59)
    assert drain(sandbox) == 0
    sandboxes.clock.advance(1)
    assert drain(sandbox) == 1
    assert second.state() is State.SUCCEEDED


def test_a_failure_cancels_what_waits_for_it_and_so_on(armed: SandboxOrchestrator) -> None:
    """When a call ends without success its dependants are cancelled, transitively, with the why."""
    provider = Provider()
    provider.script = [Rejected("no such account")]
    pay = payment(armed, provider)
    first = pay.enqueue("A")
    second = pay.enqueue("B", after=first)
    third = pay.enqueue("C", after=second)
    drain(armed)
    assert [h.state() for h in (first, second, third)] == [
        State.FAILED,
        State.CANCELLED,
        State.CANCELLED,
    ]
    assert first.id in story(second)
    assert pay.enqueue("B").is_new


def test_a_cancelled_job_cancels_what_waits_for_it(armed: SandboxOrchestrator) -> None:
    """Cancelling counts as ending without success."""
    pay = payment(armed)
    first = pay.enqueue("A")
    second = pay.enqueue("B", after=first)
    first.cancel()
    assert second.state() is State.CANCELLED


def test_an_unknown_outcome_frees_and_cancels_nobody(armed: SandboxOrchestrator) -> None:
    """Dependants wait while it is not known, and follow what is found out."""
    provider = Provider()
    provider.script = [TimeoutError("no answer"), TimeoutError("no answer")]
    pay = payment(armed, provider)
    first, other = pay.enqueue("A"), pay.enqueue("B")
    after_first, after_other = pay.enqueue("C", after=first), pay.enqueue("D", after=other)
    drain(armed)
    assert [h.state() for h in (after_first, after_other)] == [State.PENDING] * 2
    armed.resolve(first, "landed", result="ok", **WHO)
    armed.resolve(other, "absent", **WHO)
    drain(armed)
    assert (after_first.state(), after_other.state()) == (State.SUCCEEDED, State.CANCELLED)


def test_waiting_for_what_failed_or_is_not_there(armed: SandboxOrchestrator) -> None:
    """A dependency that ended badly or does not exist is refused at once."""
    provider = Provider()
    provider.script = [Rejected("no")]
    pay = payment(armed, provider)
    first = pay.enqueue("A")
    drain(armed)
    with pytest.raises(Refused, match="ended as failed"):
        pay.enqueue("B", after=first)
    with pytest.raises(ConfigurationError, match="does not exist"):
        pay.enqueue("B", after="nowhere")
    assert armed.counts() == {State.FAILED: 1}


# approval of a single call


def test_a_call_that_needs_approval_waits_for_it(locked: SandboxOrchestrator) -> None:
    """It can be queued while locked, waits, and runs after a recorded yes without arming."""
    provider = Provider()
    handle = payment(locked, provider, needs_approval=True).enqueue("A")
    assert drain(locked) == 0
    assert handle.state() is State.PLANNED
    locked.approve(handle, **WHO)
    assert drain(locked) == 1
    assert provider.book == ["A"]
    assert "approved by ann@example.com: checked the books" in story(handle)


def test_an_approval_is_given_once_and_signed(locked: SandboxOrchestrator) -> None:
    """Approving needs who and why, and only a call that waits for it."""
    handle = payment(locked, needs_approval=True).enqueue("A")
    with pytest.raises(ConfigurationError, match="who"):
        locked.approve(handle, by="", reason="x")
    locked.approve(handle.id, **WHO)
    with pytest.raises(Refused, match="is pending"):
        locked.approve(handle, **WHO)


def test_an_approved_call_still_waits_for_its_dependency(armed: SandboxOrchestrator) -> None:
    """Approval and dependency are both needed, in any order."""
    provider = Provider()
    pay = payment(armed, provider)
    careful = payment(armed, provider, name="careful", needs_approval=True)
    first = pay.enqueue("A")
    early, late = careful.enqueue("B", after=first), careful.enqueue("C", after=first)
    armed.approve(early, **WHO)
    drain(armed)
    armed.approve(late, **WHO)
    drain(armed)
    assert provider.book == ["A", "B", "C"]


def test_a_call_whose_dependency_failed_is_not_approved(armed: SandboxOrchestrator) -> None:
    """What can never run is not approved; it can be cancelled."""
    provider = Provider()
    provider.script = [Rejected("no")]
    first = payment(armed, provider).enqueue("A")
    careful = payment(armed, provider, name="careful", needs_approval=True)
    waiting = careful.enqueue("B", after=first)
    drain(armed)
    with pytest.raises(Refused, match="ended as failed"):
        armed.approve(waiting, **WHO)
    assert waiting.cancel()
    assert waiting.state() is State.DISCARDED


def test_the_world_may_change_while_a_call_waits_for_its_approval(
    locked: SandboxOrchestrator,
) -> None:
    """Facts that differ from those at the request stop the approved call, named by field."""
    balance = {"balance": 100}
    pay = payment(locked, needs_approval=True)
    pay.precondition(lambda invoice, cents=100: dict(balance))
    handle = pay.enqueue("A")
    balance["balance"] = 80
    locked.approve(handle, **WHO)
    drain(locked)
    with pytest.raises(EffectFailed, match="balance 100 → 80"):
        handle.result(0)


def test_a_dependant_in_a_batch_waits_too(armed: SandboxOrchestrator) -> None:
    """Every row of a batch waits for what the batch waits for."""
    provider = Provider()
    pay = payment(armed, provider)
    first = pay.enqueue("A", priority=-1)
    followers = pay.enqueue_many([("B",), ("C",)], after=first, priority=9)
    assert all("no time brings it on" in story(handle) for handle in followers)
    drain(armed)
    assert provider.book == ["A", "B", "C"]


def test_a_call_of_a_plan_is_not_cancelled_alone(locked: SandboxOrchestrator) -> None:
    """What was rehearsed is applied as a whole or discarded; no call is taken out of it."""
    pay = payment(locked)
    with locked.rehearse("payday") as plan:
        pay("A")
        pay("B")
    with pytest.raises(Refused, match="discard the plan"):
        locked.handle(plan.calls[0].id).cancel()
    locked.approve(plan, by="ann", reason="a test")
    assert len(locked.apply(plan)) == 2
