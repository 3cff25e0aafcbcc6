"""The servers that tests rely on: real, shared, and gone when the run is over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support import postgres, redis
from tests.support.postgres import PostgresServer, plain
from tests.support.servers import ServerMissing, Servers, pauses

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).parent.parent


def execute(url: str, statement: str) -> None:
    """Run a statement on a connection of its own."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute(statement)


def value(url: str, query: str) -> object:
    """What a query for a single value answers, on a connection of its own."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def test_a_database_is_fresh_for_every_test(postgres_server: PostgresServer) -> None:
    """What one test writes, the next cannot see; a dropped database is gone."""
    with postgres_server.database() as first, postgres_server.database() as second:
        execute(first, "CREATE TABLE t (n int)")
        tables = "SELECT count(*) FROM pg_tables WHERE tablename = 't'"
        assert (value(first, tables), value(second, tables)) == (1, 0)
    left = "SELECT count(*) FROM pg_database WHERE datname = '{}'"
    assert value(postgres_server.url, left.format(urlsplit(first).path[1:])) == 0


def test_a_template_is_prepared_once_and_copied(postgres_server: PostgresServer) -> None:
    """Databases made from a template have what it had, and it is filled a single time."""
    prepared = []

    def prepare(url: str) -> None:
        prepared.append(url)
        execute(url, "CREATE TABLE seed AS SELECT 42 AS n")

    for _ in range(2):
        postgres_server.template("seeded", prepare)
        with postgres_server.database("seeded") as url:
            assert value(url, "SELECT n FROM seed") == 42
    assert len(prepared) == 1


@pytest.mark.faults
@pytest.mark.parametrize("origin", ["installed", "embedded"])
def test_every_source_of_postgresql_works(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed programs and those of the wheel both give a server, and it ends with its run."""
    monkeypatch.delenv("GONOGO_TEST_POSTGRES_URL", raising=False)
    monkeypatch.setenv("GONOGO_TEST_POSTGRES_FROM", origin)
    if not list(postgres.candidates()):
        pytest.skip(f"no PostgreSQL {origin} here")
    servers = Servers.create()
    try:
        url = postgres.address(servers)
        assert value(url, "SELECT inet_server_addr()::text LIKE '127.0.0.1%'") is True
        assert postgres.address(servers) == url
        data = Path(str(value(url, "SHOW data_directory")))
        assert data.parent.name == origin
    finally:
        servers.close()
    assert not servers.folder.exists()
    assert not answers(url)


@pytest.mark.faults
def test_a_killed_run_leaves_no_server_behind() -> None:
    """A test run that is killed outright takes its servers and their folder with it."""
    program = (
        "import os, signal\n"
        "from tests.support import redis\n"
        "from tests.support.servers import Servers\n"
        "servers = Servers.create()\n"
        "print(redis.address(servers), servers.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    url, folder = done.stdout.split()
    assert any(not Path(folder).exists() for _ in pauses(10))
    assert not answers(url)


def test_a_missing_server_is_reported_to_everyone_who_asks() -> None:
    """The first failure to start is remembered, with its reason, for the whole run."""
    servers = Servers.create()
    tries = []

    def start(_: Servers, folder: Path) -> str:
        tries.append(folder)
        raise ServerMissing("no such program")

    try:
        for _ in range(2):
            with pytest.raises(ServerMissing, match="no such program"):
                servers.address("nothing", start)
    finally:
        servers.close()
    assert len(tries) == 1


def test_redis_answers_and_is_empty(redis_url: str) -> None:
    """The Redis of a test is real, asks for its password and holds nothing yet."""
    import redis as client

    with client.Redis.from_url(redis_url) as connection:
        assert connection.dbsize() == 0
        connection.set("a", "1")
    redis.flush(redis_url)
    with socket.create_connection(("127.0.0.1", urlsplit(redis_url).port), timeout=5) as stranger:
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


def answers(url: str) -> bool:
    """Whether anything still listens where ``url`` points."""
    return redis._accepts(urlsplit(url).port or 0)


def test_root_never_runs_the_server(postgres_server: PostgresServer) -> None:
    """A server we started belongs to an unprivileged user, also where the tests are root."""
    if os.environ.get("GONOGO_TEST_POSTGRES_URL"):
        pytest.skip("the server was given")
    data = Path(str(value(postgres_server.url, "SHOW data_directory")))
    assert data.stat().st_uid != 0
