"""The ledger in a PostgreSQL database: shared by every process on every machine that reaches it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy import URL, Engine, NullPool
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError

from gonogo.clock import Clock, SystemClock
from gonogo.errors import ConfigurationError, StoreUnavailable
from gonogo.store.compiling import CoreCompiler
from gonogo.store.engines import make_engine
from gonogo.store.fates import Fate, Piece
from gonogo.store.group import GroupCommit, Job
from gonogo.store.port import NESTED, Listening, Transaction, Wake
from gonogo.store.postgres_connection import PRIMARY, Connection, Place, Timeouts
from gonogo.store.postgres_errors import NOTHING, Contention, Crossed, InDoubt, Lost, explain
from gonogo.store.postgres_fate import Trace
from gonogo.store.postgres_listener import Listener
from gonogo.store.postgres_rounds import Rounds
from gonogo.store.texts import Statements
from gonogo.store.upgrade import prepare
from gonogo.store.urls import full, shown

T = TypeVar("T")
_READERS = 8
"""Connections to read on: a turn comes sooner than a new one is made."""
_APART = 10.0
"""Seconds without shared commits after one was crossed by another process's."""
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


class PostgresStore:
    """A ledger in a PostgreSQL database, version 13 or newer.

    Concurrent writes of one process share commits on one connection. A commit with durable work
    is on the server's disk when it returns; of any other the server may lose the last moments if
    it crashes, which counts like a power failure. Reads see one snapshot, on up to eight
    connections that are kept; more of them at once take turns. A connection that breaks is made
    anew and the work repeated; where it broke while committing, the server is asked first what
    became of the transaction.

    Args:
        database: a URL, or an engine on the same database (only its URL is used).
        timeouts: how long what may take.
        clock: measures the pauses between attempts, to connect anew or after a conflict.
        random: a function giving numbers in [0, 1), which makes the latter uneven.
        environment: what the ledger is marked for; one that belongs to another is refused.
    """

    def __init__(
        self,
        database: str | URL | Engine,
        *,
        timeouts: Timeouts | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] | None = None,
        environment: str | None = None,
    ) -> None:
        self._environment = environment
        self._url = full(database.url if isinstance(database, Engine) else database)
        if self._url.get_backend_name() != "postgresql":
            raise ConfigurationError(f"{self._url.get_backend_name()} is not PostgreSQL")
        self._where = shown(self._url)
        self._timeouts = timeouts or Timeouts()
        self._clock = clock or SystemClock()
        self._rounds = Rounds(self._clock, random)
        dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call] # it has no types
        self._texts = Statements(lambda: CoreCompiler(dialect, insert))
        self._inherited: list[Connection] = []
        self._known_place: Place | None = None
        self._writer: Connection | None
        self._readers: list[Connection]
        self._begin_anew()
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _in_child(me()))

    def __repr__(self) -> str:
        return f"PostgresStore({self._where!r})"

    @property
    def shared(self) -> bool:
        return True

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        self._refuse_nesting()
        return self._group.write(work, durable)

    def read(self, work: Callable[[Transaction], T]) -> T:
        self._refuse_nesting()
        if not self._prepared:
            with self._io:
                self._open_writer()
        return self._persist(lambda: self._on_reader(lambda reader: reader.query(work)))

    def write_all(self, pieces: Sequence[Piece]) -> list[Fate]:
        self._refuse_nesting()
        return self._group.write_all(pieces)

    def join(
        self, session: object, work: Callable[[Transaction], T], then: Callable[[], None]
    ) -> T:
        from gonogo.store.joined import after_commit  # noqa: PLC0415 - SQLAlchemy's ORM is heavy
        from gonogo.store.postgres_joined import join  # noqa: PLC0415 - same

        ours = self._place()
        self._thread.inside = True
        try:
            result = join(session, work, self._texts, ours, self._where, self._rounds)
        finally:
            self._thread.inside = False
        after_commit(session, then)
        return result

    def time(self) -> float | None:
        self._refuse_nesting()
        return self._persist(lambda: self._on_reader(Connection.time))

    def listen(self, wake: Wake) -> Listening:
        return Listener(self._url, self._timeouts.connect, wake)

    def close(self) -> None:
        with self._io, self._pool:
            self._generation += 1
            for reader in self._readers:
                reader.close()
            self._readers = []
            self._drop_writer()

    def _begin_anew(self) -> None:
        self._io = threading.Lock()
        self._pool = threading.Lock()
        self._group = GroupCommit(self._commit)
        self._thread = threading.local()
        self._writer = None
        self._readers = []
        self._turns = threading.Semaphore(_READERS)
        self._generation = 0
        self._apart_until = float("-inf")
        self._prepared = False

    def _leave_to_parent(self) -> None:
        """The sockets are the parent's, not even to be closed; a child opens its own."""
        self._inherited += self._readers
        if self._writer is not None:
            self._inherited.append(self._writer)
        self._begin_anew()

    def _refuse_nesting(self) -> None:
        if getattr(self._thread, "inside", False):
            raise RuntimeError(NESTED)

    def _place(self) -> Place:
        """Where the ledger is, asked once: a user's session must be there as well."""
        self._refuse_nesting()
        if not self._prepared:
            with self._io:
                self._open_writer()
        if self._known_place is None:
            self._known_place = self._persist(lambda: self._on_reader(Connection.place))
        return self._known_place

    def _commit(self, batch: Sequence[Job]) -> None:
        with self._io:
            self._thread.inside = True
            try:
                self._write(batch)
            finally:
                self._thread.inside = False

    def _write(self, batch: Sequence[Job]) -> None:
        """All in one transaction; when another one came first, each in one of its own.

        What is taken together is locked in the order of the callers, which another process may
        meet in the opposite one, again and again; each time the server needs a second to notice.
        One caller's alone is locked in sorted order. So for a while nothing is taken together.
        """
        if len(batch) > 1 and self._clock.monotonic() >= self._apart_until:
            try:
                return self._persist(lambda: self._transact(batch))
            except Contention as contention:
                if isinstance(contention, Crossed):
                    self._apart_until = self._clock.monotonic() + _APART
        for job in batch:
            try:
                self._persist(partial(self._write_alone, job))
            except Exception as error:
                job.result, job.error, job.done = None, error, True
                if self._writer is None or self._writer.closed:  # the next would wait as long
                    broke = f"the connection to the ledger {self._where} broke; {NOTHING}"
                    raise StoreUnavailable(broke) from error
            job.done = True
        return None

    def _write_alone(self, job: Job) -> None:
        self._rounds.run(lambda: self._transact([job]))

    def _transact(self, batch: Sequence[Job]) -> None:
        """One transaction, with its fate looked up where its commit is in doubt."""
        began = self._clock.monotonic()
        try:
            self._open_writer().commit(batch)
        except InDoubt as doubt:
            self._drop_writer()
            try:
                committed = self._is_committed(doubt, began)
            except BaseException:
                for job in batch:
                    job.result, job.error, job.done = None, StoreUnavailable(str(doubt)), True
                    job.error.__cause__ = doubt
                raise
            for job in batch:
                job.done = committed
            cause = doubt.__cause__
            if cause is not None and not isinstance(cause, Exception):
                raise cause from None
            if not committed:
                raise Lost(f"the ledger {self._where} took a transaction back") from doubt

    def _is_committed(self, doubt: InDoubt, began: float) -> bool:
        """What became of the commit; the error itself where nobody can say in time."""
        deadline = self._clock.monotonic() + self._timeouts.patience
        while True:
            fate = self._persist(lambda: self._ask(doubt.trace), otherwise=doubt)
            if fate == "committed":
                return True
            now = self._clock.monotonic()
            if fate == "aborted" and now - began <= doubt.trace.lasts:
                return False
            if fate in {"aborted", None} or now >= deadline:
                raise StoreUnavailable(str(doubt)) from doubt
            self._clock.sleep(_FIRST_PAUSE)

    def _ask(self, trace: Trace) -> str | None:
        connection = self._connect()
        try:
            return connection.fate(trace)
        finally:
            connection.close()

    def _persist(self, attempt: Callable[[], T], otherwise: Exception | None = None) -> T:
        """``attempt``, again while connections break, for as long as there is patience.

        A ledger that was never reached is not waited for: its URL may be wrong.
        """
        start = self._clock.monotonic()
        pause = _FIRST_PAUSE
        while True:
            try:
                return attempt()
            except Lost as lost:
                waited = self._clock.monotonic() - start
                if not self._prepared or waited >= self._timeouts.patience:
                    error = otherwise or lost
                    raise StoreUnavailable(str(error)) from lost
            self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _on_reader(self, use: Callable[[Connection], T]) -> T:
        with self._turns:
            with self._pool:
                generation = self._generation
                reader = self._readers.pop() if self._readers else None
            if reader is None:
                reader = self._connect(reads=True)
            self._thread.inside = True
            try:
                return use(reader)
            finally:
                self._thread.inside = False
                with self._pool:
                    if generation == self._generation and not reader.closed:
                        self._readers.append(reader)
                    else:
                        reader.close()

    def _open_writer(self) -> Connection:
        """The writing connection; the first time, on a database made ready for it."""
        if self._writer is not None and not self._writer.closed:
            return self._writer
        writer = self._connect()
        try:
            if not self._prepared:
                self._prepare()
        except BaseException:
            writer.close()
            raise
        self._writer, self._prepared = writer, True
        return writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _connect(self, reads: bool = False) -> Connection:
        return Connection(self._url, self._texts, self._timeouts, reads=reads)

    def _prepare(self) -> None:
        wanted = {name: value for name, value in PRIMARY.items() if name not in self._url.query}
        options = {"prepare_threshold": None, **wanted}
        engine = make_engine(self._url, poolclass=NullPool, connect_args=options)
        try:
            prepare(engine, self._environment)
        except DBAPIError as error:
            if not isinstance(error.orig, Exception):
                raise
            raise explain(error.orig, self._where) from error
        finally:
            engine.dispose()


def _in_child(store: PostgresStore | None) -> None:
    if store is not None:
        store._leave_to_parent()
