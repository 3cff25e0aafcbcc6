"""Retry with backoff: pure decisions about delays, a budget against storms, and a small manager."""

from __future__ import annotations

import math
import random as _random
import threading
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from types import CoroutineType
from typing import Any, Literal, TypeVar, get_args

from msgspec import Struct, structs

from gonogo.clock import Clock, SystemClock, iso
from gonogo.errors import (
    ConfigurationError,
    Drifted,
    DryRunBlocked,
    EffectFailed,
    EffectRejected,
    GonogoError,
    KeyConflict,
    NotApproved,
    OutcomeUnknown,
    PlanError,
    ResultUnavailable,
    SchemaError,
)
from gonogo.outcomes import classify, retry_after
from gonogo.records import Outcome
from gonogo.secrets import describe
from gonogo.signals import Cancel, NotApplied, Rejected, Snooze

T = TypeVar("T")

Jitter = Literal["spread", "full", "equal", "none"]
Exceptions = tuple[type[Exception], ...]

# Raised by gonogo itself, and asking again would give the same answer (or do harm).
_FINAL = (
    ConfigurationError,
    Drifted,
    DryRunBlocked,
    EffectRejected,
    KeyConflict,
    NotApproved,
    OutcomeUnknown,
    PlanError,
    ResultUnavailable,
    SchemaError,
)


class Retry(Struct, frozen=True, kw_only=True):
    """When and how often to try again. Delays and limits are seconds.

    Attributes:
        max_retries: tries after the first one; 0 is never again.
        base_delay: delay before the first retry, before jitter.
        max_delay: no backoff is longer, before jitter. A ``Retry-After`` may be: it is kept to.
        multiplier: by which each delay exceeds the one before; at least 1.
        jitter: ``"spread"`` scales the delay by 0.5 to 1.5, ``"full"`` by 0 to 1, ``"equal"`` by
            0.5 to 1, ``"none"`` not at all.
        max_elapsed: no retry begins later than this after the first try began.
        retry_on: if given, only these exceptions are retried, and signals that say so themselves.
        no_retry_on: these are never retried.

    Both lists can only narrow what is retried, never widen it: an unknown outcome of an action
    that is not repeatable is not retried because ``retry_on`` names its exception.

    Raises:
        ConfigurationError: a value makes no sense.
    """

    max_retries: int = 3
    base_delay: float = 1.0
    max_delay: float = 60.0
    multiplier: float = 2.0
    jitter: Jitter = "spread"
    max_elapsed: float | None = None
    retry_on: Exceptions = ()
    no_retry_on: Exceptions = ()

    def __post_init__(self) -> None:
        if type(self.max_retries) is not int:
            raise ConfigurationError(
                f"max_retries must be a whole number, not {self.max_retries!r}"
            )
        if self.max_retries < 0:
            raise ConfigurationError(f"max_retries must be at least 0, not {self.max_retries}")
        for name, least in (("base_delay", 0), ("max_delay", 0), ("multiplier", 1)):
            _require_number(name, getattr(self, name), least)
        if self.max_elapsed is not None:
            _require_number("max_elapsed", self.max_elapsed, 0)
        if self.jitter not in get_args(Jitter):
            known = ", ".join(get_args(Jitter))
            raise ConfigurationError(f"jitter {self.jitter!r} is not known; use one of {known}")
        for name in ("retry_on", "no_retry_on"):
            structs.force_setattr(self, name, _exceptions(name, getattr(self, name)))


def next_delay(
    policy: Retry, attempt: int, *, random: float, retry_after: float | None = None
) -> float:
    """Seconds to wait before retry number ``attempt`` (from 0), given ``random`` in [0, 1).

    ``min(base_delay * multiplier**attempt, max_delay)``, jittered; never less than
    ``retry_after``, which jitter does not touch and ``max_delay`` does not cut.
    """
    if attempt < 0:
        raise ConfigurationError(f"attempts count from 0, not {attempt}")
    try:
        backoff = policy.base_delay * policy.multiplier ** min(attempt, 10**9)
    except OverflowError:
        backoff = policy.max_delay if policy.base_delay else 0.0
    backoff = min(backoff, policy.max_delay)
    match policy.jitter:
        case "spread":
            backoff *= 0.5 + random
        case "full":
            backoff *= random
        case "equal":
            backoff *= 0.5 + random / 2
    return max(backoff, retry_after or 0.0)


def decide(
    policy: Retry,
    *,
    attempt: int,
    elapsed: float,
    outcome: Outcome,
    repeatable: bool,
    error: BaseException | None,
    retry_after: float | None,
    deadline_in: float | None,
    random: float,
) -> float | None:
    """Seconds until the next try, or ``None`` when there is to be none. Pure.

    Args:
        attempt: retries made so far.
        elapsed: seconds since the first try began.
        outcome: what the last try proved.
        repeatable: whether running again after an unknown outcome is harmless.
        error: what the try raised; ``None`` when its process died.
        retry_after: seconds the other side asked for.
        deadline_in: seconds until nothing may begin any more.
        random: a number in [0, 1).
    """
    ruling = rule(
        policy,
        attempt=attempt,
        elapsed=elapsed,
        outcome=outcome,
        repeatable=repeatable,
        error=error,
        retry_after=retry_after,
        deadline_in=deadline_in,
        random=random,
    )
    return None if isinstance(ruling, str) else ruling


def rule(
    policy: Retry,
    *,
    attempt: int,
    elapsed: float,
    outcome: Outcome,
    repeatable: bool,
    error: BaseException | None,
    retry_after: float | None,
    deadline_in: float | None,
    random: float,
) -> float | str:
    """As `decide`, but the answer to 'no' is a clause that says why."""
    refusal = _forbidden(policy, outcome, repeatable, error)
    if refusal is not None:
        return refusal
    if attempt >= policy.max_retries:
        return f"all {policy.max_retries} retries are used"
    delay = next_delay(policy, attempt, random=random, retry_after=retry_after)
    if policy.max_elapsed is not None and elapsed + delay > policy.max_elapsed:
        return f"the next try would begin after max_elapsed ({policy.max_elapsed:g} s)"
    if deadline_in is not None and delay >= deadline_in:
        return "the next try would begin after the deadline"
    return delay


def _forbidden(
    policy: Retry, outcome: Outcome, repeatable: bool, error: BaseException | None
) -> str | None:
    if outcome is Outcome.SUCCEEDED:
        return "it succeeded"
    if outcome is Outcome.REJECTED or isinstance(error, (Rejected, *_FINAL)):
        return "the answer would be the same"
    if isinstance(error, Cancel):
        return "it was cancelled"
    if outcome is Outcome.UNKNOWN and not repeatable:
        return "the effect may have happened and is not repeatable"
    if error is None:
        return None
    name = type(error).__name__
    if not isinstance(error, Exception):
        return f"{name} asks the program to stop"
    if isinstance(error, policy.no_retry_on):
        return f"no_retry_on names {name}"
    if policy.retry_on and not isinstance(error, (NotApplied, Snooze, *policy.retry_on)):
        return f"retry_on does not name {name}"
    return None


def _require_number(name: str, value: object, least: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigurationError(f"{name} must be a finite number, not {value!r}")
    if value < least:
        raise ConfigurationError(f"{name} must be at least {least}, not {value!r}")


def _exceptions(name: str, given: object) -> Exceptions:
    kinds = tuple(given) if isinstance(given, (tuple, list, set, frozenset)) else (given,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise ConfigurationError(f"{name} must list exception classes, not {kind!r}")
    return kinds


class RetryBudget:
    """Keeps retries a fraction of the first calls, so that they cannot become a storm.

    A token bucket as in Finagle's ``RetryBudget``: each first call deposits ``ratio`` tokens, a
    retry withdraws one, and ``per_second`` tokens a second are there in any case. What was put in
    or taken is forgotten after ``ttl`` seconds. Thread-safe.
    """

    _SLICES = 10

    def __init__(
        self,
        ratio: float = 0.2,
        per_second: float = 10.0,
        *,
        ttl: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        _require_number("ratio", ratio, 0)
        _require_number("per_second", per_second, 0)
        _require_number("ttl", ttl, 0.001)
        self._ratio = ratio
        self._reserve = per_second * ttl
        self._slice = ttl / self._SLICES
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._slices: deque[tuple[int, float]] = deque(maxlen=self._SLICES + 1)

    def deposit(self) -> None:
        """Note a first call."""
        with self._lock:
            self._add(self._ratio)

    def withdraw(self) -> bool:
        """Take the token for one retry; false when there is none."""
        with self._lock:
            if self._balance() < 1.0 - 1e-9:
                return False
            self._add(-1.0)
            return True

    @property
    def balance(self) -> float:
        """Retries that may be made now."""
        with self._lock:
            return self._balance()

    def _balance(self) -> float:
        oldest = self._now() - self._SLICES
        while self._slices and self._slices[0][0] <= oldest:
            self._slices.popleft()
        return self._reserve + sum(amount for _, amount in self._slices)

    def _add(self, amount: float) -> None:
        now = self._now()
        if self._slices and self._slices[-1][0] == now:
            amount += self._slices.pop()[1]
        self._slices.append((now, amount))

    def _now(self) -> int:
        return int(self._clock.monotonic() / self._slice)


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
        retry_on: type[Exception] | Iterable[type[Exception]] = (),
        no_retry_on: type[Exception] | Iterable[type[Exception]] = (),
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
        course = self._course(
            task_name, backoff_multiplier, jitter, retry_on, no_retry_on, deadline, repeatable
        )
        while True:
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                delay = course.after(error)
                if delay is None:
                    raise
            else:
                return course.end(_not_async(result, task_name))
            self._clock.sleep(delay)

    async def aexecute_with_retry(
        self,
        fn: Callable[..., Awaitable[T]],
        task_name: str,
        *args: Any,
        backoff_multiplier: float = 2.0,
        jitter: bool | Jitter = True,
        retry_on: type[Exception] | Iterable[type[Exception]] = (),
        no_retry_on: type[Exception] | Iterable[type[Exception]] = (),
        deadline: float | None = None,
        repeatable: bool = True,
        **kwargs: Any,
    ) -> T:
        """`execute_with_retry` for an async function; cancellation is never retried."""
        course = self._course(
            task_name, backoff_multiplier, jitter, retry_on, no_retry_on, deadline, repeatable
        )
        while True:
            try:
                result = await fn(*args, **kwargs)
            except Exception as error:
                delay = course.after(error)
                if delay is None:
                    raise
            else:
                return course.end(result)
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
        if not self._with_budgets:
            return None
        with self._lock:
            found = self._budgets.get(task_name)
            if found is None:
                found = self._budgets[task_name] = RetryBudget(clock=self._clock)
                if len(self._budgets) > self._MAX_BUDGETS:
                    self._budgets.popitem(last=False)
            self._budgets.move_to_end(task_name)
            return found

    def _course(
        self,
        task: str,
        multiplier: float,
        jitter: bool | Jitter,
        retry_on: object,
        no_retry_on: object,
        deadline: float | None,
        repeatable: bool,
    ) -> _Course:
        if isinstance(jitter, bool):
            jitter = "spread" if jitter else "none"
        policy = structs.replace(
            self.policy,
            multiplier=multiplier,
            jitter=jitter,
            retry_on=retry_on,
            no_retry_on=no_retry_on,
        )
        if deadline is not None:
            _require_number("deadline", deadline, 0)
        return _Course(self, task, policy, deadline, repeatable)

    def _note(self, **entry: Any) -> None:
        with self._lock:
            self._log.append({**entry, "timestamp": iso(self._clock.now())})

    async def _asleep(self, seconds: float) -> None:
        if self._async_sleep is None:
            from asyncio import sleep  # noqa: PLC0415  kept out of the import of the package

            self._async_sleep = sleep
        await self._async_sleep(seconds)


class _Course:
    """The tries of one task: what both loops, sync and async, ask after each of them."""

    def __init__(
        self,
        manager: RetryBackoffManager,
        task: str,
        policy: Retry,
        deadline: float | None,
        repeatable: bool,
    ) -> None:
        self._manager = manager
        self._task = task
        self._policy = policy
        self._deadline = deadline
        self._repeatable = repeatable
        self._retries = 0
        self._started = manager._clock.monotonic()
        self._budget = manager.budget(task)
        if self._budget is not None:
            self._budget.deposit()

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

    def end(self, result: T) -> T:
        """Note that a retry succeeded."""
        if self._retries:
            self._manager._note(
                task=self._task,
                attempt=self._retries + 1,
                error=None,
                delay=None,
                status="success",
            )
        return result


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, EffectFailed):
        return Outcome.REJECTED if error.rejected else Outcome.NOT_APPLIED
    if isinstance(error, GonogoError) and error.happened == "no":
        return Outcome.NOT_APPLIED
    return classify(error)


def _retry_after(error: Exception) -> float | None:
    return error.retry_after if isinstance(error, GonogoError) else retry_after(error)


def _not_async(result: T, task: str) -> T:
    if isinstance(result, CoroutineType):
        result.close()
        raise ConfigurationError(f"task {task!r} is async: await aexecute_with_retry(...) instead")
    return result
