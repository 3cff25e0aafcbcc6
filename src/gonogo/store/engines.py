"""SQLAlchemy's engines, whose transactions roll back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import NoSuchModuleError

from gonogo.errors import ConfigurationError
from gonogo.store.sqlite_log import enter_wal
from gonogo.store.urls import FileUrl, full, in_memory

BEGIN = "gonogo_begin"
"""Execution option of a connection: the words with which its transactions begin."""


def make_engine(url: str | URL | FileUrl, *, busy_timeout: float = 5.0, **options: Any) -> Engine:
    """An engine whose transactions are what they seem.

    The driver of SQLite begins transactions late and by itself, so that a rollback may leave
    rows behind; here it begins none, and SQLAlchemy's BEGIN is said aloud.

    Args:
        busy_timeout: seconds a connection to SQLite waits for another one's lock.

    Raises:
        ConfigurationError: the URL cannot be used, or the driver is not installed.
    """
    parsed = full(url)
    if parsed.get_backend_name() == "postgresql":  # statements prepared there break PgBouncer
        options = {"connect_args": {"prepare_threshold": None}, **options}
    try:
        engine = create_engine(parsed, **options)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(
            f"the driver of {parsed.drivername} is not installed; "
            'for PostgreSQL: pip install "gonogo[postgres]"'
        ) from error
    if parsed.get_backend_name() == "sqlite":
        _listen(engine, parsed, busy_timeout)
    return engine


def _listen(engine: Engine, parsed: URL, busy_timeout: float) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {int(busy_timeout * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        if not in_memory(parsed):
            enter_wal(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN"))
