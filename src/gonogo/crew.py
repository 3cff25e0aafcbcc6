"""The threads of a worker: who does what, and who takes the place of one that hangs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager


class Crew:
    """Threads that run one loop each, until they are dismissed.

    Args:
        changed: guards the crew; its waiters are told when a thread leaves.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._names = itertools.count(1)
        self._members: dict[threading.Thread, str | None] = {}

    def hire(self, loop: Callable[[], None]) -> None:
        """One more thread, which leaves when its loop ends."""

        def work() -> None:
            try:
                loop()
            finally:
                with self._changed:
                    self._members.pop(threading.current_thread(), None)
                    self._changed.notify_all()

        name = f"gonogo-worker-{next(self._names)}"
        thread = threading.Thread(target=work, name=name, daemon=True)
        with self._changed:
            self._members[thread] = None
        thread.start()

    @property
    def others(self) -> list[threading.Thread]:
        """Its threads, but for the one that asks."""
        with self._changed:
            return [t for t in self._members if t is not threading.current_thread()]

    @property
    def includes_me(self) -> bool:
        """Whether the calling thread still belongs to it."""
        return threading.current_thread() in self._members

    @property
    def idle(self) -> int:
        """How many threads carry out nothing."""
        return sum(job_id is None for job_id in list(self._members.values()))

    @contextmanager
    def doing(self, job_id: str) -> Iterator[None]:
        """Note what the calling thread does, so that it can be replaced when it hangs."""
        self._note(job_id)
        try:
            yield
        finally:
            self._note(None)

    def dismiss(self, job_ids: Collection[str] | None = None) -> int:
        """Let go of the threads that hang in these jobs, or of all; returns how many.

        A thread cannot be stopped from outside: it ends when its job returns.
        """
        with self._changed:
            gone = [t for t, job in self._members.items() if job_ids is None or job in job_ids]
            for thread in gone:
                del self._members[thread]
            self._changed.notify_all()
        return len(gone)

    def _note(self, job_id: str | None) -> None:
        thread = threading.current_thread()
        with self._changed:
            if thread in self._members:
                self._members[thread] = job_id
