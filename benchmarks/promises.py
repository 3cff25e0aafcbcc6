"""What the checklist promises in plain numbers, whatever the machine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import Effort, Scene, Stage, Target, repeated
from gonogo import DryRunLock, GovernorEnforcer, IdempotencyManager, WorkerProcess

CHECKS = (
    *("gonogo governor check", "gonogo dry-run check, blocked"),
    *("gonogo idempotency, first", "gonogo idempotency, replay"),
)


@contextmanager
def checks(effort: Effort) -> Iterator[Scene]:
    """Each component alone, in memory, as the checklist uses it."""
    governor, lock, keys = GovernorEnforcer(), DryRunLock(), IdempotencyManager()
    governor.set_limit("payment", 10**12, 3600)
    fresh = itertools.count()
    worker = WorkerProcess(max_workers=2)
    worker.start()
    try:
        yield Scene(
            "Promises: checks and submissions",
            "in memory; over 1,000 governor checks a second, other checks under 1 ms, and "
            "submissions to a running worker of two threads under 5 ms",
            {
                CHECKS[0]: repeated(lambda _: governor.check_limit("payment"), 3000),
                CHECKS[1]: repeated(lambda _: lock.execute("payment", print), 2000),
                CHECKS[2]: repeated(
                    lambda _: keys.process_idempotent(f"key-{next(fresh)}", int), 1000
                ),
                CHECKS[3]: repeated(lambda _: keys.process_idempotent("same", int), 2000),
                "gonogo submission": repeated(lambda _: worker.submit_job("noop", int), 500),
            },
            [
                *(Target(name, None, 0.001) for name in CHECKS),
                Target("gonogo submission", None, 0.005),
            ],
        )
    finally:
        worker.stop()


SCENES: dict[str, Stage] = {"promises.checks": checks}
