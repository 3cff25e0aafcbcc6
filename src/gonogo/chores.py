"""What any process does for the whole ledger: recovery, evidence, old keys and alerts, tidying."""

from __future__ import annotations

from gonogo.closings import Closings
from gonogo.pipeline import Pipeline
from gonogo.recovery import Recovery
from gonogo.retention import Retention

LOOK_EVERY = 5.0
"""Seconds after which an idle process asks again when the next chore is due."""


class Chores:
    """Does them when they are due, and asks the ledger seldom whether they are.

    Args:
        lease: seconds that a claim holds; a chore is noticed within a third of it.
        retention: seconds for which finished calls are kept; see `Retention`.
    """

    def __init__(
        self, pipeline: Pipeline, recovery: Recovery, *, lease: float, retention: float | None
    ) -> None:
        self._store = pipeline.store
        self._clock = pipeline.clock
        self._keys = pipeline.keys
        self._recovery = recovery
        self._retention = Retention(pipeline.store, pipeline.clock, keep=retention)
        self._closings = Closings(
            pipeline.store, pipeline.clock, pipeline.alerts, retention=retention
        )
        self._every = min(LOOK_EVERY, lease / 3)
        self._look_at = self._clock.monotonic()

    def due(self) -> bool:
        """Whether there is something to do. Raises `StoreError` like `run`."""
        if self._recovery.looking or self._retention.due or self._closings.due:
            return True
        begun = self._clock.monotonic()
        if begun < self._look_at:
            return False
        at = self._store.read(lambda tx: tx.calls.next_chore())
        wait = self._every if at is None else at - self._clock.now()
        self._look_at = begun + min(wait, self._every)
        return wait <= 0

    def run(self) -> int:
        """One round of them; returns how many calls changed.

        Raises `StoreError` when the ledger is out of reach.
        """
        self._retention.step()
        changed = self._recovery.step()
        changed += self._keys.release_lapsed(self._clock.now())
        self._closings.step()
        self._look_at = self._clock.monotonic()
        return changed
