"""How long what is over is kept, and who is still there: the ledger's housekeeping."""

from __future__ import annotations

from gonogo.clock import Clock
from gonogo.store.port import Store, Transaction

EVERY = 60.0
SOON = 5.0
"""Seconds between two rounds of one process, and where there was much to forget."""

AT_ONCE = 500
"""Calls forgotten in one transaction, so that nobody waits long for it."""

SPELL = 0.5
"""Seconds for which such transactions follow each other: the keeper has leases to renew."""

IN_A_ROW = 100
"""How many do at most: a worker must forget faster than it makes history."""

LEAST = 120.0
"""Seconds for which a finished call is kept at least: whoever queued it may still look for it."""

BEATS_KEPT = 3600.0
"""Seconds after which the last sign of life of a dead process is removed."""


class Retention:
    """Forgets finished calls that hold no key, and beats of the dead.

    A call that holds its key (a payment that was made) is never forgotten: the key is what keeps
    it from being made again. Unknown calls never end by themselves.

    Args:
        keep: seconds for which a finished call is kept, `LEAST` at least; ``None`` keeps them all.
    """

    def __init__(self, store: Store, clock: Clock, *, keep: float | None) -> None:
        self._store = store
        self._clock = clock
        self._keep = None if keep is None else max(keep, LEAST)
        self._next = float("-inf")

    @property
    def due(self) -> bool:
        """Whether it is time again."""
        return self._clock.monotonic() >= self._next

    def step(self) -> int:
        """`run_once`, a few times, when it is time again; returns how many calls were forgotten."""
        if not self.due:
            return 0
        forgotten, over = 0, self._clock.monotonic() + SPELL
        for _ in range(IN_A_ROW):
            now_gone = self.run_once()
            forgotten += now_gone
            if now_gone < AT_ONCE or self._clock.monotonic() >= over:
                break
        pause = EVERY if forgotten < AT_ONCE else SOON
        self._next = self._clock.monotonic() + (0.0 if now_gone == AT_ONCE else pause)
        return forgotten

    def run_once(self, limit: int = AT_ONCE) -> int:
        """One short transaction: up to ``limit`` calls, and every old beat."""
        now = self._clock.now()

        def work(tx: Transaction) -> int:
            for beat in tx.beats.all():
                if beat.at < now - BEATS_KEPT:
                    tx.beats.remove(beat.name)
            return 0 if self._keep is None else tx.calls.prune(now - self._keep, limit)

        return self._store.write(work, durable=False)
