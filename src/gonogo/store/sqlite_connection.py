"""One raw connection to a SQLite database, and how work runs on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from gonogo.store.group import Job
from gonogo.store.port import READ_ONLY, Transaction
from gonogo.store.run import Run
from gonogo.store.sql import SqlTransaction
from gonogo.store.sqlite_errors import primary, translate
from gonogo.store.sqlite_ledger import make_ready
from gonogo.store.sqlite_log import enter_wal
from gonogo.store.texts import Statements
from gonogo.store.urls import FileUrl, in_memory

if TYPE_CHECKING:
    from sqlalchemy import URL

T = TypeVar("T")
_durable = attrgetter("durable")
_STATEMENTS_KEPT = 256


class Connection:
    """A connection with its tables, which serve one transaction after the other.

    Args:
        url: as `gonogo.store.urls.parse` returns it.
        busy_timeout: seconds to wait for another connection's lock.
        reads: refuse to write.
    """

    def __init__(
        self, url: URL | FileUrl, texts: Statements, *, busy_timeout: float, reads: bool = False
    ) -> None:
        self._where = url.database or ""
        self._file = None if in_memory(url) else self._where
        self._reads = reads
        self._synced: bool | None = None
        self._version = -1
        self._writable = False
        path, options = _found(url)
        options.update(
            timeout=busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS_KEPT,
        )
        try:
            self._raw: sqlite3.Connection = sqlite3.connect(path, **options)
            self._configure()
        except sqlite3.Error as error:
            raise translate(error, self._where) from error
        run = Run(
            texts,
            self._raw.execute,
            sqlite3.Error,
            self._failed,
            execute_many=self._raw.executemany,
            keeps=not reads,
        )
        self._kept = run.kept if run.kept is not None else {}
        self._news = run.news
        self._tables = SqlTransaction(run)

    def prepare(self, environment: str | None) -> bool:
        """Whether the database holds the ledger, which is made where there is none."""
        try:
            return make_ready(self._raw, environment, self._file)
        except sqlite3.Error as error:
            raise translate(error, self._where) from error

    def commit(self, batch: Sequence[Job]) -> bool:
        """Run every job and commit once; a job that fails takes back its own changes only.

        Jobs seldom fail, so savepoints are set only when one did, and the others run again. Returns
        whether a job was written that some worker may take.
        """
        committed = False
        try:
            self._synchronize(any(map(_durable, batch)))
            self._begin()
            failed = self._run_together(batch)
            if failed is not None:
                self._take_back()
                self._begin()
                for job in batch:
                    if job is not failed:
                        self._run_apart(job)
            self._commit(batch)
            committed = True
        except sqlite3.Error as error:
            raise translate(error, self._where) from error
        finally:
            if not committed:
                self._take_back()
        return bool(self._news)

    def query(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on one snapshot."""
        try:
            self._raw.execute("BEGIN")
            return work(self._tables)
        except sqlite3.Error as error:
            raise translate(error, self._where) from error
        finally:
            self._raw.rollback()

    def version(self) -> int:
        """A number that changes when another connection has committed, not when this one has."""
        try:
            version: int = self._raw.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise translate(error, self._where) from error
        return version

    def close(self) -> None:
        self._raw.close()

    def _configure(self) -> None:
        raw = self._raw
        try:
            raw.execute("PRAGMA foreign_keys = ON")
            if self._reads:
                raw.execute("PRAGMA query_only = ON")
            else:
                enter_wal(raw)
        except BaseException:
            raw.close()
            raise

    def _begin(self) -> None:
        """Begin to write, and forget what was kept when another connection has committed since."""
        execute = self._raw.execute
        self._news.clear()
        execute("BEGIN IMMEDIATE")
        if not self._writable:
            self._refuse_read_only()
        (version,) = execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._kept.clear()
            self._version = version

    def _refuse_read_only(self) -> None:
        """Find out, once: SQLite would begin a write all the same, and fail at the first change."""
        self._raw.execute("DELETE FROM gonogo_marks WHERE 0")
        self._writable = True

    def _take_back(self) -> None:
        self._kept.clear()
        self._raw.rollback()

    def _synchronize(self, durable: bool) -> None:
        if durable is not self._synced:
            self._raw.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._synced = durable

    def _commit(self, batch: Sequence[Job]) -> None:
        """Commit, and mark the jobs as done: whatever comes now, they must not run again."""
        try:
            self._raw.commit()
        except sqlite3.Error:
            raise
        except BaseException:  # Ctrl-C, which comes when the commit is over
            if not self._raw.in_transaction:
                _mark_done(batch)
            raise
        _mark_done(batch)

    def _run_together(self, batch: Sequence[Job]) -> Job | None:
        """Run the jobs until one fails, which is returned: it has its answer."""
        for job in batch:
            try:
                job.result, job.error = job.work(self._tables), None
            except Exception as error:
                if not self._raw.in_transaction:  # SQLite gave it up, as on a full disk
                    raise
                job.result, job.error = None, error
                return job
        return None

    def _run_apart(self, job: Job) -> None:
        raw = self._raw
        raw.execute("SAVEPOINT job")
        try:
            job.result, job.error = job.work(self._tables), None
        except Exception as error:
            if not raw.in_transaction:
                raise
            job.result, job.error = None, error
            self._kept.clear()
            raw.execute("ROLLBACK TO job")
        raw.execute("RELEASE job")

    def _failed(self, error: Exception) -> Exception:
        if self._reads and primary(error) == sqlite3.SQLITE_READONLY:
            return RuntimeError(READ_ONLY)
        return translate(error, self._where)


def _found(url: URL | FileUrl) -> tuple[str, dict[str, Any]]:
    """Path and options for the driver."""
    if isinstance(url, FileUrl):
        return url.database, {}
    from sqlalchemy.dialects.sqlite import dialect  # noqa: PLC0415 - heavy; plain files need none

    (path,), options = dialect().create_connect_args(url)
    return path, dict(options)


def _mark_done(batch: Sequence[Job]) -> None:
    for job in batch:
        job.done = True
