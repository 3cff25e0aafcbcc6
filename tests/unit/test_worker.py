"""The worker's threads: they start at once, outlive every job, and end when told to."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.scene import SOON, WHO, Provider, Sandboxes, payment, reminder

from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError, StoreUnavailable
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.settings import Settings
from gonogo.store import sqlite_watch
from gonogo.store.port import Listening
from gonogo.worker import WorkerProcess

Make = Callable[..., WorkerProcess]


@pytest.fixture
def workers() -> Iterator[Make]:
    """Makes workers that are stopped when the test ends. They would poll once an hour."""
    made: list[WorkerProcess] = []

    def make(**options: Any) -> WorkerProcess:
        made.append(WorkerProcess(**{"poll_interval": 3600.0, **options}))
        return made[-1]

    yield make
    for worker in made:
        worker.stop(SOON)


def own_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("gonogo-")]


class Signal:
    """A job that says when it runs, and waits to be let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.let_go = threading.Event()
        self.ended = threading.Event()

    def __call__(self, *_: object) -> str:
        self.began.set()
        self.let_go.wait(SOON)
        self.ended.set()
        return "done"


# jobs of this process


def test_a_job_starts_at_once(workers: Make) -> None:
    """A job that is submitted to an idle worker does not wait for the poll."""
    worker, ran = workers(), threading.Event()
    worker.start()
    worker.submit_job("hello", ran.set)
    assert ran.wait(SOON)


def test_jobs_queued_before_the_start_run_after_it(workers: Make) -> None:
    """Submitting does not need a running worker."""
    worker, ran = workers(), threading.Event()
    job_id = worker.submit_job("hello", ran.set)
    assert worker.get_job_status(job_id) == {"id": job_id, "name": "hello", "status": "queued"}
    worker.start()
    assert ran.wait(SOON)


def test_all_threads_work(workers: Make) -> None:
    """As many jobs run at once as there are threads, whoever woke up first."""
    worker, together = workers(max_workers=4), threading.Barrier(5, timeout=SOON)
    worker.start()
    for _ in range(4):
        worker.submit_job("meet", together.wait)
    together.wait()


def pauses(worker: WorkerProcess, patch: pytest.MonkeyPatch, wanted: int) -> threading.Event:
    """Set when threads of the worker found nothing to do so many times."""
    pause, count, reached = worker._pause, itertools.count(1), threading.Event()

    def counted() -> float:
        seconds = pause()
        if next(count) >= wanted:
            reached.set()
        return seconds

    patch.setattr(worker, "_pause", counted)
    return reached


def test_a_batch_on_the_ledger_wakes_all_threads(
    shared: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One enqueue of many jobs keeps every idle thread busy, not just the first."""
    sandbox, together = shared(max_workers=3, worker_interval=3600.0), threading.Barrier(4)
    remind = reminder(sandbox, lambda text: together.wait(SOON))
    idle = pauses(sandbox.worker, monkeypatch, 3)
    sandbox.worker.start()
    assert idle.wait(SOON)
    remind.enqueue_many([("a",), ("b",), ("c",)])
    together.wait(SOON)
    assert sandbox.worker.stop(SOON)


def test_a_thread_that_looked_out_and_found_a_job_leaves_that_to_another(
    shared: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What falls due while it works is begun by a thread that is free."""
    sandbox = shared(max_workers=2, worker_interval=0.01)
    jobs = {"first": Signal(), "second": Signal()}
    remind = reminder(sandbox, lambda text: jobs[text]())
    for number, text in enumerate(jobs, 1):
        remind.enqueue_in(1.0 * number, text)
    idle = pauses(sandbox.worker, monkeypatch, 10)
    sandbox.worker.start()
    assert idle.wait(SOON)
    for job in jobs.values():
        shared.clock.advance(1.0)
        assert job.began.wait(SOON)
    for job in jobs.values():
        job.let_go.set()
    assert sandbox.worker.stop(SOON)


def test_a_worker_that_was_made_long_ago_starts_at_once(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beat is as old as its making; the keeper's first round makes it fit, and wakes it."""
    sandbox, ran = sandboxes(worker_interval=3600.0), threading.Event()
    monkeypatch.setattr("gonogo.worker.PAUSE_AFTER_FAULT", 3600.0)
    unfit, keep = pauses(sandbox.worker, monkeypatch, 1), sandbox.delivery.keep
    monkeypatch.setattr(sandbox.delivery, "keep", lambda: unfit.wait(SOON) and keep())
    reminder(sandbox, lambda text: ran.set()).enqueue("hello")
    sandboxes.clock.advance(1000)
    sandbox.worker.start()
    assert ran.wait(SOON)


def test_a_job_that_is_due_in_its_queue_is_not_asked_for(
    shared: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told where a job is due looks at once, or not at all where the queue is another's."""
    sandbox = shared()
    woken: list[str] = []
    asked: list[str] = []
    monkeypatch.setattr(sandbox.worker, "wake", lambda: woken.append("woken"))
    monkeypatch.setattr(sandbox.delivery, "next_due", lambda: asked.append("asked"))
    sandbox.worker._heard("default")
    sandbox.worker._heard("elsewhere")
    assert (woken, asked) == (["woken"], [])
    sandbox.worker._heard(None)
    assert (woken, asked) == (["woken"], ["asked"])


def test_a_failing_job_ends_no_thread(workers: Make) -> None:
    """Whatever a job raises is its own status; the thread takes the next one."""
    worker, ran = workers(), threading.Event()
    worker.start()

    def fail(error: BaseException) -> None:
        raise error

    failed = [worker.submit_job("bad", fail, e) for e in (ValueError("x"), SystemExit(1))]
    worker.submit_job("good", ran.set)
    assert ran.wait(SOON)
    assert [worker.get_job_status(i)["status"] for i in failed] == ["failed", "failed"]
    assert worker.get_job_status(failed[0])["error"] == "ValueError: x"


def test_a_hung_job_is_given_up_and_its_thread_replaced(workers: Make) -> None:
    """Beyond its time-out a job is unknown, and does not keep others from running."""
    clock, hung, ran = FakeClock(), Signal(), threading.Event()
    worker = workers(clock=clock)
    worker.start()
    job_id = worker.submit("hang", hung, timeout=5.0)
    assert hung.began.wait(SOON)
    worker.submit_job("next", ran.set)
    clock.advance(5)
    worker.keep_once()
    assert ran.wait(SOON)
    assert worker.get_job_status(job_id)["status"] == "unknown"
    hung.let_go.set()
    assert hung.ended.wait(SOON)
    assert worker.get_job_status(job_id)["status"] == "unknown"


def test_an_unknown_job_is_not_found(workers: Make) -> None:
    """Asking for a job that nobody knows is no error."""
    assert workers().get_job_status("nowhere") == {"status": "not_found"}


def test_what_is_not_callable_is_refused(workers: Make) -> None:
    """A mistake is found when the job is submitted."""
    with pytest.raises(ConfigurationError, match="not callable"):
        workers().submit_job("bad", 7)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    "options", [{"poll_interval": 0}, {"max_workers": 0}, {"max_workers": 1.5}]
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    """Nothing runs on settings that make no sense."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        WorkerProcess(**options)


# jobs of the ledger


def test_a_closure_on_a_durable_ledger_is_an_error(shared: Sandboxes) -> None:
    """It could not be found again after a restart; the error says what to do instead."""
    with pytest.raises(ConfigurationError, match=r"@sandbox\.action"):
        shared().worker.submit_job("closure", lambda: None)


def test_an_action_can_be_submitted(armed: SandboxOrchestrator) -> None:
    """A declared action is enqueued; its status and result are read from the ledger."""
    worker = armed.worker
    job_id = worker.submit_job("pay", payment(armed), "A")
    assert worker.get_job_status(job_id)["status"] == "queued"
    assert worker.run_once()
    status = worker.get_job_status(job_id)
    assert (status["status"], status["result"]) == ("completed", "paid A")


def test_a_hung_action_is_given_up_and_its_thread_replaced(sandboxes: Sandboxes) -> None:
    """Beyond its time-out the call is unknown, others run, and the late result settles it."""
    sandbox, hung, provider = sandboxes(), Signal(), Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, timeout=20.0)
    provider.script = [hung]
    sandbox.worker.start()
    first = pay.enqueue("A")
    assert hung.began.wait(SOON)
    sandboxes.clock.advance(21)
    sandbox.worker.keep_once()
    assert first.state() is State.UNKNOWN
    second = pay.enqueue("B")
    assert second.result(SOON * 1e6) == "paid B"
    hung.let_go.set()
    settled = threading.Event()
    sandbox.events.subscribe(lambda event: settled.set(), names=("call.late_result",))
    while first.state() is State.UNKNOWN and not settled.wait(0.01):
        pass
    assert first.result(0) == "done"


def test_a_ledger_that_fails_ends_no_thread(shared: Sandboxes) -> None:
    """A thread that cannot ask the ledger waits and asks again."""
    sandbox, asked, ran = shared(), threading.Event(), threading.Event()
    remind = reminder(sandbox, lambda text: ran.set())
    begin, broken = sandbox.delivery.begin, [True]

    def failing(hands: Any, *, ahead: bool = False) -> Any:
        if broken:
            asked.set()
            raise StoreUnavailable("the disk is gone")
        return begin(hands)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.delivery, "begin", failing)
        patch.setattr("gonogo.worker.PAUSE_AFTER_FAULT", 0.01)
        sandbox.worker.start()
        remind.enqueue("hello")
        assert asked.wait(SOON)
        broken.clear()
        assert ran.wait(SOON)
        sandbox.worker.stop(SOON)


def test_the_keeper_outlives_every_fault(shared: Sandboxes) -> None:
    """A round of the keeper that fails is logged, and the next one comes."""
    sandbox, rounds, twice = shared(lease=0.03), [], threading.Event()

    def fail() -> None:
        rounds.append(1)
        if len(rounds) == 2:
            twice.set()
        raise RuntimeError("a defect")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.delivery, "keep", fail)
        sandbox.worker.start()
        assert twice.wait(SOON)
        sandbox.worker.stop(SOON)


@pytest.mark.parametrize("blind", ["hang", "_glance"])
def test_the_keeper_hears_of_what_another_process_queued(
    shared: Sandboxes, monkeypatch: pytest.MonkeyPatch, blind: str
) -> None:
    """An idle worker on a file begins it long before it would poll, without a thread for that.

    Be it that there is no bell, or nothing but the bell.
    """
    if blind == "_glance" and sys.platform != "linux":
        pytest.skip("elsewhere no file has a bell")
    where = sqlite_watch if blind == "hang" else sqlite_watch.Watch
    monkeypatch.setattr(where, blind, lambda _: None)
    ours, theirs, ran = shared(worker_interval=3600.0), shared(), threading.Event()
    reminder(ours, lambda _: ran.set())
    remind = reminder(theirs, lambda _: None)
    ours.arm(**WHO)
    ours.worker.start()
    remind.enqueue("hello")
    assert ran.wait(SOON)
    ours.worker.stop(SOON)


def test_no_look_at_the_file_delays_the_leases(shared: Sandboxes) -> None:
    """After all that was heard, and after a pause where hearing failed, they have a turn."""
    sandbox, turns = shared(), []
    renewed = threading.Semaphore(0)
    defects = iter([None, None, RuntimeError("a defect"), None])

    class Hearing(Listening):
        def wait(self, seconds: float) -> bool:
            """It hears something each time, and once it fails."""
            turns.append("look")
            if defect := next(defects, None):
                raise defect
            return super().pause(0.001)

        def pause(self, seconds: float) -> bool:
            turns.append("pause")
            return super().pause(0.001)

    def tend() -> int:
        turns.append("leases")
        renewed.release()
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.delivery, "listen", lambda _: Hearing())
        patch.setattr(sandbox.delivery, "tend", tend)
        sandbox.worker.start()
        assert all(renewed.acquire(timeout=SOON) for _ in range(4))
        sandbox.worker.stop(SOON)
    assert turns[:9] == [*["look", "leases"] * 2, "look", "pause", "leases", "look", "leases"]


# start and stop


def test_stop_waits_for_jobs_under_way(workers: Make) -> None:
    """A graceful stop lets a job end, and takes no other."""
    worker, job, other = workers(), Signal(), threading.Event()
    worker.start()
    worker.submit_job("first", job)
    assert job.began.wait(SOON)
    worker.submit_job("second", other.set)
    stopped: list[bool] = []
    stopper = threading.Thread(target=lambda: stopped.append(worker.stop(SOON)))
    stopper.start()
    job.let_go.set()
    stopper.join(SOON)
    assert (stopped, job.ended.is_set(), other.is_set()) == ([True], True, False)
    assert [job.name for job in worker.job_queue] == ["second"]


def test_stop_does_not_wait_for_ever(workers: Make) -> None:
    """A job that does not end in time is left alone; stop says so."""
    worker, job = workers(), Signal()
    worker.start()
    worker.submit_job("hang", job)
    assert job.began.wait(SOON)
    assert worker.stop(0.01) is False
    assert not worker.is_running
    job.let_go.set()


def test_start_and_stop_in_any_order(workers: Make) -> None:
    """Stopping what never ran, stopping twice, starting twice and again: all fine."""
    worker = workers(max_workers=2)
    assert worker.stop(0) is True
    worker.start()
    worker.start()
    assert len(own_threads()) == 3
    assert worker.stop(SOON) is True
    assert worker.stop(SOON) is True
    ran = threading.Event()
    worker.start()
    worker.submit_job("again", ran.set)
    assert ran.wait(SOON)
    worker.stop(SOON)
    assert own_threads() == []


def test_a_job_may_stop_its_own_worker(workers: Make) -> None:
    """Stopping from inside a job does not wait for itself."""
    worker, stopped = workers(), threading.Event()

    def stop() -> None:
        worker.stop(SOON)
        stopped.set()

    worker.start()
    worker.submit_job("stop", stop)
    assert stopped.wait(SOON)


def test_a_long_job_outlives_its_lease_while_the_worker_stops(shared: Sandboxes) -> None:
    """The keeper goes on until the last job ended, so a drain never loses a lease."""
    sandbox = shared(lease=0.05)
    job, renewals, enough = Signal(), [], threading.Event()
    keep, tend = sandbox.delivery.keep, sandbox.delivery.tend

    def counted() -> set[str]:
        renewals.append(1)
        if len(renewals) > 5:
            enough.set()
        return keep()

    def later() -> int:
        shared.clock.advance(0.02)
        return tend()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.delivery, "keep", counted)
        patch.setattr(sandbox.delivery, "tend", later)
        handle = reminder(sandbox, job).enqueue("hello")
        sandbox.worker.start()
        assert job.began.wait(SOON)
        stopper = threading.Thread(target=sandbox.worker.stop, args=(SOON,))
        stopper.start()
        renewals.clear()
        assert enough.wait(SOON)
        job.let_go.set()
        stopper.join(SOON)
    assert handle.state() is State.SUCCEEDED


def test_a_job_that_is_claimed_while_the_worker_stops_keeps_its_lease(shared: Sandboxes) -> None:
    """The keeper waits for every thread: one without a job may be about to begin one."""
    sandbox = shared(lease=0.05)
    job, claiming, stopped, enough = Signal(), threading.Event(), threading.Event(), Signal()
    keep, begin, tend = sandbox.delivery.keep, sandbox.delivery.begin, sandbox.delivery.tend

    def slowly(*hands: Any, **how: Any) -> Any:
        found = begin(*hands, **how)
        if found is not None:
            claiming.set()
            assert stopped.wait(SOON)
        return found

    def counted() -> set[str]:
        if job.began.is_set():
            enough.began.set()
        return keep()

    def later() -> int:
        shared.clock.advance(0.02)
        if claiming.is_set() and not sandbox.worker.is_running:
            stopped.set()
        return tend()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.delivery, "begin", slowly)
        patch.setattr(sandbox.delivery, "keep", counted)
        patch.setattr(sandbox.delivery, "tend", later)
        handle = reminder(sandbox, job).enqueue("hello")
        sandbox.worker.start()
        assert claiming.wait(SOON)
        stopper = threading.Thread(target=sandbox.worker.stop, args=(SOON,))
        stopper.start()
        assert enough.began.wait(SOON)
        job.let_go.set()
        stopper.join(SOON)
    assert handle.state() is State.SUCCEEDED


@pytest.mark.parametrize("workers_wanted", [1, 4])
def test_n_workers_need_n_threads_and_two(sandboxes: Sandboxes, workers_wanted: int) -> None:
    """N workers, a keeper that also watches a file, and a heartbeat: no other thread stays."""
    sandbox = sandboxes(max_workers=workers_wanted)
    before = threading.active_count()
    sandbox.initialize()
    staying = [t for t in own_threads() if not t.name.startswith("gonogo-check")]
    assert len(staying) <= workers_wanted + 2, [t.name for t in staying]
    sandbox.cleanup()
    assert threading.active_count() - before <= 1


def test_an_exit_in_declared_code_does_not_end_the_thread() -> None:
    """A limit's cost is user code beside the action; its ``sys.exit`` ends no worker thread."""
    sandbox = SandboxOrchestrator(settings=Settings(), worker_interval=3600.0)
    called = threading.Event()

    def leave(_: object) -> int:
        called.set()
        raise SystemExit

    @sandbox.action("bad", irreversible=False, limits=[Limit("bad", 1, per="1h", cost=leave)])
    def bad() -> None: ...

    good = sandbox.action("good", irreversible=False)(lambda: "done")
    sandbox.worker.start()
    bad.enqueue()
    assert called.wait(SOON)
    assert good.enqueue().result(SOON) == "done"
    sandbox.cleanup()
