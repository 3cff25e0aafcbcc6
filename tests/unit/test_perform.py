"""The middle step: one attempt, whatever comes out of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from gonogo.backoff import Retry
from gonogo.clock import FakeClock
from gonogo.context import current, running
from gonogo.errors import ConfigurationError
from gonogo.logs import correlation, get_correlation_id
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.outcomes import classify
from gonogo.perform import Performer
from gonogo.records import Call, Outcome, State
from gonogo.signals import NotApplied


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
    with correlation("outside") as before:
        performed = attempt(performer, lambda: (current().id, get_correlation_id()))
        after = get_correlation_id()
    assert performed.value == ("1", "c-7")
    assert (running(), after) == (False, before)


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


def test_each_attempt_gets_the_arguments_as_they_were_given() -> None:
    """What an attempt, or a guard, changed in place does not reach the next one."""
    sandbox = SandboxOrchestrator(clock=FakeClock())
    seen = []

    @sandbox.action("act", irreversible=False, retry=Retry(max_retries=1))
    def act(items: list[int], token: str) -> None:
        seen.append((list(items), token))
        items.clear()
        if len(seen) == 1:
            raise NotApplied

    @act.precondition
    def _(items: list[int], token: str) -> bool:
        items.append(99)
        return True

    act([1, 2], token="tkn")
    assert seen == [([1, 2], "tkn"), ([1, 2], "tkn")]


@pytest.mark.parametrize("late", [False, True])
def test_an_attempt_whose_lease_is_over_is_not_begun(late: bool) -> None:
    """A process that was stopped after admit may have lost the call to another one meanwhile."""
    clock = FakeClock()
    sandbox = SandboxOrchestrator(clock=clock)
    begun = []
    act = sandbox.action("act", irreversible=False)(lambda: begun.append(1))
    call = Call(id="1", action="act", state=State.DISPATCHED, created_at=0, lease_until=clock.now())
    call = structs.replace(call, lease_until=clock.now() + (0.0 if late else 0.1))
    performed = sandbox.pipeline.performer.run(act, call, act.parameters.bind((), {}))
    assert (len(begun), type(performed.error)) == ((0, NotApplied) if late else (1, type(None)))


def test_work_that_is_still_to_be_done_is_no_result(performer: Performer) -> None:
    """A coroutine behind a plain decorator, or a generator, has not happened: nobody knows."""

    async def work() -> None:
        raise AssertionError("nobody awaits it")

    for unfinished in (lambda: work(), lambda: (_ for _ in "x")):
        performed = attempt(performer, unfinished)
        assert classify(performed.error) is Outcome.UNKNOWN
        assert "instead of its result" in str(performed.error)


def test_a_generator_is_not_an_action() -> None:
    """Calling one would do nothing and look like a success."""

    def act() -> Any:
        yield 1

    async def later() -> Any:
        yield 1

    for fn in (act, later):
        with pytest.raises(ConfigurationError, match="generator"):
            SandboxOrchestrator().action("act", irreversible=False)(fn)
