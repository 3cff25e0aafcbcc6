"""The ledger's first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SECONDS = sa.Float(53)
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "gonogo_alerts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("first_seen", _SECONDS, nullable=False),
        sa.Column("last_seen", _SECONDS, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("gonogo_alerts_seen", "gonogo_alerts", ["last_seen"])
    op.create_index(
        "gonogo_unresolved",
        "gonogo_alerts",
        ["fingerprint"],
        unique=True,
        **_where("state != 'resolved'"),
    )
    op.create_table(
        "gonogo_attempts",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("started_at", _SECONDS, nullable=False),
        sa.Column("ended_at", _SECONDS, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("fault", sa.Text()),
        sa.Column("note", sa.Text()),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("gonogo_attempts_call", "gonogo_attempts", ["call_id"])
    op.create_table(
        "gonogo_beats",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", _SECONDS, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "gonogo_calls",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", _SECONDS, nullable=False),
        sa.Column("key", sa.Text()),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("args", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("queue", sa.Text()),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("run_at", _SECONDS, nullable=False),
        sa.Column("lease_until", _SECONDS),
        sa.Column("owner", sa.Text()),
        sa.Column("dispatched_at", _SECONDS),
        sa.Column("settled_at", _SECONDS),
        sa.Column("deadline_at", _SECONDS),
        sa.Column("expires_at", _SECONDS),
        sa.Column("outcome", sa.Text()),
        sa.Column("result", sa.Text()),
        sa.Column("fault", sa.Text()),
        sa.Column("note", sa.Text()),
        sa.Column("reservations", sa.Text(), nullable=False),
        sa.Column("slots", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("facts", sa.Text()),
        sa.Column("plan_id", sa.Text()),
        sa.Column("position", sa.Integer()),
        sa.Column("verdict", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.Column("approved_by", sa.Text()),
        sa.Column("repeatable", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "gonogo_after",
        "gonogo_calls",
        ["after"],
        **_where("state = 'pending' AND after IS NOT NULL"),
    )
    op.create_index(
        "gonogo_correlation",
        "gonogo_calls",
        ["correlation_id"],
        **_where("correlation_id IS NOT NULL"),
    )
    op.create_index(
        "gonogo_deadline",
        "gonogo_calls",
        ["deadline_at"],
        **_where("state = 'pending' AND deadline_at IS NOT NULL"),
    )
    op.create_index("gonogo_doubt", "gonogo_calls", ["run_at"], **_where("state = 'unknown'"))
    op.create_index(
        "gonogo_due",
        "gonogo_calls",
        ["queue", sa.text("priority DESC"), "run_at", "id"],
        **_where("state = 'pending'"),
    )
    op.create_index(
        "gonogo_expiry", "gonogo_calls", ["expires_at"], **_where("held AND expires_at IS NOT NULL")
    )
    op.create_index(
        "gonogo_held_key", "gonogo_calls", ["action", "key"], unique=True, **_where("held")
    )
    op.create_index("gonogo_key", "gonogo_calls", ["key"], **_where("key IS NOT NULL"))
    op.create_index(
        "gonogo_lease",
        "gonogo_calls",
        ["lease_until"],
        **_where(
            "lease_until IS NOT NULL AND (state IN ('claimed', 'dispatched')"
            " OR state = 'pending' AND queue IS NULL)"
        ),
    )
    op.create_index(
        "gonogo_next", "gonogo_calls", ["queue", "run_at"], **_where("state = 'pending'")
    )
    op.create_index(
        "gonogo_plan_calls",
        "gonogo_calls",
        ["plan_id", "position"],
        **_where("plan_id IS NOT NULL"),
    )
    op.create_index("gonogo_action", "gonogo_calls", ["action", "state"])
    op.create_table(
        "gonogo_controls",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_at", _SECONDS, nullable=False),
        sa.Column("until", _SECONDS),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "gonogo_decisions",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", _SECONDS, nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("gonogo_decisions_subject", "gonogo_decisions", ["subject"])
    op.create_table(
        "gonogo_limits",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("window", _SECONDS, nullable=False),
        sa.Column("since", _SECONDS),
        sa.Column("buckets", sa.Text(), nullable=False),
        sa.Column("idle_at", _SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("gonogo_limits_idle", "gonogo_limits", ["idle_at"])
    op.create_table(
        "gonogo_plans",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", _SECONDS, nullable=False),
        sa.Column("expires_at", _SECONDS, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("problems", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text()),
        sa.Column("approved_at", _SECONDS),
        sa.Column("approval_reason", sa.Text()),
        sa.Column("applied_by", sa.Text()),
        sa.Column("applied_at", _SECONDS),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("gonogo_plans_created", "gonogo_plans", ["created_at"])
    op.create_table(
        "gonogo_slots",
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "call_id"),
    )
    op.create_index("gonogo_slots_call", "gonogo_slots", ["call_id"])


def _where(condition: str) -> dict[str, Any]:
    """A partial index, in every database that has them."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}
