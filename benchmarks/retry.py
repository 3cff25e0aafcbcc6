"""What a retry costs where nothing fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import backoff
import stamina
import tenacity

from benchmarks.measure import Effort, Scene, Stage, Target, repeated
from gonogo import RetryBackoffManager


@contextmanager
def success(effort: Effort) -> Iterator[Scene]:
    """A function that succeeds at once, under up to three retries."""
    manager = RetryBackoffManager()
    by_tenacity = tenacity.retry(
        stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_random_exponential(max=60)
    )(_work)
    by_stamina = stamina.retry(on=Exception, attempts=4)(_work)
    by_backoff = backoff.on_exception(backoff.expo, Exception, max_tries=4)(_work)
    yield Scene(
        "Retry: a call that succeeds at once",
        "up to 3 retries of any exception with jittered exponential delays; gonogo: "
        "execute_with_retry, with its budget against retry storms; the others: decorators",
        {
            "gonogo": repeated(lambda i: manager.execute_with_retry(_work, "work", i), 10_000),
            "tenacity": repeated(by_tenacity, 1000),
            "stamina": repeated(by_stamina, 1000),
            "backoff": repeated(by_backoff, 2000),
            "floor: the function alone": repeated(_work, 20_000),
        },
        [Target("gonogo", "tenacity", 1 / 20)],
    )


def _work(value: int) -> int:
    return value


SCENES: dict[str, Stage] = {"retry.success": success}
