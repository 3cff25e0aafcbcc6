"""The observers every sandbox has: they tell what happened, and can never break it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from tests.support.scene import Provider, Sandboxes, drain, payment

from gonogo.errors import DryRunBlocked
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State


def test_what_happens_is_logged(
    armed: SandboxOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    """Each event is one record with the call, its key and its correlation id."""
    with caplog.at_level(logging.DEBUG, logger="gonogo"):
        call = armed.call(payment(armed).call("A").call_id)
    settled = [r.getMessage() for r in caplog.records if "call.settled" in r.getMessage()]
    assert len(settled) == 1
    for part in (call.id, "pay:A", call.correlation_id or "", "succeeded"):
        assert part in settled[0]


def test_an_alert_is_logged_at_its_severity(
    armed: SandboxOrchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever writes only warnings and above still hears of an outcome nobody knows."""
    with caplog.at_level(logging.DEBUG, logger="gonogo"):
        armed.alert_system.alert("pay", "outcome unknown", "critical", {})
    (fired,) = [r for r in caplog.records if "alert.fired" in r.getMessage()]
    assert fired.levelname == "CRITICAL"


@pytest.mark.parametrize(("level", "shown"), [(logging.INFO, 2), (logging.WARNING, 0)])
def test_what_is_not_logged_is_not_made(
    armed: SandboxOrchestrator, caplog: pytest.LogCaptureFixture, level: int, shown: int
) -> None:
    """While nobody writes a call's events none is made; from the moment somebody does, all are."""
    made: list[str] = []
    emit = armed.events.emit
    armed.events.emit = lambda event: made.append(event.name) or emit(event)  # type: ignore[method-assign,func-returns-value]  # to count them
    pay = payment(armed)
    with caplog.at_level(logging.WARNING, logger="gonogo"):
        pay("A")
        assert made == []
    with caplog.at_level(level, logger="gonogo"):
        pay("B")
    assert len(made) == shown


def test_a_refusal_is_alerted_once_a_minute(sandboxes: Sandboxes) -> None:
    """The same refusal of the same action raises one alert a minute, not one a call."""
    sandbox = sandboxes()
    pay = payment(sandbox)

    def refused() -> int:
        for invoice in ("A", "B"):
            with pytest.raises(DryRunBlocked):
                pay(invoice)
        alerts = sandbox.alert_system.get_alerts(task_name="pay")
        return sum(alert.get("count", 1) for alert in alerts)

    first = refused()
    assert refused() == first
    sandboxes.clock.advance(60)
    assert refused() == 2 * first


def test_a_subscriber_that_fails_breaks_nothing(armed: SandboxOrchestrator) -> None:
    """Whatever a subscriber raises, the call is performed and settled."""
    provider = Provider()

    def fail(event: Any) -> None:
        raise RuntimeError(event.name)

    armed.events.subscribe(fail)
    handle = payment(armed, provider).enqueue("A")
    drain(armed)
    assert (handle.state(), provider.book) == (State.SUCCEEDED, ["A"])


def test_a_subscriber_may_use_the_sandbox(armed: SandboxOrchestrator) -> None:
    """Events are told after the transaction, so a subscriber can read and write the ledger."""
    seen: list[dict[Any, Any]] = []
    armed.events.subscribe(lambda event: seen.append(armed.counts()), names=("call.settled",))
    payment(armed)("A")
    assert seen == [{State.SUCCEEDED: 1}]


def test_an_alert_subscriber_that_fails_breaks_nothing(armed: SandboxOrchestrator) -> None:
    """Alerts are written with the state; handing them out comes after, and may fail."""
    provider = Provider()
    provider.script = [TimeoutError("no answer")]
    armed.alert_system.subscribe("pay", lambda alert: 1 / 0)
    handle = payment(armed, provider).enqueue("A")
    drain(armed)
    armed.alert_system.flush()
    assert handle.state() is State.UNKNOWN
    assert json.dumps(armed.alert_system.get_alerts(severity="critical"), default=str)
