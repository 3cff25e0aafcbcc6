"""The ledger in a SQLite file: one writer at a time, shared by every process on the machine."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import URL, Engine, NullPool
from sqlalchemy.dialects.sqlite import dialect, insert
from sqlalchemy.exc import DBAPIError

from gonogo.errors import ConfigurationError
from gonogo.store.engines import in_memory, make_engine, parse
from gonogo.store.group import GroupCommit, Job
from gonogo.store.port import NESTED, Transaction
from gonogo.store.sqlite_connection import Connection
from gonogo.store.sqlite_errors import translate
from gonogo.store.statements import Statements
from gonogo.store.upgrade import prepare

T = TypeVar("T")
_READERS_KEPT = 8


class SqliteStore:
    """A ledger in a SQLite database.

    Concurrent writes share commits. A commit with durable work survives power loss (synchronous
    FULL), any other the death of the process (NORMAL, with the write-ahead log). Reads see one
    snapshot and do not wait for writers. After a fork the child opens the database anew.

    Args:
        database: a URL, or an engine on the same database (only its URL is used).
        busy_timeout: seconds to wait for another process's write before `StoreUnavailable`.
    """

    def __init__(self, database: str | URL | Engine, *, busy_timeout: float = 5.0) -> None:
        self._url = parse(database.url if isinstance(database, Engine) else database)
        if self._url.get_backend_name() != "sqlite":
            raise ConfigurationError(f"{self._url.get_backend_name()} is not a SQLite database")
        self._busy_timeout = busy_timeout
        self._memory = in_memory(self._url)
        self._texts = Statements(dialect(paramstyle="named"), insert)
        self._inherited: list[Connection] = []
        self._writer: Connection | None
        self._readers: list[Connection]
        self._begin_anew()
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _after_fork(me()))

    def __repr__(self) -> str:
        return f"SqliteStore({self._url.database!r})"

    @property
    def shared(self) -> bool:
        return not self._memory

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        self._refuse_nesting()
        return self._group.write(work, durable)

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

    def close(self) -> None:
        """Close every connection; the last one out folds the write-ahead log into the file."""
        with self._io, self._pool:
            self._generation += 1
            for reader in self._readers:
                reader.close()
            self._readers = []
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _begin_anew(self) -> None:
        self._io = threading.Lock()
        self._pool = threading.Lock()
        self._group = GroupCommit(self._commit)
        self._thread = threading.local()
        self._writer = None
        self._readers = []
        self._generation = 0

    def _leave_to_parent(self) -> None:
        """A connection must not cross a fork, not even to be closed."""
        self._inherited += self._readers
        if self._writer is not None:
            self._inherited.append(self._writer)
        self._begin_anew()

    def _refuse_nesting(self) -> None:
        if getattr(self._thread, "inside", False):
            raise RuntimeError(NESTED)

    def _commit(self, batch: Sequence[Job]) -> None:
        with self._io:
            writer = self._open_writer()
            self._thread.inside = True
            try:
                writer.commit(batch)
            finally:
                self._thread.inside = False

    def _query(self, work: Callable[[Transaction], T]) -> T:
        with self._pool:
            generation = self._generation
            reader = self._readers.pop() if self._readers else None
        if reader is None:
            reader = self._connect(reads=True)
        self._thread.inside = True
        try:
            return reader.query(work)
        finally:
            self._thread.inside = False
            with self._pool:
                kept = generation == self._generation and len(self._readers) < _READERS_KEPT
                if kept:
                    self._readers.append(reader)
            if not kept:
                reader.close()

    def _open_writer(self) -> Connection:
        """The writing connection; the first time, on a database made ready for it."""
        if self._writer is None:
            writer = self._connect()
            try:
                self._prepare()
            except BaseException:
                writer.close()
                raise
            self._writer = writer
        return self._writer

    def _connect(self, reads: bool = False) -> Connection:
        return Connection(self._url, self._texts, busy_timeout=self._busy_timeout, reads=reads)

    def _prepare(self) -> None:
        engine = make_engine(self._url, busy_timeout=self._busy_timeout, poolclass=NullPool)
        try:
            prepare(engine)
        except DBAPIError as error:
            if not isinstance(error.orig, sqlite3.Error):
                raise
            raise translate(error.orig, self._url.database or "") from error
        finally:
            engine.dispose()


def _after_fork(store: SqliteStore | None) -> None:
    if store is not None:
        store._leave_to_parent()
