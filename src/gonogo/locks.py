"""Locks on the hottest ways, where ``with`` would take twice as long."""

from __future__ import annotations

from threading import RLock


def let_go(lock: RLock) -> None:
    """Release a lock, unless this thread does not hold it.

    For whoever was interrupted where it takes or releases one, and cannot know which it was.
    """
    try:
        lock.release()
    except RuntimeError:
        return
