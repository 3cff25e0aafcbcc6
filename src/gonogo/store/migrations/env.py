"""Runs the migrations on the connection, and in the transaction, that `upgrade` opened."""

from __future__ import annotations

from alembic import context

from gonogo.store.indexes import metadata
from gonogo.store.revisions import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
