"""Joining a user's transaction on the SQLite file of the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gonogo.store.joined import driver_connection, not_joinable
from gonogo.store.port import Transaction
from gonogo.store.run import Run
from gonogo.store.sql import SqlTransaction
from gonogo.store.sqlite_errors import translate
from gonogo.store.texts import Statements
from gonogo.store.urls import FileUrl

if TYPE_CHECKING:
    from sqlalchemy import URL

T = TypeVar("T")


def join(
    session: object, work: Callable[[Transaction], T], texts: Statements, url: URL | FileUrl
) -> T:
    """See `Store.join`."""
    raw = driver_connection(session)
    if not isinstance(raw, sqlite3.Connection):
        raise not_joinable(session, "its driver is not sqlite3, but the ledger is on SQLite")
    where = url.database or ""
    try:
        _require_ledger(session, raw, where)
        _begin(session, raw)
        raw.execute("SAVEPOINT gonogo")
        try:
            return work(SqlTransaction(Run(texts, raw.execute, sqlite3.Error, _failed(where))))
        except BaseException:
            if raw.in_transaction:  # else SQLite has given the whole transaction up
                raw.execute("ROLLBACK TO gonogo")
            raise
        finally:
            if raw.in_transaction:
                raw.execute("RELEASE gonogo")
    except sqlite3.Error as error:
        raise translate(error, where) from error


def _failed(where: str) -> Callable[[Exception], Exception]:
    return lambda error: translate(error, where)


def _require_ledger(session: object, raw: sqlite3.Connection, where: str) -> None:
    """The user's tables must live in the ledger's file, or there is nothing to be atomic with."""
    files = [row[2] for row in raw.execute("PRAGMA database_list") if row[1] == "main"]
    theirs = files[0] if files else ""
    if not theirs or not _same(theirs, where):
        raise not_joinable(
            session, f"it is on {theirs or 'a database in memory'}, the ledger is on {where}"
        )


def _same(theirs: str, ours: str) -> bool:
    ours = ours.removeprefix("file:").partition("?")[0]
    try:
        return theirs == ours or Path(theirs).samefile(ours)
    except OSError:  # a database in memory has a name and no file
        return False


def _begin(session: object, raw: sqlite3.Connection) -> None:
    """Be inside a transaction, because a savepoint outside of one would commit when released."""
    if raw.in_transaction:
        return
    if raw.isolation_level is None or getattr(raw, "autocommit", False) is True:
        raise not_joinable(session, "it commits every statement by itself; begin a transaction")
    raw.execute("BEGIN IMMEDIATE")
