"""Group commit: callers that write at the same time share one commit, without a thread for it.

Whoever finds nobody committing leads: it takes what waits, runs and commits it together, tells
the others, and hands the lead to the first of those that came meanwhile. Those that shared a commit
are likely to come back together, so the next leader lets them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from msgspec import Struct

from gonogo.clock import give_way
from gonogo.store.fates import Fate, Piece
from gonogo.store.port import Transaction

T = TypeVar("T")
_LARGEST = 256
"""Pieces of work in one commit; more would make the first wait long for the last."""
_is_durable = attrgetter("durable")


class Job(Struct, eq=False):
    """A piece of work on its way: what to do, and in the end what came of it.

    Attributes:
        done: it is certain what came of it, so it must not be run again.
        gate: where its caller waits while somebody else leads.
    """

    work: Callable[[Transaction], Any]
    durable: bool
    done: bool = False
    result: Any = None
    error: BaseException | None = None
    gate: threading.Lock | None = None

    def enter(self) -> None:
        """Be one that waits, for whom somebody else leads."""
        self.gate = threading.Lock()
        self.gate.acquire()

    def wait(self) -> None:
        """Until it is done, or its caller has to lead."""
        if self.gate is not None:
            self.gate.acquire()

    def wake(self) -> None:
        if self.gate is not None and self.gate.locked():
            self.gate.release()


class GroupCommit:
    """Merges concurrent writes.

    Args:
        commit: runs the jobs, if it can in one transaction, setting the result or error of each;
            it returns after the commit. An exception from it is the fate of every job that it has
            not marked as done, except one that is no `Exception`: that interrupts the leader
            alone, and the others run again.
        apart: where much of what is written need not be durable, commit that by itself, and first:
            who waits for it does not wait for the disk, and comes back in time to share the
            durable commit that follows. One commit at most goes before one that is durable.
    """

    def __init__(self, commit: Callable[[Sequence[Job]], None], *, apart: bool = False) -> None:
        self._commit = commit
        self._apart = apart
        self._mutex = threading.Lock()
        self._waiting: list[Job] = []
        self._leader: Job | None = None
        self._batch: list[Job] = []
        self._shared = 1
        self._durable = False

    def write(self, work: Callable[[Transaction], T], durable: bool) -> T:
        """Run ``work`` in a commit, shared or not; its result after the commit."""
        job = Job(work, durable)
        if not self._run_alone(job):
            self._run((job,))
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def write_all(self, pieces: Sequence[Piece]) -> list[Fate]:
        """Run all of them, together where they fit into one commit: each has its own fate."""
        durable = any(durable for _, durable in pieces)
        jobs = [Job(work, durable) for work, _ in pieces]
        self._run(jobs)
        return [Fate(job.result, job.error) for job in jobs]

    def _run_alone(self, job: Job) -> bool:
        """Lead without having stood in line, where nobody else does, as mostly."""
        try:
            with self._mutex:
                if alone := self._leader is None and self._shared == 1:
                    self._leader, self._durable = job, job.durable
            if alone:
                self._carry_out((job,))
                self._resign(job)
        except BaseException:
            self._abandon(job)
            raise
        return alone

    def _run(self, jobs: Sequence[Job]) -> None:
        try:
            with self._mutex:
                if self._leader is None:
                    self._leader = jobs[0]
                for job in jobs:
                    if job is not self._leader:
                        job.enter()
                self._waiting += jobs
            for job in jobs:
                if job.gate is not None:
                    job.wait()
                if not job.done:
                    self._lead(job)
        except BaseException:
            for job in jobs:
                self._abandon(job)
            raise

    def _lead(self, own: Job) -> None:
        """Commit what waits until ``own`` is done, which is the first in line."""
        while not own.done:
            if self._shared > 1:
                self._gather()
            with self._mutex:
                self._shared = len(self._waiting)
                batch, rest = self._next()
                self._batch = batch  # before it leaves the line: an interrupt may come in between
                self._durable = any(map(_is_durable, batch))
                self._waiting = rest
            self._carry_out(batch)
            if not own.done:
                self._tell()
        self._resign(own)

    def _carry_out(self, batch: Sequence[Job]) -> None:
        """Commit them: from then on it is certain what came of each."""
        try:
            self._commit(batch)
        except Exception as error:  # noqa: BLE001 - it reaches every caller
            for job in batch:
                if not job.done:
                    job.result, job.error = None, _own_copy(error)
        for job in batch:
            job.done = True

    def _next(self) -> tuple[list[Job], list[Job]]:
        """What of the line is committed now, and the rest of it."""
        batch, rest = self._waiting[:_LARGEST], self._waiting[_LARGEST:]
        if self._apart and len(batch) > 1 and (self._durable or not batch[0].durable):
            apart = [job for job in batch if not job.durable]
            if apart:
                return apart, [*filter(_is_durable, batch), *rest]
        return batch, rest

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
            own.done = True
            waiting = self._waiting
            if self._batch:
                waiting[:0] = [job for job in self._batch if not job.done and job not in waiting]
                self._tell()
            self._leader = waiting[0] if waiting else None
        if self._leader is not None:
            self._leader.wake()

    def _tell(self) -> None:
        for job in self._batch:
            if job.done:
                job.wake()
        self._batch = []

    def _abandon(self, job: Job) -> None:
        """The caller was interrupted: take its job back, or see it through if it is running."""
        with self._mutex:
            waits = job in self._waiting
            if waits:
                self._waiting.remove(job)
            leads = self._leader is job
        if leads:
            self._resign(job)
        elif not waits and not job.done and job.gate is not None:
            job.wait()
            self._abandon(job)  # it may have come back in line, if its leader was interrupted too


def _own_copy(error: Exception) -> Exception:
    """Each caller raises an error of its own: a traceback belongs to one thread."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
