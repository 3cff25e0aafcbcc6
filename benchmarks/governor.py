"""Limits in memory: one check, windows that move on, and several limits at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import token_bucket
from limits import RateLimitItemPerHour, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from throttled import MemoryStore, Throttled, per_hour, per_sec

from benchmarks.measure import Effort, Scene, Stage, Target, repeated
from gonogo import GovernorEnforcer

Check = Callable[[int], object]

PLENTY = 10**9
"""Units no scene uses up: what is measured is a check that is granted."""

BRIEF = 0.005
"""Seconds of a window that is much shorter than a round: each check drops what an earlier took."""

NAMES = "payment", "payment.cents", "api"


@contextmanager
def one_limit(effort: Effort) -> Iterator[Scene]:
    """A window of an hour: nothing leaves it while we measure."""
    yield Scene(
        "Governor: one check of one limit, in memory",
        "an hour's window, always granted; gonogo and limits: exact sliding windows; throttled-py: "
        "two fixed windows, weighted; token-bucket: two numbers, without a lock",
        {
            "gonogo check_limit": repeated(_checking(3600), 20_000),
            "token-bucket": repeated(_token_bucket(), 20_000),
            "limits": repeated(_limits(RateLimitItemPerHour(PLENTY)), 1000),
            "throttled-py": repeated(_throttled(per_hour(PLENTY)), 1000),
            "floor: lock, dict, clock": repeated(_floor(), 20_000),
        },
        _targets("gonogo check_limit"),
    )


@contextmanager
def moving_window(effort: Effort) -> Iterator[Scene]:
    """A window that is short beside the round: as much leaves it as comes in."""
    yield Scene(
        "Governor: one check of a window that moves on, in memory",
        f"a window of {BRIEF * 1000:g} ms, so that each check drops what an earlier one took; the "
        "shortest of limits and throttled-py is 1 s; always granted",
        {
            "gonogo check_limit": repeated(_checking(BRIEF), 20_000),
            "token-bucket": repeated(_token_bucket(), 20_000),
            "limits": repeated(_limits(RateLimitItemPerSecond(PLENTY)), 1000),
            "throttled-py": repeated(_throttled(per_sec(PLENTY)), 1000),
            "floor: lock, dict, clock": repeated(_floor(), 20_000),
        },
        _targets("gonogo check_limit"),
    )


@contextmanager
def three_limits(effort: Effort) -> Iterator[Scene]:
    """Three limits all or none; the peer has no such thing and takes them one by one."""
    governor = _governor(1.0)
    yield Scene(
        "Governor: three limits, in memory",
        "windows of 1 s, always granted; gonogo takes all or none, limits one after the other and "
        "so only where the first is not taken back when the last denies",
        {
            "gonogo check_limits, cost 1": repeated(_three(governor, 1), 5000),
            "gonogo check_limits, cost 1,000,000": repeated(_three(governor, 1_000_000), 5000),
            "gonogo acquire, to be settled": repeated(lambda _: governor.acquire(*NAMES), 5000),
            "limits, three hits": repeated(_limits(RateLimitItemPerSecond(PLENTY), *NAMES), 500),
        },
        [
            Target("gonogo check_limits, cost 1", "limits, three hits", 1 / 10),
            Target("gonogo check_limits, cost 1,000,000", "gonogo check_limits, cost 1", 1.1),
        ],
    )


def _targets(ours: str) -> list[Target]:
    return [
        Target(ours, "token-bucket", 1.0),
        Target(ours, "limits", 1 / 8),
        Target(ours, "throttled-py", 1 / 8),
        Target(ours, "floor: lock, dict, clock", 4.0),
    ]


def _governor(window: float) -> GovernorEnforcer:
    governor = GovernorEnforcer()
    for name in NAMES:
        governor.set_limit(name, 10**15, window)
    return governor


def _checking(window: float) -> Check:
    governor = _governor(window)
    return lambda _: governor.check_limit("payment")


def _three(governor: GovernorEnforcer, cost: int) -> Check:
    """Named one by one, as they are in a program: unpacking a tuple is no part of it."""
    return lambda _: governor.check_limits("payment", "payment.cents", "api", cost=cost)


def _token_bucket() -> Check:
    limiter = token_bucket.Limiter(PLENTY, PLENTY, token_bucket.MemoryStorage())
    return lambda _: limiter.consume("payment")


def _limits(item: RateLimitItemPerHour | RateLimitItemPerSecond, *names: str) -> Check:
    limiter = MovingWindowRateLimiter(MemoryStorage())
    if not names:
        return lambda _: limiter.hit(item, "payment")
    return lambda _: all(limiter.hit(item, name) for name in names)


def _throttled(quota: object) -> Check:
    limiter = Throttled(key="payment", using="sliding_window", quota=quota, store=MemoryStore())
    return lambda _: limiter.limit()


def _floor() -> Check:
    """What every limiter must do at least: be alone, know the time, count."""
    lock = threading.Lock()
    counts = {"payment": (0.0, 0)}

    def take(name: str, cost: int = 1) -> bool:
        with lock:
            now = time.monotonic()
            counts[name] = now, counts[name][1] + cost
            return True

    return lambda _: take("payment")


SCENES: dict[str, Stage] = {
    "governor.memory": one_limit,
    "governor.moving": moving_window,
    "governor.three": three_limits,
}
