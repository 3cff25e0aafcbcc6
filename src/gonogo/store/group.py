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

    __slots__ = ("_gate", "done", "durable", "error", "result", "work")

    def __init__(self, work: Callable[[Transaction], Any], durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._gate: threading.Lock | None = None

    def enter(self) -> None:
        """Be one that waits, for whom somebody else leads."""
        self._gate = threading.Lock()
        self._gate.acquire()

    @property
    def entered(self) -> bool:
        """Whether it was ever in line."""
        return self._gate is not None

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
        self._leader: Job | None = None
        self._batch: list[Job] = []
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
                for job in jobs:
                    job.enter()
                if self._leader is None:
                    self._leader = jobs[0]
            for job in jobs:
                if self._leader is not job:
                    job.wait()
                if not job.done:
                    self._lead(job)
        except BaseException:
            for job in jobs:
                self._abandon(job)
            raise

    def _lead(self, own: Job) -> None:
        self._gather()
        with self._mutex:
            others = [job for job in self._waiting if job is not own]
            self._batch = batch = [own, *others[: _LARGEST - 1]]
            self._waiting = [job for job in self._waiting if job not in batch]
        self._shared = len(batch)
        try:
            self._commit(batch)
        except Exception as error:  # noqa: BLE001 - it reaches every caller
            for job in batch:
                if not job.done:
                    job.result, job.error = None, _own_copy(error)
                    job.done = True
        for job in batch:
            job.done = True
        self._resign(own)

    def _gather(self) -> None:
        """Let those come that the last commit woke, as long as each turn brings somebody."""
        came = 0
        while came < len(self._waiting) < self._shared:
            came = len(self._waiting)
            give_way()

    def _resign(self, own: Job) -> None:
        """Tell those whose work is over, and hand the lead to the next in line, if there is one.

        Whoever leads does this whatever interrupts it, or all others would wait for ever.
        """
        with self._mutex:
            try:
                self._hand_over(own)
            except BaseException:
                self._hand_over(own)
                raise

    def _hand_over(self, own: Job) -> None:
        """May be begun anew. Work of which nothing is certain goes back in line, but ``own``."""
        if self._leader is own:
            batch = [job for job in self._batch if job is not own]
            back = [job for job in batch if not job.done and job not in self._waiting]
            self._waiting[:0] = back
            for job in batch:
                if job.done:
                    job.wake()
            own.done = True
            self._batch = []
            self._leader = self._waiting[0] if self._waiting else None
        if self._leader is not None:
            self._leader.wake()

    def _abandon(self, job: Job) -> None:
        """The caller was interrupted: take its job back, or see it through if it is running."""
        with self._mutex:
            waits = job in self._waiting
            if waits:
                self._waiting.remove(job)
            leads = self._leader is job
        if leads:
            self._resign(job)
        elif not waits and not job.done and job.entered:
            job.wait()
            self._abandon(job)  # it may have come back in line, if its leader was interrupted too


def _own_copy(error: Exception) -> Exception:
    """Each caller raises an error of its own: a traceback belongs to one thread."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
