"""Database URLs and engines: which driver, which file, and transactions that roll back."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from gonogo.errors import ConfigurationError

BEGIN = "gonogo_begin"
"""Execution option of a connection: the words with which its transactions begin."""
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_memories = itertools.count(1)


def parse(url: str | URL) -> URL:
    """The URL with its driver named, a file's path absolute and a memory database by name.

    A memory database gets a name, so that several connections of this process see the same one,
    each with transactions of its own.

    Raises:
        ConfigurationError: it is no URL, or names a database that gonogo does not know.
    """
    try:
        parsed = make_url(url)
        driver = _DRIVERS.get(parsed.drivername)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            "the database URL cannot be read; write sqlite:///path/to/file.db "
            "or postgresql://user:password@host/database"
        ) from error
    if driver is None:
        raise ConfigurationError(
            f"{parsed.drivername!r} databases are not known; "
            "use a URL that begins with sqlite:// or postgresql://"
        )
    parsed = parsed.set(drivername=driver)
    return _sqlite(parsed) if driver == "sqlite" else parsed


def _sqlite(url: URL) -> URL:
    database = url.database or ":memory:"
    if database in {":memory:", "file::memory:"}:
        name = f"file:/gonogo-{os.getpid()}-{next(_memories)}"
        return url.set(database=name, query={"vfs": "memdb", "uri": "true"})
    if database.startswith("file:"):
        return url
    return url.set(database=str(Path(database).expanduser().absolute()))


def in_memory(url: URL) -> bool:
    """Whether a parsed URL names a database that ends with the process."""
    return url.get_backend_name() == "sqlite" and url.query.get("vfs") == "memdb"


def make_engine(url: str | URL, *, busy_timeout: float = 5.0, **options: Any) -> Engine:
    """An engine whose transactions are what they seem.

    The driver of SQLite begins transactions late and by itself, so that a rollback may leave
    rows behind; here it begins none, and SQLAlchemy's BEGIN is said aloud.

    Args:
        busy_timeout: seconds a connection to SQLite waits for another one's lock.

    Raises:
        ConfigurationError: the URL cannot be used, or the driver is not installed.
    """
    parsed = parse(url)
    try:
        engine = create_engine(parsed, **options)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(
            f"the driver of {parsed.drivername} is not installed; "
            'for PostgreSQL: pip install "gonogo[postgres]"'
        ) from error
    if parsed.get_backend_name() == "sqlite":
        _listen(engine, busy_timeout)
    return engine


def _listen(engine: Engine, busy_timeout: float) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {int(busy_timeout * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN"))
