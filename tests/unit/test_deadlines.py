"""Checks with a time limit: one thread each, one judgement, strict."""

from __future__ import annotations

import threading

import pytest

from gonogo.clock import FakeClock
from gonogo.deadlines import Check, Run, ask_all
from gonogo.logs import correlation, get_correlation_id

SOON = 5.0  # seconds; how long a test waits for a signal that comes at once


def test_a_check_runs_in_the_context_of_who_asks() -> None:
    """What a check logs belongs to the call that asked for it."""
    seen: list[str | None] = []
    check = Check("check", lambda: seen.append(get_correlation_id()), clock=FakeClock())
    with correlation("req-1"):
        check.ask()
    assert seen == ["req-1"]


def test_a_check_that_cannot_get_a_thread_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread to run it in is a bad answer, not an error for the caller, and not for ever."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    check = Check("check", lambda: True, clock=FakeClock())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        result = check.ask()
    assert (result.ok, result.evidence) == (False, "RuntimeError: can't start new thread")
    assert check.ask().ok


def test_who_joins_waits_only_for_what_is_left() -> None:
    """The time limit counts from the start of the run, not from each question."""
    clock, let_go = FakeClock(), threading.Event()
    check = Check("check", lambda: let_go.wait(SOON), clock=clock, timeout=60)
    run = check.start()
    clock.advance(60)
    assert check.finish(run).hung  # at once: the hour-hand of this clock says it is over
    let_go.set()


def test_a_run_is_waited_for_once() -> None:
    """After the first time-out nobody waits again, and the answer is the same."""
    let_go = threading.Event()
    run = Run(lambda: let_go.wait(SOON), 0.0, "run")
    assert not run.wait(0.001)
    assert run.late
    assert not run.wait(SOON * 100)
    let_go.set()


def test_a_good_answer_is_judged_once() -> None:
    """Everyone who joined a run gets the very same result."""
    clock = FakeClock()
    check = Check("check", lambda: (True, "fine"), clock=clock)
    run = check.start()
    first = check.finish(run)
    clock.advance(5)
    assert check.finish(run) is first


def test_answers_come_in_the_order_of_the_questions() -> None:
    """ask_all keeps the order, whichever answers first."""
    clock, second_done = FakeClock(), threading.Event()

    def first() -> bool:
        return second_done.wait(SOON)

    def second() -> bool:
        second_done.set()
        return True

    results = ask_all([Check("a", first, clock=clock), Check("b", second, clock=clock)])
    assert [(result.name, result.ok) for result in results] == [("a", True), ("b", True)]


def test_the_thread_of_a_check_never_keeps_the_program_alive() -> None:
    """It is a daemon."""
    seen: list[bool] = []
    Check("check", lambda: seen.append(threading.current_thread().daemon), clock=FakeClock()).ask()
    assert seen == [True]
