"""The servers that the queues share, with commits that are on the disk when they return."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import redis
from tests.support import postgres
from tests.support import redis as redis_server
from tests.support.servers import Servers

SETTINGS = "PostgreSQL with fsync on, shared_buffers 256 MB"
_ENVIRONMENT = {"GONOGO_TEST_POSTGRES_FSYNC": "on", "GONOGO_TEST_POSTGRES_BUFFERS": "256MB"}


@contextmanager
def database() -> Iterator[str]:
    """The URL of a fresh database, without a driver's name."""
    with databases() as fresh:
        yield postgres.plain(fresh())


@contextmanager
def databases() -> Iterator[Callable[[], str]]:
    """A maker of fresh databases on one server, which are gone afterwards."""
    before = dict(os.environ)
    servers = Servers.create()
    try:
        os.environ.update(_ENVIRONMENT)
        server = postgres.PostgresServer(postgres.address(servers))
        if not postgres.given():
            yield server.lasting  # to drop one takes a checkpoint; the server goes as a whole
            return
        with ExitStack() as stack:
            yield lambda: stack.enter_context(server.database())
    finally:
        os.environ.clear()
        os.environ.update(before)
        servers.close()


@contextmanager
def broker(*, durable: bool) -> Iterator[str]:
    """The URL of a Redis; ``durable``: every write is on the disk before its answer."""
    servers = Servers.create()
    try:
        url = redis_server.address(servers)
        if durable:
            with redis.Redis.from_url(url) as client:
                client.config_set("appendfsync", "always")
                client.config_set("appendonly", "yes")
        yield f"{url}/0"
    finally:
        servers.close()
