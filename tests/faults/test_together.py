"""Calls that are begun together, in processes that are killed: none lost, none ended early."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.support.stamper import ATTEMPTS, POISON, open_stamper

from gonogo.clock import SystemClock
from gonogo.records import Call, State

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SOON = 120.0


def work(url: str, book: Path, threads: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.stamper", url, str(book), str(threads)]
    return subprocess.Popen(command, cwd=ROOT)


def stamped(book: Path) -> Counter[int]:
    """How often each number stands in the book."""
    return Counter(map(int, book.read_text().split()))


def enqueue(url: str, book: Path, numbers: range) -> None:
    sandbox, stamp = open_stamper(url, book)
    stamp.enqueue_many([(number,) for number in numbers])
    sandbox.cleanup()


def calls_of(url: str, book: Path) -> dict[int, Call]:
    """What became of each number."""
    sandbox, stamp = open_stamper(url, book)
    calls = sandbox.calls(action="stamp", limit=10_000)
    sandbox.cleanup()
    return {stamp.parameters.load(call.args).values["number"]: call for call in calls}


def test_a_poison_costs_the_others_one_attempt_at_most(url: str, tmp_path: Path) -> None:
    """It is begun among others once, and by itself from then on, until its attempts are used up."""
    book = tmp_path / "book"
    enqueue(url, book, range(700))
    deaths = 0
    for _ in range(2 * ATTEMPTS):
        worker = work(url, book, threads=1)
        if worker.wait(SOON) == 0:
            break
        deaths += 1
    calls = calls_of(url, book)
    assert deaths == ATTEMPTS
    assert calls[POISON].state is State.FAILED
    others = [call for number, call in calls.items() if number != POISON]
    assert {call.state for call in others} == {State.SUCCEEDED}
    assert {call.attempt for call in others} <= {1, 2}
    assert stamped(book).keys() == set(range(700)) - {POISON}


def test_workers_that_are_killed_lose_none(url: str, tmp_path: Path) -> None:
    """What was begun is done by others: again where it may have been done, and not else."""
    book, clock, chance = tmp_path / "book", SystemClock(), random.Random(20_270_301)
    numbers = range(1000, 5000)
    enqueue(url, book, numbers)
    crew = [work(url, book, threads=3) for _ in range(2)]
    try:
        for number in range(6):
            clock.sleep(0.3 + chance.random())
            crew[number % 2].kill()
            crew[number % 2].wait(SOON)
            crew[number % 2] = work(url, book, threads=3)
        for worker in crew:
            assert worker.wait(SOON) == 0
    finally:
        for worker in crew:
            worker.kill()
            worker.wait(SOON)
    calls, times = calls_of(url, book), stamped(book)
    assert {call.state for call in calls.values()} == {State.SUCCEEDED}
    assert times.keys() == calls.keys() == set(numbers)
    again = [number for number, call in calls.items() if call.attempt > 1]
    assert {number for number, count in times.items() if count > 1} <= set(again)
    assert all(times[number] <= calls[number].attempt for number in numbers)
