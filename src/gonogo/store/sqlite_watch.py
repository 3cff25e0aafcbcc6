"""Noticing, without asking the database, that another process wrote to its file."""

from __future__ import annotations

import os
from collections.abc import Callable

from gonogo.errors import StoreError
from gonogo.store.file_bell import FileBell, hang, ring
from gonogo.store.port import Listening

TICK = 0.02
"""Seconds between two looks at the write-ahead log: longer than its time of change is coarse."""

SELDOM = 0.25
"""The same where a bell tells of every job, but of those that users' own transactions wrote."""

_BREATH = 0.001
"""Seconds for which a bell that rang is not heard; twice as long, up to `TICK`, if it rings on."""

Glance = tuple[int, int, int] | None


def log_of(path: str) -> str:
    """Where SQLite has the write-ahead log of a database: beside the file, behind any links."""
    return f"{os.path.realpath(path)}-wal"


class Watch(Listening):
    """Waits for the bell at a write-ahead log, and looks at its size and time.

    Where the kernel has no bell for us, or no more, it looks every `TICK` seconds, else `SELDOM`.

    It only spares waiting: what it misses is found at the next poll. When the log changed it asks
    ``others_wrote``; twice, because a second commit within the same tick of the file system's
    clock may leave no trace of its own.

    Args:
        log: its path; it may come, go and begin anew.
        others_wrote: whether anybody but this process committed since it was last asked; ``None``
            when that cannot be said at the moment, and is to be asked again.
    """

    def __init__(
        self, log: str, others_wrote: Callable[[], bool | None], wake: Callable[[], None]
    ) -> None:
        super().__init__()
        self._log = log
        self._others_wrote = others_wrote
        self._wake = wake
        self._bell: FileBell | None = None
        self._breath = 0.0
        self._unsure = False
        self._seen = self._glance()
        self._again = True

    def wait(self, seconds: float) -> bool:
        if self._bell is None or not self._bell.hangs:
            self._bell = hang(self._log)
            if self._bell is not None and self._look(rang=True):  # it may have rung before it hung
                return False
        while seconds > 0 and not self.is_over:
            pause = min(seconds, TICK if self._bell is None else SELDOM)
            if self._look(rang=self._hears(pause)):
                break
            seconds -= pause
        if self.is_over and self._bell is not None:
            self._bell.close()
        return self.is_over

    def ring(self) -> None:
        """Tell those who wait in other processes that a job was written here."""
        if self._bell is None:
            ring(self._log)
        else:
            self._bell.ring()

    def end(self) -> None:
        super().end()
        if self._bell is not None:
            self._bell.leave()

    def _hears(self, seconds: float) -> bool:
        """Wait for the bell; if it rings on and on it is heard ever less often."""
        if self._bell is None:
            self.pause(seconds)
            return False
        if self._breath:
            self.pause(self._breath)
            if self._unsure or self._bell.wait(0.0):
                self._breath = min(2 * self._breath, TICK)
                return True
        rang = self._bell.wait(seconds)
        self._breath = _BREATH if rang else 0.0
        return rang

    def _look(self, *, rang: bool) -> bool:
        """Wake when somebody else wrote; false when a glance was enough to know better."""
        found = self._glance()
        changed = rang or found != self._seen
        if self.is_over or not (changed or self._again):
            return False
        self._seen = found
        self._unsure = self._ask() is None
        self._again = self._unsure or changed
        return True

    def _glance(self) -> Glance:
        try:
            found = os.stat(self._log)  # noqa: PTH116 - up to fifty times a second, and Path takes twice as long
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _ask(self) -> bool | None:
        """Whether somebody else wrote, of which is then told; ``None`` as in `others_wrote`."""
        try:
            others_wrote = self._others_wrote()
            if others_wrote:
                self._wake()
        except StoreError:  # who polls finds out, and says so
            return False
        return others_wrote
