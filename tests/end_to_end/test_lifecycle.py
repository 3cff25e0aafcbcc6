"""Processes as they really live: asked to stop they drain, and two are one system."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.scene import WHO
from tests.support.victim import Book, declare, open_sandbox

from gonogo.errors import InFlight
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
SOON = 30.0


class Server:
    """A worker's main program in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.support.victim", str(folder)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe)

    def performing(self) -> str:
        """Wait for its next effect to begin; the invoice."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()[-1]

    def go_on(self) -> None:
        """Let the effect happen."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def draining(self) -> bool:
        """Wait until it takes no more jobs: a signal is only on its way when it was sent."""
        assert self.process.stdout is not None
        return self.process.stdout.readline() == "draining\n"

    def end(self) -> int:
        """Wait until it ends; its exit code."""
        self.process.communicate(timeout=SOON)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxOrchestrator]:
    """The same ledger, seen from this process, and armed."""
    made = open_sandbox(tmp_path)
    declare(made, tmp_path)
    made.arm(**WHO)
    yield made
    made.cleanup()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_stop_drains(
    tmp_path: Path, server: Server, sandbox: SandboxOrchestrator, number: signal.Signals
) -> None:
    """What is under way ends and is settled; what waits is left; the sign of life is taken away."""
    pay = sandbox.actions["pay"]
    first, second = pay.enqueue("A"), pay.enqueue("B")
    assert server.performing() == "A"
    server.stop(number)
    assert server.draining()
    server.go_on()
    assert server.end() == 0
    assert (first.state(), second.state()) == (State.SUCCEEDED, State.PENDING)
    assert Book(tmp_path).lines() == ["A"]
    beats = sandbox.store.read(lambda tx: tx.beats.all())
    assert [beat for beat in beats if beat.kind == "worker"] == []


def test_two_processes_are_one_system(server: Server, sandbox: SandboxOrchestrator) -> None:
    """A key is in flight here while a worker elsewhere performs it; a halt there counts here."""
    pay = sandbox.actions["pay"]
    first, second = pay.enqueue("A"), pay.enqueue("B")
    assert server.performing() == "A"
    with pytest.raises(InFlight, match="dispatched"):
        pay("A")
    sandbox.halt("pay", **WHO)
    server.go_on()
    assert first.result(SOON) == "paid A"
    server.stop()
    assert server.end() == 0
    assert second.state() is State.PENDING
    sandbox.resume("pay", **WHO)
    assert pay.call("A").replayed
