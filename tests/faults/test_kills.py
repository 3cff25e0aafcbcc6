"""Killed anywhere, a worker pays nothing twice and forgets nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.victim import KINDS, Book, declare, open_sandbox

from gonogo.clock import FakeClock, SystemClock
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
INVOICES = ["A", "B", "C"]
HOUR = 3600.0

SAFE = ("claim", "write:claimed>dispatched")
DOUBTFUL = (
    "admitted",
    "effect-begins",
    "effect-happened",
    "performed",
    "write:dispatched>succeeded",
)
HARMLESS = ("settled",)


def victim(folder: Path, kind: str, place: str, nth: int) -> int:
    """Run the program until it dies or ends; its exit code, negative for a signal."""
    command = [sys.executable, "-m", "tests.support.victim", str(folder), kind, place, str(nth)]
    return subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode


def later(folder: Path, kind: str) -> SandboxOrchestrator:
    """A fresh process an hour later, when every lease is over."""
    sandbox = open_sandbox(folder, clock=FakeClock(SystemClock().now() + 2 * HOUR))
    declare(sandbox, folder, kind)
    return sandbox


def settle(sandbox: SandboxOrchestrator) -> None:
    """Recover, look for evidence and carry out until nothing moves any more."""
    assert isinstance(sandbox.clock, FakeClock)
    for _ in range(10):
        sandbox.clock.advance(60)
        while sandbox.recovery.run_once() or sandbox.worker.run_once():
            pass


def plan(folder: Path, kind: str) -> None:
    """Rehearse the payments of `INVOICES`; the victim approves and applies them."""
    sandbox = open_sandbox(folder)
    pay = declare(sandbox, folder, kind)
    with sandbox.rehearse("payday"):
        pay.enqueue_many([(invoice,) for invoice in INVOICES])
    sandbox.cleanup()


def check(folder: Path, kind: str, *, doubtful: bool) -> None:
    """What must hold when all is over: nothing twice, nothing lost, every doubt surfaced."""
    sandbox = later(folder, kind)
    settle(sandbox)
    book, calls = Counter(Book(folder).lines()), sandbox.calls()
    states = Counter(call.state for call in calls)
    alerts = sandbox.alert_system.get_alerts(severity="critical")
    sandbox.cleanup()
    assert len(calls) == len(INVOICES), "nothing is lost"
    assert not any(call.lease_until or call.slots for call in calls if call.state is State.PENDING)
    if kind == "repeatable":
        assert set(book) == set(INVOICES)
        assert states == {State.SUCCEEDED: 3}
        return
    assert max(book.values()) == 1, "nothing happens twice"
    if kind == "verified" or not doubtful:
        assert states == {State.SUCCEEDED: 3}
        assert book == Counter(INVOICES)
    else:
        assert states == {State.SUCCEEDED: 2, State.UNKNOWN: 1}
        assert len(book) >= 2
        assert alerts, "a doubt is surfaced"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", SAFE + DOUBTFUL + HARMLESS)
def test_killed_at_work(tmp_path: Path, kind: str, place: str) -> None:
    """A worker that dies leaves safe what it did not admit, in doubt what it did not settle."""
    plan(tmp_path, kind)
    assert victim(tmp_path, kind, place, 2) == -signal.SIGKILL
    check(tmp_path, kind, doubtful=place in DOUBTFUL)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nth", [1, 2])
def test_killed_in_recovery(tmp_path: Path, kind: str, nth: int) -> None:
    """A process that dies while it recovers another's calls leaves them to the next."""
    plan(tmp_path, kind)
    assert victim(tmp_path, kind, "effect-happened", 2) == -signal.SIGKILL
    (tmp_path / "later").touch()
    after = "pending" if kind == "repeatable" else "unknown"
    place = f"write:dispatched>{after}" if nth == 1 else "claim"
    assert victim(tmp_path, kind, place, 1) == -signal.SIGKILL
    check(tmp_path, kind, doubtful=True)


@pytest.mark.parametrize("place", ["verify", "write:unknown>unknown", "write:unknown>succeeded"])
def test_killed_while_evidence_is_looked_for(tmp_path: Path, place: str) -> None:
    """A look for evidence that dies is made again by the next process."""
    plan(tmp_path, "verified")
    assert victim(tmp_path, "verified", "effect-happened", 2) == -signal.SIGKILL
    (tmp_path / "later").touch()
    assert victim(tmp_path, "verified", place, 1) == -signal.SIGKILL
    check(tmp_path, "verified", doubtful=True)


@pytest.mark.parametrize(
    ("place", "nth"),
    [("decided", 1), ("write:planned>pending", 1), ("write:planned>pending", 3), ("decided", 2)],
)
def test_killed_while_a_plan_is_approved_or_applied(tmp_path: Path, place: str, nth: int) -> None:
    """Approving and applying are all or nothing: the next process finds the plan as it was."""
    plan(tmp_path, "verified")
    assert victim(tmp_path, "verified", place, nth) == -signal.SIGKILL
    sandbox = open_sandbox(tmp_path)
    assert sandbox.counts() == {State.PLANNED: 3}
    sandbox.cleanup()
    assert victim(tmp_path, "verified", "nowhere", 1) == 0
    check(tmp_path, "verified", doubtful=False)
    assert len(Book(tmp_path).lines()) == 3


class Nursery:
    """Workers by the dozen: each is forked from a process that has imported everything."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.support.victim", str(folder), "verified", "nursery"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.workers: list[int] = []

    def bear(self, seed: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()
        self.workers.append(int(self._process.stdout.readline()))

    def wait(self, seconds: float) -> None:
        """Let them work."""
        with pytest.raises(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self, worker: int) -> None:
        self.workers.remove(worker)
        os.kill(worker, signal.SIGKILL)

    def close(self) -> None:
        for worker in list(self.workers):
            self.kill(worker)
        self._process.communicate(timeout=10)


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    made = Nursery(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("seed", [20_270_115])
def test_killed_at_random_under_load(tmp_path: Path, nursery: Nursery, seed: int) -> None:
    """Two processes with two threads each, killed 50 times anywhere: every invoice paid once."""
    chance, kills = random.Random(seed), 50
    sandbox = open_sandbox(tmp_path)
    pay = declare(sandbox, tmp_path, "verified")
    sandbox.arm(by="ann", reason="a test", seconds=12 * HOUR)
    queued = 0
    for n in range(kills + 2):
        waiting = sandbox.counts().get(State.PENDING, 0)
        if waiting < 100:
            pay.enqueue_many([(f"inv-{queued + k}",) for k in range(200)])
            queued += 200
        if n < 2:
            nursery.bear(seed + n)
            continue
        nursery.wait(0.02 + chance.random() / 4)
        nursery.kill(chance.choice(nursery.workers))
        nursery.bear(seed + n)
    nursery.close()
    sandbox.cleanup()
    finish = later(tmp_path, "verified")
    settle(finish)
    states, book = finish.counts(), Counter(Book(tmp_path).lines())
    finish.cleanup()
    assert [invoice for invoice, times in book.items() if times > 1] == []
    assert (len(book), states) == (queued, {State.SUCCEEDED: queued})
