"""Calls wait for others by a mark of their own, lanes keep an order, claims take turns."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NEVER = 9_999_999_999.0
"""What 0001 added to the due time of a call that waited for another one."""
_OPEN = "state IN ('claimed', 'dispatched', 'pending', 'unknown')"
_OVER = "state IN ('cancelled', 'discarded', 'failed', 'succeeded')"
_CLAIMABLE = "state = 'pending' AND NOT waits AND queue IS NOT NULL"


def upgrade() -> None:
    op.add_column("gonogo_calls", sa.Column("lane", sa.Text()))
    op.add_column(
        "gonogo_calls",
        sa.Column("waits", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    calls = sa.table("gonogo_calls", *map(sa.column, ("state", "after", "run_at", "waits")))
    waiting = (calls.c.state == "pending") & (calls.c.after.is_not(None))
    op.execute(
        calls.update()
        .where(waiting, calls.c.run_at >= _NEVER)
        .values(waits=sa.true(), run_at=calls.c.run_at - _NEVER)
    )
    op.drop_index("gonogo_due", "gonogo_calls")
    op.drop_index("gonogo_next", "gonogo_calls")
    _index("due", ["queue", "action", "priority", "run_at", "id"], _CLAIMABLE)
    _index("next", ["queue", "run_at"], _CLAIMABLE)
    _index("lane", ["lane", "waits", "run_at", "id"], f"lane IS NOT NULL AND {_OPEN}")
    op.create_table(
        "gonogo_marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    _index("forgettable", ["settled_at"], f"NOT held AND {_OVER}")


def _index(name: str, columns: list[str], condition: str) -> None:
    where: dict[str, Any] = {
        "sqlite_where": sa.text(condition),
        "postgresql_where": sa.text(condition),
    }
    op.create_index(f"gonogo_{name}", "gonogo_calls", columns, **where)
