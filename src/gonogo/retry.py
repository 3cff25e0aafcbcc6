"""Component 5: retry. Functions run again when they fail, with growing delays and a budget."""

from __future__ import annotations

import random as _random
import threading
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from types import CoroutineType
from typing import Any, TypeVar

from msgspec import structs

from gonogo.backoff import Jitter, Retry, require_number, rule
from gonogo.clock import Clock, SystemClock, iso
from gonogo.errors import ConfigurationError, EffectFailed, GonogoError
from gonogo.outcomes import classify, retry_after
from gonogo.records import Outcome
from gonogo.retry_budget import RetryBudget
from gonogo.secrets import describe

T = TypeVar("T")

_NONE: tuple[type[Exception], ...] = ()


class RetryBackoffManager:
    """Runs functions again when they fail, with growing delays. Thread-safe.

    This is the component alone: it takes every function to be repeatable unless told otherwise,
    so an exception that proves nothing is retried. An action that cannot be taken back belongs
    into the pipeline, which uses the same decisions but never repeats an effect in doubt.

    Args:
        max_retries, base_delay, max_delay: see `Retry`.
        random: a function giving numbers in [0, 1).
        async_sleep: what `aexecute_with_retry` awaits; ``asyncio.sleep`` unless given.
        budgets: whether each task has a `RetryBudget`.
        max_log: entries of the retry log that are kept.
    """

    _MAX_BUDGETS = 1024

    def __init__(
        self,
        max_retries: int = 3,
        base_delay: float = 1.0,
        max_delay: float = 60.0,
        *,
        clock: Clock | None = None,
        random: Callable[[], float] | None = None,
        async_sleep: Callable[[float], Awaitable[None]] | None = None,
        budgets: bool = True,
        max_log: int = 1000,
    ) -> None:
        self.policy = Retry(max_retries=max_retries, base_delay=base_delay, max_delay=max_delay)
        self._plain = self.policy
        self._clock = clock or SystemClock()
        self._random = random or _random.random
        self._async_sleep = async_sleep
        self._with_budgets = budgets
        self._budgets: OrderedDict[str, RetryBudget] = OrderedDict()
        self._log: deque[dict[str, Any]] = deque(maxlen=max_log)
        self._lock = threading.Lock()

    def execute_with_retry(
        self,
        fn: Callable[..., T],
        task_name: str,
        *args: Any,
        backoff_multiplier: float = 2.0,
        jitter: bool | Jitter = True,
        retry_on: type[Exception] | Iterable[type[Exception]] = _NONE,
        no_retry_on: type[Exception] | Iterable[type[Exception]] = _NONE,
        deadline: float | None = None,
        repeatable: bool = True,
        **kwargs: Any,
    ) -> T:
        """Call ``fn(*args, **kwargs)`` until it succeeds or must not be tried again.

        The last exception is raised again with a note that says why there was no further try.
        ``Rejected``, ``Cancel``, ``KeyboardInterrupt`` and the like are never retried.

        Args:
            task_name: names the task in the retry log; tasks of one name share a budget.
            jitter: ``True`` is ``"spread"``, ``False`` is ``"none"``; or a name, see `Retry`.
            deadline: seconds over all tries and delays.
            repeatable: false retries only what is proven not to have happened.
        """
        policy = self.policy
        if (
            jitter is not True
            or retry_on is not _NONE
            or no_retry_on is not _NONE
            or policy is not self._plain
            or backoff_multiplier != policy.multiplier
        ):
            policy = self._policy(backoff_multiplier, jitter, retry_on, no_retry_on)
        started = self._begin(task_name, deadline)
        course: _Course | None = None
        while True:
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                course = course or _Course(self, task_name, policy, deadline, repeatable, started)
                delay = course.after(error)
                if delay is None:
                    raise
            else:
                if type(result) is CoroutineType:
                    raise _async_in_sync(result, task_name)
                if course is not None:
                    course.end()
                return result
            self._clock.sleep(delay)

    async def aexecute_with_retry(
        self,
        fn: Callable[..., Awaitable[T]],
        task_name: str,
        *args: Any,
        backoff_multiplier: float = 2.0,
        jitter: bool | Jitter = True,
        retry_on: type[Exception] | Iterable[type[Exception]] = _NONE,
        no_retry_on: type[Exception] | Iterable[type[Exception]] = _NONE,
        deadline: float | None = None,
        repeatable: bool = True,
        **kwargs: Any,
    ) -> T:
        """`execute_with_retry` for an async function; cancellation is never retried."""
        policy = self._policy(backoff_multiplier, jitter, retry_on, no_retry_on)
        started = self._begin(task_name, deadline)
        course: _Course | None = None
        while True:
            try:
                result = await fn(*args, **kwargs)
            except Exception as error:
                course = course or _Course(self, task_name, policy, deadline, repeatable, started)
                delay = course.after(error)
                if delay is None:
                    raise
            else:
                if course is not None:
                    course.end()
                return result
            await self._asleep(delay)

    def get_retry_log(self, task_name: str | None = None) -> list[dict[str, Any]]:
        """What became of failed tries, oldest first, of one task or of all.

        Keys: ``task``, ``attempt`` (1 is the first try), ``error``, ``delay`` (seconds until the
        next try, or ``None``), ``timestamp`` and ``status``: ``"retry"``, ``"failed"`` (no
        further try), or ``"success"`` (a retry succeeded).
        """
        with self._lock:
            entries = list(self._log)
        return [dict(entry) for entry in entries if task_name in (None, entry["task"])]

    def budget(self, task_name: str) -> RetryBudget | None:
        """The retry budget that tasks of this name share; ``None`` when there are none."""
        return self._budget(task_name) if self._with_budgets else None

    def _budget(self, task: str) -> RetryBudget:
        budgets = self._budgets
        with self._lock:
            found = budgets.setdefault(task, RetryBudget(clock=self._clock))
            budgets.move_to_end(task)
            if len(budgets) > self._MAX_BUDGETS:
                budgets.popitem(last=False)
            return found

    def _begin(self, task: str, deadline: float | None) -> float:
        """Note a first call; when it began, on the monotonic clock."""
        if deadline is not None:
            require_number("deadline", deadline, 0)
        started = self._clock.monotonic()
        if self._with_budgets:
            budgets = self._budgets
            try:
                budgets.move_to_end(task)
                budget = budgets[task]
            except KeyError:  # a new one, or it went this moment
                budget = self._budget(task)
            budget.deposit(started)
        return started

    def _policy(
        self, multiplier: float, jitter: bool | Jitter, retry_on: object, no_retry_on: object
    ) -> Retry:
        """The policy with what one call says otherwise."""
        return structs.replace(
            self.policy,
            multiplier=multiplier,
            jitter=jitter if isinstance(jitter, str) else "spread" if jitter else "none",
            retry_on=retry_on,
            no_retry_on=no_retry_on,
        )

    def _note(self, **entry: Any) -> None:
        with self._lock:
            self._log.append({**entry, "timestamp": iso(self._clock.now())})

    async def _asleep(self, seconds: float) -> None:
        if self._async_sleep is None:
            from asyncio import sleep  # noqa: PLC0415  kept out of the import of the package

            self._async_sleep = sleep
        await self._async_sleep(seconds)


class _Course:
    """The tries of one task that has failed once: what both loops, sync and async, ask."""

    def __init__(
        self,
        manager: RetryBackoffManager,
        task: str,
        policy: Retry,
        deadline: float | None,
        repeatable: bool,
        started: float,
    ) -> None:
        self._manager = manager
        self._task = task
        self._policy = policy
        self._deadline = deadline
        self._repeatable = repeatable
        self._retries = 0
        self._started = started
        self._budget = manager.budget(task)

    def after(self, error: Exception) -> float | None:
        """Seconds to wait before the next try; ``None`` (and a note on ``error``) to give up."""
        elapsed = self._manager._clock.monotonic() - self._started
        ruling = rule(
            self._policy,
            attempt=self._retries,
            elapsed=elapsed,
            outcome=_outcome(error),
            repeatable=self._repeatable,
            error=error,
            retry_after=_retry_after(error),
            deadline_in=None if self._deadline is None else self._deadline - elapsed,
            random=self._manager._random(),
        )
        if not isinstance(ruling, str) and self._budget is not None and not self._budget.withdraw():
            ruling = "the retry budget of this task is used up"
        attempt = self._retries + 1
        delay = None if isinstance(ruling, str) else ruling
        self._manager._note(
            task=self._task,
            attempt=attempt,
            error=describe(error),
            delay=delay,
            status="failed" if delay is None else "retry",
        )
        if delay is None:
            tries = "1 try" if attempt == 1 else f"{attempt} tries"
            error.add_note(f"task {self._task!r}: gave up after {tries}, because {ruling}")
        self._retries = attempt
        return delay

    def end(self) -> None:
        """Note that a retry succeeded."""
        self._manager._note(
            task=self._task,
            attempt=self._retries + 1,
            error=None,
            delay=None,
            status="success",
        )


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, EffectFailed):
        return Outcome.REJECTED if error.rejected else Outcome.NOT_APPLIED
    if isinstance(error, GonogoError) and error.happened == "no":
        return Outcome.NOT_APPLIED
    return classify(error)


def _retry_after(error: Exception) -> float | None:
    return error.retry_after if isinstance(error, GonogoError) else retry_after(error)


def _async_in_sync(coroutine: Any, task: str) -> ConfigurationError:
    coroutine.close()
    return ConfigurationError(f"task {task!r} is async: await aexecute_with_retry(...) instead")
