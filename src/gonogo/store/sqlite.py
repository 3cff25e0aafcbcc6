"""The ledger in a SQLite file: one writer at a time, shared by every process on the machine."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from gonogo.errors import ConfigurationError, StoreUnavailable
from gonogo.store.fates import Fate, Piece
from gonogo.store.file_bell import ring
from gonogo.store.group import GroupCommit, Job
from gonogo.store.port import NESTED, Listening, Transaction, Wake
from gonogo.store.sqlite_connection import Connection
from gonogo.store.sqlite_errors import translate
from gonogo.store.sqlite_ready import text_of
from gonogo.store.sqlite_watch import Watch, log_of
from gonogo.store.texts import Compiler, Statements
from gonogo.store.urls import FileUrl, in_memory, parse

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

T = TypeVar("T")
_READERS_KEPT = 8
_PATIENCE = 5.0
"""Seconds beyond the busy time-out that a fork waits for the work under way."""


class _Thread(threading.local):
    """What a store knows of the calling thread: whether it is inside a transaction."""

    inside = False


class SqliteStore:
    """A ledger in a SQLite database.

    Concurrent writes share commits. A commit with durable work survives power loss (synchronous
    FULL), any other the death of the process (NORMAL, with the write-ahead log). Reads see one
    snapshot and do not wait for writers. A fork waits for the work under way and closes every
    connection, because SQLite's locks belong to a process: parent and child open the file anew.

    Args:
        database: a URL, or an engine on the same database (only its URL is used).
        busy_timeout: seconds to wait for another process's write before `StoreUnavailable`.
        environment: what the ledger is marked for; one that belongs to another is refused.
    """

    def __init__(
        self,
        database: str | URL | FileUrl | Engine,
        *,
        busy_timeout: float = 5.0,
        environment: str | None = None,
    ) -> None:
        self._environment = environment
        given: str | URL | FileUrl = getattr(database, "url", database)  # type: ignore[arg-type] # an engine has one
        self._url = parse(given)
        if self._url.get_backend_name() != "sqlite":
            raise ConfigurationError(f"{self._url.get_backend_name()} is not a SQLite database")
        self._busy_timeout = busy_timeout
        self._memory = in_memory(self._url)
        self._path = self._url.database or ""
        self._log = log_of(self._path)
        self._texts = Statements(_compiler, text_of)
        self._inherited: list[Connection] = []
        self._quiet = self._sound = True
        self._writer: Connection | None
        self._readers: list[Connection]
        self._version: int | None
        self._watch: Watch | None
        self._begin_anew()
        me = weakref.ref(self)
        os.register_at_fork(
            before=lambda: _told(me(), SqliteStore._before_fork),
            after_in_parent=lambda: _told(me(), SqliteStore._after_fork),
            after_in_child=lambda: _told(me(), SqliteStore._in_child),
        )

    def __repr__(self) -> str:
        return f"SqliteStore({self._url.database!r})"

    @property
    def shared(self) -> bool:
        return not self._memory

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        self._refuse_nesting()
        return self._group.write(work, durable)

    def write_all(self, pieces: Sequence[Piece]) -> list[Fate]:
        self._refuse_nesting()
        return self._group.write_all(pieces)

    def join(
        self, session: object, work: Callable[[Transaction], T], then: Callable[[], None]
    ) -> T:
        from gonogo.store.joined import after_commit  # noqa: PLC0415 - SQLAlchemy's ORM is heavy
        from gonogo.store.sqlite_joined import join  # noqa: PLC0415 - same

        self._refuse_nesting()
        self._open_before_joining()
        self._thread.inside = True
        try:
            result = join(session, work, self._texts, self._url)
        finally:
            self._thread.inside = False
        after_commit(session, self._tell)
        after_commit(session, then)
        return result

    def _tell(self) -> None:
        """Others may take a job that was written; who wrote it tells those that listen here."""
        if self._watch is not None:
            self._watch.ring()
        elif not self._memory:
            ring(self._log)

    def _open_before_joining(self) -> None:
        if self._writer is not None:
            return
        try:
            with self._io:
                self._open_writer()
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"{error}. If it is your transaction that holds the lock: the ledger is made or "
                "upgraded before it begins (gonogo db upgrade, or any call that reads)"
            ) from error

    def read(self, work: Callable[[Transaction], T]) -> T:
        self._refuse_nesting()
        if self._memory:  # without a write-ahead log readers and the writer take turns
            with self._io:
                self._open_writer()
                return self._query(work)
        if self._writer is None:
            with self._io:
                self._open_writer()
        return self._query(work)

    def time(self) -> float | None:
        return None

    def listen(self, wake: Wake) -> Listening:
        if self._memory:
            return Listening()
        self._watch = Watch(self._log, self._others_wrote, lambda: wake(None))
        return self._watch

    def _others_wrote(self) -> bool | None:
        """Whether anybody else committed since the last question, as our writer sees it.

        ``None`` while it commits itself: who asks has leases to renew, and does not wait.
        """
        if not self._io.acquire(blocking=False):
            return None
        try:
            known = self._version
            self._version = None if self._writer is None else self._writer.version()
            return self._version is None or self._version != known
        finally:
            self._io.release()

    def close(self) -> None:
        """Close every connection; the last one out folds the write-ahead log into the file."""
        with self._io, self._pool:
            self._close()

    def _close(self) -> None:
        self._generation += 1
        for reader in self._readers:
            reader.close()
        self._readers = []
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _begin_anew(self) -> None:
        self._io = threading.Lock()
        self._pool = threading.Condition(threading.Lock())
        self._group = GroupCommit(self._commit, apart=True)
        self._thread = _Thread()
        self._writer = None
        self._readers = []
        self._reading = 0
        self._file: tuple[int, int] | None = None
        self._generation = 0
        self._version = None
        self._watch = None

    def _before_fork(self) -> None:
        """Bring it to rest with nothing open, and keep it so until the fork is over.

        A connection must not cross a fork: the child would take locks for its own that only the
        parent holds, and neither would notice when the other folds the log away.
        """
        # Inside a transaction it would wait for itself.
        patience = 0.0 if self._thread.inside else self._busy_timeout + _PATIENCE
        self._quiet = self._memory or self._io.acquire(timeout=patience)
        if self._memory or not self._quiet:
            return
        self._pool.acquire()
        if self._pool.wait_for(lambda: not self._reading, patience):
            self._close()
        else:
            self._after_fork()
            self._quiet = False

    def _after_fork(self) -> None:
        if self._quiet and not self._memory:
            self._pool.release()
            self._io.release()

    def _in_child(self) -> None:
        """What was open all the same is left to the parent, not even to be closed."""
        self._inherited += self._readers
        if self._writer is not None:
            self._inherited.append(self._writer)
        self._sound = self._sound and self._quiet
        self._begin_anew()

    def _refuse_nesting(self) -> None:
        if self._thread.inside:
            raise RuntimeError(NESTED)

    def _commit(self, batch: Sequence[Job]) -> None:
        with self._io:
            writer = self._open_writer()
            self._require_same_file()
            self._thread.inside = True
            try:
                news = writer.commit(batch)
            finally:
                self._thread.inside = False
        if news:
            self._tell()

    def _query(self, work: Callable[[Transaction], T]) -> T:
        with self._pool:
            generation = self._generation
            reader = self._readers.pop() if self._readers else None
            self._reading += 1
        try:
            if reader is None:
                reader = self._connect(reads=True)
            self._thread.inside = True
            return reader.query(work)
        finally:
            self._thread.inside = False
            with self._pool:
                kept = generation == self._generation and len(self._readers) < _READERS_KEPT
                if kept and reader is not None:
                    self._readers.append(reader)
                elif reader is not None:
                    reader.close()
                self._reading -= 1
                self._pool.notify_all()

    def _open_writer(self) -> Connection:
        """The writing connection; the first time, on a database made ready for it."""
        if self._writer is None:
            writer = self._connect()
            try:
                if not writer.prepare(self._environment):
                    self._prepare()
            except BaseException:
                writer.close()
                raise
            self._writer = writer
            self._file = self._identity()
        return self._writer

    def _identity(self) -> tuple[int, int] | None:
        """Which file the ledger's path names now; ``None`` when it names none."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - before every commit
        except OSError:  # gone, or a URI, which never named one
            return None
        return found.st_dev, found.st_ino

    def _require_same_file(self) -> None:
        """Refuse to write to a file that nobody else can see: its keys would be taken twice."""
        if self._identity() != self._file:
            raise StoreUnavailable(
                f"the ledger {self._url.database} was deleted or replaced while it was open; "
                "nothing was written. Put the file back, or start this process anew on the new one"
            )

    def _connect(self, reads: bool = False) -> Connection:
        if not self._sound:
            raise StoreUnavailable(
                f"this process was forked while the ledger {self._url.database} was in use, and "
                "cannot open it safely; fork before the first call, or start processes by spawn"
            )
        return Connection(self._url, self._texts, busy_timeout=self._busy_timeout, reads=reads)

    def _prepare(self) -> None:
        """What is seldom: mark the ledger for its environment, or say what is wrong with it."""
        from sqlalchemy import NullPool  # noqa: PLC0415 - heavy, and a ledger that is well needs none
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - same

        from gonogo.store.engines import make_engine  # noqa: PLC0415 - same
        from gonogo.store.upgrade import prepare  # noqa: PLC0415 - same

        engine = make_engine(self._url, busy_timeout=self._busy_timeout, poolclass=NullPool)
        try:
            prepare(engine, self._environment)
        except DBAPIError as error:
            if not isinstance(error.orig, sqlite3.Error):
                raise
            raise translate(error.orig, self._url.database or "") from error
        finally:
            engine.dispose()


def _compiler() -> Compiler:
    from gonogo.store.compiling import for_sqlite  # noqa: PLC0415 - heavy; what is usual is ready

    return for_sqlite()


def _told(store: SqliteStore | None, what: Callable[[SqliteStore], None]) -> None:
    if store is not None:
        what(store)
