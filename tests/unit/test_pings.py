"""Pings: a monitor outside hears of every run, and can break none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from tests.support.scene import SOON, WHO, Provider, Sandboxes, payment

from gonogo.errors import ConfigurationError
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.pings import Ping
from gonogo.records import State


class Monitor:
    """A monitor on loopback: remembers which paths were called, and answers with ``status``."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.status = 200
        monitor = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                monitor.paths.append(self.path)
                self.send_response(monitor.status)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/s3cret"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SOON)


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    made = Monitor()
    yield made
    made.close()


def tick(sandboxes: Sandboxes, sandbox: SandboxOrchestrator) -> None:
    """Let one minute pass, tick and work."""
    sandbox.scheduler.run_once()
    sandboxes.clock.advance(60.0)
    sandbox.scheduler.run_once()
    while sandbox.worker.run_once():
        pass
    assert sandbox.scheduler.pinger.flush(SOON)


def test_a_run_is_told_when_it_begins_and_succeeds(sandboxes: Sandboxes, monitor: Monitor) -> None:
    """One address has a start and a success; calls that no schedule made are not told."""
    sandbox = sandboxes()
    act = sandbox.action("act", irreversible=False)(lambda: None)
    sandbox.schedule("act", act, every=60, ping=monitor.url)
    act()
    tick(sandboxes, sandbox)
    assert monitor.paths == ["/s3cret/start", "/s3cret"]
    assert sandbox.scheduler.pinger.told["sent"] == 2


def test_failures_refusals_and_doubts_are_failures(sandboxes: Sandboxes, monitor: Monitor) -> None:
    """A tick that is refused and a call whose outcome is unknown are told as failures."""
    sandbox = sandboxes()
    provider = Provider()
    pay = payment(sandbox, provider, key="pay:{invoice}")
    sandbox.schedule(
        "payday",
        pay,
        every=60,
        arguments=lambda tick: {"invoice": f"{tick.at:.0f}"},
        ping=Ping(success=monitor.url, fail=f"{monitor.url}/bad"),
    )
    tick(sandboxes, sandbox)
    assert monitor.paths == ["/s3cret/bad"]
    sandbox.arm(**WHO)
    provider.script.append(TimeoutError("nobody heard"))
    tick(sandboxes, sandbox)
    assert monitor.paths == ["/s3cret/bad"] * 2


def test_a_monitor_that_is_gone_breaks_nothing(sandboxes: Sandboxes, monitor: Monitor) -> None:
    """A refused connection and an error are counted; the call is as it was."""
    sandbox = sandboxes()
    done: list[int] = []
    act = sandbox.action("act", irreversible=False)(lambda: done.append(1))
    sandbox.schedule("act", act, every=60, ping=monitor.url)
    monitor.status = 500
    tick(sandboxes, sandbox)
    monitor.close()
    tick(sandboxes, sandbox)
    assert len(done) == 2
    assert sandbox.scheduler.pinger.told == {"failed": 4}


def test_a_run_that_never_begins_is_a_failure(sandboxes: Sandboxes, monitor: Monitor) -> None:
    """Cancelled, or too late: it ended without success, and its monitor hears of it."""
    sandbox = sandboxes()
    act = sandbox.action("act", irreversible=False, deadline=30.0)(lambda: None)
    sandbox.schedule("act", act, every=60, ping=monitor.url)
    for end in (
        lambda call: sandbox.handle(call.id).cancel(),
        lambda call: (sandboxes.clock.advance(30.5), sandbox.recovery.run_once()),
        lambda call: (sandboxes.clock.advance(30.5), sandbox.worker.run_once()),
    ):
        sandbox.scheduler.run_once()
        sandboxes.clock.advance(60.0)
        sandbox.scheduler.run_once()
        end(sandbox.calls(limit=1)[0])
        assert sandbox.scheduler.pinger.flush(SOON)
    assert monitor.paths == ["/s3cret/fail"] * 3


def test_an_end_is_told_by_who_wrote_it(sandboxes: Sandboxes, monitor: Monitor) -> None:
    """A worker that finds its call cancelled, and too late besides, tells nothing more."""
    sandbox = sandboxes()
    act = sandbox.action("act", irreversible=False, deadline=30.0)(lambda: None)
    sandbox.schedule("act", act, every=60, ping=monitor.url)
    sandbox.scheduler.run_once()
    sandboxes.clock.advance(60.0)
    sandbox.scheduler.run_once()
    claimed = sandbox.delivery.claim()
    assert claimed is not None
    assert sandbox.handle(claimed.id).cancel()
    sandboxes.clock.advance(31.0)
    assert sandbox.delivery.perform(claimed).state is State.CANCELLED
    assert sandbox.scheduler.pinger.flush(SOON)
    assert monitor.paths == ["/s3cret/fail"]


def test_a_monitor_that_speaks_no_http_breaks_nothing(sandboxes: Sandboxes) -> None:
    """What it says is not understood, so whether it heard is not known."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            client.recv(65_536)
            client.sendall(b"what?\r\n")
            client.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    sandbox = sandboxes()
    act = sandbox.action("act", irreversible=False)(lambda: None)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    sandbox.schedule("act", act, every=60, ping=url)
    tick(sandboxes, sandbox)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(SOON)
    assert sandbox.scheduler.pinger.told == {"unheard": 2}


def test_the_address_is_shown_nowhere(sandboxes: Sandboxes, monitor: Monitor) -> None:
    """It lets anybody silence the alarm: no repr and no status has it."""
    sandbox = sandboxes()
    act = sandbox.action("act", irreversible=False)(lambda: None)
    sandbox.schedule("act", act, every=60, ping=monitor.url)
    sandbox.scheduler.run_once()
    shown = [sandbox.scheduler.declared, sandbox.schedules(), sandbox.get_status()]
    assert "s3cret" not in repr(shown)


def test_an_address_with_a_query_is_split_by_its_owner() -> None:
    """Where ``/start`` would go is not guessed."""
    with pytest.raises(ConfigurationError, match="Ping"):
        Ping.of("https://monitor.example.com/ping?key=1")
