"""One raw connection to a PostgreSQL database, and how work runs on it.

Neither settings nor locks are left behind in the session: every transaction says what it needs, so
that it may run through PgBouncer in transaction mode. Statements are prepared only where there is
none in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from gonogo.store.postgres_fate import Numbered, Session, Trace, Witnessed, session_of
from gonogo.store.postgres_prepared import Prepared
from gonogo.store.postgres_tables import DraftTransaction
from gonogo.store.sql import SWITCHES
from gonogo.store.texts import Statements
from gonogo.store.urls import shown

T = TypeVar("T")
Place = tuple[Any, ...]
_PLACE = "SELECT current_database(), to_regclass('gonogo_calls')::oid::bigint"
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_PLANS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
"""Every hot statement is made to follow an index; the planner, whose statistics lag behind a queue
that fills and empties within minutes, would rather read a small table as a whole, dead rows too."""
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
        self._terms = _terms(timeouts, writes=not reads)
        self._raw = connect(url, timeouts.connect)
        found = self._find_session()
        self._life = found.life
        self._session = found if _is_own(found, self._raw) else None
        self._prepared = Prepared(self._raw, keeps=self._session is not None)
        self._draft = Draft(texts, self._prepared, self._failed, locks=not reads)
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
            if not self._run(batch, guesses=True):
                self._rollback()
                self._run(batch, guesses=False)
        finally:
            self._rollback()

    def query(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on one snapshot."""
        self._draft.begin(_SNAPSHOT, (self._terms, {}), guesses=False)
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

    def fate(self, trace: Trace) -> str | None:
        """What became of a transaction: committed, aborted, in progress, or not known."""
        try:
            return trace.fate(self._ask)
        except psycopg.Error as error:
            failed = self._failed(error)
            if isinstance(failed, Lost):
                raise failed from error
            return None

    def _ask(self, words: str, values: Mapping[str, Any]) -> Any:
        return self._raw.execute(words, values).fetchone()

    def close(self) -> None:
        self._raw.close()

    def _find_session(self) -> Session:
        try:
            return _session(self._raw)
        except psycopg.Error as error:
            self._raw.close()
            raise self._failed(error) from error

    @property
    def _known_session(self) -> Session | None:
        """The session, if its end can be seen, and nothing showed that others use it too."""
        known = self._session is not None and self._session.began is not None
        return self._session if known and self._prepared.keeps else None

    def _run(self, batch: Sequence[Job], *, guesses: bool) -> bool:
        """Run the jobs and commit what they wrote that did not fail.

        False, and nothing is certain, where a guess was wrong or a row could not be written: whose
        that is shows when nothing is guessed, for then each statement is said at once.
        """
        durable = "on" if any(job.durable for job in batch) else "off"
        self._draft.begin(_BEGIN, (self._terms, {"commit": durable}), guesses=guesses)
        try:
            if len(batch) > 1 and not guesses:
                self._draft.send()
            for job in batch:
                self._run_piece(job, apart=len(batch) > 1)
                if self._draft.failed:
                    return False
            self._end(batch)
        except Misjudged:
            if not guesses:
                raise
            return False
        except (Contention, Lost, InDoubt):
            raise
        except Exception:
            if not guesses:
                raise
            return False
        return True

    def _run_piece(self, job: Job, *, apart: bool) -> None:
        """Run one job; of one that fails nothing is written, whoever it shares the commit with."""
        self._draft.next_piece(apart=apart)
        try:
            job.result, job.error = job.work(self._tables), None
            if self._draft.failed:
                raise self._taken_back()  # noqa: TRY301 - a statement failed, and the work went on as if it had not
        except (Contention, Lost):
            raise
        except Exception as error:  # noqa: BLE001 - it reaches the caller of the job
            job.result, job.error = None, error
            if not (self._draft.failed and self._draft.guesses):
                self._draft.take_back()

    def _end(self, batch: Sequence[Job]) -> None:
        """Commit, in the last message where there is a trace by which its fate can be found."""
        draft = self._draft
        draft.next_piece(apart=False)
        if all(job.error is not None for job in batch):
            if draft.is_guess:  # what they were refused for
                draft.send()
            return
        witness = None if draft.open else draft.witness
        if witness is not None and (session := self._known_session) is not None:
            self._notice_end()
            self._commit(batch, Witnessed(session, witness))
            return
        if not draft.open:
            draft.send()
        self._commit(batch, Numbered(draft.xid, self._life))

    def _notice_end(self) -> None:
        """Raise `Lost` where the connection ended while nobody used it, which leaves no doubt."""
        try:
            for _ in ("the server's last words", "its end"):
                self._raw.pgconn.consume_input()
        except psycopg.Error as error:
            raise self._failed(error) from error

    def _commit(self, batch: Sequence[Job], trace: Trace) -> None:
        """Commit, or say that it is in doubt: then nobody's work may simply be run again."""
        try:
            said = self._draft.commit()
        except Lost as lost:
            raise self._doubt(trace) from lost
        except Exception:
            raise
        except BaseException as interrupt:
            self._raw.close()
            raise self._doubt(trace) from interrupt
        if said != "COMMIT":  # a statement failed, and the work went on as if it had not
            raise self._taken_back()
        for job in batch:
            job.done = True

    def _taken_back(self) -> StoreError:
        return StoreError(f"the ledger {self._where} took a transaction back; {NOTHING}")

    def _doubt(self, trace: Trace) -> InDoubt:
        return InDoubt(
            f"the connection to the ledger {self._where} broke while it committed: it may have "
            "been written. Look before doing it again",
            trace,
        )

    def _rollback(self) -> None:
        if self._raw.closed or self._raw.pgconn.transaction_status == TransactionStatus.IDLE:
            return
        try:
            self._prepared.say("ROLLBACK")
        except psycopg.Error:
            self._raw.close()

    def _failed(self, error: Exception) -> Exception:
        if self._reads and getattr(error, "sqlstate", None) == "25006":
            return RuntimeError(READ_ONLY)
        return translate(error, self._where, lost=self._is_lost(error))

    def _is_lost(self, error: Exception) -> bool:
        return self._raw.closed or isinstance(translate(error, self._where), Lost)


def own_session(raw: psycopg.Connection[Any]) -> Session | None:
    """The session, if it is ours; PgBouncer may give each transaction another one."""
    session = _session(raw)
    return session if _is_own(session, raw) else None


def _session(raw: psycopg.Connection[Any]) -> Session:
    return session_of(lambda words, _: raw.execute(words, prepare=False).fetchone())


def _is_own(session: Session, raw: psycopg.Connection[Any]) -> bool:
    return session.pid == raw.info.backend_pid


def place_of(raw: psycopg.Connection[Any]) -> Place:
    """The database a connection is on, and its table of calls there, if it sees one."""
    return tuple(raw.execute(_PLACE, prepare=False).fetchone() or ())


def _terms(timeouts: Timeouts, *, writes: bool) -> str:
    """The statement that sets what holds for one transaction.

    One that writes shares the lock of the switches, and has its number told.
    """
    settings = {
        "statement_timeout": _ms(timeouts.statement),
        "lock_timeout": _ms(timeouts.lock),
        "idle_in_transaction_session_timeout": _ms(timeouts.idle),
        **(dict.fromkeys(_PLANS, "off") if writes else {}),
    }
    terms = [f"set_config('{name}', '{value}', true)" for name, value in settings.items()]
    if writes:
        terms.append("set_config('synchronous_commit', %(commit)s, true)")
        terms += [f"pg_advisory_xact_lock_shared({SWITCHES})", "pg_current_xact_id()::text"]
    return f"SELECT {', '.join(terms)}"


def _ms(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


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
