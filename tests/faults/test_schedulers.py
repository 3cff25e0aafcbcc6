"""Schedulers in real processes, one of which is killed: one call a tick, and no tick left out."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.ticker import EVERY, open_ticker

from gonogo.boundaries import Boundary
from gonogo.clock import FakeClock, SystemClock
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
SOON = 60.0
START = 1_800_000_000.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.ticker", *arguments]


@pytest.fixture
def crew(url: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Three processes that tick every second."""
    processes = [subprocess.Popen(command(url), cwd=ROOT) for _ in range(3)]
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(SOON)


def instants(sandbox: SandboxOrchestrator) -> list[float]:
    """The ticks that have a call, in order."""
    calls = sandbox.calls(action="enter", limit=1000)
    return sorted(float(call.key.removeprefix("enter:")) for call in calls if call.key)


def wait_for(sandbox: SandboxOrchestrator, ticks: int) -> None:
    clock = SystemClock()
    until = clock.monotonic() + SOON
    while len(instants(sandbox)) < ticks and clock.monotonic() < until:
        clock.sleep(0.05)


def test_three_schedulers_one_of_them_killed(url: str, crew: list[subprocess.Popen[bytes]]) -> None:
    """Every second has one call, also those around the death of one of them."""
    watching = open_ticker(url, 1.0)
    wait_for(watching, 2)
    crew[0].kill()
    wait_for(watching, 5)
    for process in crew[1:]:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(SOON) for process in crew] == [-signal.SIGKILL, 0, 0]
    found = instants(watching)
    assert len(found) == len(set(found)) >= 5
    steps = {round(later - one, 3) for one, later in pairwise(found)}
    assert steps == {1.0}
    watching.cleanup()


@pytest.mark.parametrize("place", [Boundary.BEFORE_TICK, Boundary.INSIDE_TICK, Boundary.AFTER_TICK])
def test_killed_while_it_ticks(url: str, place: Boundary) -> None:
    """Wherever a process dies around its tick, the next one makes the call if it is not made."""
    subprocess.run(command(url, f"{START}"), cwd=ROOT, check=True)
    due = f"{START + EVERY}"
    killed = subprocess.run(command(url, due, place), cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    watching = open_ticker(url, EVERY, FakeClock(float(due)))
    assert len(instants(watching)) == (place is Boundary.AFTER_TICK)
    for _ in range(2):
        watching.scheduler.run_once()
    assert instants(watching) == [START + EVERY]
    assert watching.counts()[State.PENDING] == 1
    watching.cleanup()
