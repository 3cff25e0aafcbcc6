"""The payment provider's own books: what it was asked to pay and what it booked."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.payday.faults import FINE

_TABLES = """
CREATE TABLE IF NOT EXISTS bookings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    reference TEXT NOT NULL, iban TEXT NOT NULL, amount TEXT NOT NULL, currency TEXT NOT NULL,
    idempotency_key TEXT UNIQUE,
    booked_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX IF NOT EXISTS bookings_reference ON bookings (reference);
CREATE TABLE IF NOT EXISTS requests (
    reference TEXT NOT NULL, attempt INTEGER NOT NULL, fault TEXT NOT NULL,
    PRIMARY KEY (reference, attempt));
"""


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asks to be paid; ``amount`` is decimal text."""

    reference: str
    iban: str
    amount: str
    currency: str

    @classmethod
    def parse(cls, body: bytes) -> Order:
        """Raises ValueError (or a subclass) when ``body`` is not such an order."""
        fields = json.loads(body)
        names = ("reference", "iban", "amount", "currency")
        if not isinstance(fields, dict) or set(fields) != set(names):
            raise ValueError(f"expected an object with {', '.join(names)}")
        if not all(isinstance(value, str) and value for value in fields.values()):
            raise ValueError("every field is text")
        return cls(**fields)


class Books:
    """The provider's own database. Thread-safe; several processes may share one file."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=10
        )
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def arrived(self, reference: str, deal: Callable[[str, int], str]) -> str:
        """Count a request for ``reference`` and note which fault ``deal`` gives it."""
        with self._writing() as write:
            sql = "SELECT COUNT(*) FROM requests WHERE reference = ?"
            attempt = write.execute(sql, (reference,)).fetchone()[0] + 1
            fault = deal(reference, attempt)
            write.execute("INSERT INTO requests VALUES (?, ?, ?)", (reference, attempt, fault))
        return fault

    def book(self, order: Order, idempotency_key: str | None) -> dict[str, Any]:
        """Book it durably, unless a booking has the same ``idempotency_key``: then that one."""
        with self._writing() as write:
            if idempotency_key is not None:
                sql = "SELECT * FROM bookings WHERE idempotency_key = ?"
                known = write.execute(sql, (idempotency_key,)).fetchone()
                if known is not None:
                    return dict(known)
            row = write.execute(
                "INSERT INTO bookings (reference, iban, amount, currency, idempotency_key)"
                " VALUES (?, ?, ?, ?, ?) RETURNING *",
                (order.reference, order.iban, order.amount, order.currency, idempotency_key),
            ).fetchone()
        return dict(row)

    def payments(self, reference: str | None = None) -> list[dict[str, Any]]:
        """The bookings in the order they were made, of one reference or all."""
        where, values = ("", ()) if reference is None else ("WHERE reference = ?", (reference,))
        sql = f"SELECT * FROM bookings {where} ORDER BY id"
        with self._lock:
            return [dict(row) for row in self._connection.execute(sql, values)]

    def faults(self) -> dict[str, int]:
        """How often each fault was shown."""
        sql = "SELECT fault, COUNT(*) FROM requests WHERE fault != ? GROUP BY fault ORDER BY fault"
        with self._lock:
            return dict(self._connection.execute(sql, (FINE,)).fetchall())

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
