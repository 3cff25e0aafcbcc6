"""Procrastinate: async tasks, several at once in one process, LISTEN/NOTIFY beside polling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from benchmarks.pg.queue import Begun

_LEFT = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"


def declare(app: App, begun: Begun):
    @app.task(name="touch")
    async def touch(number: int) -> None:
        begun()

    return touch


class Procrastinate:
    """Rows of ``procrastinate_jobs``, which stay there."""

    def __init__(self, url: str) -> None:
        self._app = App(connector=SyncPsycopgConnector(conninfo=url, min_size=1))
        self._app.open()
        self._app.schema_manager.apply_schema()
        self._touch = declare(self._app, lambda: None)
        self._look = psycopg.connect(url, autocommit=True)

    def put(self, number: int) -> object:
        return self._touch.defer(number=number)

    def put_many(self, numbers: Sequence[int]) -> object:
        return self._touch.batch_defer(*({"number": number} for number in numbers))

    def left(self) -> int:
        return self._look.execute(_LEFT).fetchone()[0]

    def close(self) -> None:
        self._look.close()
        self._app.close()


def work(url: str, begun: Begun, hands: int) -> None:
    async def run() -> None:
        app = App(connector=PsycopgConnector(conninfo=url, max_size=hands + 4))
        declare(app, begun)
        async with app.open_async():
            begun()
            await app.run_worker_async(concurrency=hands)

    asyncio.run(run())
