"""Database URLs and engines: which driver, which file, and transactions that roll back."""

from __future__ import annotations

import itertools
import os
import sqlite3
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
_SECRET = ("password", "sslpassword")
_ATTEMPTS_AT_WAL = 20
_memories = itertools.count(1)


def parse(url: str | URL) -> URL:
    """The URL with its driver named, a file's path absolute and a memory database by name.

    A memory database gets a name, so that several connections of this process see the same one,
    each with transactions of its own.

    Raises:
        ConfigurationError: it is no URL, or names a database that gonogo does not know.
    """
    parsed = read(url)
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigurationError(
            f"{parsed.drivername!r} databases are not known; "
            "use a URL that begins with sqlite:// or postgresql://"
        )
    parsed = parsed.set(drivername=driver)
    return _sqlite(parsed) if driver == "sqlite" else parsed


def read(url: str | URL) -> URL:
    """The parts of a URL; the error for one that has none does not repeat it."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        found = None
    if found is None:  # apart from the error, which repeats a part of it
        raise ConfigurationError(
            "the database URL cannot be read; write sqlite:///path/to/file.db "
            "or postgresql://user:password@host/database"
        )
    if "@" in (found.host or ""):  # it would be shown, and is the end of a password
        raise ConfigurationError(
            "the database URL has more than one @: write one in a user or password as %40"
        )
    return found


def shown(url: URL) -> str:
    """A URL for people and logs, without its passwords."""
    url = url.difference_update_query(_SECRET)
    return url.render_as_string(hide_password=True)


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


def enter_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; a read-only database stays as it is.

    SQLite does not wait for a lock when it changes the mode, so this waits for the lock in
    between, where it does.
    """
    for attempt in range(_ATTEMPTS_AT_WAL):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            code = error.sqlite_errorcode & 0xFF
            if code == sqlite3.SQLITE_READONLY:
                return
            if code != sqlite3.SQLITE_BUSY or attempt == _ATTEMPTS_AT_WAL - 1:
                raise
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
