"""Group commit: callers that write at the same time share one commit, without a thread for it.

Whoever finds nobody committing leads: it takes what waits, runs and commits it together, tells
the others, and hands the lead to the first of those that came meanwhile. Those that shared a commit
are likely to come back together, so the next leader lets them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gonogo.clock import give_way
from gonogo.store.fates import Fate, Piece
from gonogo.store.port import Transaction

T = TypeVar("T")
_LARGEST = 64
"""Pieces of work in one commit; more would make the first wait long for the last."""


class Job:
    """A piece of work on its way: what to do, and in the end what came of it.

    Attributes:
        done: it is certain what came of it, so it must not be run again.
    """

    __slots__ = ("_gate", "done", "durable", "error", "leads", "result", "work")

    def __init__(self, work: Callable[[Transaction], Any], durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.done = False
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._gate: threading.Lock | None = None

    def enter(self) -> None:
        """Be one that waits, for whom somebody else leads."""
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self) -> None:
        """Until it is done, or its caller has to lead."""
        if self._gate is not None:
            self._gate.acquire()

    def wake(self) -> None:
        if self._gate is not None and self._gate.locked():
            self._gate.release()


class GroupCommit:
    """Merges concurrent writes.

    Args:
        commit: runs the jobs, if it can in one transaction, setting the result or error of each;
            it returns after the commit. An exception from it is the fate of every job that it has
            not marked as done, except one that is no `Exception`: that interrupts the leader
            alone, and the others run again.
    """

    def __init__(self, commit: Callable[[Sequence[Job]], None]) -> None:
        self._commit = commit
        self._mutex = threading.Lock()
        self._waiting: list[Job] = []
        self._led = False
        self._shared = 1

    def write(self, work: Callable[[Transaction], T], durable: bool) -> T:
        """Run ``work`` in a commit, shared or not; its result after the commit."""
        job = Job(work, durable)
        self._run((job,))
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def write_all(self, pieces: Sequence[Piece]) -> list[Fate]:
        """Run all of them, together where they fit into one commit: each has its own fate."""
        jobs = [Job(work, durable) for work, durable in pieces]
        self._run(jobs)
        return [Fate(job.result, job.error) for job in jobs]

    def _run(self, jobs: Sequence[Job]) -> None:
        try:
            with self._mutex:
                self._waiting += jobs
                jobs[0].leads, self._led = not self._led, True
                for job in jobs:
                    if not job.leads:
                        job.enter()
            for job in jobs:
                if not job.leads:
                    job.wait()
                if not job.done:
                    self._lead(job)
        except BaseException:
            for job in jobs:
                self._abandon(job)
            raise

    def _lead(self, own: Job) -> None:
        batch: list[Job] = []
        try:
            self._gather()
            with self._mutex:
                self._waiting.remove(own)
                batch = [own, *self._waiting[: _LARGEST - 1]]
                del self._waiting[: _LARGEST - 1]
            self._shared = len(batch)
            self._commit(batch)
        except Exception as error:  # noqa: BLE001 - it reaches every caller
            for job in batch:
                if not job.done:
                    job.result, job.error = None, _own_copy(error)
        except BaseException:
            with self._mutex:
                self._waiting[:0] = [job for job in batch[1:] if not job.done]
            batch = [own, *(job for job in batch if job.done and job is not own)]
            raise
        finally:
            for job in batch:
                job.done = True
                job.wake()
            self._resign()

    def _gather(self) -> None:
        """Let those come that the last commit woke, as long as each turn brings somebody."""
        came = 0
        while came < len(self._waiting) < self._shared:
            came = len(self._waiting)
            give_way()

    def _resign(self) -> None:
        """Hand the lead to the next in line, if there is one."""
        with self._mutex:
            self._led = bool(self._waiting)
            if self._led:
                self._waiting[0].leads = True
                self._waiting[0].wake()

    def _abandon(self, job: Job) -> None:
        """The caller was interrupted: take its job back, or see it through if it is running."""
        with self._mutex:
            waits = job in self._waiting
            if waits:
                self._waiting.remove(job)
        if waits and job.leads:
            self._resign()
        elif not waits and not job.done:
            job.wait()


def _own_copy(error: Exception) -> Exception:
    """Each caller raises an error of its own: a traceback belongs to one thread."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
