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
from gonogo.writing import Writing

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
        (sandbox.delivery._claims, "take_one", Step.CLAIM),
        (sandbox.delivery._returns, "release", Step.RELEASE),
        (sandbox.delivery, "keep", Step.KEEP),
        (sandbox.recovery, "recover", Step.RECOVER),
        (doubts, "_postpone", Step.LOOK),
        (doubts, "_settle", Step.RESOLVE),
        (doubts, "resolve", Step.RESOLVE),
    ):
        steps.wrap(owner, name, step)
    claims, pipeline = sandbox.delivery._claims, sandbox.pipeline
    _wrap_writing(claims, "taking", Step.CLAIM, reach, _always(Step.CLAIM))
    _wrap_writing(pipeline, "admitting", Step.ADMIT, reach, _always(Step.ADMIT))
    _wrap_writing(pipeline, "settling", Step.SETTLE, reach, _settle_or_retry)
    _ends(pipeline.performer, reach)
    for action in sandbox.actions.values():
        _mark(action, reach)


class _Steps:
    """Tells, of each write to the ledger, which step it belongs to."""

    def __init__(self, sandbox: SandboxOrchestrator, reach: Reach) -> None:
        self._reach = reach
        self._thread = threading.local()
        self._store_write = sandbox.store.write
        sandbox.store.write = self._write  # type: ignore[method-assign]  # of this one object

    def wrap(self, owner: Any, name: str, step: Step) -> None:
        """Let ``owner.name`` begin ``step``; its first write that writes something is the step."""
        fn = getattr(owner, name)

        @functools.wraps(fn)
        def begun(*args: Any, **kwargs: Any) -> Any:
            self._reach(before(step))
            outer, self._thread.step = self._step, step
            try:
                return fn(*args, **kwargs)
            finally:
                self._thread.step = outer

        setattr(owner, name, begun)

    def _write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        step = self._step
        if step is None or isinstance(work, _Watched):
            return self._store_write(work, durable=durable)
        self._thread.step = None  # what observers write meanwhile is not of the step
        watched = _Watched(work, lambda tx: step, self._reach)
        result: T = self._store_write(watched, durable=durable)
        if watched.step is not None:
            self._reach(after(watched.step))
        else:
            self._thread.step = step
        return result

    @property
    def _step(self) -> Step | None:
        """What the calling thread is about to write."""
        return getattr(self._thread, "step", None)


class _Watched:
    """Work that reaches the inside of its step.

    Attributes:
        step: the step that it wrote, if it wrote one when it was last run.
    """

    def __init__(self, work: Callable[[Transaction], Any], step_of: Written, reach: Reach) -> None:
        self._work = work
        self._step_of = step_of
        self._reach = reach
        self.step: Step | None = None

    def __call__(self, tx: Transaction) -> Any:
        self.step = None
        result = self._work(tx)
        if _writes(result):
            self.step = self._step_of(tx)
            self._reach(inside(self.step))
        return result


def _wrap_writing(
    owner: Any, name: str, step: Step, reach: Reach, written: Callable[..., Written]
) -> None:
    """Let ``owner.name`` begin ``step``, which may share its commit; ``written`` is what it was."""
    fn = getattr(owner, name)

    @functools.wraps(fn)
    def begun(*args: Any, **kwargs: Any) -> Writing[Any]:
        step_of = written(*args, **kwargs)
        reach(before(step))
        writing = fn(*args, **kwargs)
        work, durable = next(writing)
        while True:
            watched = _Watched(work, step_of, reach)
            try:
                result = yield watched, durable
            except BaseException as error:  # noqa: BLE001 - it is the writing's to answer
                ask = functools.partial(writing.throw, error)
            else:
                if watched.step is not None:
                    reach(after(watched.step))
                ask = functools.partial(writing.send, result)
            try:
                work, durable = ask()
            except StopIteration as stop:
                return stop.value

    setattr(owner, name, begun)


def _writes(result: object) -> bool:
    """Whether work that returns ``result`` wrote something; a claim may find nothing to claim."""
    return result is not None and result is not False and result != []


def _always(step: Step) -> Callable[..., Written]:
    return lambda *args, **kwargs: lambda tx: step


def _settle_or_retry(action: Any, call: Any, performed: Any) -> Written:
    """A settlement that puts the call back is a step of its own: it will run again."""

    def written(tx: Transaction) -> Step:
        stands = tx.calls.get(call.id)
        put_back = stands is not None and stands.state is State.PENDING
        return Step.RETRY if put_back else Step.SETTLE

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
