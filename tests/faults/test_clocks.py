"""Machines whose clocks are minutes wrong work on one ledger as if they were right."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.support.skewed import PER_SECOND, make

from gonogo.clock import SystemClock
from gonogo.records import State
from gonogo.windows import SLICES

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
SOON = 60.0
PAYMENTS = 20


@pytest.fixture
def machines(postgres_url: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One whose clock is three minutes ahead, and one whose clock is three minutes behind."""
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as books:
        books.execute("CREATE TABLE book (invoice text, at timestamptz)")
    command = [sys.executable, "-m", "tests.support.skewed", postgres_url]
    processes = [subprocess.Popen([*command, off], cwd=ROOT) for off in ("180", "-180")]
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(SOON)


def test_clocks_that_are_minutes_wrong(
    postgres_url: str, machines: list[subprocess.Popen[bytes]]
) -> None:
    """No lease is taken away early, no limit is exceeded, nothing is done twice or waits."""
    sandbox = make(postgres_url)
    sandbox.actions["slow"].enqueue_many([(f"slow-{n}",) for n in range(2)])
    sandbox.actions["pay"].enqueue_many([(f"pay-{n}",) for n in range(PAYMENTS)])
    clock = SystemClock()
    until = clock.monotonic() + SOON
    while sandbox.counts().get(State.SUCCEEDED, 0) < PAYMENTS + 2 and clock.monotonic() < until:
        clock.sleep(0.1)
    for machine in machines:
        machine.send_signal(signal.SIGTERM)
    assert [machine.wait(SOON) for machine in machines] == [0, 0]
    calls = sandbox.calls(limit=100)
    assert {call.state for call in calls} == {State.SUCCEEDED}
    assert {call.attempt for call in calls} == {1}
    assert len({call.owner for call in calls}) == 2
    sandbox.cleanup()
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as books:
        book = books.execute("SELECT invoice, extract(epoch FROM at)::float8 FROM book").fetchall()
    assert len(book) == len({invoice for invoice, _ in book}) == PAYMENTS + 2
    settled = {(call.key or "").partition(":")[2]: call for call in calls}
    for invoice, at in book:
        call = settled[invoice]
        assert call.dispatched_at - 1.0 < at < call.settled_at + 1.0
    paid = [settled[invoice].reservations[0] for invoice, _ in book if "pay" in invoice]
    assert {held.row for held in paid} == {"rate"}
    slices = [held.bucket for held in paid]  # when it was counted; it begins a moment later
    assert max(sum(one <= at < one + SLICES for at in slices) for one in slices) <= PER_SECOND
