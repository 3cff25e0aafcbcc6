"""Joining a user's transaction on the PostgreSQL database of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from gonogo.errors import StoreError
from gonogo.store.joined import driver_connection, not_joinable
from gonogo.store.port import Transaction
from gonogo.store.postgres_connection import Place, place_of
from gonogo.store.postgres_errors import translate
from gonogo.store.postgres_news import SAY, told
from gonogo.store.postgres_rounds import Rounds
from gonogo.store.run import Run
from gonogo.store.sql import SqlTransaction
from gonogo.store.texts import Statements

T = TypeVar("T")


def join(
    session: object,
    work: Callable[[Transaction], T],
    texts: Statements,
    ours: Place,
    where: str,
    rounds: Rounds,
) -> T:
    """See `Store.join`.

    Args:
        ours: the ledger's own place.
        where: its URL without the password.
        rounds: runs the work again when another transaction came first.
    """
    raw = driver_connection(session)
    if not isinstance(raw, psycopg.Connection):
        raise not_joinable(session, "its driver is not psycopg 3, but the ledger is on PostgreSQL")

    def failed(error: Exception) -> Exception:
        return translate(error, where, lost=raw.closed)

    say = partial(raw.execute, prepare=False)  # PgBouncer may give the next one another server
    run = Run(texts, say, psycopg.Error, failed, locks=True)
    try:
        _require_transaction(session, raw)
        theirs = place_of(raw)
        if theirs != ours:
            raise not_joinable(session, f"it is on {theirs[0]!r}, the ledger is on {where}")
        result = rounds.run(lambda: _in_savepoint(raw, say, lambda: work(SqlTransaction(run))))
        for news in told(run.news):
            say(SAY, {"news": news})
        return result
    except psycopg.Error as error:
        raise failed(error) from error


def _require_transaction(session: object, raw: psycopg.Connection[Any]) -> None:
    status = raw.info.transaction_status
    if raw.autocommit and status is TransactionStatus.IDLE:
        raise not_joinable(session, "it commits every statement by itself; begin a transaction")
    if status is TransactionStatus.INERROR:
        raise StoreError(
            "the transaction that the job was to join has failed already: roll it back and begin "
            "anew; nothing was queued"
        )


def _in_savepoint(
    raw: psycopg.Connection[Any], say: Callable[[str], object], work: Callable[[], T]
) -> T:
    """Run ``work``; a failure takes back its own."""
    say("SAVEPOINT gonogo")
    try:
        result = work()
        say("RELEASE gonogo")
    except BaseException:
        if not raw.closed:
            say("ROLLBACK TO gonogo")
            say("RELEASE gonogo")
        raise
    return result
