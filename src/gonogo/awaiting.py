"""Carrying out a direct call in an event loop: never blocks it, and never leaves a step half done.

Transactions of a database and what waits for user code (a precondition, a verifier) run in a
helper thread. A task that is cancelled meanwhile sees the step to its end before it stops, so that
what was admitted and will not be performed is withdrawn instead of being left in doubt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from gonogo.action import Action
from gonogo.arguments import Bound
from gonogo.conversation import Conversation, Course, Perform, Receipt, Sleep
from gonogo.performed import Performed

if TYPE_CHECKING:
    from gonogo.pipeline import Pipeline

T = TypeVar("T")
Step = Perform | Sleep | Receipt


async def carry_out(pipeline: Pipeline, action: Action[Any, Any], bound: Bound) -> Receipt:
    """Perform ``action`` as a direct call, awaiting its function in this loop."""
    course = Conversation(pipeline, action, bound).run()
    threaded = pipeline.store.shared or bool(action.verifier or action.reader)
    take = _in_thread if threaded else _here
    answer: Performed | None = None
    while True:
        stopped = answer is not None and _stops(answer.error)
        # What was stopped once may be stopped again: it settles at once, in this thread.
        step = await (_here if stopped else take)(course, answer)
        answer = None
        if isinstance(step, Receipt):
            return step
        if isinstance(step, Perform):
            answer = await pipeline.performer.arun(action, step.call, bound)
        else:
            try:
                await pipeline.clock.asleep(step.seconds)
            except BaseException as error:
                await _withdraw(course, error)
                raise


def _stops(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, Exception)


def _send(course: Course, answer: Performed | None) -> Step:
    try:
        return course.send(answer)
    except StopIteration as stop:
        receipt: Receipt = stop.value
        return receipt


async def _withdraw(course: Course, error: BaseException) -> None:
    """Tell the conversation that its caller was stopped; it withdraws the call."""
    await _to_the_end(lambda: course.throw(error))


async def _here(course: Course, answer: Performed | None) -> Step:
    return _send(course, answer)


async def _in_thread(course: Course, answer: Performed | None) -> Step:
    step, raised, stopped = await _to_the_end(lambda: _send(course, answer))
    if stopped is not None:
        if not isinstance(step, Receipt) and raised is None:
            await _withdraw(course, stopped)
        raise stopped
    if raised is not None:
        raise raised
    assert step is not None  # noqa: S101 - what did not raise returned
    return step


async def _to_the_end(
    fn: Callable[[], T],
) -> tuple[T | None, BaseException | None, asyncio.CancelledError | None]:
    """Run ``fn`` in a thread: its result, what it raised, and whether we were cancelled."""
    running = asyncio.ensure_future(asyncio.to_thread(_caught, fn))
    stopped: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError as error:
            stopped = error
    result, raised = running.result()
    return result, raised, stopped


def _caught(fn: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return fn(), None
    except BaseException as error:  # noqa: BLE001 - raised again by the task that waits
        return None, error
