"""Messages to a PostgreSQL server and its answers, without a cursor of the driver for each.

A cursor learns anew how to read each type, and walks from answer to answer: as much of the
processor as the rest of a short message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from select import POLLIN, POLLOUT, poll
from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import Transformer
from psycopg.adapt import Transformer as Reader
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

_FINE = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY})
_PATIENCE = 5.0
"""Seconds in which a message that was interrupted must be over; else the session is given up."""


class Answers:
    """What a server says to one message: an answer to each statement in it.

    What is asked of a cursor is asked of the last one.
    """

    __slots__ = ("_reader", "_results")

    def __init__(self, results: Sequence[PGresult], reader: Transformer) -> None:
        self._results = results
        self._reader = reader

    def rows(self, number: int) -> list[Any]:
        """The rows of the answer to the statement of this ``number``, the first being 0."""
        result = self._results[number]
        self._reader.set_pgresult(result)
        return self._reader.load_rows(0, result.ntuples, tuple)

    def fetchall(self) -> list[Any]:
        """All rows."""
        return self.rows(-1)

    def fetchone(self) -> Any:
        """The first row; ``None`` where there is none."""
        found = self.rows(-1)
        return found[0] if found else None

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows(-1))

    @property
    def rowcount(self) -> int:
        """Rows that were found or changed."""
        return self._results[-1].command_tuples or 0

    @property
    def did(self) -> str:
        """What the server says it did, such as ``COMMIT``."""
        return (self._results[-1].command_status or b"").decode()


class Messages:
    """Sends messages on one connection, one at a time."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self._raw = raw
        self._pgconn = raw.pgconn
        self._encoding = raw.info.encoding
        self._reader: Transformer = Reader(raw)
        self._readable, self._either = poll(), poll()
        self._readable.register(raw.pgconn.socket, POLLIN)
        self._either.register(raw.pgconn.socket, POLLIN | POLLOUT)

    def send(self, words: str) -> Answers:
        """Send statements of the simple protocol; raises the driver's error where one failed."""
        try:
            self._pgconn.send_query(words.encode(self._encoding))
            results = self._results()
        except psycopg.Error:
            raise
        except BaseException:
            self._give_up()
            raise
        for result in results:
            if result.status not in _FINE:
                raise errors.error_from_result(result, self._encoding)
        return Answers(results, self._reader)

    def _results(self, patience: float | None = None) -> list[PGresult]:
        """All that the server says, once all is sent; `TimeoutError` after so long a silence."""
        pgconn = self._pgconn
        found: list[PGresult] = []
        while pgconn.flush():
            if _wait(self._either, patience) & ~POLLOUT:  # who is not read from may not read either
                pgconn.consume_input()
        while True:
            while pgconn.is_busy():
                _wait(self._readable, patience)
                pgconn.consume_input()
            if (result := pgconn.get_result()) is None:
                return found
            found.append(result)

    def _give_up(self) -> None:
        """Have the server end what it does for us, so that the session can be used again."""
        if self._pgconn.transaction_status != TransactionStatus.ACTIVE:
            return
        try:
            self._raw.cancel_safe(timeout=_PATIENCE)
            self._results(_PATIENCE)
        except (psycopg.Error, TimeoutError):
            self._raw.close()


def _wait(socket: poll, patience: float | None) -> int:
    """For what the socket is ready; `TimeoutError` when it is for nothing after so many seconds."""
    ready = socket.poll(None if patience is None else patience * 1000)
    if not ready:
        raise TimeoutError("the server says nothing")
    return ready[0][1]
