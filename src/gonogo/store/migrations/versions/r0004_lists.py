"""Lists of calls, and the backlog, cost what they show and not what the ledger holds.

A call with a key is in one index of keys, not in two.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_QUEUED = sa.text("state = 'pending' AND queue IS NOT NULL")
_HELD = sa.text("held")
_KEYED = sa.text("NOT held AND key IS NOT NULL")
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
    op.drop_index("gonogo_held_key", "gonogo_calls")
    op.create_index(
        "gonogo_held_key",
        "gonogo_calls",
        ["key", "action"],
        unique=True,
        sqlite_where=_HELD,
        postgresql_where=_HELD,
    )
    op.drop_index("gonogo_key", "gonogo_calls")
    op.create_index(
        "gonogo_key", "gonogo_calls", ["key"], sqlite_where=_KEYED, postgresql_where=_KEYED
    )
