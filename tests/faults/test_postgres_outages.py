"""A PostgreSQL server that is a standby, is full, or restarts: said clearly, then over."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from msgspec import structs
from tests.store.making import call
from tests.support.postgres import plain
from tests.support.restarting import CRASH, FAST, restarting_postgres
from tests.support.servers import ServerMissing, pauses
from tests.support.standby import standby_of

from gonogo.clock import SystemClock
from gonogo.errors import StoreUnavailable
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.store.port import Transaction
from gonogo.store.postgres import PostgresStore
from gonogo.store.postgres_draft import Draft
from gonogo.store.postgres_errors import Lost, unreachable

pytestmark = pytest.mark.faults


def insert(tx: Transaction) -> None:
    tx.calls.insert(call())


def counts(store: PostgresStore) -> dict[State, int]:
    return store.read(lambda tx: tx.calls.counts())


def until(connection: psycopg.Connection[Any], query: str, wanted: object) -> None:
    """Wait, at most 30 seconds, until the query's first value is as wanted."""
    for _ in pauses(30):
        if (connection.execute(query).fetchone() or ())[0] == wanted:
            return
    raise AssertionError(query)


def test_a_standby_is_refused_until_it_is_promoted(postgres_url: str) -> None:
    """Nothing is read from or written to a standby; of several servers the primary is found."""
    primary = PostgresStore(postgres_url)
    primary.write(insert)
    try:
        with standby_of(postgres_url) as there:
            alone = PostgresStore(there)
            for use in (alone.read, alone.write):
                with pytest.raises(StoreUnavailable, match=r"standby\?.*the primary") as caught:
                    use(lambda tx: tx.calls.counts())
                assert str(urlsplit(there).password) not in str(caught.value)
            ports = f"{urlsplit(there).port},{urlsplit(postgres_url).port}"
            both = PostgresStore(f"{there}?host=127.0.0.1,127.0.0.1&port={ports}")
            both.write(insert)
            assert counts(both) == counts(primary) == {State.PENDING: 2}
            with psycopg.connect(plain(there), autocommit=True) as connection:
                until(connection, "SELECT count(*) FROM gonogo_calls", 2)
                connection.execute("SELECT pg_promote()")
            alone.write(insert)
            assert counts(alone) == {State.PENDING: 3}
            for store in (alone, both):
                store.close()
    except ServerMissing as missing:
        pytest.skip(f"no server for this test: a standby: {missing}")
    finally:
        primary.close()


@pytest.fixture
def small(postgres_url: str) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """The ledger's URL for a user who may connect twice, and a connection of somebody else."""
    store = PostgresStore(postgres_url)
    store.write(lambda tx: None)
    store.close()
    name = f"small_{os.urandom(4).hex()}"
    with psycopg.connect(plain(postgres_url), autocommit=True) as admin:
        admin.execute(
            f"CREATE ROLE {name} LOGIN PASSWORD 'x' CONNECTION LIMIT 2;"
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name};"
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}"
        )
        parts = urlsplit(postgres_url)
        yield urlunsplit(parts._replace(netloc=f"{name}:x@127.0.0.1:{parts.port}")), admin
        admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_server_without_a_connection_left(small: tuple[str, psycopg.Connection[Any]]) -> None:
    """It is said with the remedy; who was connected waits for one, and all goes on by itself."""
    url, admin = small
    name = urlsplit(url).username
    connected = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{name}'"
    hogs = [psycopg.connect(plain(url)) for _ in range(2)]

    class Freeing(SystemClock):
        """Somebody ends while we wait."""

        def sleep(self, seconds: float) -> None:
            hogs.pop().close()
            until(admin, connected, 1)

    store = PostgresStore(url, clock=Freeing())
    with pytest.raises(StoreUnavailable, match=r"no connection left.*max_connections"):
        store.write(insert)
    while hogs:
        hogs.pop().close()
    until(admin, connected, 0)
    store.write(insert)
    until(admin, connected, 1)
    hogs.append(psycopg.connect(plain(url)))
    assert counts(store) == {State.PENDING: 1}
    assert hogs == []
    store.close()
    until(admin, connected, 0)


@pytest.mark.parametrize(
    "words",
    [
        "FATAL: sorry, too many clients already",
        "FATAL: remaining connection slots are reserved for non-replication superusers",
    ],
)
def test_a_full_server_may_have_room_soon(words: str) -> None:
    """However the server says it, that is a reason to wait a little."""
    error = unreachable(psycopg.OperationalError(words), "somewhere")
    assert isinstance(error, Lost)
    assert "has no connection left" in str(error)


def test_a_worker_goes_on_after_its_server_restarted(caplog: pytest.LogCaptureFixture) -> None:
    """What was under way and what waited is done once, and the next job is heard of at once."""
    begun, go, done = threading.Event(), threading.Event(), list[int]()

    def make(url: str) -> SandboxOrchestrator:
        sandbox = SandboxOrchestrator(url, dry_run=False)

        @sandbox.action("pay", key="{number}", irreversible=True)
        def pay(number: int) -> None:
            begun.set()
            go.wait(60)
            done.append(number)

        return sandbox

    def settled(count: int) -> bool:
        return any(sandbox.counts().get(State.SUCCEEDED, 0) == count for _ in pauses(60))

    try:
        with restarting_postgres() as server:
            sandbox, elsewhere = make(server.url), make(server.url)
            sandbox.worker.poll_interval = 3600.0
            for number in (1, 2):
                sandbox.actions["pay"].enqueue(number)
            sandbox.worker.start()
            assert begun.wait(60)
            server.stop(FAST)
            server.start()
            go.set()
            assert settled(2)
            with psycopg.connect(plain(server.url), autocommit=True) as admin:
                listens = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
                until(admin, listens, 1)
            elsewhere.actions["pay"].enqueue(3)
            assert settled(3)
            assert done == [1, 2, 3]
            sandbox.worker.stop()
            for one in (sandbox, elsewhere):
                one.cleanup()
    except ServerMissing as missing:
        pytest.skip(f"no server for this test: PostgreSQL: {missing}")
    said = [one.getMessage() for one in caplog.records if one.name == "gonogo.store"]
    assert "a new and empty one was made" in said.pop(0)
    assert [("polls" in one, "again" in one) for one in said] == [(True, False), (False, True)]


def test_a_crashed_server_is_not_believed_about_a_number_that_it_gave_away_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was lost in the crash is not taken for the commit of who has its number now."""
    own = call()
    changed = structs.replace(own, state=State.CANCELLED)
    with ExitStack() as stack:
        try:
            server = stack.enter_context(restarting_postgres())
        except ServerMissing as missing:
            pytest.skip(f"no server for this test: {missing}")
        store = PostgresStore(server.url)
        stack.callback(store.close)
        store.write(lambda tx: tx.calls.insert(own))

        def crash(draft: Draft) -> None:
            draft.send()
            server.stop(CRASH)
            server.start()
            with psycopg.connect(plain(server.url)) as other:
                (number,) = other.execute("SELECT pg_current_xact_id()::text").fetchone() or ()
            assert number == draft.xid
            raise Lost("the server crashed")

        with monkeypatch.context() as patched:
            patched.setattr(Draft, "commit", crash)
            with pytest.raises(StoreUnavailable, match="may have been written"):
                store.write(lambda tx: tx.calls.replace(own, changed))
        assert counts(store) == {State.PENDING: 1}
