"""What code inside an action knows about its attempt."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.sandboxes import only

from gonogo.clock import FakeClock
from gonogo.context import Context, current, running
from gonogo.errors import ConfigurationError
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.signals import NotApplied


def test_the_context_tells_of_the_attempt(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """Id, action, key, attempt from 1, correlation id, logger, and the time that is left."""
    seen: list[Context] = []
    left: list[float | None] = []

    @sandbox.action("pay", key="{invoice}", irreversible=True, timeout=30)
    def pay(invoice: str) -> None:
        context = current()
        seen.append(context)
        left.append(context.remaining())
        fake_clock.advance(40.0)
        left.append(context.remaining())
        if len(seen) == 1:
            raise NotApplied

    pay("A")
    call = only(sandbox)
    assert [c.attempt for c in seen] == [1, 2]
    assert {(c.id, c.action, c.key, c.correlation_id) for c in seen} == {
        (call.id, "pay", "A", call.id)
    }
    assert left == [30.0, 0.0, 30.0, 0.0]
    assert seen[0].log is sandbox.logger


def test_without_a_time_out_time_is_not_limited(sandbox: SandboxOrchestrator) -> None:
    """``remaining`` is `None` then."""
    look = sandbox.action("look", irreversible=False, timeout=None)(lambda: current().remaining())
    assert look() is None


def test_outside_an_action_there_is_none(sandbox: SandboxOrchestrator) -> None:
    """`current` is an error outside, before and after."""
    assert sandbox.action("look", irreversible=False)(running)() is True
    assert running() is False
    with pytest.raises(ConfigurationError, match="outside an action"):
        current()


@pytest.mark.parametrize("cost", [-1, 1.5, True, "7", None])
def test_costs_are_whole_units(sandbox: SandboxOrchestrator, cost: Any) -> None:
    """What cannot be counted is refused where it is said."""
    said = []

    def spend() -> None:
        with pytest.raises(ConfigurationError, match="whole number") as caught:
            current().spend("units", cost)
        said.append(caught.value)

    sandbox.action("look", irreversible=False)(spend)()
    assert said[0].action == "look"
