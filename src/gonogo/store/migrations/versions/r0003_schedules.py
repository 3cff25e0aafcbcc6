"""What recurs is kept in the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SECONDS = sa.Float(53)


def upgrade() -> None:
    op.create_table(
        "gonogo_schedules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("tz", sa.Text(), nullable=False),
        sa.Column("catch_up", sa.Text(), nullable=False),
        sa.Column("grace", _SECONDS, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("anchor", _SECONDS, nullable=False),
        sa.Column("next_at", _SECONDS, nullable=False),
        sa.Column("last_at", _SECONDS),
        sa.Column("last_call", sa.Text()),
        sa.Column("missed", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text()),
        sa.PrimaryKeyConstraint("name"),
    )
