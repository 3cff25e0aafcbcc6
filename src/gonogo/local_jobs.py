"""Jobs that live in one process: any callable, forgotten when the process ends."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from gonogo.clock import Clock
from gonogo.ids import new_id
from gonogo.secrets import describe


class Job:
    """One job; its ``status`` is queued, running, completed, failed, unknown or cancelled."""

    __slots__ = ("error", "fn", "id", "name", "overdue_at", "result", "status", "timeout")

    def __init__(
        self, job_id: str, name: str, fn: Callable[[], Any], timeout: float | None
    ) -> None:
        self.id = job_id
        self.name = name
        self.fn = fn
        self.timeout = timeout
        self.overdue_at: float | None = None
        self.status = "queued"
        self.result: Any = None
        self.error: str | None = None

    def __repr__(self) -> str:
        return f"<job {self.name!r} {self.id}: {self.status}>"

    def view(self) -> dict[str, Any]:
        """Its status, with the result or the error once it has one."""
        view: dict[str, Any] = {"id": self.id, "name": self.name, "status": self.status}
        if self.status == "completed":
            view["result"] = self.result
        elif self.error is not None:
            view["error"] = self.error
        return view


class LocalJobs:
    """A queue with priorities and delays, and a bounded memory of what is finished.

    Thread-safe; ``history`` finished jobs are remembered.
    """

    def __init__(self, clock: Clock, history: int) -> None:
        self._clock = clock
        self._history = history
        self._order = itertools.count()
        self._delayed: list[tuple[float, int, int, Job]] = []
        self._ready: list[tuple[int, int, Job]] = []
        self._jobs: dict[str, Job] = {}
        self._cancelled = 0
        self._finished: OrderedDict[str, Job] = OrderedDict()
        self._mutex = threading.Lock()

    def put(
        self, name: str, fn: Callable[[], Any], priority: int, delay: float, timeout: float | None
    ) -> Job:
        """Queue ``fn``; higher priority first, then in order; not before ``delay`` seconds."""
        now = self._clock.now()
        job = Job(new_id(now), name, fn, timeout)
        with self._mutex:
            self._jobs[job.id] = job
            if delay > 0:
                heapq.heappush(self._delayed, (now + delay, -priority, next(self._order), job))
            else:
                heapq.heappush(self._ready, (-priority, next(self._order), job))
        return job

    def take(self) -> Job | None:
        """The next due job, now running; ``None`` when there is none."""
        now = self._clock.now()
        with self._mutex:
            while self._delayed and self._delayed[0][0] <= now:
                _, priority, order, job = heapq.heappop(self._delayed)
                heapq.heappush(self._ready, (priority, order, job))
            while self._ready:
                job = heapq.heappop(self._ready)[2]
                if job.status == "queued":
                    job.status = "running"
                    job.overdue_at = None if job.timeout is None else now + job.timeout
                    return job
        return None

    def next_due(self) -> float | None:
        """Seconds until a waiting job is due; ``None`` when none waits."""
        with self._mutex:
            while self._ready and self._ready[0][2].status != "queued":
                heapq.heappop(self._ready)
            while self._delayed and self._delayed[0][3].status != "queued":
                heapq.heappop(self._delayed)
            if self._ready:
                return 0.0
            return self._delayed[0][0] - self._clock.now() if self._delayed else None

    def run(self, job: Job) -> None:
        """Run a taken job to its end, whatever that is."""
        try:
            result = job.fn()
        except BaseException as error:  # noqa: BLE001 - a job must not end its thread
            self._end(job, "failed", error=describe(error))
        else:
            self._end(job, "completed", result=result)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job that waits; false when it has begun, or is not known."""
        with self._mutex:
            job = self._jobs.get(job_id)
            if job is None or job.status != "queued":
                return False
            self._finish(job, "cancelled")
            self._cancelled += 1
            if 2 * self._cancelled > len(self._ready) + len(self._delayed):
                self._forget_cancelled()
            return True

    def give_up_overdue(self) -> list[str]:
        """End the running jobs whose time is over as ``unknown``; returns their ids."""
        now = self._clock.now()
        with self._mutex:
            late = [
                job
                for job in self._jobs.values()
                if job.status == "running" and job.overdue_at is not None and job.overdue_at <= now
            ]
            for job in late:
                job.error = f"no outcome within {job.timeout:g} s; it may still have happened"
                self._finish(job, "unknown")
        return [job.id for job in late]

    def view(self, job_id: str) -> dict[str, Any] | None:
        """The status of a job that is remembered."""
        with self._mutex:
            job = self._jobs.get(job_id) or self._finished.get(job_id)
            return None if job is None else job.view()

    def waiting(self) -> list[Job]:
        """The jobs that wait: due ones first, in the order in which they will run."""
        with self._mutex:
            ready = [entry[2] for entry in sorted(self._ready, key=lambda e: e[:2])]
            delayed = [entry[3] for entry in sorted(self._delayed, key=lambda e: e[:3])]
        return [job for job in ready + delayed if job.status == "queued"]

    def finished(self) -> dict[str, dict[str, Any]]:
        """The finished jobs that are remembered, oldest first."""
        with self._mutex:
            return {job_id: job.view() for job_id, job in self._finished.items()}

    def _forget_cancelled(self) -> None:
        """Drop them from the queue, at a cost that their number has paid for."""
        self._ready = [entry for entry in self._ready if entry[2].status == "queued"]
        self._delayed = [entry for entry in self._delayed if entry[3].status == "queued"]
        heapq.heapify(self._ready)
        heapq.heapify(self._delayed)
        self._cancelled = 0

    def _end(self, job: Job, status: str, *, result: Any = None, error: str | None = None) -> None:
        with self._mutex:
            if job.status == "running":  # else it was given up, and its outcome came too late
                job.result, job.error = result, error
                self._finish(job, status)

    def _finish(self, job: Job, status: str) -> None:
        job.status = status
        job.fn = _forgotten
        self._jobs.pop(job.id, None)
        self._finished[job.id] = job
        while len(self._finished) > self._history:
            self._finished.popitem(last=False)


def _forgotten() -> None:
    """Stands in for a finished job's function, so that its closure can be freed."""
