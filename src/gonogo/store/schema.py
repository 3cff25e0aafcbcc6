"""The tables of the ledger. Every name begins with ``gonogo_``: users' tables may live beside.

Plain types only, so that every database keeps the same thing: texts, numbers, booleans. Times are
epoch seconds as doubles; what has structure is JSON text. Their indexes are in `indexes`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    false,
    literal_column,
    or_,
)

from gonogo.records import OPEN, TERMINAL, AlertState, State

metadata = MetaData()

_seconds = Float(53)
_units = BigInteger()
_sequence = BigInteger().with_variant(Integer(), "sqlite")


def literal(value: str) -> ColumnElement[str]:
    """A word of ours as a literal, because a partial index is not used for a parameter."""
    return literal_column(f"'{value}'")


ZERO: ColumnElement[int] = literal_column("0")
ONE: ColumnElement[int] = literal_column("1")
NOTHING: ColumnElement[str] = literal_column("''", Text)


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **options)


calls = Table(
    "gonogo_calls",
    metadata,
    _text("id", primary_key=True),
    _text("action"),
    _text("state"),
    Column("created_at", _seconds, nullable=False),
    Column("key", Text),
    Column("held", Boolean, nullable=False),
    _text("fingerprint"),
    _text("args"),
    Column("epoch", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("queue", Text),
    Column("priority", Integer, nullable=False),
    Column("run_at", _seconds, nullable=False),
    Column("lease_until", _seconds),
    Column("owner", Text),
    Column("dispatched_at", _seconds),
    Column("settled_at", _seconds),
    Column("deadline_at", _seconds),
    Column("expires_at", _seconds),
    Column("outcome", Text),
    Column("result", Text),
    Column("fault", Text),
    Column("note", Text),
    _text("reservations"),
    _text("slots"),
    Column("correlation_id", Text),
    Column("facts", Text),
    Column("plan_id", Text),
    Column("position", Integer),
    Column("verdict", Text),
    Column("after", Text),
    Column("approved_by", Text),
    Column("repeatable", Boolean, nullable=False),
    Column("lane", Text),
    Column("waits", Boolean, nullable=False, server_default=false()),
)


def in_state(*states: State) -> ColumnElement[bool]:
    """The call is in one of ``states``.

    Without a list: for one in the condition of an index SQLite makes a table at every write.
    """
    return or_(*(calls.c.state == literal(state) for state in sorted(states)))


pending = in_state(State.PENDING)
claimable = and_(pending, literal_column("NOT waits"), calls.c.queue.is_not(None))
"""What a worker may take when it is due."""
queued = and_(pending, calls.c.queue.is_not(None))
in_lane = and_(calls.c.lane.is_not(None), in_state(*OPEN))
unknown = in_state(State.UNKNOWN)
leased = and_(
    calls.c.lease_until.is_not(None),
    or_(in_state(State.CLAIMED, State.DISPATCHED), and_(pending, calls.c.queue.is_(None))),
)
finished = in_state(*TERMINAL)
remarkable = calls.c.state != literal(State.SUCCEEDED)
"""Said beside the state that is asked for, because it is the condition of the states' index."""
deadlined = and_(pending, calls.c.deadline_at.is_not(None))
holding: ColumnElement[bool] = literal_column("held")
"""The call holds its key; spelled so that it means the same in every database."""
keyed = and_(literal_column("NOT held"), calls.c.key.is_not(None))
"""The call has given its key up; it can still be found by it."""
lapsing = and_(holding, calls.c.expires_at.is_not(None))
forgettable = and_(literal_column("NOT held"), finished)
"""Calls that are over and that nobody can ask for by their key any more."""

slots = Table(
    "gonogo_slots",
    metadata,
    _text("slot", primary_key=True),
    _text("call_id", primary_key=True),
)

attempts = Table(
    "gonogo_attempts",
    metadata,
    Column("seq", _sequence, primary_key=True, autoincrement=True),
    _text("call_id"),
    Column("attempt", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("owner", Text),
    Column("started_at", _seconds, nullable=False),
    Column("ended_at", _seconds, nullable=False),
    _text("outcome"),
    Column("fault", Text),
    Column("note", Text),
)

decisions = Table(
    "gonogo_decisions",
    metadata,
    Column("seq", _sequence, primary_key=True, autoincrement=True),
    _text("id"),
    Column("at", _seconds, nullable=False),
    _text("what"),
    _text("subject"),
    _text("actor"),
    _text("reason"),
    _text("detail"),
)

limits = Table(
    "gonogo_limits",
    metadata,
    _text("name", primary_key=True),
    Column("window", _seconds, nullable=False),
    Column("since", _seconds),
    _text("buckets"),
    Column("idle_at", _seconds, nullable=False),
)

alerts = Table(
    "gonogo_alerts",
    metadata,
    _text("id", primary_key=True),
    _text("fingerprint"),
    _text("task"),
    _text("reason"),
    _text("severity"),
    _text("context"),
    Column("first_seen", _seconds, nullable=False),
    Column("last_seen", _seconds, nullable=False),
    Column("count", _units, nullable=False),
    _text("state"),
    Column("changed_by", Text),
)
unresolved = alerts.c.state != literal(AlertState.RESOLVED)

plans = Table(
    "gonogo_plans",
    metadata,
    _text("id", primary_key=True),
    _text("name"),
    _text("state"),
    Column("created_at", _seconds, nullable=False),
    Column("expires_at", _seconds, nullable=False),
    _text("digest"),
    Column("size", Integer, nullable=False),
    _text("problems"),
    Column("approved_by", Text),
    Column("approved_at", _seconds),
    Column("approval_reason", Text),
    Column("applied_by", Text),
    Column("applied_at", _seconds),
)

controls = Table(
    "gonogo_controls",
    metadata,
    _text("name", primary_key=True),
    _text("actor"),
    _text("reason"),
    Column("set_at", _seconds, nullable=False),
    Column("until", _seconds),
)

beats = Table(
    "gonogo_beats",
    metadata,
    _text("name", primary_key=True),
    _text("kind"),
    Column("at", _seconds, nullable=False),
    _text("detail"),
)

schedules = Table(
    "gonogo_schedules",
    metadata,
    _text("name", primary_key=True),
    _text("action"),
    _text("spec"),
    _text("tz"),
    _text("catch_up"),
    Column("grace", _seconds, nullable=False),
    _text("digest"),
    Column("anchor", _seconds, nullable=False),
    Column("next_at", _seconds, nullable=False),
    Column("last_at", _seconds),
    Column("last_call", Text),
    Column("missed", _units, nullable=False),
    Column("note", Text),
)

marks = Table(
    "gonogo_marks",
    metadata,
    _text("name", primary_key=True),
    _text("value"),
)
"""What is said once about the whole ledger: its environment."""
