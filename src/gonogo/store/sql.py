"""One transaction on an SQL database, seen as the tables of the port.

The statements are the same for every database; what differs is the connection they run on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gonogo.records import (
    Alert,
    AlertState,
    Attempt,
    Beat,
    Control,
    Decision,
    PlanRecord,
    PlanState,
    Schedule,
)
from gonogo.store import rows
from gonogo.store.run import Run
from gonogo.store.sql_calls import SqlCalls
from gonogo.store.sql_limits import SqlLimits
from gonogo.store.texts import Names, names

if TYPE_CHECKING:
    from gonogo.store import schema, statements
else:
    schema = statements = Names()

SWITCHES = 7_461_023_850_114
"""Number of the advisory lock that every writing transaction shares, and a switch needs alone."""


class SqlTransaction:
    """The tables on one connection; used for one transaction after the other."""

    __slots__ = (
        "alerts",
        "attempts",
        "beats",
        "calls",
        "controls",
        "decisions",
        "limits",
        "plans",
        "schedules",
    )

    def __init__(self, run: Run) -> None:
        self.calls = SqlCalls(run)
        self.attempts = SqlAttempts(run)
        self.decisions = SqlDecisions(run)
        self.limits = SqlLimits(run)
        self.alerts = SqlAlerts(run)
        self.plans = SqlPlans(run)
        self.controls = SqlControls(run)
        self.beats = SqlBeats(run)
        self.schedules = SqlSchedules(run)


class SqlAttempts:
    def __init__(self, run: Run) -> None:
        self._run = run

    def append(self, attempt: Attempt) -> None:
        given = rows.ATTEMPTS.given(attempt)
        self._run(self._run.texts.insert(schema.attempts, tuple(given)), given)

    def of(self, call_id: str) -> list[Attempt]:
        text = self._run.texts.text(statements.attempts_of)
        found = self._run(text, {"call_id": call_id}).fetchall()
        return [rows.ATTEMPTS.decode(row) for row in found]


class SqlDecisions:
    def __init__(self, run: Run) -> None:
        self._run = run

    def append(self, decision: Decision) -> None:
        given = rows.DECISIONS.given(decision)
        self._run(self._run.texts.insert(schema.decisions, tuple(given)), given)

    def of(self, subject: str) -> list[Decision]:
        text = self._run.texts.text(statements.decisions_of)
        found = self._run(text, {"subject": subject}).fetchall()
        return [rows.DECISIONS.decode(row) for row in found]

    def latest(self, limit: int) -> list[Decision]:
        text = self._run.texts.text(statements.latest_decisions)
        found = self._run(text, {"most": limit}).fetchall()
        return [rows.DECISIONS.decode(row) for row in found]


class SqlAlerts:
    def __init__(self, run: Run) -> None:
        self._run = run

    def fire(self, alert: Alert) -> Alert:
        text = self._run.texts.text(statements.unresolved_alert, self._run.locks)
        row = self._run(text, {"fingerprint": alert.fingerprint}).fetchone()
        if row is None:
            given = rows.ALERTS.given(alert)
            self._run(self._run.texts.insert(schema.alerts, tuple(given)), given)
            return alert
        known = rows.ALERTS.decode(row)
        counted = known.again(alert)
        self._update(known, rows.ALERTS.changes(known, counted))
        return counted

    def get(self, alert_id: str) -> Alert | None:
        text = self._run.texts.text(statements.alert_by_id)
        row = self._run(text, {"id": alert_id}).fetchone()
        return None if row is None else rows.ALERTS.decode(row)

    def change(self, before: Alert, state: AlertState, actor: str) -> bool:
        return self._update(before, {"state": str(state), "changed_by": actor})

    def find(
        self, *, severity: str | None = None, task: str | None = None, limit: int = 100
    ) -> list[Alert]:
        asked = {"severity": severity and str(severity), "task": task}
        wanted = {field: value for field, value in asked.items() if value is not None}
        text = self._run.texts.text(statements.find_alerts, tuple(wanted))
        found = self._run(text, {**wanted, "most": limit}).fetchall()
        return [rows.ALERTS.decode(row) for row in found]

    def _update(self, before: Alert, changed: dict[str, Any]) -> bool:
        text = self._run.texts.update(statements.change_alert, tuple(changed))
        fence = {"if_id": before.id, "if_state": str(before.state), "if_count": before.count}
        return self._run(text, {**changed, **fence}).rowcount == 1


class SqlPlans:
    def __init__(self, run: Run) -> None:
        self._run = run

    def insert(self, plan: PlanRecord) -> None:
        given = rows.PLANS.given(plan)
        self._run(self._run.texts.insert(schema.plans, tuple(given)), given)

    def get(self, plan_id: str) -> PlanRecord | None:
        text = self._run.texts.text(statements.plan_by_id, self._run.locks)
        row = self._run(text, {"id": plan_id}).fetchone()
        return None if row is None else rows.PLANS.decode(row)

    def replace(self, before: PlanRecord, after: PlanRecord) -> bool:
        text = self._run.texts.update(statements.replace_plan, rows.PLANS.columns)
        fence = {"if_id": before.id, "if_state": str(before.state)}
        return self._run(text, {**rows.PLANS.encode(after), **fence}).rowcount == 1

    def find(self, *, states: Sequence[PlanState] = (), limit: int = 100) -> list[PlanRecord]:
        text = self._run.texts.text(statements.find_plans, len(states))
        wanted = names("state", map(str, states))
        found = self._run(text, {**wanted, "most": limit}).fetchall()
        return [rows.PLANS.decode(row) for row in found]


class SqlControls:
    def __init__(self, run: Run) -> None:
        self._run = run

    def all(self) -> dict[str, Control]:
        kept = self._run.kept
        if kept is not None and (known := kept.get("controls")) is not None:
            return dict(known)
        found = self._run(self._run.texts.text(statements.all_controls), {}).fetchall()
        controls = {control.name: control for control in map(rows.CONTROLS.decode, found)}
        if kept is not None:
            kept["controls"] = controls
        return dict(controls)

    def put(self, control: Control) -> None:
        self._wait_for_lookers()
        text = self._run.texts.upsert(schema.controls, rows.CONTROLS.columns)
        self._run(text, rows.CONTROLS.encode(control))

    def clear(self, name: str) -> bool:
        self._wait_for_lookers()
        text = self._run.texts.text(statements.clear_control)
        cleared = self._run(text, {"name": name}).rowcount == 1
        if cleared:  # what it kept back is due
            self._run.news.add(None)
        return cleared

    def _wait_for_lookers(self) -> None:
        """A switch counts from its commit on: nobody who read the old one commits after that."""
        if self._run.kept is not None:
            self._run.kept.pop("controls", None)
        if self._run.locks:
            text = self._run.texts.text(statements.lock_number)
            self._run(text, {"number": SWITCHES})


class SqlBeats:
    def __init__(self, run: Run) -> None:
        self._run = run

    def put(self, beat: Beat) -> None:
        text = self._run.texts.upsert(schema.beats, rows.BEATS.columns)
        self._run(text, rows.BEATS.encode(beat))

    def all(self) -> list[Beat]:
        found = self._run(self._run.texts.text(statements.all_beats), {}).fetchall()
        return [rows.BEATS.decode(row) for row in found]

    def remove(self, name: str) -> None:
        self._run(self._run.texts.text(statements.remove_beat), {"name": name})


class SqlSchedules:
    def __init__(self, run: Run) -> None:
        self._run = run

    def get(self, name: str) -> Schedule | None:
        text = self._run.texts.text(statements.schedule_by_name, self._run.locks)
        row = self._run(text, {"name": name}).fetchone()
        return None if row is None else rows.SCHEDULES.decode(row)

    def put(self, schedule: Schedule) -> None:
        text = self._run.texts.upsert(schema.schedules, rows.SCHEDULES.columns)
        self._run(text, rows.SCHEDULES.encode(schedule))

    def replace(self, before: Schedule, after: Schedule) -> bool:
        text = self._run.texts.update(statements.replace_schedule, rows.SCHEDULES.columns)
        fence = {
            "if_name": before.name,
            "if_digest": before.digest,
            "if_next": before.next_at,
        }
        return self._run(text, {**rows.SCHEDULES.encode(after), **fence}).rowcount == 1

    def all(self) -> list[Schedule]:
        found = self._run(self._run.texts.text(statements.all_schedules), {}).fetchall()
        return [rows.SCHEDULES.decode(row) for row in found]

    def remove(self, name: str) -> bool:
        text = self._run.texts.text(statements.remove_schedule)
        return self._run(text, {"name": name}).rowcount == 1
