"""Making the boundaries of one sandbox known, by wrapping its objects and nobody else's."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from gonogo.action import Action
from gonogo.boundaries import Boundary, Step, after, before, inside
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.store.port import Transaction

T = TypeVar("T")
Reach = Callable[[Boundary], object]
Written = Callable[[Transaction], Step]


def instrument(sandbox: SandboxOrchestrator, reach: Reach) -> None:
    """Call ``reach`` at every boundary that this sandbox passes, in the thread that passes it.

    Declare the actions first. What ``reach`` raises is raised there: at ``inside-`` it rolls the
    step back, at ``after-`` it is an acknowledgement that got lost. There is no way back: the
    sandbox is one for a test.
    """
    steps = _Steps(sandbox, reach)
    doubts = sandbox.recovery._doubts
    for owner, name, step in (
        (sandbox.jobs, "enqueue", Step.ENQUEUE),
        (sandbox.jobs, "approve", Step.APPROVE),
        (sandbox.planner, "approve", Step.APPROVE),
        (sandbox.planner, "apply", Step.APPLY),
        (sandbox.scheduler, "_take", Step.TICK),
        (sandbox.delivery._claims, "take", Step.CLAIM),
        (sandbox.delivery._claims, "take_one", Step.CLAIM),
        (sandbox.pipeline, "admit", Step.ADMIT),
        (sandbox.delivery, "_release", Step.RELEASE),
        (sandbox.delivery, "keep", Step.KEEP),
        (sandbox.recovery, "recover", Step.RECOVER),
        (doubts, "_postpone", Step.LOOK),
        (doubts, "_settle", Step.RESOLVE),
        (doubts, "resolve", Step.RESOLVE),
    ):
        steps.wrap(owner, name, step)
    steps.wrap(sandbox.pipeline, "settle", Step.SETTLE, _settle_or_retry)
    _ends(sandbox.pipeline.performer, reach)
    for action in sandbox.actions.values():
        _mark(action, reach)


class _Steps:
    """Tells, of each write to the ledger, which step it belongs to."""

    def __init__(self, sandbox: SandboxOrchestrator, reach: Reach) -> None:
        self._reach = reach
        self._thread = threading.local()
        self._store_write = sandbox.store.write
        sandbox.store.write = self._write  # type: ignore[method-assign]  # of this one object

    def wrap(
        self,
        owner: Any,
        name: str,
        step: Step,
        written: Callable[..., Written] = lambda step, *_: lambda tx: step,
    ) -> None:
        """Let ``owner.name`` begin ``step``; its first write that writes something is the step."""
        fn = getattr(owner, name)

        @functools.wraps(fn)
        def begun(*args: Any, **kwargs: Any) -> Any:
            self._reach(before(step))
            outer = getattr(self._thread, "written", None)
            self._thread.written = written(step, *args)
            try:
                return fn(*args, **kwargs)
            finally:
                self._thread.written = outer

        setattr(owner, name, begun)

    def _write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        step_of: Written | None = getattr(self._thread, "written", None)
        if step_of is None:
            return self._store_write(work, durable=durable)
        self._thread.written = None  # what observers write meanwhile is not of the step
        steps: list[Step] = []

        def watched(tx: Transaction) -> T:
            steps.clear()
            result = work(tx)
            if _writes(result):
                steps.append(step_of(tx))
                self._reach(inside(steps[0]))
            return result

        result = self._store_write(watched, durable=durable)
        if steps:
            self._reach(after(steps[0]))
        else:
            self._thread.written = step_of
        return result


def _writes(result: object) -> bool:
    """Whether work that returns ``result`` wrote something; a claim may find nothing to claim."""
    return result is not None and result is not False and result != []


def _settle_or_retry(step: Step, action: Any, call: Any, performed: Any) -> Written:
    """A settlement that puts the call back is a step of its own: it will run again."""

    def written(tx: Transaction) -> Step:
        stands = tx.calls.get(call.id)
        return Step.RETRY if stands is not None and stands.state is State.PENDING else step

    return written


def _ends(performer: Any, reach: Reach) -> None:
    run, arun = performer.run, performer.arun

    @functools.wraps(run)
    def ran(*args: Any, **kwargs: Any) -> Any:
        performed = run(*args, **kwargs)
        reach(Boundary.PERFORMED)
        return performed

    @functools.wraps(arun)
    async def aran(*args: Any, **kwargs: Any) -> Any:
        performed = await arun(*args, **kwargs)
        reach(Boundary.PERFORMED)
        return performed

    performer.run, performer.arun = ran, aran


def _mark(action: Action[..., Any], reach: Reach) -> None:
    """Mark where the action's own code, and its verifier's, begins and ends."""
    action.fn = _between(action.fn, reach, Boundary.EFFECT_BEGINS, Boundary.EFFECT_HAPPENED)
    if action.verifier is not None:
        action.verifier = _between(
            action.verifier, reach, Boundary.VERIFIER_ASKED, Boundary.VERIFIER_ANSWERED
        )


def _between(fn: Any, reach: Reach, begins: Boundary, ended: Boundary) -> Any:
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def amarked(*args: Any, **kwargs: Any) -> Any:
            reach(begins)
            result = await fn(*args, **kwargs)
            reach(ended)
            return result

        return amarked

    @functools.wraps(fn)
    def marked(*args: Any, **kwargs: Any) -> Any:
        reach(begins)
        result = fn(*args, **kwargs)
        reach(ended)
        return result

    return marked
