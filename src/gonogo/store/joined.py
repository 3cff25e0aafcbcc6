"""Users' own transactions, which jobs may join: a job exists if and only if theirs commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from gonogo.errors import ConfigurationError

_WHAT = (
    "session= takes an SQLAlchemy Session or Connection, or the driver's own connection, "
    "on the ledger's database"
)


def driver_connection(session: object) -> Any:
    """The driver's connection under ``session``, with its transaction begun by SQLAlchemy.

    Raises:
        ConfigurationError: an async session, or one of SQLAlchemy that commits every statement.
    """
    connection = session.connection() if isinstance(session, Session) else session
    if not isinstance(connection, Connection):
        if hasattr(session, "sync_session") or hasattr(session, "sync_connection"):
            raise ConfigurationError(
                f"{_WHAT}; an async one cannot be joined: use a sync session for the transaction "
                "that enqueues"
            )
        return session
    if not connection.in_transaction():
        connection.begin()
    return connection.connection.driver_connection


def not_joinable(session: object, why: str) -> ConfigurationError:
    """The error for what cannot be joined; its connection string is not repeated."""
    return ConfigurationError(f"{_WHAT}, not this {type(session).__name__}: {why}")


def after_commit(session: object, then: Callable[[], None]) -> None:
    """Call ``then`` once ``session`` has committed, where SQLAlchemy can tell."""
    if isinstance(session, Session):
        event.listen(session, "after_commit", lambda _: then(), once=True)
    elif isinstance(session, Connection):
        event.listen(session, "commit", lambda _: then(), once=True)
