"""Bringing a database to the schema this code knows, and saying where it is."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    inspect,
    text,
)
from sqlalchemy.exc import DBAPIError

from gonogo.errors import SchemaError
from gonogo.store import postgres_server
from gonogo.store.engines import BEGIN, make_engine
from gonogo.store.environment import environment_of, require_environment
from gonogo.store.newborn import tell
from gonogo.store.postgres_errors import explain
from gonogo.store.postgres_rights import Rights, rights_of
from gonogo.store.postgres_server import Server
from gonogo.store.revisions import PREFIX, REVISION, REVISIONS, VERSION_TABLE
from gonogo.store.schema import marks, metadata
from gonogo.store.sqlite_errors import translate
from gonogo.store.urls import FileUrl, in_memory, parse, shown

_UPGRADE = "run `gonogo db upgrade`"
LOCK = 7_461_023_850_113
"""Number of the advisory lock that one upgrade at a time holds on PostgreSQL."""
_one_at_a_time = threading.Lock()


class SchemaStatus(Struct, frozen=True):
    """Where a database is: ``current`` is ``None`` when it holds no ledger yet.

    ``environment`` is the one it was marked for, if any. ``server`` and ``rights`` are those of
    PostgreSQL, ``None`` for SQLite; without the right to read it, ``current`` is ``None`` as well.
    ``applied`` is what this `upgrade` did, and not what another process did meanwhile.
    """

    current: str | None
    head: str
    pending: tuple[str, ...]
    environment: str | None = None
    server: Server | None = None
    rights: Rights | None = None
    applied: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether ``current`` could be read."""
        return self.rights is None or self.rights.may_read(VERSION_TABLE)

    @property
    def usable(self) -> bool:
        """Whether this code could work on the ledger, or make one where there is none."""
        old = self.current is not None and bool(self.pending)
        standby = self.server is not None and self.server.standby
        return not (old or standby or (self.rights is not None and self.rights.missing))


def status(url: str | URL) -> SchemaStatus:
    """Where the database is, without changing it.

    Raises:
        ConfigurationError: the server is too old, or there is no such database.
        SchemaError: the schema is half migrated, or newer than this code.
        StoreUnavailable: the database cannot be reached or read.
    """
    if _is_missing_file(parse(url)):
        return SchemaStatus(None, REVISION, REVISIONS)
    with _engine(url) as engine, engine.connect() as connection:
        server, rights = _server_and_rights(connection)
        current = environment = None
        if rights is None or rights.may_read(VERSION_TABLE):
            current = _revision(connection)
        if current == REVISION and (rights is None or rights.may_read(marks.name)):
            environment = environment_of(connection)
    found = SchemaStatus(current, REVISION, (), environment, server, rights)
    return replace(found, pending=_after(current)) if found.readable else found


def upgrade(url: str | URL, to: str = REVISION) -> SchemaStatus:
    """Bring the database to the newest schema, or to ``to``; several processes may do so at once.

    Raises:
        ConfigurationError: the server is too old, or there is no such database.
        SchemaError: the schema is half migrated, or newer than this code.
        StoreUnavailable: the database cannot be reached or written, or the role may not.
    """
    with _engine(url) as engine:
        with engine.connect() as connection:
            server, rights = _server_and_rights(connection)
            if server is not None and rights is not None:
                server.require_primary(_where(engine))
                rights.require_schema(_where(engine))
        applied = _migrate(engine, to, fresh_only=False)
    return replace(status(url), applied=applied)


@contextmanager
def _engine(url: str | URL) -> Iterator[Engine]:
    """An engine for the block; what the driver raises becomes an error that names the remedy."""
    engine = make_engine(url)
    try:
        yield engine
    except DBAPIError as error:
        where = _where(engine)
        cause = error.orig if isinstance(error.orig, Exception) else error
        if isinstance(cause, sqlite3.Error):
            raise translate(cause, where) from error
        raise explain(cause, where) from error
    finally:
        engine.dispose()


def _where(engine: Engine) -> str:
    return shown(engine.url)


def _server_and_rights(connection: Connection) -> tuple[Server | None, Rights | None]:
    """What can stand in the way on PostgreSQL; nothing can on SQLite."""
    if connection.dialect.name != "postgresql":
        return None, None
    server = postgres_server.ask(connection.exec_driver_sql)
    server.require_known(_where(connection.engine))
    return server, rights_of(connection)


def _is_missing_file(url: URL | FileUrl) -> bool:
    """Whether to connect would only create the file."""
    if url.get_backend_name() != "sqlite" or in_memory(url):
        return False
    path = Path(url.database or "")
    return path.parent.is_dir() and not path.exists() and not str(path).startswith("file:")


def prepare(engine: Engine, environment: str | None = None) -> None:
    """Create the ledger in a database that has none; check the one that is there.

    Raises:
        SchemaError: it is half migrated, older or newer than this code, or belongs to another
            environment.
        StoreUnavailable: the role lacks a right.
    """
    with engine.connect() as connection:
        _, rights = _server_and_rights(connection)
        if rights is not None:
            rights.require(_where(engine))
        current = _revision(connection)
    if current is None:
        _migrate(engine, REVISION, fresh_only=True)
    elif current != REVISION:
        raise SchemaError(
            f"the ledger's schema is {current}, this code needs {REVISION}; "
            f"stop what runs on it, make a backup, and {_UPGRADE}"
        )
    with engine.begin() as connection:
        require_environment(connection, environment)


def _revision(connection: Connection) -> str | None:
    names = inspect(connection).get_table_names()
    tables = {name for name in names if name.startswith(PREFIX)}
    if not tables:
        return None
    found: Sequence[str] = ()
    if VERSION_TABLE in tables:
        found = connection.scalars(text(f"SELECT version_num FROM {VERSION_TABLE}")).all()  # noqa: S608 - a constant
    if len(found) != 1:
        raise SchemaError(
            f"the database has tables of gonogo but not their version ({VERSION_TABLE}): "
            "it was made or copied by half; restore it from a backup, or use another database"
        )
    if found[0] not in REVISIONS:
        raise SchemaError(
            f"the ledger's schema is {found[0]}, which this code does not know "
            f"(newest: {REVISION}); a newer gonogo made it: install that version"
        )
    gone = sorted({table.name for table in metadata.sorted_tables} - tables)
    if found[0] == REVISION and gone:
        raise SchemaError(
            f"the ledger's schema is {REVISION}, but it lacks {', '.join(gone)}: it was copied by "
            "half, or somebody dropped them; restore it from a backup, or use another database"
        )
    return found[0]


def _after(revision: str | None, to: str = REVISION) -> tuple[str, ...]:
    """The revisions after one, or after none."""
    known = 0 if revision is None else REVISIONS.index(revision) + 1
    return REVISIONS[known : REVISIONS.index(to) + 1]


def _migrate(engine: Engine, to: str, *, fresh_only: bool) -> tuple[str, ...]:
    """Make the ledger, or run the migrations, in one transaction, alone.

    What another process did is not done again. Returns the revisions that were gone through.
    """
    alone = engine.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
    with _one_at_a_time, alone.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        current = _revision(connection)
        if current == to or (fresh_only and current is not None):
            return ()
        if current is None and to == REVISION:
            _create(connection)
        else:
            _run_migrations(connection, to)
    if current is None and not in_memory(engine.url):
        tell(_where(engine))
    return _after(current, to)


def _create(connection: Connection) -> None:
    """A new ledger is made as it is declared, which is what the migrations would make of it."""
    from gonogo.store.indexes import metadata, version  # noqa: PLC0415 - needed once in a database's life

    metadata.create_all(connection, checkfirst=False)
    version.create(connection, checkfirst=False)
    connection.execute(version.insert().values(version_num=REVISION))


def _run_migrations(connection: Connection, to: str) -> None:
    from alembic import command  # noqa: PLC0415 - heavy, and needed for an older ledger only
    from alembic.config import Config  # noqa: PLC0415 - same

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)
