"""What PostgreSQL itself can do: one connection a process, one commit a job, no bookkeeping."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg

from benchmarks.pg.queue import Begun

_TABLE = "CREATE TABLE floor (id bigserial PRIMARY KEY, number int, done boolean DEFAULT false)"
_INDEX = "CREATE INDEX floor_due ON floor (id) WHERE NOT done"
_PUT = "INSERT INTO floor (number) VALUES (%s)"
_TAKE = "SELECT id FROM floor WHERE NOT done ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"


class Floor:
    """A table of two columns that matter."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(_TABLE)
        self._connection.execute(_INDEX)

    def put(self, number: int) -> object:
        return self._connection.execute(_PUT, (number,))

    def put_many(self, numbers: Sequence[int]) -> object:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(_PUT, [(number,) for number in numbers])

    def copy(self, numbers: Sequence[int]) -> object:
        words = "COPY floor (number) FROM STDIN"
        with self._connection.cursor() as cursor, cursor.copy(words) as copy:
            for number in numbers:
                copy.write_row((number,))

    def left(self) -> int:
        return self._connection.execute("SELECT count(*) FROM floor WHERE NOT done").fetchone()[0]

    def close(self) -> None:
        self._connection.close()


def work(url: str, begun: Begun, hands: int) -> None:
    connection = psycopg.connect(url)
    begun()
    while True:
        found = connection.execute(_TAKE).fetchone()
        if found is not None:
            begun()
            connection.execute("UPDATE floor SET done = true WHERE id = %s", found)
        connection.commit()
        if found is None:
            time.sleep(0.005)
