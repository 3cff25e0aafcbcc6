"""Doubt: what counts as proof that nothing happened, and whose doubt holds up whose."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.scene import WHO, Provider, Sandboxes, drain, payment, story

from gonogo.action import CallView
from gonogo.backoff import Retry
from gonogo.errors import OutcomeUnknown, Refused, StoreUnavailable
from gonogo.evidence import Evidence, absent, cannot_tell, landed
from gonogo.handle import Handle
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State


def test_absent_is_as_old_as_the_question(sandboxes: Sandboxes) -> None:
    """A slow verifier looked before ``verify_after`` was over; the effect can have come since."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError("no answer")]
    pay = payment(sandbox, provider, verify_after=10.0)

    @pay.verify
    def _(call: CallView) -> Evidence:
        seen = list(provider.book)
        sandboxes.clock.advance(15)
        return landed() if seen else absent()

    with pytest.raises(OutcomeUnknown):
        pay("A")
    with pytest.raises(OutcomeUnknown):
        pay("A")
    assert provider.book == []
    assert pay("A") == "paid A"  # asked 15 seconds after it became unknown


def test_a_function_that_still_runs_is_not_absent(sandboxes: Sandboxes) -> None:
    """Beyond its time-out it may have its effect yet, so patience begins when it was last seen."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    clock = sandboxes.clock
    states = set()

    def hang(invoice: str) -> str:
        clock.advance(31)
        sandbox.delivery.overtime()
        for _ in range(9):
            clock.advance(5)
            sandbox.delivery.keep()
            sandbox.recovery.run_once()
            states.add(handle.state())
        provider.book.append(invoice)
        raise TimeoutError("still no answer")

    provider.script = [hang]
    pay = payment(sandbox, provider, timeout=30.0, verify_after=10.0)
    pay.verify(lambda call: landed() if provider.book else absent())
    handle = pay.enqueue("A")
    drain(sandbox)
    assert states == {State.UNKNOWN}
    clock.advance(60)
    sandbox.recovery.run_once()
    assert (handle.state(), provider.book) == (State.SUCCEEDED, ["A"])


def test_once_it_ended_its_absence_can_be_believed(sandboxes: Sandboxes) -> None:
    """The keeper stops moving the time when the function is over."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)

    def hang(invoice: str) -> str:
        sandboxes.clock.advance(31)
        sandbox.delivery.overtime()
        raise TimeoutError("no answer")

    provider.script = [hang]
    pay = payment(sandbox, provider, timeout=30.0, verify_after=10.0)
    pay.verify(lambda call: absent())
    handle = pay.enqueue("A")
    drain(sandbox)
    sandboxes.clock.advance(10)
    sandbox.delivery.keep()
    sandbox.recovery.run_once()
    assert handle.state() is State.PENDING


def test_an_answer_that_cannot_be_acted_on_holds_up_nobody(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look that fails is told and left; the others of its round are settled."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError(), TimeoutError()]
    pay = payment(sandbox, provider, verify_after=0.0)
    pay.verify(lambda call: landed(call.arguments["invoice"]))
    handles = [pay.enqueue(invoice) for invoice in "AB"]
    drain(sandbox)
    act = sandbox.recovery._doubts._act

    def fails(look: Any) -> Any:
        if look.call.id == handles[0].id:
            raise ValueError("a defect")
        return act(look)

    monkeypatch.setattr(sandbox.recovery._doubts, "_act", fails)
    for _ in range(100):
        sandbox.recovery.step()
        if not sandbox.recovery.looking:
            break
    assert [h.state() for h in handles] == [State.UNKNOWN, State.SUCCEEDED]


def test_a_call_with_a_secret_is_not_handed_to_a_worker(armed: SandboxOrchestrator) -> None:
    """The ledger has no secrets: its caller can make it again, nobody else."""
    made = []

    @armed.action("login", irreversible=True, key="login:{user}")
    def login(user: str, token: str = "default") -> None:
        made.append(token)
        raise TimeoutError

    with pytest.raises(OutcomeUnknown):
        login("ann", token="hunter2")
    (call,) = armed.calls(action="login")
    with pytest.raises(Refused, match="secret"):
        armed.resolve(call.id, "retry", **WHO)
    armed.resolve(call.id, "absent", **WHO)
    with pytest.raises(OutcomeUnknown):
        login("ann", token="hunter2")
    assert made == ["hunter2", "hunter2"]


def test_changed_arguments_are_not_performed(sandboxes: Sandboxes) -> None:
    """What runs is what was asked for and approved, or nothing."""
    sandbox, provider = sandboxes(), Provider()
    pay = payment(sandbox, provider)
    with sandbox.rehearse("payday") as plan:
        pay.enqueue("A", cents=1)
    sandbox.approve(plan, **WHO)
    (handle,) = sandbox.apply(plan)
    _edit(sandbox, handle)
    drain(sandbox)
    assert (handle.state(), provider.book) == (State.FAILED, [])


def _edit(sandbox: SandboxOrchestrator, handle: Handle) -> None:
    """Change its row behind gonogo's back."""
    from msgspec import structs

    call = handle.call()
    args = call.args.replace('"A"', '"B"')
    sandbox.store.write(lambda tx: tx.calls.replace(call, structs.replace(call, args=args)))


def alerts_of(sandbox: SandboxOrchestrator) -> list[tuple[str, str, int]]:
    open_ones = [a for a in sandbox.alert_system.alerts if a["state"] != "resolved"]
    return sorted((a["severity"], a["reason"], a["count"]) for a in open_ones)


@pytest.mark.parametrize("queued", [True, False])
def test_what_is_absent_for_good_is_an_alert(sandboxes: Sandboxes, queued: bool) -> None:
    """It failed without its effect, as where an attempt says so; why it is not tried again stands
    in the note."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError("no answer")]
    pay = payment(sandbox, provider, verify_after=10.0, retry=Retry(max_retries=0))
    pay.verify(lambda call: absent("not on the statement"))
    if queued:
        pay.enqueue("A")
        drain(sandbox)
    else:
        with pytest.raises(OutcomeUnknown):
            pay("A")
    assert alerts_of(sandbox) == [("critical", "outcome unknown: it may have happened", 1)]
    sandboxes.clock.advance(11)
    assert sandbox.recovery.run_once() == 1
    assert alerts_of(sandbox) == [("error", "failed: it did not happen", 1)]
    (call,) = sandbox.calls(states=(State.FAILED,))
    why = "its one try is used up" if queued else "a direct call is not made again by itself"
    assert call.note == f"absent, says verify of pay: not on the statement; {why}"


def test_a_person_who_says_absent_needs_no_alert(sandboxes: Sandboxes) -> None:
    """Who decided it knows."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError("no answer")]
    handle = payment(sandbox, provider).enqueue("A")
    drain(sandbox)
    sandbox.resolve(handle, "absent", **WHO)
    assert alerts_of(sandbox) == []


def test_the_last_doubt_of_an_action_closes_its_alert(sandboxes: Sandboxes) -> None:
    """While another call of it is in doubt the alert stays; who closed it is on record."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError("no answer")] * 3
    pay, other = payment(sandbox, provider), payment(sandbox, provider, "other")
    handles = [pay.enqueue("A"), pay.enqueue("B")]
    other.enqueue("C")
    drain(sandbox)
    doubts = ("critical", "outcome unknown: it may have happened")
    assert alerts_of(sandbox) == [(*doubts, 1), (*doubts, 2)]
    sandbox.resolve(handles[0], "landed", **WHO)
    assert alerts_of(sandbox) == [(*doubts, 1), (*doubts, 2)]
    sandbox.resolve(handles[1], "landed", **WHO)
    assert alerts_of(sandbox) == [(*doubts, 1)]
    closed = next(d for d in sandbox.decisions() if d.what == "alert.resolved")
    assert (closed.actor, closed.detail["task"]) == ("gonogo", "pay")


def test_an_alert_that_cannot_be_closed_breaks_nothing(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided about the call stands all the same."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError("no answer")]
    handle = payment(sandbox, provider).enqueue("A")
    drain(sandbox)

    def broken(*args: object, **named: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(sandbox.alert_system, "close", broken)
    assert sandbox.resolve(handle, "landed", **WHO).state is State.SUCCEEDED


@pytest.mark.parametrize("answer", [KeyError("status"), None])
def test_a_verifier_that_does_not_work_is_one_alert(
    sandboxes: Sandboxes, answer: Exception | None
) -> None:
    """Its calls would stay in doubt for ever, and nobody would know why."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError("no answer")] * 2
    pay = payment(sandbox, provider, verify_after=10.0)

    @pay.verify
    def _(call: CallView) -> Any:
        if answer is not None:
            raise answer

    pay.enqueue("A")
    pay.enqueue("B")
    drain(sandbox)
    sandboxes.clock.advance(11)
    assert sandbox.recovery.run_once() == 0
    broken = ("error", "the verifier does not work: it gives no evidence", 2)
    assert broken in alerts_of(sandbox)
    assert len(sandbox.calls(states=(State.UNKNOWN,))) == 2


def test_a_verifier_that_cannot_tell_works(sandboxes: Sandboxes) -> None:
    """Having no evidence yet is an answer, and no alert of its own."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError("no answer")]
    pay = payment(sandbox, provider, verify_after=10.0)
    pay.verify(lambda call: cannot_tell("the statement is not out yet"))
    pay.enqueue("A")
    drain(sandbox)
    sandboxes.clock.advance(11)
    sandbox.recovery.run_once()
    assert [reason for _, reason, _ in alerts_of(sandbox)] == [
        "outcome unknown: it may have happened"
    ]


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (landed("found INV-A 100"), "the provider has it: found INV-A 100"),
        (landed({"id": 7}, "on the statement"), "on the statement"),
        (landed(), "the provider has it"),
    ],
)
def test_what_a_verifier_found_is_told(sandboxes: Sandboxes, evidence: Evidence, told: str) -> None:
    """The story of the call has it, and not only that there was something."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [TimeoutError("no answer")]
    pay = payment(sandbox, provider, verify_after=10.0)
    pay.verify(lambda call: evidence)
    handle = pay.enqueue("A")
    drain(sandbox)
    sandboxes.clock.advance(11)
    sandbox.recovery.run_once()
    assert f"resolved as landed by verify of pay: {told}." in story(handle)
