"""Events about switches, alerts and workers, as observers hear them."""

from __future__ import annotations

from typing import Any

import pytest

from gonogo import SandboxOrchestrator
from gonogo.clock import FakeClock
from gonogo.events import Event
from gonogo.records import State


@pytest.fixture
def sandbox(fake_clock: FakeClock) -> SandboxOrchestrator:
    return SandboxOrchestrator(clock=fake_clock)


def heard(sandbox: SandboxOrchestrator, name: str) -> list[Event]:
    events: list[Event] = []
    sandbox.events.subscribe(events.append, names=(name,))
    return events


@pytest.mark.parametrize(
    ("switch", "control", "on"),
    [
        (lambda s: s.arm(by="ana", reason="r"), "armed", True),
        (lambda s: s.lock(by="ana", reason="r"), "armed", False),
        (lambda s: s.halt("payment", by="ana", reason="r"), "halt:payment", True),
        (lambda s: s.halt(by="ana", reason="r"), "halt:*", True),
        (lambda s: s.readiness_checker.hold(by="ana", reason="r"), "hold", True),
    ],
)
def test_a_switch_is_told(
    sandbox: SandboxOrchestrator, switch: Any, control: str, on: bool
) -> None:
    """Whoever turns a switch is heard of: which one, who, and which way."""
    events = heard(sandbox, "control.changed")
    switch(sandbox)
    assert [event.detail for event in events] == [{"control": control, "by": "ana", "set": on}]


def test_a_release_is_told(sandbox: SandboxOrchestrator) -> None:
    """Once, and only where something was held."""
    sandbox.hold(by="ana", reason="r")
    events = heard(sandbox, "control.changed")
    assert sandbox.release(by="ben", reason="r")
    assert not sandbox.release(by="ben", reason="r")
    assert [event.detail for event in events] == [{"control": "hold", "by": "ben", "set": False}]


def test_resuming_what_was_not_halted_is_silent(sandbox: SandboxOrchestrator) -> None:
    """Only a change is told."""
    events = heard(sandbox, "control.changed")
    assert not sandbox.resume("payment", by="ana", reason="r")
    sandbox.halt("payment", by="ana", reason="r")
    assert sandbox.resume("payment", by="ana", reason="r")
    assert [event.detail["set"] for event in events] == [True, False]


def test_an_alert_is_told_with_its_count(sandbox: SandboxOrchestrator) -> None:
    """A repeated alert is told again, counted."""
    events = heard(sandbox, "alert.fired")
    for _ in range(2):
        sandbox.alert_system.alert("payment", "slow", "error")
    assert [(e.action, e.detail["severity"], e.detail["count"]) for e in events] == [
        ("payment", "error", 1),
        ("payment", "error", 2),
    ]


def test_a_worker_tells_its_start_and_stop_once(sandbox: SandboxOrchestrator) -> None:
    """Starting twice or stopping twice is one start and one stop."""
    names: list[str] = []
    sandbox.events.subscribe(
        lambda event: names.append(event.name), names=("worker.started", "worker.stopped")
    )
    for step in (sandbox.worker.start, sandbox.worker.start):
        step()
    for _ in range(2):
        sandbox.worker.stop()
    assert names == ["worker.started", "worker.stopped"]


def test_subscribers_hear_of_what_recovery_found(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """A call that became unknown because its process died reaches the alert's subscribers."""
    told: list[str] = []
    sandbox.alert_system.subscribe("*", lambda alert: told.append(alert["reason"]))

    @sandbox.action("payment", key="payment:{n}", irreversible=True)
    def pay(n: int) -> None: ...

    sandbox.arm(by="ana", reason="r")
    handle = pay.enqueue(1)
    call = sandbox.delivery.claim()
    assert call is not None
    bound = pay.parameters.load(call.args)
    sandbox.pipeline.admit(pay, bound, call, lease=30, group="worker")
    fake_clock.advance(31)
    sandbox.recovery.run_once()
    assert sandbox.alert_system.flush()
    assert handle.state() is State.UNKNOWN
    assert told == ["outcome unknown: it may have happened"]


def test_subscribers_hear_of_a_passed_deadline(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """A call that could not run in time is alerted about like any other failure."""
    told: list[str] = []
    sandbox.alert_system.subscribe("*", lambda alert: told.append(alert["reason"]))

    @sandbox.action("fetch", irreversible=False, deadline=10)
    def fetch() -> None: ...

    fetch.enqueue()
    fake_clock.advance(11)
    sandbox.recovery.run_once()
    assert sandbox.alert_system.flush()
    assert told == ["deadline passed"]
