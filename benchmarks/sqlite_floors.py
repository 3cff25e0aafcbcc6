"""What SQLite itself takes for rows like ours: the floor under the queue."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from gonogo.ids import new_id
from gonogo.records import Call, Reservation, State
from gonogo.store import indexes, schema
from gonogo.store.rows import CALLS

_HOLDER = "SELECT * FROM gonogo_calls WHERE held AND key = ? AND action = ?"
_COUNT = "UPDATE gonogo_limits SET buckets = ? WHERE name = ?"
_SETTLE = """
UPDATE gonogo_calls SET state = 'succeeded', outcome = 'succeeded', lease_until = NULL,
  settled_at = ?, result = ? WHERE id = ? AND epoch = 1 AND state = 'dispatched'
"""


class Table:
    """A copy of the table of calls on the driver's own connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._raw = connection
        self._made = 0

    def alone(self, rows: int) -> float:
        """Seconds a row, each in a transaction of its own."""
        insert, made = self._rows(rows)
        began = time.perf_counter()
        for row in made:
            self._raw.execute("BEGIN IMMEDIATE")
            self._raw.execute(insert, tuple(row.values()))
            self._raw.commit()
        return (time.perf_counter() - began) / rows

    def together(self, rows: int) -> float:
        """Seconds a row, all in one transaction."""
        insert, made = self._rows(rows)
        ready = [tuple(row.values()) for row in made]
        began = time.perf_counter()
        self._raw.execute("BEGIN IMMEDIATE")
        self._raw.executemany(insert, ready)
        self._raw.commit()
        return (time.perf_counter() - began) / rows

    def guarded(self, calls: int, company: int) -> float:
        """Seconds a guarded call, of which ``company`` share their two commits.

        Its key is looked up, its row written, a limit counted; then the row is written again.
        """
        insert, made = self._rows(calls, payment=True)
        began = time.perf_counter()
        for first in range(0, calls, company):
            some = made[first : first + company]
            self._raw.execute("PRAGMA synchronous = FULL")
            self._raw.execute("BEGIN IMMEDIATE")
            for row in some:
                self._raw.execute(_HOLDER, (row["key"], row["action"])).fetchone()
                self._raw.execute(insert, tuple(row.values()))
                self._raw.execute(_COUNT, (row["args"], row["action"]))
            self._raw.commit()
            self._raw.execute("PRAGMA synchronous = NORMAL")
            self._raw.execute("BEGIN IMMEDIATE")
            for row in some:
                self._raw.execute(_SETTLE, (row["created_at"], '{"paid":100}', row["id"]))
            self._raw.commit()
        return (time.perf_counter() - began) / calls

    def _rows(self, count: int, *, payment: bool = False) -> tuple[str, list[dict[str, Any]]]:
        """An insert and rows for it: what it takes to make them is no cost of SQLite's.

        What is null is left out: for each `None` the driver looks in vain for one who adapts it.
        """
        first, self._made = self._made, self._made + count
        make = _payment if payment else _job
        made = [CALLS.given(make(n)) for n in range(first, self._made)]
        marks = ", ".join("?" * len(made[0]))
        return f"INSERT INTO gonogo_calls ({', '.join(made[0])}) VALUES ({marks})", made


def _job(number: int) -> Call:
    now = 1_800_000_000.0 + number * 1e-6
    call_id = new_id(now)
    return Call(
        id=call_id,
        action="job",
        state=State.PENDING,
        created_at=now,
        fingerprint="v1:" + call_id * 2,
        args=f'{{"number":{number}}}',
        queue="default",
        run_at=now,
        correlation_id=call_id,
    )


def _payment(number: int) -> Call:
    job = _job(number)
    return structs.replace(
        job,
        action="payment",
        state=State.DISPATCHED,
        key=f"payment:INV-{number}",
        held=True,
        args=f'{{"cents":100,"invoice":"INV-{number}"}}',
        epoch=1,
        attempt=1,
        queue=None,
        lease_until=job.run_at + 60,
        owner="host:4711:0a1b2c",
        dispatched_at=job.run_at,
        reservations=(Reservation("payment", 1, 3600.0, 29928257.0),),
        correlation_id=None,
    )


@contextmanager
def table(folder: Path, name: str = "floor", *, indexed: bool = False) -> Iterator[Table]:
    """The table in a file of its own, with all our indexes or with its primary key alone."""
    raw = sqlite3.connect(folder / f"{name}.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    dialect = sqlite.dialect()
    calls, limits = (indexes.metadata.tables[found.name] for found in (schema.calls, schema.limits))
    raw.execute(str(CreateTable(calls).compile(dialect=dialect)))
    for index in calls.indexes if indexed else ():
        raw.execute(str(CreateIndex(index).compile(dialect=dialect)))
    raw.execute(str(CreateTable(limits).compile(dialect=dialect)))
    raw.execute("INSERT INTO gonogo_limits VALUES ('payment', 3600, NULL, '[]', 0)")
    try:
        yield Table(raw)
    finally:
        raw.close()
