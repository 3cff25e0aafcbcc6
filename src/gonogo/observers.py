"""The observers every sandbox has: one writes events to the log, one alerts about refusals.

They are subscribers like any other, and like any other they can never break a call.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext

from gonogo.alerts import AlertSystem
from gonogo.clock import Clock
from gonogo.closings import REFUSED, Closings
from gonogo.events import Event, EventBus
from gonogo.heartbeat import SchedulerHeartbeat, Status
from gonogo.logs import LEVELS, StructuredLogger, correlation

QUIET = 60.0
"""Seconds in which the same refusal of the same action raises one alert."""

_LEVELS = {"call.refused": "warning", "call.late_result": "warning", "call.recovered": "warning"}

_MOST_URGENT = {**_LEVELS, "alert.fired": "critical"}


def log_events(events: EventBus, logger: StructuredLogger) -> None:
    """Write every event as one structured log line; an alert at its own severity."""

    def hears(name: str) -> bool:
        return logger.logger.isEnabledFor(LEVELS[_MOST_URGENT.get(name, "info")])

    def write(event: Event) -> None:
        level = str(event.detail.get("severity") or _LEVELS.get(event.name, "info"))
        if logger.logger.isEnabledFor(LEVELS[level]):
            about = {"call": event.call_id, "of": event.action, "key": event.key}
            fields = {name: value for name, value in about.items() if value is not None}
            with correlation(event.correlation_id) if event.correlation_id else nullcontext():
                logger.log_action(event.name, level, **{**event.detail, **fields})

    events.subscribe(write, quick=True, hears=hears)


def alert_on_refusals(events: EventBus, alerts: AlertSystem, clock: Clock) -> None:
    """Raise one alert a minute for each kind of refusal of each action."""
    last: dict[tuple[str | None, str], float] = {}
    mutex = threading.Lock()

    def alert(event: Event) -> None:
        kind = str(event.detail.get("error"))
        now = clock.now()
        with mutex:
            if now - last.get((event.action, kind), float("-inf")) < QUIET:
                return
            last[event.action, kind] = now
        context = {"call": event.call_id, "key": event.key, "why": event.detail.get("reason")}
        name = event.action or "sandbox"
        alerts.alert(name, f"{REFUSED}{kind}", "warning", context, patience=0)

    events.subscribe(alert, names=("call.refused",), quick=True)


def close_settled_doubts(events: EventBus, closings: Closings) -> None:
    """Resolve an action's alert about unknown outcomes when the last of them is settled."""

    def close(event: Event) -> None:
        closings.close_doubts(event.action or "")

    events.subscribe(close, names=("call.resolved", "call.late_result"), quick=True)


def close_ended_halts(events: EventBus, closings: Closings) -> None:
    """Resolve the alerts about a halt when it is over; whatever else is over goes with them."""

    def close(event: Event) -> None:
        if not event.detail["set"]:
            closings.run_once()

    events.subscribe(close, names=("control.changed",), quick=True)


def alert_on_sickness(heartbeat: SchedulerHeartbeat, alerts: AlertSystem) -> None:
    """Raise an alert when the beats turn bad: a check says no, or the last beat is too old."""

    def alert(healthy: bool, status: Status) -> None:
        if not healthy:
            checks = status["checks"].items()
            bad = {name: check["evidence"] for name, check in checks if not check["ok"]}
            context = {"heartbeat": status["name"], "checks": bad, "problem": status["problem"]}
            alerts.alert("heartbeat", "the heartbeat found something wrong", "error", context)

    heartbeat.on_change(alert)
