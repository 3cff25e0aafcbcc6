"""Lists of calls, and the backlog, cost what they show and not what the ledger holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_QUEUED = sa.text("state = 'pending' AND queue IS NOT NULL")
_REMARKABLE = sa.text("state != 'succeeded'")


def upgrade() -> None:
    op.drop_index("gonogo_action", "gonogo_calls")
    op.create_index("gonogo_action", "gonogo_calls", ["action", "id"])
    op.drop_index("gonogo_next", "gonogo_calls")
    op.create_index(
        "gonogo_next",
        "gonogo_calls",
        ["queue", "waits", "run_at"],
        sqlite_where=_QUEUED,
        postgresql_where=_QUEUED,
    )
    op.create_index(
        "gonogo_state",
        "gonogo_calls",
        ["state", "id"],
        sqlite_where=_REMARKABLE,
        postgresql_where=_REMARKABLE,
    )
