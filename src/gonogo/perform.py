"""The middle step: the only place where an action's own code runs."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, Protocol

from gonogo.action import Action
from gonogo.arguments import Bound
from gonogo.clock import Clock
from gonogo.context import Context, entered
from gonogo.logs import StructuredLogger
from gonogo.outcomes import require_over
from gonogo.performed import Performed
from gonogo.records import Call
from gonogo.signals import NotApplied


class Loop(Protocol):
    """What runs a coroutine to its end for a caller that has no event loop of its own."""

    def run(self, coroutine: Any) -> Any:
        """The coroutine's result."""
        ...


class Performer:
    """Runs attempts: sets the scene, calls the function, catches whatever comes out."""

    def __init__(self, clock: Clock, logger: StructuredLogger) -> None:
        self._clock = clock
        self._logger = logger

    def run(
        self, action: Action[Any, Any], call: Call, bound: Bound, loop: Loop | None = None
    ) -> Performed:
        """One attempt in this thread; an ``async def`` action runs in ``loop`` or in a new one.

        Nothing escapes: `KeyboardInterrupt` and the like are in the answer too, because the
        outcome must be settled before they go on their way.
        """
        context = self._context(action, call)
        try:
            with entered(context):
                self._require_in_time(call)
                if action.is_async:
                    value = (loop or _NewLoop()).run(self._limited(action, bound))
                else:
                    value = action.parameters.invoke(action.fn, action.parameters.fresh(bound))
                require_over(value)
        except BaseException as error:  # noqa: BLE001 - settled first, then raised again
            return self._performed(context, bound, error=error)
        return self._performed(context, bound, value=value)

    async def arun(self, action: Action[Any, Any], call: Call, bound: Bound) -> Performed:
        """One attempt of an ``async def`` action in the running loop; it is cancelled on time."""
        context = self._context(action, call)
        try:
            with entered(context):
                self._require_in_time(call)
                value = await self._limited(action, bound)
                require_over(value)
        except BaseException as error:  # noqa: BLE001 - settled first, then raised again
            return self._performed(context, bound, error=error)
        return self._performed(context, bound, value=value)

    async def _limited(self, action: Action[Any, Any], bound: Bound) -> Any:
        import asyncio  # noqa: PLC0415 - only async actions pay for it

        async with asyncio.timeout(action.policy.timeout):
            return await action.parameters.invoke(action.fn, action.parameters.fresh(bound))

    def _require_in_time(self, call: Call) -> None:
        """Do not begin when the lease is over: somebody else may have taken the call since.

        That is so when this process was stopped, or the commit hung, after the call was admitted.
        """
        if call.lease_until is not None and call.lease_until <= self._clock.now():
            raise NotApplied("its lease was over before it could begin, so it was not begun")

    def _context(self, action: Action[Any, Any], call: Call) -> Context:
        timeout = action.policy.timeout
        ends = None if timeout is None else (call.dispatched_at or self._clock.now()) + timeout
        return Context(
            id=call.id,
            action=call.action,
            key=call.key,
            attempt=call.attempt,
            correlation_id=call.correlation,
            deadline=ends,
            log=self._logger,
            clock=self._clock,
        )

    def _performed(
        self,
        context: Context,
        bound: Bound,
        *,
        value: Any = None,
        error: BaseException | None = None,
    ) -> Performed:
        return Performed(
            ended_at=self._clock.now(),
            value=value,
            error=error,
            spent=context.spent,
            secrets=bound.secret_texts() if bound.has_secrets else (),
        )


class _NewLoop:
    """A loop for one coroutine; in a thread of its own where this one runs a loop already."""

    def run(self, coroutine: Any) -> Any:
        import asyncio  # noqa: PLC0415 - only async actions pay for it

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(coroutine)
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - rare

        with ThreadPoolExecutor(1, "gonogo-loop") as thread:
            return thread.submit(copy_context().run, asyncio.run, coroutine).result()
