"""Alerts: what a person should know, grouped, kept on the ledger, and handed to subscribers.

An alert is written in the transaction of what it tells about, and handed out after the commit.
Subscribers are observers: one background thread calls them from a bounded queue, so a slow one
delays no call, and one that raises is counted and stops nothing else.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import json, structs

from gonogo.clock import Clock, SystemClock, iso
from gonogo.decisions import decision
from gonogo.dispatcher import Dispatcher
from gonogo.errors import ConfigurationError, NotFound, Refused, StoreError
from gonogo.events import Event, EventBus
from gonogo.ids import new_id
from gonogo.records import Alert, AlertState, Severity
from gonogo.redactor import Redactor
from gonogo.secrets import describe, redact_text
from gonogo.store.memory import MemoryStore
from gonogo.store.port import Store, Transaction

AlertView = dict[str, Any]
Subscriber = Callable[[AlertView], object]

MAX_TASK, MAX_REASON = 200, 500
"""Longest task and reason, in characters; the rest is cut."""

_SEVERITIES = tuple(severity.value for severity in Severity)
_log = logging.getLogger("gonogo.alerts")


class AlertSystem:
    """Raises, groups, keeps and hands out alerts, alone in memory or on the ledger of ``store``.

    Alerts with equal task, severity and reason are one row with a count until it is resolved, so
    numbers and ids belong into ``context`` and not into the reason.

    Args:
        store: the ledger; without one, alerts live as long as this object.
        clock: the source of time.
        max_alerts: alerts that are remembered in memory and shown by `alerts`.
        queue_size: alerts that may wait for the subscribers; more are dropped and counted.
        redact: makes a context safe to show: plain JSON material, bounded, without secrets.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        events: EventBus | None = None,
        max_alerts: int = 1000,
        queue_size: int = 1000,
        redact: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        for name, value in (("max_alerts", max_alerts), ("queue_size", queue_size)):
            if type(value) is not int or value < 1:
                raise ConfigurationError(f"{name} must be a whole number above 0, not {value!r}")
        self._events = events
        self._store: Store = store if store is not None else MemoryStore(max_alerts)
        self._clock: Clock = clock or SystemClock()
        self.most = max_alerts
        """Alerts that are remembered in memory, and shown by `alerts`."""
        self._redact = redact or Redactor(max_depth=4, max_items=100, max_text=1000).fields
        self._dispatcher = Dispatcher[AlertView](queue_size)
        self.unrecorded = 0
        """Alerts that the ledger could not take; they were handed out all the same."""

    # Raising --------------------------------------------------------------------------------

    def alert(
        self,
        task: str,
        reason: str,
        severity: str = "warning",
        context: Mapping[str, Any] | None = None,
        *,
        patience: float = 0.05,
    ) -> AlertView:
        """Raise an alert, keep it and hand it out.

        Quick subscribers have seen it when this returns: it waits for them up to ``patience``
        seconds, but not behind one that still has an earlier alert. When the ledger cannot be
        written the alert is handed out all the same: that may be what it is about.

        Raises:
            ConfigurationError: when the severity is not one of the four, or there is no task or
                reason.
        """
        now = self._clock.now()
        made = self._make(task, reason, severity, context, now)
        try:
            made = self._store.write(lambda tx: tx.alerts.fire(made))
        except StoreError as error:
            self.unrecorded += 1
            _log.warning("alert on %s was not recorded: %s", made.task, describe(error))
        return self.publish(made, patience)

    def fire(
        self,
        tx: Transaction,
        task: str,
        reason: str,
        severity: str,
        context: Mapping[str, Any] | None,
        now: float,
    ) -> Alert:
        """Write an alert in a transaction that is open; `publish` it when that is committed."""
        return tx.alerts.fire(self._make(task, reason, severity, context, now))

    def publish(self, alert: Alert, patience: float = 0.0) -> AlertView:
        """Hand a committed alert to the subscribers; never raises.

        Waits up to ``patience`` seconds for them, see `alert`.
        """
        view = _view(alert)
        self._dispatcher.put(view, patience)
        if self._events:
            detail = {"alert": alert.id, "severity": alert.severity.value, "count": alert.count}
            self._events.emit(
                Event("alert.fired", alert.last_seen, action=alert.task, detail=detail)
            )
        return view

    def _make(
        self,
        task: str,
        reason: str,
        severity: str,
        context: Mapping[str, Any] | None,
        now: float,
    ) -> Alert:
        level = _severity(severity)
        task = redact_text(_text("task", task), MAX_TASK)
        reason = redact_text(_text("reason", reason), MAX_REASON)
        return Alert(
            id=new_id(now),
            fingerprint=_fingerprint(task, level, reason),
            task=task,
            reason=reason,
            severity=level,
            context=self._shown(context),
            first_seen=now,
            last_seen=now,
        )

    def _shown(self, context: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            return self._redact(dict(context)) if context else {}
        except Exception as error:  # noqa: BLE001 - a context that cannot be cleaned is not shown
            return {"context": f"not shown: cleaning it raised {type(error).__name__}"}

    # Listening ------------------------------------------------------------------------------

    def subscribe(
        self, task: str, fn: Subscriber, min_severity: str | None = None
    ) -> Callable[[], None]:
        """Call ``fn`` with every alert on ``task`` (``"*"``: on any). Returns how to end it.

        ``fn`` gets a dictionary of its own, on a background thread.

        Raises:
            ConfigurationError: when ``fn`` cannot be called or the severity is not one of the
                four.
        """
        if not callable(fn):
            raise ConfigurationError(f"an alert subscriber must be callable, not {fn!r}")
        rank = 0 if min_severity is None else _rank(_severity(min_severity))
        about = _text("task", task)

        def wants(alert: AlertView) -> bool:
            return about in ("*", alert["task"]) and _rank(alert["severity"]) >= rank

        return self._dispatcher.subscribe(wants, lambda alert: fn(_copy(alert)), _name(fn))

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to ``timeout`` seconds until everything was handed out; whether it was."""
        return self._dispatcher.flush(timeout)

    @property
    def dropped(self) -> int:
        """Alerts that no subscriber saw because the queue was full. They are on the ledger."""
        return self._dispatcher.dropped

    @property
    def failures(self) -> list[tuple[str, int]]:
        """For every subscriber, oldest first: its name and how often it has raised."""
        return self._dispatcher.failures

    # Reading and deciding -------------------------------------------------------------------

    @property
    def alerts(self) -> list[AlertView]:
        """The alerts that are remembered, last seen first."""
        return self.get_alerts(limit=self.most)

    def get_alerts(
        self, severity: str | None = None, task_name: str | None = None, limit: int = 100
    ) -> list[AlertView]:
        """Alerts of a severity or task, last seen first.

        Raises:
            ConfigurationError: when the severity is not one of the four.
        """
        level = None if severity is None else _severity(severity)
        found = self._store.read(
            lambda tx: tx.alerts.find(severity=level, task=task_name, limit=limit)
        )
        return [_view(alert) for alert in found]

    def acknowledge(
        self, alert_id: str, *, by: str, reason: str, expected: str | None = None
    ) -> AlertView:
        """Record that ``by`` knows of the alert and why it may wait.

        ``expected`` is the state that was seen when deciding.

        Raises:
            ConfigurationError: when there is no such alert, or ``by`` or ``reason`` is missing.
            Refused: when it is resolved, or is not in the ``expected`` state.
        """
        return self._decide(alert_id, AlertState.ACKNOWLEDGED, by, reason, expected)

    def resolve(
        self, alert_id: str, *, by: str, reason: str, expected: str | None = None
    ) -> AlertView:
        """Record that ``by`` settled the matter; if it fires again, that is a new alert.

        Raises: as `acknowledge`.
        """
        return self._decide(alert_id, AlertState.RESOLVED, by, reason, expected)

    def close(
        self,
        task: str,
        reason: str,
        *,
        by: str,
        why: str,
        lasts: Callable[[Transaction, Alert], bool],
    ) -> None:
        """Resolve each alert that is open on ``task`` for ``reason``, unless its matter ``lasts``.

        That is asked in the transaction that would resolve it.
        """

        def open_now(tx: Transaction) -> list[Alert]:
            found = tx.alerts.find(task=task, limit=self.most)
            of_it = [a for a in found if a.reason == reason and a.state != AlertState.RESOLVED]
            return [alert for alert in of_it if not lasts(tx, alert)]

        def work(tx: Transaction) -> None:
            for alert in open_now(tx):
                if tx.alerts.change(alert, AlertState.RESOLVED, by):  # else it was raised again
                    self._record(tx, alert, AlertState.RESOLVED, by, why)

        if self._store.read(open_now):
            self._store.write(work, durable=False)

    def _decide(
        self, alert_id: str, state: AlertState, by: str, reason: str, expected: str | None
    ) -> AlertView:
        actor, why = _text("by", by), _text("reason", reason)

        def work(tx: Transaction) -> Alert:
            before = tx.alerts.get(alert_id)
            if before is None:
                raise NotFound(f"there is no alert {alert_id!r}; see get_alerts()")
            seen = before.state if expected is None else expected
            if before.state is AlertState.RESOLVED or before.state != seen:
                raise _changed(before)
            return self._change(tx, before, state, actor, why)

        return _view(self._store.write(work))

    def _change(
        self, tx: Transaction, before: Alert, state: AlertState, actor: str, why: str
    ) -> Alert:
        """Set the state and record who did it; `Refused` when it is not as in ``before``."""
        while not tx.alerts.change(before, state, actor):
            now = tx.alerts.get(before.id)
            if now is None or now.state is not before.state:
                raise _changed(now or before)
            before = now  # it was only counted again
        self._record(tx, before, state, actor, why)
        return structs.replace(before, state=state, changed_by=actor)

    def _record(
        self, tx: Transaction, before: Alert, state: AlertState, actor: str, why: str
    ) -> None:
        about = {"task": before.task, "before": before.state.value, "count": before.count}
        what, subject, now = f"alert.{state.value}", f"alert:{before.id}", self._clock.now()
        tx.decisions.append(decision(what, subject, by=actor, reason=why, now=now, **about))


def _view(alert: Alert) -> AlertView:
    return {
        "id": alert.id,
        "timestamp": iso(alert.last_seen),
        "task": alert.task,
        "reason": alert.reason,
        "severity": alert.severity.value,
        "context": _copy(alert.context),
        "fingerprint": alert.fingerprint,
        "count": alert.count,
        "first_seen": iso(alert.first_seen),
        "last_seen": iso(alert.last_seen),
        "state": alert.state.value,
        "changed_by": alert.changed_by,
    }


def _copy(value: Any) -> Any:
    """A copy of plain JSON material, so that no reader can change what another one sees."""
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _fingerprint(task: str, severity: Severity, reason: str) -> str:
    text = json.encode((task, severity, reason))
    return hashlib.sha256(text).hexdigest()[:32]


def _severity(value: object) -> Severity:
    try:
        return Severity(str(value))
    except ValueError:
        raise ConfigurationError(
            f"unknown severity {value!r}; it must be one of {', '.join(_SEVERITIES)}"
        ) from None


def _rank(severity: str) -> int:
    return _SEVERITIES.index(severity)


def _name(fn: Subscriber) -> str:
    return str(getattr(fn, "__qualname__", None) or type(fn).__qualname__)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name} must be a text that says something, not {value!r}")
    return value


def _changed(alert: Alert) -> Refused:
    who = f" by {alert.changed_by}" if alert.changed_by else ""
    return Refused(
        f"alert {alert.id} on {alert.task!r} is {alert.state.value}{who} now; look at it again "
        f"before deciding. Nothing was changed"
    )
