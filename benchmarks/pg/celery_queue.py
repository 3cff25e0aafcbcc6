"""Celery on Redis: a prefork pool, a message taken back from nobody before its task ended."""

from __future__ import annotations

from collections.abc import Sequence

import redis
from celery import Celery
from celery.signals import worker_ready

from benchmarks.pg.queue import Begun

_LATER = "later"


def declare(url: str, begun: Begun):
    app = Celery("benchmark", broker=url)
    app.conf.update(task_ignore_result=True, task_acks_late=True, worker_hijack_root_logger=False)

    @app.task(name="touch")
    def touch(number: int) -> None:
        begun()

    return app, touch


class OnRedis:
    """Messages in a list."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._app, self._touch = declare(url, lambda: None)

    def put(self, number: int) -> object:
        return self._touch.delay(number)

    def put_many(self, numbers: Sequence[int]) -> object:
        """Into a list that nobody reads, which then gets the name of the one they read."""
        with self._app.producer_pool.acquire(block=True) as producer:
            for number in numbers:
                self._touch.apply_async((number,), producer=producer, queue=_LATER)
        return self._redis.rename(_LATER, "celery")

    def left(self) -> int:
        return self._redis.llen("celery") + self._redis.hlen("unacked")

    def close(self) -> None:
        self._app.close()
        self._redis.close()


def work(url: str, begun: Begun, hands: int) -> None:
    """``hands``: processes of the pool."""
    app, _ = declare(url, begun)
    worker_ready.connect(lambda **_: begun(), weak=False)
    words = ["--concurrency", str(hands), "--loglevel", "ERROR", "--pool", "prefork"]
    app.worker_main(["worker", *words])
