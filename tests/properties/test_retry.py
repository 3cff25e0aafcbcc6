"""Properties of retry that hold for every policy, attempt and moment."""

from __future__ import annotations

import math
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from gonogo.backoff import Jitter, Retry, next_delay, rule
from gonogo.clock import FakeClock
from gonogo.records import Outcome
from gonogo.retry import RetryBackoffManager
from gonogo.retry_budget import RetryBudget
from gonogo.signals import NotApplied, Rejected

seconds = st.floats(0, 1e9, allow_nan=False)
chance = st.floats(0, 1, exclude_max=True)
errors = st.sampled_from([None, NotApplied(), Rejected(), ValueError(), TimeoutError(), OSError()])
kinds = st.lists(st.sampled_from([ValueError, OSError, TimeoutError, NotApplied]), max_size=3)
policies = st.builds(
    Retry,
    max_retries=st.integers(0, 10),
    base_delay=seconds,
    max_delay=seconds,
    multiplier=st.floats(1, 1e6, allow_nan=False),
    jitter=st.sampled_from(get_args(Jitter)),
    max_elapsed=st.none() | seconds,
    retry_on=kinds.map(tuple),
    no_retry_on=kinds.map(tuple),
)
facts = st.fixed_dictionaries(
    {
        "attempt": st.integers(0, 12),
        "elapsed": seconds,
        "outcome": st.sampled_from(Outcome),
        "repeatable": st.booleans(),
        "error": errors,
        "retry_after": st.none() | seconds,
        "deadline_in": st.none() | seconds,
        "random": chance,
    }
)


def decide(policy: Retry, **facts: Any) -> float | None:
    """The delay that `rule` gives, or ``None`` where it gives a reason against."""
    ruling = rule(policy, **facts)
    return None if isinstance(ruling, str) else ruling


@given(policies, st.integers(0, 10**400), chance, st.none() | seconds)
def test_a_delay_is_finite_and_within_its_bounds(policy, attempt, random, retry_after) -> None:
    """However many attempts: at least Retry-After, at most one and a half times max_delay or it."""
    delay = next_delay(policy, attempt, random=random, retry_after=retry_after)
    assert math.isfinite(delay)
    assert delay >= (retry_after or 0)
    assert delay <= max(policy.max_delay * 1.5, retry_after or 0)


@given(policies, st.integers(0, 200), chance)
def test_without_luck_delays_never_shrink(policy, attempt, random) -> None:
    """For the same random number the next delay is at least as long as the one before."""
    now = next_delay(policy, attempt, random=random)
    assert next_delay(policy, attempt + 1, random=random) >= now


@given(policies, facts)
def test_a_retry_is_only_decided_where_it_is_safe(policy, facts) -> None:
    """Whatever the policy: only what is proven not applied, or unknown and repeatable."""
    if decide(policy, **facts) is not None:
        assert facts["outcome"] is Outcome.NOT_APPLIED or (
            facts["outcome"] is Outcome.UNKNOWN and facts["repeatable"]
        )
        assert not isinstance(facts["error"], Rejected)


@given(policies, facts)
def test_a_retry_keeps_every_limit(policy, facts) -> None:
    """A decided retry is within the count, the elapsed time and the deadline."""
    delay = decide(policy, **facts)
    if delay is not None:
        assert facts["attempt"] < policy.max_retries
        assert policy.max_elapsed is None or facts["elapsed"] + delay <= policy.max_elapsed
        assert facts["deadline_in"] is None or delay < facts["deadline_in"]


@given(policies, facts)
def test_lists_only_narrow(policy, facts) -> None:
    """What is retried with retry_on and no_retry_on is retried without them, too."""
    if decide(policy, **facts) is not None:
        plain = Retry(
            max_retries=policy.max_retries,
            base_delay=policy.base_delay,
            max_delay=policy.max_delay,
            multiplier=policy.multiplier,
            jitter=policy.jitter,
            max_elapsed=policy.max_elapsed,
        )
        assert decide(plain, **facts) == decide(policy, **facts)


@given(st.integers(0, 20), st.integers(0, 8))
def test_a_function_is_called_until_it_succeeds_or_retries_end(failures, max_retries) -> None:
    """Calls are min(failures, max_retries) + 1; it succeeds if failures end before retries."""
    manager = RetryBackoffManager(max_retries, clock=FakeClock(), budgets=False)
    calls = 0

    def work() -> str:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise ValueError
        return "done"

    try:
        succeeded = manager.execute_with_retry(work, "work") == "done"
    except ValueError:
        succeeded = False
    assert succeeded == (failures <= max_retries)
    assert calls == min(failures, max_retries) + 1


@given(
    st.floats(0, 1),
    st.integers(0, 5),
    st.lists(st.tuples(st.sampled_from(["call", "retry"]), st.floats(0, 3)), max_size=60),
)
def test_a_budget_never_grants_more_than_was_put_in(ratio, per_second, steps) -> None:
    """In any span of ttl, retries are at most the reserve and their share of first calls."""
    clock, ttl = FakeClock(0.0), 10.0
    budget = RetryBudget(ratio, per_second, ttl=ttl, clock=clock)
    calls: list[float] = []
    granted: list[float] = []
    for what, pause in steps:
        clock.advance(pause)
        if what == "call":
            calls.append(clock.now())
            budget.deposit()
        elif budget.withdraw():
            granted.append(clock.now())
            recent = [at for at in granted if at > clock.now() - ttl * 0.9]
            paid = [at for at in calls if at > clock.now() - ttl * 2]
            assert len(recent) <= per_second * ttl + ratio * len(paid) + 1e-6
