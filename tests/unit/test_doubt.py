"""Doubt: what counts as proof that nothing happened, and whose doubt holds up whose."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.scene import WHO, Provider, Sandboxes, drain, payment

from gonogo.action import CallView
from gonogo.errors import OutcomeUnknown, Refused
from gonogo.evidence import Evidence, absent, landed
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
