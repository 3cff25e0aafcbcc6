"""The sandbox's own database: an engine, sessions that roll back, and nothing left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from gonogo.errors import ConfigurationError
from gonogo.store.urls import FileUrl, in_memory, parse, read, shown

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.orm import Session

MEMORY = "sqlite:///:memory:"

_BACKENDS = {"sqlite": "sqlite", "postgres": "postgresql", "postgresql": "postgresql"}
_PORTS = {"postgresql": 5432}


class SandboxDatabaseManager:
    """A database to try things in, that can never be the one declared as production.

    Without a URL it is a private SQLite file that ``cleanup`` removes, or with ``use_memory`` a
    database in memory that every thread of the process sees. Nothing is opened before first use.

    Args:
        db_url: ``sqlite:///file.db`` or ``postgresql://user:password@host/name``.
        use_memory: keep the database in memory; not together with a URL.
        production_url: the database this one must not be. Credentials, default ports, symbolic
            links and the case of host names make no difference.

    Raises:
        ConfigurationError: the URL is unknown, or it is the production database.
    """

    def __init__(
        self,
        db_url: str | URL | None = None,
        use_memory: bool = False,
        *,
        production_url: str | URL | None = None,
    ) -> None:
        if db_url is not None and use_memory:
            raise ConfigurationError("give a db_url or use_memory=True, not both")
        self._directory: str | None = None
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._given = None if db_url is None else parse(db_url)
        self._use_memory = use_memory
        if production_url is not None and self._given is not None:
            _refuse_same(self._given, read(production_url))
        self._url = self._given

    def __repr__(self) -> str:
        return f"SandboxDatabaseManager({self.database_url!r})"

    def __enter__(self) -> SandboxDatabaseManager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cleanup()

    @property
    def database_url(self) -> str:
        """The URL for people and logs: its password is hidden."""
        with self._lock:
            url = self._decided()
        return MEMORY if in_memory(url) else shown(url)

    @property
    def url(self) -> URL | FileUrl:
        """Where it is, with its password if it has one; nothing is opened."""
        with self._lock:
            return self._decided()

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, made when it is first asked for.

        Raises:
            ConfigurationError: the driver is not installed.
        """
        from gonogo.store.engines import make_engine  # noqa: PLC0415 - heavy; the ledger needs none

        with self._lock:
            if self._engine is None:
                self._engine = make_engine(self._decided())
            return self._engine

    def get_session(self) -> Session:
        """A session for ``with``: it commits only when told to, rolls back on error, and closes."""
        from sqlalchemy.orm import Session  # noqa: PLC0415 - heavy; the ledger needs none

        return Session(self.engine)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session that commits when the block ends well and rolls back when it does not."""
        with self.get_session() as session, session.begin():
            yield session

    def cleanup(self) -> None:
        """Close every connection and remove what was made: memory and temporary file.

        A database that was given by URL is left as it is. May be called twice; the manager can be
        used again, and then begins with a new database.
        """
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None
            self._url = self._given
            if self._directory is not None:
                import shutil  # noqa: PLC0415 - slow; most are given a URL

                shutil.rmtree(self._directory, ignore_errors=True)
                self._directory = None

    def _decided(self) -> URL | FileUrl:
        if self._url is None:
            if self._use_memory:
                self._url = parse("sqlite://")
            else:
                import tempfile  # noqa: PLC0415 - slow; most are given a URL

                self._directory = tempfile.mkdtemp(prefix="gonogo-sandbox-")
                self._url = parse(f"sqlite:///{self._directory}/sandbox.db")
        return self._url


def _refuse_same(sandbox: URL | FileUrl, production: URL) -> None:
    """The production database may be of any kind, and reached through any driver."""
    backend = _BACKENDS.get(production.drivername.partition("+")[0])
    if backend is None:
        return
    theirs = parse(production.set(drivername=backend))
    if _identity(sandbox) == _identity(theirs) or _same_file(sandbox, theirs):
        raise ConfigurationError(
            f"the sandbox database {shown(sandbox)} "
            "is the production database; give the sandbox a database of its own"
        )


def _identity(url: URL | FileUrl) -> tuple[object, ...]:
    """What makes two URLs the same database, whoever logs in and however it is spelled."""
    backend = url.get_backend_name()
    if isinstance(url, FileUrl) or backend == "sqlite":
        return backend, url.database if in_memory(url) else _real_path(url.database or "")
    host = url.host or _first(url.query.get("host")) or "localhost"
    port = url.port or int(_first(url.query.get("port")) or _PORTS[backend])
    name = url.database or _first(url.query.get("dbname")) or url.username
    return backend, host.rstrip(".").lower(), port, name


def _same_file(sandbox: URL | FileUrl, production: URL | FileUrl) -> bool:
    """Whether both paths lead to one file, as hard links do."""
    from pathlib import Path  # noqa: PLC0415 - slow; few name a production database

    both = (sandbox, production)
    if any(url.get_backend_name() != "sqlite" or in_memory(url) for url in both):
        return False
    try:
        one, other = (Path(_real_path(url.database or "")) for url in both)
        return one.samefile(other)
    except OSError:  # one of them is not there yet
        return False


def _real_path(database: str) -> str:
    from pathlib import Path  # noqa: PLC0415 - slow; few name a production database
    from urllib.parse import unquote  # noqa: PLC0415 - same

    path = database
    if path.startswith("file:"):  # a URI: file:path, file:///path or file://localhost/path
        path = unquote(path.removeprefix("file:").partition("?")[0].partition("#")[0])
        if path.startswith("//"):
            path = "/" + path.removeprefix("//").partition("/")[2]
    return os.path.realpath(Path(path).expanduser())


def _first(value: str | tuple[str, ...] | None) -> str | None:
    return value[0] if isinstance(value, tuple) else value
