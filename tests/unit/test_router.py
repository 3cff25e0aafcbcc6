"""The fork in the road: performed outside a rehearsal, recorded inside, never both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.scene import SOON, Provider, payment, reminder

from gonogo.action import Action
from gonogo.errors import ConfigurationError, DryRunBlocked
from gonogo.orchestrator import SandboxOrchestrator

Way = Callable[[Action[..., Any]], object]

WAYS: list[Way] = [
    lambda pay: pay("A"),
    lambda pay: pay.call("A"),
    lambda pay: asyncio.run(_acall(pay)),
    lambda pay: pay.enqueue("A"),
    lambda pay: pay.enqueue_in(5, "A"),
    lambda pay: pay.enqueue_many([("A",)]),
]


async def _acall(pay: Action[..., Any]) -> object:
    return await pay.acall("A")


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_is_recorded(armed: SandboxOrchestrator, way: Way) -> None:
    """Even in an armed sandbox no way of asking performs or queues anything in a rehearsal."""
    provider = Provider()
    pay = payment(armed, provider)
    with armed.rehearse("r") as plan:
        way(pay)
    assert [call.key for call in plan.calls] == ["pay:A"]
    assert (provider.book, armed.worker.run_once()) == ([], False)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_is_refused_to_strangers(armed: SandboxOrchestrator, way: Way) -> None:
    """A thread that did not inherit the rehearsal can neither perform nor queue meanwhile."""
    provider, errors = Provider(), []
    pay = payment(armed, provider)

    def stranger() -> None:
        try:
            way(pay)
        except DryRunBlocked as error:
            errors.append(error)

    with armed.rehearse("r") as plan:
        thread = threading.Thread(target=stranger)
        thread.start()
        thread.join(SOON)
    assert (len(errors), plan.calls, provider.book, armed.calls(states=("pending",))) == (
        1,
        [],
        [],
        [],
    )


def test_strangers_may_do_what_is_reversible(armed: SandboxOrchestrator) -> None:
    """Reversible work of other threads goes on."""
    said: list[str] = []
    remind = reminder(armed, said.append)
    with armed.rehearse("r"):
        thread = threading.Thread(target=remind, args=("hello",))
        thread.start()
        thread.join(SOON)
    assert said == ["hello"]


def test_a_mistake_is_an_error_in_a_rehearsal_too(armed: SandboxOrchestrator) -> None:
    """Arguments are checked as they are live, and a wrong call is not part of the plan."""
    pay = payment(armed)
    with armed.rehearse("r") as plan:
        with pytest.raises(ConfigurationError):
            pay("A", "not a number")
        with pytest.raises(ConfigurationError):
            pay.enqueue()
        with pytest.raises(ConfigurationError):
            pay.enqueue("A", priority="high")
    assert plan.calls == []


def test_two_sandboxes_rehearse_apart() -> None:
    """A rehearsal of one records nothing of the other."""
    first, second = SandboxOrchestrator(), SandboxOrchestrator()
    provider = Provider()
    second.arm(by="ann", reason="a test")
    other = payment(second, provider)
    with first.rehearse("r") as plan:
        other("A")
    assert (plan.calls, provider.book) == ([], ["A"])
    first.cleanup()
    second.cleanup()
