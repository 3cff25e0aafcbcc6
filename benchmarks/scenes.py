"""All scenes there are, in the order in which they are played."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from benchmarks.measure import Stage

MODULES: dict[str, tuple[str, ...]] = {
    "governor": ("governor.memory", "governor.moving", "governor.three"),
    "idempotency": ("idempotency.memory",),
    "retry": ("retry.success",),
    "log_lines": ("log.json", "log.texts"),
    "promises": ("promises.checks",),
    "calls": (
        *("calls.memory", "calls.sqlite", "calls.crowded"),
        *("calls.scaling", "calls.latency"),
    ),
    "queues_sqlite": (
        *("enqueue-one.sqlite", "enqueue-many.sqlite", "process-1.sqlite", "process-4.sqlite"),
        *("pickup-inside.sqlite", "pickup-across.sqlite", "idle.sqlite"),
    ),
    "queues_postgres": (
        *("enqueue.postgres", "enqueue_many.postgres", "process.postgres", "process4.postgres"),
        *("pickup.postgres", "idle.postgres"),
    ),
    "queues_long": ("steady.sqlite", "steady.postgres"),
    "scale": ("rehearse.sqlite",),
    "growth": ("growth.sqlite", "growth.postgres", "prune.sqlite", "prune.postgres"),
    "start": ("import.process", "command.process", "memory.process", "threads.process"),
}
"""The scenes of each module, by name: ``what.where``, so that ``--only idle`` plays all of it."""

LONG = frozenset({"calls.scaling", "calls.latency", "steady.sqlite", "steady.postgres"})
"""They tell little in a few seconds: a run that is not full leaves them out, unless named."""

NAMES = tuple(name for names in MODULES.values() for name in names)


def stage(name: str) -> Stage:
    """The scene of this name; its peers are imported now: `ImportError` where one is missing."""
    module = next(module for module, names in MODULES.items() if name in names)
    found: Stage = import_module(f"benchmarks.{module}").SCENES[name]
    return found


def chosen(starts: Iterable[str] | None, *, full: bool) -> list[str]:
    """The scenes whose name begins with one of these; where none are given all, if ``full``."""
    if starts:
        return [name for name in NAMES if name.startswith(tuple(starts))]
    return [name for name in NAMES if full or name not in LONG]
