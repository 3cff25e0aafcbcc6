"""PgQueuer: asyncpg under uvloop, batches taken and batches logged, LISTEN/NOTIFY."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import psycopg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
from pgqueuer.adapters.persistence.queries import Queries, SyncQueries

from benchmarks.pg.queue import Begun


class Pgqueuer:
    """Rows of ``pgqueuer``, which are moved into its log."""

    def __init__(self, url: str) -> None:
        uvloop.run(_install(url))
        self._connection = psycopg.connect(url, autocommit=True)
        self._queries = SyncQueries(SyncPsycopgDriver(self._connection))

    def put(self, number: int) -> object:
        return self._queries.enqueue("touch", b"%d" % number)

    def put_many(self, numbers: Sequence[int]) -> object:
        payloads = [b"%d" % number for number in numbers]
        count = len(payloads)
        return self._queries.enqueue(["touch"] * count, payloads, [0] * count)

    def left(self) -> int:
        return self._connection.execute("SELECT count(*) FROM pgqueuer").fetchone()[0]

    def close(self) -> None:
        self._connection.close()


async def _install(url: str) -> None:
    connection = await asyncpg.connect(url)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


def work(url: str, begun: Begun, hands: int) -> None:
    async def run() -> None:
        queue = PgQueuer.from_asyncpg_connection(await asyncpg.connect(url))

        @queue.entrypoint("touch")
        async def touch(job: object) -> None:
            begun()

        begun()
        await queue.run(batch_size=hands)

    uvloop.run(run())
