"""The middle step: one attempt, whatever comes out of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gonogo.clock import FakeClock
from gonogo.context import current, running
from gonogo.logs import get_correlation_id
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.perform import Performer
from gonogo.records import Call, State


@pytest.fixture
def performer(fake_clock: FakeClock) -> Performer:
    return SandboxOrchestrator(clock=fake_clock).pipeline.performer


def attempt(performer: Performer, fn: Any) -> Any:
    """What the performer says of one attempt of ``fn``."""
    sandbox = SandboxOrchestrator()
    action = sandbox.action("act", irreversible=False)(fn)
    call = Call(id="1", action="act", state=State.DISPATCHED, created_at=0, correlation_id="c-7")
    return performer.run(action, call, action.parameters.bind((), {}))


@pytest.mark.parametrize(
    "error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration]
)
def test_nothing_escapes(performer: Performer, error: type[BaseException]) -> None:
    """Every exception is part of the answer, those that end programs too."""

    def act() -> None:
        raise error

    performed = attempt(performer, act)
    assert type(performed.error) is error
    assert performed.value is None


def test_the_scene_is_set_and_taken_down(performer: Performer) -> None:
    """Context and correlation id are there inside, and as before outside."""
    before = get_correlation_id()
    performed = attempt(performer, lambda: (current().id, get_correlation_id()))
    assert performed.value == ("1", "c-7")
    assert (running(), get_correlation_id()) == (False, before)


def test_what_was_spent_is_told(performer: Performer, fake_clock: FakeClock) -> None:
    """Actual costs and the time at which it ended."""

    def act() -> None:
        current().spend("units", 7)
        fake_clock.advance(3.0)

    performed = attempt(performer, act)
    assert (performed.spent, performed.ended_at) == ({"units": 7}, fake_clock.now())


def test_an_answer_is_not_printed(performer: Performer) -> None:
    """A value may be anything, secrets included."""
    assert "hunter2" not in repr(attempt(performer, lambda: "hunter2"))


def test_an_async_action_beside_a_running_loop(performer: Performer) -> None:
    """Asked from a thread whose loop runs, as a worker stepped in an async test, it still runs."""

    async def act() -> str:
        await asyncio.sleep(0)
        return current().id

    async def main() -> Any:
        return attempt(performer, act)

    assert asyncio.run(main()).value == "1"
    assert attempt(performer, act).value == "1"
