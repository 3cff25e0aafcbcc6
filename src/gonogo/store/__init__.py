"""The ledger: one port and its implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from gonogo.store.port import Store


def open_store(database: str | Engine | None = None) -> Store:
    """The ledger of a database; in memory without one. Nothing is opened before its first use.

    Raises:
        ConfigurationError: the URL is unknown here.
    """
    if database is None:
        from gonogo.store.memory import MemoryStore  # noqa: PLC0415 - only what is asked for

        return MemoryStore()
    from gonogo.store.sqlite import SqliteStore  # noqa: PLC0415 - SQLAlchemy is heavy

    return SqliteStore(database)
