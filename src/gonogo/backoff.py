"""When to try again: the declared policy, and pure decisions about delays."""

from __future__ import annotations

import math
from typing import Literal, get_args

from msgspec import Struct, structs

from gonogo.errors import (
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
from gonogo.records import Outcome
from gonogo.signals import Cancel, NotApplied, Rejected, Snooze

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
            require_number(name, getattr(self, name), least)
        if self.max_elapsed is not None:
            require_number("max_elapsed", self.max_elapsed, 0)
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
    """Seconds until the next try, or why there is to be none, as a clause. Pure.

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


def require_number(name: str, value: object, least: float) -> None:
    """Raise `ConfigurationError` unless ``value`` is a finite number of at least ``least``."""
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
