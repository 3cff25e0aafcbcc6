"""Retry: when to try again, how long to wait, and when to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gonogo.backoff import Retry, next_delay, rule
from gonogo.clock import FakeClock
from gonogo.errors import (
    ConfigurationError,
    DryRunBlocked,
    EffectRejected,
    OutcomeUnknown,
    RateLimited,
)
from gonogo.records import Outcome
from gonogo.retry import RetryBackoffManager
from gonogo.retry_budget import RetryBudget
from gonogo.signals import Cancel, NotApplied, Rejected, Snooze

CALM = Retry(jitter="none")


class Flaky:
    """A function that raises what it is given, in turn, and then returns ``"done"``."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def later(self) -> str:
        return self()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def manager(clock: FakeClock) -> RetryBackoffManager:
    """Half a second either way is exactly none: spread scales by 0.5 + 0.5."""
    return RetryBackoffManager(clock=clock, random=lambda: 0.5)


def ruling(policy: Retry = CALM, **facts: Any) -> float | None:
    """What is decided after a first try that was not applied, but for the facts given."""
    known: dict[str, Any] = {
        "attempt": 0,
        "elapsed": 0.0,
        "outcome": Outcome.NOT_APPLIED,
        "repeatable": False,
        "error": NotApplied(),
        "retry_after": None,
        "deadline_in": None,
        "random": 0.5,
    }
    ruled = rule(policy, **{**known, **facts})
    return None if isinstance(ruled, str) else ruled


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_retries": True},
        {"base_delay": -1},
        {"base_delay": float("nan")},
        {"max_delay": float("inf")},
        {"max_delay": "60"},
        {"multiplier": 0.5},
        {"max_elapsed": -1},
        {"jitter": "lots"},
        {"retry_on": (KeyboardInterrupt,)},
        {"retry_on": ("ValueError",)},
        {"no_retry_on": (ValueError(),)},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """A wrong value is a ConfigurationError that names the setting."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Retry(**wrong)


def test_one_exception_class_is_as_good_as_a_list() -> None:
    """retry_on and no_retry_on take one class, or several in any collection."""
    policy = Retry(retry_on=ValueError, no_retry_on=[KeyError])  # type: ignore[arg-type]
    assert policy.retry_on == (ValueError,)
    assert policy.no_retry_on == (KeyError,)


@pytest.mark.parametrize(("attempt", "delay"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (99, 60)])
def test_delays_double_up_to_the_longest(attempt: int, delay: float) -> None:
    """delay = min(base_delay * multiplier ** attempt, max_delay)."""
    assert next_delay(CALM, attempt, random=0.9) == delay


@pytest.mark.parametrize(
    ("jitter", "least", "middle"),
    [("spread", 2, 4), ("full", 0, 2), ("equal", 2, 3), ("none", 4, 4)],
)
def test_jitter_scales_the_delay(jitter: Any, least: float, middle: float) -> None:
    """spread scales by 0.5 to 1.5, full by 0 to 1, equal by 0.5 to 1, none not at all."""
    policy = Retry(jitter=jitter)
    assert next_delay(policy, 2, random=0.0) == least
    assert next_delay(policy, 2, random=0.5) == middle


def test_the_longer_of_backoff_and_retry_after_is_waited() -> None:
    """Retry-After is a floor that jitter does not lower; a longer backoff stays."""
    assert next_delay(Retry(jitter="full"), 0, random=0.0, retry_after=5) == 5
    assert next_delay(CALM, 5, random=0.0, retry_after=5) == 32


def test_a_retry_after_beyond_the_longest_delay_is_kept_to() -> None:
    """Asked to come back in an hour, we come back in an hour and not after max_delay."""
    assert next_delay(CALM, 0, random=0.5, retry_after=3600) == 3600


def test_attempts_do_not_count_from_below_zero() -> None:
    """A negative attempt is a mistake of the caller."""
    with pytest.raises(ConfigurationError):
        next_delay(CALM, -1, random=0.5)


@pytest.mark.parametrize("repeatable", [False, True])
def test_what_was_not_applied_is_tried_again(repeatable: bool) -> None:
    """Proof that nothing happened is all it takes."""
    assert ruling(repeatable=repeatable) == 1


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_rejection_is_final(repeatable: bool) -> None:
    """The other side said no for good, whatever the policy names."""
    policy = Retry(retry_on=(Rejected,))
    facts: dict[str, Any] = {"outcome": Outcome.REJECTED, "error": Rejected()}
    assert ruling(policy, repeatable=repeatable, **facts) is None


def test_an_unknown_outcome_is_tried_again_only_when_repeatable() -> None:
    """What may have happened runs again only if running twice is harmless."""
    facts: dict[str, Any] = {"outcome": Outcome.UNKNOWN, "error": TimeoutError()}
    assert ruling(repeatable=False, **facts) is None
    assert ruling(repeatable=True, **facts) == 1


def test_retry_on_never_makes_a_doubtful_effect_run_again() -> None:
    """Naming the exception in retry_on does not prove that the effect did not happen."""
    policy = Retry(retry_on=(TimeoutError,))
    assert ruling(policy, outcome=Outcome.UNKNOWN, error=TimeoutError()) is None


def test_retry_on_narrows_what_is_retried() -> None:
    """Only what it names is retried, subclasses included; a signal that says so itself always."""
    policy = Retry(retry_on=(OSError,), jitter="none")
    facts: dict[str, Any] = {"outcome": Outcome.UNKNOWN, "repeatable": True}
    assert ruling(policy, error=ConnectionResetError(), **facts) == 1
    assert ruling(policy, error=ValueError(), **facts) is None
    assert ruling(policy, error=NotApplied()) == 1


def test_no_retry_on_wins() -> None:
    """What it names is not retried, even a proven NotApplied, even when retry_on names it too."""
    policy = Retry(retry_on=(OSError,), no_retry_on=(ConnectionResetError, NotApplied))
    facts: dict[str, Any] = {"outcome": Outcome.UNKNOWN, "repeatable": True}
    assert ruling(policy, error=ConnectionResetError(), **facts) is None
    assert ruling(policy, error=NotApplied()) is None


def test_a_process_that_died_leaves_no_exception_to_filter() -> None:
    """Without an exception the lists have nothing to say: repeatable runs again, the rest not."""
    policy = Retry(retry_on=(OSError,), jitter="none")
    assert ruling(policy, error=None, outcome=Outcome.UNKNOWN, repeatable=True) == 1
    assert ruling(policy, error=None, outcome=Outcome.UNKNOWN, repeatable=False) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
def test_a_request_to_stop_is_not_retried(error: BaseException) -> None:
    """Interrupts and cancellations end the tries, also of what is repeatable."""
    assert ruling(error=error, outcome=Outcome.UNKNOWN, repeatable=True) is None


def test_a_cancel_ends_it() -> None:
    """Cancel proves that nothing happened and that nobody wants it any more."""
    assert ruling(error=Cancel()) is None


def test_retries_are_counted() -> None:
    """With max_retries made there is no other; with none allowed there is not even one."""
    assert ruling(attempt=2) == 4
    assert ruling(attempt=3) is None
    assert ruling(Retry(max_retries=0)) is None


def test_nothing_begins_after_max_elapsed() -> None:
    """The delay counts: what would begin too late is not waited for."""
    policy = Retry(max_elapsed=10, jitter="none")
    assert ruling(policy, elapsed=9.0) == 1
    assert ruling(policy, elapsed=9.1) is None


def test_nothing_begins_at_or_after_the_deadline() -> None:
    """A try must begin before the deadline; a Retry-After beyond it ends the tries at once."""
    assert ruling(deadline_in=1.1) == 1
    assert ruling(deadline_in=1.0) is None
    assert ruling(deadline_in=-5.0) is None
    assert ruling(deadline_in=60.0, retry_after=61) is None


def test_a_success_is_not_retried() -> None:
    """There is nothing to try again."""
    assert ruling(outcome=Outcome.SUCCEEDED, error=None, repeatable=True) is None


# The manager


def test_a_first_success_is_returned_at_once(
    manager: RetryBackoffManager, clock: FakeClock
) -> None:
    """Arguments reach the function, its result comes back, and nothing is slept or logged."""
    result = manager.execute_with_retry(lambda a, *, b: a + b, "sum", 1, b=2)
    assert (result, clock.slept, manager.get_retry_log()) == (3, [], [])


def test_failures_are_retried_with_growing_delays(
    manager: RetryBackoffManager, clock: FakeClock
) -> None:
    """Each retry waits longer, and the first success ends it."""
    flaky = Flaky(ValueError(), OSError(), KeyError())
    assert manager.execute_with_retry(flaky, "flaky") == "done"
    assert clock.slept == [1, 2, 4]


def test_the_last_exception_is_raised_with_the_reason(manager: RetryBackoffManager) -> None:
    """When retries end the function's own exception comes out, with a note that says why."""
    errors = [ValueError(number) for number in range(9)]
    flaky = Flaky(*errors)
    with pytest.raises(ValueError, match="3") as caught:
        manager.execute_with_retry(flaky, "flaky")
    assert caught.value is errors[3]
    assert flaky.calls == 4
    note = "task 'flaky': gave up after 4 tries, because all 3 retries are used"
    assert caught.value.__notes__ == [note]


@pytest.mark.parametrize(
    "error",
    [
        Rejected(),
        Cancel(),
        KeyboardInterrupt(),
        SystemExit(),
        OutcomeUnknown("may have happened"),
        EffectRejected("for good"),
        DryRunBlocked("locked"),
        ConfigurationError("wrong"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_asking_again_cannot_mend_is_raised_at_once(
    manager: RetryBackoffManager, error: BaseException
) -> None:
    """Final answers, doubtful effects and requests to stop are never tried again."""
    flaky = Flaky(error)
    with pytest.raises(type(error)):
        manager.execute_with_retry(flaky, "flaky")
    assert flaky.calls == 1


@pytest.mark.parametrize(
    "error",
    [NotApplied(retry_after=90), Snooze(90), RateLimited("full", retry_after=90)],
    ids=lambda error: type(error).__name__,
)
def test_a_wait_that_was_asked_for_is_kept(
    manager: RetryBackoffManager, clock: FakeClock, error: Exception
) -> None:
    """Signals and refusals that say when to come back are believed."""
    manager.execute_with_retry(Flaky(error), "flaky")
    assert clock.slept == [90]


def test_what_is_not_repeatable_runs_again_only_on_proof(manager: RetryBackoffManager) -> None:
    """repeatable=False retries a proven NotApplied and raises what may have happened."""
    flaky = Flaky(NotApplied(), TimeoutError())
    with pytest.raises(TimeoutError):
        manager.execute_with_retry(flaky, "flaky", repeatable=False)
    assert flaky.calls == 2


def test_the_options_of_one_call_apply(manager: RetryBackoffManager, clock: FakeClock) -> None:
    """Multiplier, jitter by truth or name, and both lists are settings of each call."""
    manager.execute_with_retry(Flaky(ValueError(), ValueError()), "m", backoff_multiplier=10)
    manager.execute_with_retry(Flaky(ValueError()), "j", jitter="full")
    manager.execute_with_retry(Flaky(ValueError()), "n", jitter=False)
    assert clock.slept == [1, 10, 0.5, 1]
    with pytest.raises(ValueError, match="retry_on does not name ValueError"):
        manager.execute_with_retry(Flaky(ValueError()), "l", retry_on=OSError)
    with pytest.raises(ValueError, match="no_retry_on names ValueError"):
        manager.execute_with_retry(Flaky(ValueError()), "l", no_retry_on=[ValueError])
    with pytest.raises(ConfigurationError, match="jitter"):
        manager.execute_with_retry(Flaky(), "w", jitter="lots")  # type: ignore[arg-type]


def test_jitter_is_on_unless_it_is_turned_off(clock: FakeClock) -> None:
    """The default scales the delay by 0.5 to 1.5."""
    manager = RetryBackoffManager(clock=clock, random=lambda: 0.0)
    manager.execute_with_retry(Flaky(ValueError()), "flaky")
    assert clock.slept == [0.5]


def test_the_deadline_covers_tries_and_delays(
    manager: RetryBackoffManager, clock: FakeClock
) -> None:
    """Time spent inside the function counts, and no delay is begun that would pass the deadline."""

    def slow() -> None:
        clock.advance(4)
        raise ValueError

    with pytest.raises(ValueError) as caught:  # noqa: PT011  it has no message
        manager.execute_with_retry(slow, "slow", deadline=10)
    assert clock.slept == [1]
    assert "deadline" in caught.value.__notes__[0]


def test_an_async_function_is_awaited_with_the_same_rules(clock: FakeClock) -> None:
    """The async door gives the same delays, log and last exception."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    manager = RetryBackoffManager(clock=clock, random=lambda: 0.5, async_sleep=sleep)
    flaky = Flaky(ValueError(), ValueError())
    assert asyncio.run(manager.aexecute_with_retry(flaky.later, "flaky")) == "done"
    assert slept == [1, 2]
    assert [entry["status"] for entry in manager.get_retry_log()] == ["retry", "retry", "success"]
    with pytest.raises(Rejected):
        asyncio.run(manager.aexecute_with_retry(Flaky(Rejected()).later, "flaky"))


def test_an_async_task_that_is_cancelled_is_not_tried_again(clock: FakeClock) -> None:
    """Cancellation goes straight through."""
    manager = RetryBackoffManager(clock=clock)
    flaky = Flaky(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(manager.aexecute_with_retry(flaky.later, "flaky"))
    assert flaky.calls == 1


def test_the_async_door_sleeps_with_asyncio_by_itself() -> None:
    """Without a sleep of one's own asyncio's is used."""
    manager = RetryBackoffManager(base_delay=0.0)
    assert asyncio.run(manager.aexecute_with_retry(Flaky(ValueError()).later, "flaky")) == "done"


def test_an_async_function_at_the_sync_door_is_a_clear_error(manager: RetryBackoffManager) -> None:
    """A coroutine that nobody awaits would be a silent nothing."""
    with pytest.raises(ConfigurationError, match="aexecute_with_retry"):
        manager.execute_with_retry(Flaky().later, "flaky")


def test_the_log_tells_what_became_of_each_try(
    manager: RetryBackoffManager, clock: FakeClock
) -> None:
    """Entries name task, attempt, error, delay, time and status, by task or all of them."""
    manager.execute_with_retry(Flaky(ValueError("password=hunter2")), "a")
    with pytest.raises(Rejected):
        manager.execute_with_retry(Flaky(Rejected("no")), "b")
    assert manager.get_retry_log("a") == [
        {
            "task": "a",
            "attempt": 1,
            "error": "ValueError: password=[secret]",
            "delay": 1.0,
            "timestamp": "2027-01-15T08:00:00.000000Z",
            "status": "retry",
        },
        {
            "task": "a",
            "attempt": 2,
            "error": None,
            "delay": None,
            "timestamp": "2027-01-15T08:00:01.000000Z",
            "status": "success",
        },
    ]
    assert [entry["status"] for entry in manager.get_retry_log("b")] == ["failed"]
    assert len(manager.get_retry_log()) == 3


def test_the_log_is_bounded_and_handed_out_as_a_copy(clock: FakeClock) -> None:
    """The oldest entries make room, and changing what was handed out changes nothing."""
    manager = RetryBackoffManager(clock=clock, max_log=5)
    for number in range(10):
        manager.execute_with_retry(Flaky(ValueError()), f"task-{number}")
    log = manager.get_retry_log()
    assert [entry["task"] for entry in log] == ["task-7", "task-8", "task-8", "task-9", "task-9"]
    log[0]["task"] = "forged"
    assert manager.get_retry_log()[0]["task"] == "task-7"


# The budget


def test_a_budget_allows_a_share_of_the_calls(clock: FakeClock) -> None:
    """With nothing in reserve, five first calls at 0.2 pay for one retry."""
    budget = RetryBudget(0.2, 0, clock=clock)
    assert not budget.withdraw()
    for _ in range(5):
        budget.deposit()
    assert [budget.withdraw(), budget.withdraw()] == [True, False]


def test_a_budget_has_a_reserve_for_quiet_times(clock: FakeClock) -> None:
    """per_second × ttl retries are there without any deposit, and come back after ttl."""
    budget = RetryBudget(0.2, 1, ttl=10, clock=clock)
    assert sum(budget.withdraw() for _ in range(20)) == 10
    clock.advance(5)
    assert not budget.withdraw()
    clock.advance(6)
    assert sum(budget.withdraw() for _ in range(20)) == 10


def test_a_budget_forgets_old_deposits(clock: FakeClock) -> None:
    """Calls of long ago do not pay for a storm now."""
    budget = RetryBudget(1, 0, ttl=10, clock=clock)
    for _ in range(50):
        budget.deposit()
    clock.advance(11)
    assert budget.balance == 0
    assert not budget.withdraw()


def test_many_calls_are_put_in_at_the_time_they_came(clock: FakeClock) -> None:
    """However many calls there were between two looks, each is forgotten in its own time."""
    budget = RetryBudget(1, 0, ttl=10, clock=clock)
    for _ in range(10):
        clock.advance(1)
        for _ in range(100):
            budget.deposit()
    assert budget.balance == 1_000
    clock.advance(4)
    assert budget.balance == 600
    assert len(budget._noted) == 0


def test_a_budget_is_not_overdrawn_by_threads(clock: FakeClock) -> None:
    """Threads that withdraw at the same time get what is there, and not one more."""
    budget = RetryBudget(0, 10, ttl=10, clock=clock)
    start = threading.Barrier(4)
    granted: list[bool] = []

    def take() -> None:
        start.wait()
        granted.extend(budget.withdraw() for _ in range(50))

    run_all([take] * 4)
    assert granted.count(True) == 100


def test_retries_end_when_the_budget_is_used_up(clock: FakeClock) -> None:
    """A target that fails for everyone is not hammered: tasks of one name share a budget."""
    manager = RetryBackoffManager(clock=clock, base_delay=0.0)
    calls = 0

    def down() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionRefusedError

    for _ in range(100):
        with pytest.raises(ConnectionRefusedError) as caught:
            manager.execute_with_retry(down, "target")
    assert "budget" in caught.value.__notes__[0]
    assert calls == 100 + 100 + 20  # first calls, the reserve, and a fifth of the first calls
    assert manager.execute_with_retry(Flaky(ValueError()), "another target") == "done"


def test_budgets_can_be_left_out(clock: FakeClock) -> None:
    """budgets=False leaves only the policy."""
    manager = RetryBackoffManager(clock=clock, budgets=False)
    assert manager.budget("target") is None
    assert manager.execute_with_retry(Flaky(ValueError()), "target") == "done"


def test_budgets_are_bounded(clock: FakeClock) -> None:
    """Ever new task names do not fill the memory; the budget used longest ago goes first."""
    manager = RetryBackoffManager(clock=clock)
    kept = manager.budget("kept")
    for number in range(2000):
        manager.budget(f"task-{number}")
        manager.budget("kept")
    assert manager.budget("kept") is kept
    assert len(manager._budgets) <= 1024


def test_many_threads_share_a_manager(clock: FakeClock) -> None:
    """Each thread's tries are its own; the log holds all of them."""
    manager = RetryBackoffManager(clock=clock, budgets=False)
    results: list[str] = []

    def work() -> None:
        results.extend(
            manager.execute_with_retry(Flaky(ValueError()), "task", jitter=False) for _ in range(50)
        )

    run_all([work] * 4)
    assert results == ["done"] * 200
    statuses = [entry["status"] for entry in manager.get_retry_log()]
    assert (statuses.count("retry"), statuses.count("success")) == (200, 200)


def run_all(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
