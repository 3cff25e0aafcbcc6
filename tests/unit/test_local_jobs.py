"""Jobs of one process: ordered, delayed, cancelled, remembered within bounds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gonogo.clock import FakeClock
from gonogo.local_jobs import Job, LocalJobs


def put(jobs: LocalJobs, name: str, fn: Any = lambda: None, **options: Any) -> Job:
    return jobs.put(name, fn, **{"priority": 0, "delay": 0.0, "timeout": None, **options})


def taken(jobs: LocalJobs) -> list[str]:
    names = []
    while (job := jobs.take()) is not None:
        names.append(job.name)
        jobs.run(job)
    return names


@given(st.lists(st.integers(-3, 3), max_size=30))
def test_priority_then_order(priorities: list[int]) -> None:
    """Higher priority first; within one, first come first served."""
    jobs = LocalJobs(FakeClock(), 100)
    for n, priority in enumerate(priorities):
        put(jobs, str(n), priority=priority)
    expected = sorted(range(len(priorities)), key=lambda n: (-priorities[n], n))
    assert [job.name for job in jobs.waiting()] == [str(n) for n in expected]
    assert taken(jobs) == [str(n) for n in expected]


def test_a_delay_is_kept() -> None:
    """A delayed job is due when its time has come; then its priority counts."""
    clock = FakeClock()
    jobs = LocalJobs(clock, 100)
    put(jobs, "later", delay=10.0, priority=5)
    put(jobs, "now")
    assert taken(jobs) == ["now"]
    assert jobs.next_due() == 10.0
    clock.advance(10)
    put(jobs, "also now")
    assert taken(jobs) == ["later", "also now"]
    assert jobs.next_due() is None


def test_a_cancelled_job_never_runs() -> None:
    """What waits can be cancelled, once; what runs or is unknown cannot."""
    clock = FakeClock()
    jobs, ran = LocalJobs(clock, 100), []
    waiting = put(jobs, "waiting", lambda: ran.append("waiting"))
    delayed = put(jobs, "delayed", lambda: ran.append("delayed"), delay=10.0)
    assert jobs.cancel(waiting.id)
    assert jobs.cancel(delayed.id)
    assert not jobs.cancel(waiting.id)
    assert not jobs.cancel("nowhere")
    clock.advance(10)
    assert (taken(jobs), ran) == ([], [])
    assert (jobs.view(waiting.id) or {})["status"] == "cancelled"
    running = put(jobs, "running", lambda: ran.append(jobs.cancel(running.id)))
    taken(jobs)
    assert ran == [False]


def test_cancelled_jobs_leave_nothing_behind() -> None:
    """A queue of cancelled delayed jobs does not grow."""
    jobs = LocalJobs(FakeClock(), 10)
    for n in range(1000):
        jobs.cancel(put(jobs, str(n), delay=1e6).id)
    assert len(jobs._delayed) < 200
    assert jobs.next_due() is None


def test_a_cancelled_job_is_not_due() -> None:
    """Nobody wakes up for it."""
    jobs = LocalJobs(FakeClock(), 10)
    jobs.cancel(put(jobs, "a").id)
    assert jobs.next_due() is None


def test_the_history_is_bounded() -> None:
    """Only so many finished jobs are remembered; the oldest go first."""
    jobs = LocalJobs(FakeClock(), 3)
    ids = [put(jobs, str(n), lambda n=n: n).id for n in range(5)]
    taken(jobs)
    assert list(jobs.finished()) == ids[2:]
    assert jobs.view(ids[0]) is None
    assert jobs.view(ids[4]) == {"id": ids[4], "name": "4", "status": "completed", "result": 4}


def test_a_finished_job_lets_go_of_its_function() -> None:
    """What a job closed over can be freed when it is done."""
    import weakref

    class Big:
        pass

    big = Big()
    gone = weakref.ref(big)
    jobs = LocalJobs(FakeClock(), 10)
    put(jobs, "a", lambda kept=big: None)
    del big
    taken(jobs)
    assert gone() is None


def test_an_overdue_job_is_unknown_whatever_it_says_later() -> None:
    """Its time is over: what it returns afterwards does not count."""
    clock = FakeClock()
    jobs, given_up = LocalJobs(clock, 10), []

    def slow() -> str:
        assert jobs.give_up_overdue() == []
        clock.advance(5)
        given_up.extend(jobs.give_up_overdue())
        return "late"

    job = put(jobs, "slow", slow, timeout=5.0)
    taken(jobs)
    view = jobs.view(job.id) or {}
    assert (given_up, view["status"]) == ([job.id], "unknown")
    assert "may still have happened" in view["error"]
    assert "result" not in view


def test_ten_thousand_jobs() -> None:
    """Submitting and taking many jobs costs each of them little."""
    jobs = LocalJobs(FakeClock(), 100)
    for n in range(10_000):
        put(jobs, str(n), priority=n % 7)
    assert len(taken(jobs)) == 10_000
    assert len(jobs.finished()) == 100
