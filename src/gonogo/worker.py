"""Component 3: the worker. Threads over jobs of this process and over the ledger's jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gonogo.action import Action
from gonogo.clock import Clock, SystemClock
from gonogo.crew import Crew
from gonogo.errors import ConfigurationError, GonogoError
from gonogo.events import Event, EventBus
from gonogo.keeper import Keeper
from gonogo.local_jobs import Job, LocalJobs
from gonogo.logs import StructuredLogger, carry
from gonogo.records import Call, State
from gonogo.secrets import describe
from gonogo.store.port import Listening

if TYPE_CHECKING:
    import asyncio

    from gonogo.delivery import Delivery
    from gonogo.perform import Loop
    from gonogo.underway import Begun

PAUSE_AFTER_FAULT = 1.0
"""Seconds a thread waits after the ledger could not be asked."""

SHORTEST_PAUSE = 0.005
"""Seconds a thread waits at least before it asks again for what is due and was not to be had."""

_STATUS = {
    State.PLANNED: "queued",
    State.PENDING: "queued",
    State.CLAIMED: "running",
    State.DISPATCHED: "running",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.UNKNOWN: "unknown",
    State.CANCELLED: "cancelled",
    State.DISCARDED: "cancelled",
}


class WorkerProcess:
    """Runs jobs in ``max_workers`` threads.

    Alone, it takes any callable (`submit_job`); the jobs live and die with the process. With a
    ``delivery`` it also carries out the ledger's jobs, keeps their leases alive from a thread of
    its own, and recovers the jobs of processes that died.

    Args:
        poll_interval: seconds between two looks into the ledger when idle. Jobs that are
            submitted in this process start at once.
        durable: the ledger outlives the process, so a bare callable cannot be a job on it.
        history: finished jobs whose results are kept.
    """

    def __init__(
        self,
        poll_interval: float = 5.0,
        max_workers: int = 1,
        *,
        delivery: Delivery | None = None,
        durable: bool = False,
        clock: Clock | None = None,
        logger: StructuredLogger | None = None,
        events: EventBus | None = None,
        history: int = 1000,
    ) -> None:
        if not poll_interval > 0:
            raise ConfigurationError(f"poll_interval={poll_interval!r}: give more than 0 seconds")
        if type(max_workers) is not int or max_workers < 1:
            raise ConfigurationError(f"max_workers={max_workers!r}: give a whole number from 1")
        self._events = events
        self.poll_interval = poll_interval
        self.max_workers = max_workers
        self._delivery = delivery
        self._durable = durable
        self._clock = clock or SystemClock()
        self._logger = logger or StructuredLogger(clock=self._clock)
        self._local = LocalJobs(self._clock, history)
        self._changed = threading.Condition()
        self._nudges = 0
        self._lookout: threading.Thread | None = None
        self._crew = Crew(self._changed)
        self._keeper: Keeper | None = None
        self._stop = threading.Event()
        self._stop.set()

    # jobs of this process

    def submit_job(
        self, name: str, fn: Callable[..., Any] | Action[..., Any], *args: Any, **kwargs: Any
    ) -> str:
        """Queue ``fn(*args, **kwargs)``; returns the job's id. A declared action is enqueued.

        Raises `ConfigurationError` for a bare callable when the ledger is durable: it could not
        be found again after a restart.
        """
        return self.submit(name, fn, args, kwargs)

    def submit(
        self,
        name: str,
        fn: Callable[..., Any] | Action[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        delay: float = 0.0,
        timeout: float | None = None,
    ) -> str:
        """`submit_job` with options: ``priority`` (higher first), ``delay`` and ``timeout``.

        Both are in seconds. A job beyond its time-out counts as ``unknown`` and its thread is
        replaced; an action has its own time-out and priority.
        """
        given = dict(kwargs or {})
        if isinstance(fn, Action):
            handle = fn.enqueue_in(delay, *args, **given) if delay else fn.enqueue(*args, **given)
            return handle.id
        if not callable(fn):
            raise ConfigurationError(f"job {name!r}: {fn!r} is not callable")
        if self._durable:
            raise ConfigurationError(
                f"job {name!r}: {getattr(fn, '__qualname__', fn)!r} cannot be kept in a durable "
                "ledger, because a function has no JSON form. Declare it with "
                "@sandbox.action(...) and enqueue it, or use a WorkerProcess of its own for jobs "
                "that may be lost with the process"
            )
        job = self._local.put(name, carry(lambda: fn(*args, **given)), priority, delay, timeout)
        self.wake()
        return job.id

    def get_job_status(self, job_id: str) -> dict[str, Any]:
        """``{'status': ...}`` with ``result`` or ``error``, of a job or of a call in the ledger.

        Statuses: queued, running, completed, failed, unknown, cancelled, not_found.
        """
        if (local := self._local.view(job_id)) is not None:
            return local
        call = self._delivery.find(job_id) if self._delivery is not None else None
        if call is None or self._delivery is None:
            return {"status": "not_found"}
        view: dict[str, Any] = {"id": call.id, "name": call.action, "status": _STATUS[call.state]}
        if call.state is State.SUCCEEDED:
            view["result"] = self._delivery.result_of(call)
        elif call.note:
            view["error"] = call.note
        return view

    def cancel_job(self, job_id: str) -> bool:
        """Cancel a job of this process that has not begun; false when it has, or is unknown."""
        return self._local.cancel(job_id)

    @property
    def job_queue(self) -> list[Job]:
        """The jobs of this process that wait, in the order in which they will run."""
        return self._local.waiting()

    @property
    def completed_jobs(self) -> dict[str, dict[str, Any]]:
        """The finished jobs of this process that are remembered, oldest first: id → status."""
        return self._local.finished()

    # start and stop

    @property
    def is_running(self) -> bool:
        """Whether its threads take jobs."""
        return not self._stop.is_set()

    def start(self) -> None:
        """Start the threads; does nothing when they run."""
        with self._changed:
            if not self._stop.is_set():
                return
            self._stop = threading.Event()
            for _ in range(self.max_workers):
                self._hire(self._stop)
            self._keeper = Keeper(
                self.keep_once,
                self._tend,
                pause=1.0 if self._delivery is None else self._delivery.lease / 3,
                listening=self._delivery.listen(self._heard) if self._delivery else Listening(),
                left=self._left,
                logger=self._logger,
            )
        self._tell("worker.started", threads=self.max_workers)

    def stop(self, timeout: float = 30.0) -> bool:
        """Take no more jobs, and wait up to ``timeout`` seconds for those under way.

        True when all ended in time. What did not is left to its lease: it will count as unknown.
        Tolerates a worker that was never started or is stopped already.
        """
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
            threads = self._crew.others
            keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()
        give_up = self._clock.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, give_up - self._clock.monotonic()))
        ended = not any(thread.is_alive() for thread in threads)
        if keeper is not None:
            self._crew.dismiss()
            keeper.join(5.0)
            if self._delivery is not None:
                self._delivery.leave()
            self._tell("worker.stopped")
        return ended

    def _tell(self, name: str, **detail: Any) -> None:
        if self._events:
            owner = None if self._delivery is None else self._delivery.owner
            event = Event(name, self._clock.now(), detail={"owner": owner, **detail})
            self._events.emit(event)

    def wake(self) -> None:
        """Look for work at once: something was queued.

        One idle thread is enough: who finds work wakes the next one, until one finds nothing.
        """
        with self._changed:
            self._nudges += 1
            self._changed.notify()

    def _heard(self, queue: str | None) -> None:
        """A job was written; where it is not known whose, see whether it is ours to take."""
        delivery = self._delivery
        if delivery is None:
            return
        if queue is not None:
            ours = queue in delivery.queues
        else:
            due = delivery.next_due()
            ours = due is not None and due < self.poll_interval
        if ours:
            self.wake()

    # the loop

    def run_once(self, *, loop: Loop | None = None) -> bool:
        """Carry out at most one due job; false when there was none.

        Raises `StoreError` when the ledger cannot be asked. A job's own failure is only recorded.
        """
        return self._run(loop, lambda: False)

    def _run(self, loop: Loop | None, more: Callable[[], bool]) -> bool:
        """Carry out a job, and where there is ``more`` to be done those that were claimed with it.

        False when there was none.
        """
        job = self._local.take()
        if job is not None:
            self.wake()
            with self._crew.doing(job.id):
                self._local.run(job)
            return True
        delivery = self._delivery
        if delivery is None or (self.is_running and not delivery.fit):
            return False
        work: Call | Begun | None = delivery.begin(lambda: max(1, self._crew.idle), ahead=more())
        if work is None:
            return False
        try:
            if delivery.has_more or self._looks_out:
                self.wake()  # the others do not look by themselves
            while work is not None:
                with self._crew.doing(work.id):
                    work = delivery.carry_on(work, more=more, loop=loop)
        except BaseException:
            if work is not None:  # begun, and then an interrupt
                delivery.let_go(work)
            raise
        return True

    def _goes_on(self) -> bool:
        """Whether the calling thread is to take another job of the ledger."""
        here = self.is_running and self._crew.includes_me and self._local.next_due() is None
        return here and self._delivery is not None and self._delivery.fit

    def keep_once(self) -> None:
        """One whole round of the keeper: leases, hung jobs, recovery. See `Delivery`."""
        self._give_up(self._local.give_up_overdue())
        if self._delivery is not None:
            was_fit = self._delivery.fit
            self._delivery.keep()
            if not was_fit:
                self.wake()
            self._give_up(self._delivery.overtime())
            if self._delivery.maintain():
                self.wake()

    def _tend(self) -> None:
        """What is due of `keep_once`."""
        self._give_up(self._local.give_up_overdue())
        if self._delivery is not None:
            was_fit = self._delivery.fit
            self._give_up(self._delivery.overtime())
            changed = self._delivery.tend()
            if changed or (self._delivery.fit and not was_fit):
                self.wake()

    def _loop(self, stop: threading.Event) -> None:
        """A thread's life: run what is due, else wait for a nudge, the next due time or a poll."""
        runner = _LazyRunner()
        try:
            while not stop.is_set() and self._crew.includes_me:
                nudges = self._nudges
                try:
                    if not self._run(runner, self._goes_on):
                        self._rest(nudges, stop)
                except BaseException as error:  # noqa: BLE001 - nothing may end the thread, SystemExit neither
                    level = "error" if isinstance(error, GonogoError) else "critical"
                    self._logger.log_action("worker.fault", level, error=describe(error))
                    self._wait(nudges, stop, PAUSE_AFTER_FAULT)
        finally:
            runner.close()

    def _rest(self, nudges: int, stop: threading.Event) -> None:
        """Until there may be work. The thread that came last looks out for what falls due."""
        with self._changed:
            self._lookout = threading.current_thread()
        pause: float | None = self._pause()
        while self._wait(nudges, stop, pause):
            if self._looks_out:
                pause = self._pause()
                if pause <= SHORTEST_PAUSE:
                    return
            else:
                pause = None

    @property
    def _looks_out(self) -> bool:
        """Whether the calling thread is the one of all that rest which wakes by itself."""
        return self._lookout is threading.current_thread()

    def _wait(self, nudges: int, stop: threading.Event, seconds: float | None) -> bool:
        """Wait; true when nothing came but time."""
        with self._changed:
            if nudges == self._nudges and not stop.is_set():
                self._changed.wait(seconds)
            return nudges == self._nudges and not stop.is_set()

    def _pause(self) -> float:
        dues = [self._local.next_due()]
        if self._delivery is not None:
            dues.append(self._delivery.next_due() if self._delivery.fit else PAUSE_AFTER_FAULT)
            self._delivery.asks()
        soonest = min([self.poll_interval, *(due for due in dues if due is not None)])
        return max(SHORTEST_PAUSE, soonest)

    def _left(self, seconds: float) -> bool:
        """Wait for the threads to leave, so long at most; whether they did."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._crew.others, seconds)

    def _give_up(self, job_ids: list[str]) -> None:
        """Replace the threads that hang in these jobs."""
        for _ in range(self._crew.dismiss(job_ids) if job_ids else 0):
            if not self._stop.is_set():
                self._hire(self._stop)

    def _hire(self, stop: threading.Event) -> None:
        self._crew.hire(lambda: self._loop(stop))


class _LazyRunner:
    """An event loop for a thread's async actions, made when the first one comes."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Any) -> Any:
        if self._runner is None:
            import asyncio  # noqa: PLC0415 - only async actions pay for it

            self._runner = asyncio.Runner()
        return self._runner.run(coroutine)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()
