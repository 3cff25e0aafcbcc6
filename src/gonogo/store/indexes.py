"""The indexes of the ledger; who imports them completes `schema.metadata`.

Partial ones keep the hot questions ("what is due?", "who holds this key?") independent of how much
history there is. They are apart from the tables because SQLAlchemy loads every database's dialect
to read their conditions, which only those who make a ledger need.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    and_,
)

from gonogo.store import schema
from gonogo.store.revisions import PREFIX, VERSION_TABLE
from gonogo.store.schema import alerts, attempts, calls, decisions, limits, plans, slots


def _partial(name: str, where: ColumnElement[bool], *columns: Any, unique: bool = False) -> None:
    Index(PREFIX + name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_partial("held_key", schema.holding, calls.c.key, calls.c.action, unique=True)
_partial(
    "due",
    schema.claimable,
    *(calls.c.queue, calls.c.action, calls.c.priority, calls.c.run_at, calls.c.id),
)
_partial("next", schema.queued, calls.c.queue, calls.c.waits, calls.c.run_at)
_partial("lane", schema.in_lane, calls.c.lane, calls.c.waits, calls.c.run_at, calls.c.id)
_partial("forgettable", schema.forgettable, calls.c.settled_at)
_partial("lease", schema.leased, calls.c.lease_until)
_partial("doubt", schema.unknown, calls.c.run_at)
_partial("deadline", schema.deadlined, calls.c.deadline_at)
_partial("expiry", schema.lapsing, calls.c.expires_at)
_partial("after", and_(schema.pending, calls.c.after.is_not(None)), calls.c.after)
_partial("plan_calls", calls.c.plan_id.is_not(None), calls.c.plan_id, calls.c.position)
_partial("correlation", calls.c.correlation_id.is_not(None), calls.c.correlation_id)
_partial("key", schema.keyed, calls.c.key)
# Without its condition it would be preferred to the partial ones; with all states it would be long.
_partial("state", schema.remarkable, calls.c.state, calls.c.id)
Index("gonogo_action", calls.c.action, calls.c.id)
Index("gonogo_slots_call", slots.c.call_id)
Index("gonogo_attempts_call", attempts.c.call_id)
Index("gonogo_decisions_subject", decisions.c.subject)
Index("gonogo_limits_idle", limits.c.idle_at)
_partial("unresolved", schema.unresolved, alerts.c.fingerprint, unique=True)
Index("gonogo_alerts_seen", alerts.c.last_seen)
Index("gonogo_plans_created", plans.c.created_at)

metadata = schema.metadata
"""The tables with their indexes."""

version = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),  # as Alembic makes it
)
"""Which revision the ledger has; a table of Alembic's."""
