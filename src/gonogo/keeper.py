"""The thread beside a worker's own: keeps leases alive, and hears of what others write."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gonogo.logs import StructuredLogger
from gonogo.secrets import describe
from gonogo.store.port import Listening

MOST_PAUSE = 1.0
"""Seconds between two rounds at most."""


class Keeper:
    """Does rounds from its making on, until it was stopped and the worker's last thread left.

    A thread without a job may be about to begin one: it claims, or goes from one to the next.

    Args:
        first: the first round, until it succeeds; after that every round is ``due``. Both may
            raise anything.
        pause: seconds between two rounds.
        listening: where it spends them.
        left: waits for the worker's threads to leave, so many seconds at most; whether they did.
    """

    def __init__(
        self,
        first: Callable[[], None],
        due: Callable[[], None],
        *,
        pause: float,
        listening: Listening,
        left: Callable[[float], bool],
        logger: StructuredLogger,
    ) -> None:
        self._first = first
        self._due = due
        self._pause = min(MOST_PAUSE, pause)
        self._listening = listening
        self._left = left
        self._logger = logger
        self._thread = threading.Thread(target=self._run, name="gonogo-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Hear of nothing more; the rounds go on while the worker's threads do."""
        self._listening.end()

    def join(self, timeout: float) -> None:
        """Wait for its end, so many seconds at most."""
        self._thread.join(timeout)

    def _run(self) -> None:
        todo = self._first
        while True:
            if self._survives(todo):
                todo = self._due
            if self._rests() and self._left(self._pause):
                return

    def _rests(self) -> bool:
        """A pause in which it listens; true, and at once, from the stop on."""
        if not self._survives(lambda: self._listening.wait(self._pause)):
            self._listening.pause(self._pause)
        return self._listening.is_over

    def _survives(self, what: Callable[[], object]) -> bool:
        """Do it, and say whether it could be done; no fault may end the thread."""
        try:
            what()
        except BaseException as error:  # noqa: BLE001 - the keeper must outlive every fault
            self._logger.log_action("worker.keeper_fault", "error", error=describe(error))
            return False
        return True
