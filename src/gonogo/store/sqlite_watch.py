"""Noticing, without asking the database, that another process wrote to its file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from gonogo.errors import StoreError

TICK = 0.02
"""Seconds between two looks at the write-ahead log: longer than its time of change is coarse."""

Look = tuple[int, int, int] | None


class Watch:
    """A daemon thread that looks at the size and time of the write-ahead log.

    It only spares waiting: what it misses is found at the next poll. When the log changed it asks
    ``others_wrote``; twice, because a second commit within the same tick of the file system's
    clock may leave no trace of its own.

    Args:
        log: path of the write-ahead log; it may come, go and begin anew.
        others_wrote: whether anybody but this process committed since it was last asked.
    """

    def __init__(
        self, log: str, others_wrote: Callable[[], bool], wake: Callable[[], None]
    ) -> None:
        self._log = log
        self._others_wrote = others_wrote
        self._wake = wake
        self._over = threading.Lock()  # waiting for it costs half of waiting for an event
        self._over.acquire()
        self._thread = threading.Thread(target=self._run, name="gonogo-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it and wait for its thread; may be called twice."""
        if self._over.locked():
            self._over.release()
        self._thread.join(5.0)

    def _run(self) -> None:
        seen, again = self._look(), True
        while not self._over.acquire(timeout=TICK):
            look = self._look()
            changed = look != seen
            if changed or again:
                self._tell()
            seen, again = look, changed

    def _look(self) -> Look:
        try:
            found = os.stat(self._log)  # noqa: PTH116 - fifty times a second, and Path takes twice as long
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _tell(self) -> None:
        try:
            if self._others_wrote():
                self._wake()
        except StoreError:  # who polls finds out, and says so
            pass
