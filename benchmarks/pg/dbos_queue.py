"""DBOS: workflows on a queue, which its workers poll."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import psycopg
import sqlalchemy
from dbos import DBOS, DBOSClient, DBOSConfig

from benchmarks.pg.queue import Begun

_LEFT = "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING')"
_JOB = {"workflow_name": "touch", "queue_name": "touches"}


class Dbos:
    """Rows of ``dbos.workflow_status``, which stay there."""

    def __init__(self, url: str) -> None:
        _launch(url, lambda: None)
        DBOS.destroy()
        self._client = DBOSClient(system_database_url=url)
        self._engine = sqlalchemy.create_engine(_driven(url))
        self._look = psycopg.connect(url, autocommit=True)

    def put(self, number: int) -> object:
        return self._client.enqueue(_JOB, number)

    def put_many(self, numbers: Sequence[int]) -> object:
        with self._engine.begin() as connection:
            for number in numbers:
                self._client.enqueue_in_transaction(connection, _JOB, number)

    def left(self) -> int:
        return self._look.execute(_LEFT).fetchone()[0]

    def close(self) -> None:
        self._look.close()
        self._engine.dispose()
        self._client.destroy()


def _driven(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def _launch(url: str, begun: Begun, poll: float = 1.0) -> None:
    config: DBOSConfig = {
        "name": "benchmark",
        "system_database_url": url,
        "application_version": "1",
        "executor_id": os.environ.get("WORKER_NUMBER", "0"),
        "log_level": "ERROR",
    }
    DBOS(config=config)

    @DBOS.workflow(name="touch")
    def touch(number: int) -> None:
        begun()

    DBOS.launch()
    DBOS.register_queue("touches", polling_interval_sec=poll, on_conflict="always_update")


def work(url: str, begun: Begun, hands: int) -> None:
    """``hands``: how many milliseconds there are between two looks."""
    _launch(url, begun, hands / 1000)
    begun()
    threading.Event().wait()
