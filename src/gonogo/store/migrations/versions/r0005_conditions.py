"""Conditions of indexes without lists: SQLite makes a table of each at every write of a row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_OPEN = "state = 'claimed' OR state = 'dispatched' OR state = 'pending' OR state = 'unknown'"
_OVER = "state = 'cancelled' OR state = 'discarded' OR state = 'failed' OR state = 'succeeded'"


def upgrade() -> None:
    _anew("lane", ["lane", "waits", "run_at", "id"], f"lane IS NOT NULL AND ({_OPEN})")
    _anew("forgettable", ["settled_at"], f"NOT held AND ({_OVER})")
    _anew(
        "lease",
        ["lease_until"],
        "lease_until IS NOT NULL AND (state = 'claimed' OR state = 'dispatched'"
        " OR state = 'pending' AND queue IS NULL)",
    )


def _anew(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.drop_index(f"gonogo_{name}", "gonogo_calls")
    op.create_index(
        f"gonogo_{name}", "gonogo_calls", columns, sqlite_where=where, postgresql_where=where
    )
