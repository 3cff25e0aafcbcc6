"""A bell at a file, by which one process tells others: to open it for reading and close it rings.

The kernel tells who waits (Linux' inotify, for which Python has no module). All processes on a
SQLite file with a write-ahead log share its memory, and so one kernel. It costs next to nothing:
to set the times of the file would be written to the disk with the next commit.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import weakref
from contextlib import suppress

_CLOSED = 0x10
"""``IN_CLOSE_NOWRITE``: one that was opened for reading only, so none of SQLite's own."""
_DELETED = 0x400
"""``IN_DELETE_SELF``, which is no ring."""
_GONE = 0x8000
"""``IN_IGNORED``: the watch is over, with its file or by `FileBell.leave`."""
_NOTE = struct.Struct("iIII")
"""The watch, what happened, and two that are zero here."""
_LARGEST = 4096
"""Bytes of the kernel's notes that are read at once."""


def ring(path: str | bytes) -> None:
    """Tell all who wait at this file. It may fail in silence: they look by themselves as well."""
    if sys.platform != "linux":
        return
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        pass


def hang(path: str) -> FileBell | None:
    """A bell at this file; ``None`` where the kernel has none or no more, or there is no file."""
    if sys.platform != "linux":
        return None
    try:
        return FileBell(path)
    except (ImportError, OSError):
        return None


class FileBell:
    """Hears `ring`, in whatever process. Raises `OSError` where it cannot.

    Attributes:
        hangs: there is something to be heard: its file was not deleted since.

    Args:
        path: of a file that holds no locks: the system drops those of a process that closes it.
    """

    def __init__(self, path: str) -> None:
        import ctypes  # noqa: PLC0415 - only who listens pays for it
        import select  # noqa: PLC0415 - same

        def asked(name: str, *arguments: int | bytes) -> int:
            answer: int = getattr(libc, name)(*arguments)
            if answer < 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), path)
            return answer

        libc = ctypes.CDLL(None, use_errno=True)
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._notes = notes = asked("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        self._shut = weakref.finalize(self, os.close, notes)
        self._shut.atexit = False  # another thread may wait until then
        self._path = os.fsencode(path)
        self._watch = asked("inotify_add_watch", notes, self._path, _CLOSED)
        self.hangs = True
        self._hear, self._remove = libc.inotify_add_watch, libc.inotify_rm_watch
        self._poll = select.poll()
        self._poll.register(notes, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait until it is rung, or falls; false when nothing came but time."""
        if not self._poll.poll(seconds * 1000):
            return False
        with suppress(BlockingIOError):
            notes = os.read(self._notes, _LARGEST)  # of equal notes the kernel keeps one
            if any(what & _GONE for _, what, _, _ in _NOTE.iter_unpack(notes)):
                self.hangs = False
        return True

    def ring(self) -> None:
        """Tell the others: the waiting thread would keep those from work that know of it.

        If somebody else rings within these microseconds, that is not heard either.
        """
        with self._mutex:
            hears = self._shut.alive
            if hears:
                self._hear(self._notes, self._path, _DELETED)
            try:
                ring(self._path)
            finally:
                if hears:
                    self._hear(self._notes, self._path, _CLOSED)

    def leave(self) -> None:
        """End the `wait` of another thread: the end of a watch is a note as well."""
        if os.getpid() != self._pid:  # a child's parent goes on
            return
        with self._mutex:
            if self._shut.alive:  # else the number may be another file's by now
                self._remove(self._notes, self._watch)

    def close(self) -> None:
        """Nobody waits any more; may be called twice."""
        with self._mutex:
            self._shut()
