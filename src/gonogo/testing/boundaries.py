"""Making the boundaries of one sandbox known, by wrapping its objects and nobody else's."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gonogo.action import Action
from gonogo.boundaries import Boundary, Step, after, before, inside
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.store.fates import Fate, Piece
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
        self._store_write_all = sandbox.store.write_all
        sandbox.store.write = self._write  # type: ignore[method-assign]  # of this one object
        sandbox.store.write_all = self._write_all  # type: ignore[method-assign]  # same

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
            outer, outermost = self._begun()
            self._thread.begun = (written(step, *args), outer)
            try:
                return fn(*args, **kwargs)
            finally:
                self._thread.begun = outer, outermost

        setattr(owner, name, begun)

    def _write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        step_of, outer = self._begun()
        if step_of is None:
            return self._store_write(work, durable=durable)
        self._thread.begun = None, outer  # what observers write meanwhile is not of the step
        steps: list[Step] = []
        result = self._store_write(self._watched(work, step_of, steps), durable=durable)
        if steps:
            self._reach(after(steps[0]))
        else:
            self._thread.begun = step_of, outer
        return result

    def _write_all(self, pieces: Sequence[Piece]) -> list[Fate]:
        """A step within another one, and both in one commit: the outer one's piece comes first."""
        inner, outer = self._begun()
        self._thread.begun = None, None
        steps: list[Step] = []
        fates = self._store_write_all(
            [
                (work if step_of is None else self._watched(work, step_of, steps), durable)
                for (work, durable), step_of in zip(pieces, (outer, inner), strict=True)
            ]
        )
        for step in steps:
            self._reach(after(step))
        return fates

    def _begun(self) -> tuple[Written | None, Written | None]:
        """What the calling thread is about to write, and the step around that one."""
        found: tuple[Written | None, Written | None] = getattr(self._thread, "begun", (None, None))
        return found

    def _watched(
        self, work: Callable[[Transaction], T], step_of: Written, steps: list[Step]
    ) -> Callable[[Transaction], T]:
        """``work`` that reaches the inside of its step, and adds the step where it wrote."""
        mine: list[Step] = []

        def watched(tx: Transaction) -> T:
            for step in mine:
                steps.remove(step)
            mine.clear()
            result = work(tx)
            if _writes(result):
                mine.append(step_of(tx))
                steps.append(mine[0])
                self._reach(inside(mine[0]))
            return result

        return watched


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
