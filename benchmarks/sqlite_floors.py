"""What SQLite itself takes for rows like ours: the floor under the queue."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from gonogo.ids import new_id
from gonogo.records import Call, State
from gonogo.store import schema
from gonogo.store.rows import CALLS


class Table:
    """A copy of the table of calls on the driver's own connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._raw = connection
        columns = CALLS.columns
        marks = ", ".join("?" * len(columns))
        self._insert = f"INSERT INTO gonogo_calls ({', '.join(columns)}) VALUES ({marks})"
        self._made = 0

    def alone(self, rows: int) -> float:
        """Seconds a row, each in a transaction of its own."""
        made = self._rows(rows)
        began = time.perf_counter()
        for row in made:
            self._raw.execute("BEGIN IMMEDIATE")
            self._raw.execute(self._insert, row)
            self._raw.commit()
        return (time.perf_counter() - began) / rows

    def together(self, rows: int) -> float:
        """Seconds a row, all in one transaction."""
        made = self._rows(rows)
        began = time.perf_counter()
        self._raw.execute("BEGIN IMMEDIATE")
        self._raw.executemany(self._insert, made)
        self._raw.commit()
        return (time.perf_counter() - began) / rows

    def _rows(self, count: int) -> Sequence[tuple[Any, ...]]:
        """Ready to insert: what it takes to make them is no cost of SQLite's."""
        first, self._made = self._made, self._made + count
        return [_row(number) for number in range(first, self._made)]


def _row(number: int) -> tuple[Any, ...]:
    now = 1_800_000_000.0 + number * 1e-6
    call_id = new_id(now)
    call = Call(
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
    return tuple(CALLS.encode(call).values())


@contextmanager
def table(folder: Path, name: str = "floor", *, indexes: bool = False) -> Iterator[Table]:
    """The table in a file of its own, with all our indexes or with its primary key alone."""
    raw = sqlite3.connect(folder / f"{name}.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    dialect = sqlite.dialect()
    raw.execute(str(CreateTable(schema.calls).compile(dialect=dialect)))
    for index in schema.calls.indexes if indexes else ():
        raw.execute(str(CreateIndex(index).compile(dialect=dialect)))
    try:
        yield Table(raw)
    finally:
        raw.close()
