"""Noticing, without asking the database, that another process wrote to its file."""

from __future__ import annotations

import os
from collections.abc import Callable

from gonogo.errors import StoreError

TICK = 0.02
"""Seconds between two looks at the write-ahead log: longer than its time of change is coarse."""

Glance = tuple[int, int, int] | None


class Watch:
    """Looks at the size and time of the write-ahead log, every `TICK` seconds.

    It only spares waiting: what it misses is found at the next poll. When the log changed it asks
    ``others_wrote``; twice, because a second commit within the same tick of the file system's
    clock may leave no trace of its own.

    Args:
        log: path of the write-ahead log; it may come, go and begin anew.
        others_wrote: whether anybody but this process committed since it was last asked; ``None``
            when that cannot be said at the moment, and is to be asked again.
    """

    def __init__(
        self, log: str, others_wrote: Callable[[], bool | None], wake: Callable[[], None]
    ) -> None:
        self._log = log
        self._others_wrote = others_wrote
        self._wake = wake
        self._seen = self._glance()
        self._again = True

    def look(self) -> bool:
        """Wake when somebody else wrote; false when a glance was enough to know better."""
        found = self._glance()
        changed = found != self._seen
        if not changed and not self._again:
            return False
        self._seen = found
        self._again = self._ask() or changed
        return True

    def _glance(self) -> Glance:
        try:
            found = os.stat(self._log)  # noqa: PTH116 - fifty times a second, and Path takes twice as long
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _ask(self) -> bool:
        """Whether to ask again."""
        try:
            others_wrote = self._others_wrote()
            if others_wrote:
                self._wake()
        except StoreError:  # who polls finds out, and says so
            return False
        return others_wrote is None
