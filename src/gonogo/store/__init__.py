"""The ledger: one port and its implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gonogo.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import URL

    from gonogo.store.port import Store
    from gonogo.store.urls import FileUrl


def open_store(url: URL | FileUrl | None, environment: str | None = None) -> Store:
    """The ledger of a database; in memory without one. Nothing is opened before its first use.

    Args:
        environment: what the ledger is marked for; one that belongs to another is refused.

    Raises:
        ConfigurationError: a ledger cannot be on that kind of database.
    """
    if url is None:
        from gonogo.store.memory import MemoryStore  # noqa: PLC0415 - only what is asked for

        return MemoryStore()
    if url.get_backend_name() == "postgresql":
        try:
            from gonogo.store.postgres import PostgresStore  # noqa: PLC0415 - needs its driver
            from gonogo.store.urls import full  # noqa: PLC0415 - same
        except ImportError as error:
            raise ConfigurationError(
                "the driver of PostgreSQL (psycopg) is not installed: "
                'pip install "gonogo[postgres]"'
            ) from error
        return PostgresStore(full(url), environment=environment)
    from gonogo.store.sqlite import SqliteStore  # noqa: PLC0415 - only what is asked for

    return SqliteStore(url, environment=environment)
