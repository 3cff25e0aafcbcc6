"""One raw connection to a PostgreSQL database, and how work runs on it.

Neither settings nor locks are left behind in the session: every transaction says what it needs, so
that it may run through PgBouncer in transaction mode. Statements are prepared only where there is
none in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from msgspec import Struct
from psycopg.pq import TransactionStatus
from sqlalchemy import URL

from gonogo.errors import StoreError, StoreUnavailable
from gonogo.store import postgres_server
from gonogo.store.group import Job
from gonogo.store.port import READ_ONLY, Transaction
from gonogo.store.postgres_draft import Draft, Misjudged
from gonogo.store.postgres_errors import (
    NOTHING,
    Contention,
    InDoubt,
    Lost,
    translate,
    unreachable,
)
from gonogo.store.postgres_prepared import Prepared
from gonogo.store.postgres_tables import DraftTransaction
from gonogo.store.sql import SWITCHES
from gonogo.store.texts import Statements
from gonogo.store.urls import shown

T = TypeVar("T")
Place = tuple[Any, ...]
_PLACE = "SELECT current_database(), to_regclass('gonogo_calls')::oid::bigint"
_SHARE = f"SELECT pg_advisory_xact_lock_shared({SWITCHES})"
_PLANS = tuple(f"SET LOCAL enable_{way} = off" for way in ("seqscan", "hashjoin", "mergejoin"))
"""Every hot statement is made to follow an index; the planner, whose statistics lag behind a queue
that fills and empties within minutes, would rather read a small table as a whole, dead rows too."""
CHANNEL = "gonogo_due"
"""Where it is said that a job was written."""
PRIMARY = {"target_session_attrs": "primary" if psycopg.pq.version() >= 140_000 else "read-write"}
"""What libpq is told: of several servers it takes the one that can be written, never a standby."""


class Timeouts(Struct, frozen=True, kw_only=True):
    """How long what may take, in seconds.

    Attributes:
        connect: making a connection.
        statement: one statement.
        lock: waiting for a row that another transaction has locked.
        idle: a transaction in which nothing happens; then the server ends it.
        patience: going on after a connection broke, before `StoreUnavailable`.
    """

    connect: float = 10.0
    statement: float = 30.0
    lock: float = 10.0
    idle: float = 60.0
    patience: float = 5.0


class Connection:
    """A connection with its tables, which serve one transaction after the other.

    Args:
        url: as `gonogo.store.urls.parse` returns it.
        reads: refuse to write.

    Raises:
        ConfigurationError: there is no such database, or its server is too old.
        StoreUnavailable: it cannot be reached.
    """

    def __init__(
        self, url: URL, texts: Statements, timeouts: Timeouts, *, reads: bool = False
    ) -> None:
        self._where = shown(url)
        self._reads = reads
        limits = (
            f"SET LOCAL statement_timeout = {_ms(timeouts.statement)}",
            f"SET LOCAL lock_timeout = {_ms(timeouts.lock)}",
            f"SET LOCAL idle_in_transaction_session_timeout = {_ms(timeouts.idle)}",
        )
        self._snapshot = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", *limits)
        self._begin = ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", *limits, *_PLANS, _SHARE)
        self._raw = connect(url, timeouts.connect)
        prepared = Prepared(self._raw, keeps=self._is_alone())
        self._draft = Draft(texts, prepared, self._failed, locks=not reads)
        self._tables = DraftTransaction(self._draft)

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def commit(self, batch: Sequence[Job]) -> None:
        """Run every job and commit once; a job that fails takes back its own changes only.

        Raises:
            Contention: another transaction came first; nothing was written.
            Lost: the connection broke; nothing was written.
            InDoubt: it broke while committing.
        """
        try:
            if not self._drafted(batch):
                self._rollback()
                self._write(batch)
            if any(job.error is None for job in batch):
                self._commit(batch)
        finally:
            self._rollback()

    def query(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on one snapshot."""
        self._draft.begin(self._snapshot, guesses=False)
        try:
            return work(self._tables)
        finally:
            self._rollback()

    def time(self) -> float:
        """The server's clock, in epoch seconds."""
        words = "SELECT extract(epoch FROM clock_timestamp())::float8"
        try:
            found = self._raw.execute(words).fetchone()
        except psycopg.Error as error:
            raise self._failed(error) from error
        return float(found[0]) if found else 0.0

    def place(self) -> Place:
        """See `place_of`."""
        try:
            return place_of(self._raw)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def fate(self, xid: str) -> str | None:
        """What became of a transaction: committed, aborted, in progress, or not known."""
        try:
            found = self._raw.execute("SELECT pg_xact_status(%s::text::xid8)", (xid,)).fetchone()
        except psycopg.Error as error:
            failed = self._failed(error)
            if isinstance(failed, Lost):
                raise failed from error
            return None
        return None if found is None else found[0]

    def close(self) -> None:
        self._raw.close()

    def _is_alone(self) -> bool:
        try:
            return is_alone(self._raw)
        except psycopg.Error as error:
            self._raw.close()
            raise self._failed(error) from error

    def _drafted(self, batch: Sequence[Job]) -> bool:
        """Run the jobs as far as possible without the server; whether that decides their fate.

        Not so where a guess was wrong, or a job failed that may have believed one, or in company.
        """
        self._start(batch, guesses=True)
        try:
            if self._run_together(batch):
                self._draft.send()
                return True
            return len(batch) == 1 and self._draft.is_known
        except Misjudged:
            return False
        except (Contention, Lost):
            raise
        except Exception:  # noqa: BLE001 - a row cannot be written, and whose it is is not known
            return False

    def _write(self, batch: Sequence[Job]) -> None:
        """Run the jobs without guessing; one that fails in company takes back its own."""
        self._start(batch)
        if not self._run_together(batch) and len(batch) > 1:
            self._rollback()
            self._start(batch)
            self._run_apart(batch)

    def _start(self, batch: Sequence[Job], *, guesses: bool = False) -> None:
        """A transaction that begins, and learns its number, with what is sent first."""
        commit = "on" if any(job.durable for job in batch) else "off"
        words = (*self._begin, f"SET LOCAL synchronous_commit = {commit}")
        self._draft.begin(words, guesses=guesses)

    def _run_together(self, batch: Sequence[Job]) -> bool:
        """Run the jobs until one fails; whether none did."""
        for job in batch:
            try:
                job.result, job.error = job.work(self._tables), None
            except (Contention, Lost):
                raise
            except Exception as error:  # noqa: BLE001 - it reaches the caller of the job
                job.result, job.error = None, error
                return False
        return True

    def _run_apart(self, batch: Sequence[Job]) -> None:
        self._draft.send()
        for job in batch:
            self._say("SAVEPOINT job")
            try:
                job.result, job.error = job.work(self._tables), None
                self._say("RELEASE job")
            except (Contention, Lost):
                raise
            except Exception as error:  # noqa: BLE001 - it reaches the caller of the job
                job.result, job.error = None, error
                self._say("ROLLBACK TO job; RELEASE job")

    def _commit(self, batch: Sequence[Job]) -> None:
        """Commit, or say that it is in doubt: then nobody's work may simply be run again."""
        try:
            cursor = self._raw.execute(
                f"NOTIFY {CHANNEL}; COMMIT" if self._draft.news else "COMMIT"
            )
            while cursor.nextset():
                pass
            if cursor.statusmessage == "COMMIT":
                for job in batch:
                    job.done = True
                return
        except psycopg.Error as error:
            if self._is_lost(error):
                raise self._doubt() from error
            raise self._failed(error) from error
        except BaseException as interrupt:
            self._raw.close()
            raise self._doubt() from interrupt
        # a statement failed, and the work went on as if it had not
        raise StoreError(f"the ledger {self._where} took a transaction back; {NOTHING}")

    def _doubt(self) -> InDoubt:
        return InDoubt(
            f"the connection to the ledger {self._where} broke while it committed: it may have "
            "been written. Look before doing it again",
            self._draft.xid,
        )

    def _rollback(self) -> None:
        if self._raw.closed or self._raw.info.transaction_status is TransactionStatus.IDLE:
            return
        try:
            self._raw.execute("ROLLBACK")
        except psycopg.Error:
            self._raw.close()

    def _say(self, words: str) -> Any:
        try:
            return self._raw.execute(words)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> Exception:
        if self._reads and getattr(error, "sqlstate", None) == "25006":
            return RuntimeError(READ_ONLY)
        return translate(error, self._where, lost=self._is_lost(error))

    def _is_lost(self, error: Exception) -> bool:
        return self._raw.closed or isinstance(translate(error, self._where), Lost)


def is_alone(raw: psycopg.Connection[Any]) -> bool:
    """Whether the session is ours; PgBouncer may give each transaction another one."""
    found = raw.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return found is not None and found[0] == raw.info.backend_pid


def place_of(raw: psycopg.Connection[Any]) -> Place:
    """The database a connection is on, and its table of calls there, if it sees one."""
    return tuple(raw.execute(_PLACE, prepare=False).fetchone() or ())


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def connect(url: URL, patience: float) -> psycopg.Connection[Any]:
    """A connection on which nothing begins by itself. Raises as `Connection` does."""
    where = shown(url)
    arguments: dict[str, Any] = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
        "connect_timeout": max(2, round(patience)),
        "application_name": "gonogo",
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        **PRIMARY,
        **{name: _joined(value) for name, value in url.query.items()},
    }
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        raw = psycopg.connect(**given, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise unreachable(error, where) from error
    try:
        server = postgres_server.ask(raw.execute)
        server.require_known(where)
        server.require_primary(where)
    except BaseException as error:
        raw.close()
        if isinstance(error, psycopg.Error):
            raise translate(error, where, lost=True) from error
        if isinstance(error, StoreUnavailable):  # worth waiting for, as a connection that broke is
            raise Lost(str(error)) from error
        raise
    return raw


def _joined(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ",".join(value)
