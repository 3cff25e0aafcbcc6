"""Large plans and large ledgers: what grows with the work, and what must not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.children import Children, children
from benchmarks.measure import EACH, MEGABYTES, Effort, Measure, Scene, Stage, Target

_SIZES = (10_000, 30_000, 100_000)


@contextmanager
def rehearsals(effort: Effort) -> Iterator[Scene]:
    """From the first recorded call to the last queued job, and what the process weighs."""
    with children() as run:
        yield Scene(
            "Rehearse, plan, approve and apply",
            "an irreversible action with a key and two limits, SQLite file, synchronous FULL; a "
            "fresh ledger in a fresh process each; memory: the resident peak by then",
            {_name(size): _rehearsed(run, size) for size in _SIZES},
            [
                Target(f"{_name(100_000)} rehearse and plan", None, 20.0),
                *(
                    Target(f"{_name(100_000)} {step}", f"{_name(10_000)} {step}", 12.5)
                    for step in ("rehearse and plan", "approve", "apply")
                ),
                Target(f"{_name(100_000)} planned, memory", None, 300e6),
            ],
            EACH,
            {"memory": MEGABYTES},
            rounds=effort.of(1, 3),
        )


def _name(size: int) -> str:
    return f"gonogo, {size:,} calls:"


def _rehearsed(run: Children, size: int) -> Measure:
    def measure() -> Mapping[str, float]:
        for old in Path(run.folder).glob("rehearsal.db*"):
            old.unlink()
        found: Mapping[str, float] = run.answer("-m", "benchmarks.rehearsing", str(size))
        return found

    return measure


SCENES: dict[str, Stage] = {"rehearse.sqlite": rehearsals}
