"""Messages to a PostgreSQL server and its answers, without a cursor of the driver for each.

A cursor learns anew how to read each type, and walks from answer to answer: as much of the
processor as the rest of a short message. The driver's manual leaves out `generators.execute` and
`Connection.wait`, with which its own cursors wait; every test on a server shows when they change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import errors, generators
from psycopg.abc import PQGen, Transformer
from psycopg.adapt import Transformer as Reader
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

_FINE = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY})


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
        self._encoding = raw.info.encoding
        self._reader: Transformer = Reader(raw)

    def send(self, words: str) -> Answers:
        """Send statements of the simple protocol; raises the driver's error where one failed."""
        raw = self._raw
        with raw.lock:
            results = raw.wait(_exchange(raw.pgconn, words.encode(self._encoding)))
        for result in results:
            if result.status not in _FINE:
                raise errors.error_from_result(result, self._encoding)
        return Answers(results, self._reader)


def _exchange(pgconn: PGconn, words: bytes) -> PQGen[list[PGresult]]:
    """Sent where the driver waits, because an interrupt there is told to the server as well."""
    pgconn.send_query(words)
    results: list[PGresult] = yield from generators.execute(pgconn)
    return results
