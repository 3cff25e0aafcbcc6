"""A job joins the user's own transaction: it exists if and only if that commits."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session
from tests.support.postgres import plain

from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError, KeyConflict, StoreError, StoreUnavailable
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/shop.db"


def drivers_own(url: str, *, commits_by_itself: bool = False) -> Any:
    """A connection of the driver alone, as a user without SQLAlchemy has it."""
    if url.startswith("sqlite"):
        level = None if commits_by_itself else ""
        return sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=level)
    return psycopg.connect(plain(url), autocommit=commits_by_itself)


@pytest.fixture
def sandbox(url: str, fake_clock: FakeClock) -> Iterator[SandboxOrchestrator]:
    """A live sandbox beside the tables of a shop."""
    made = SandboxOrchestrator(url, clock=fake_clock)
    made.arm(by="ann", reason="a test", seconds=86_400)
    yield made
    made.cleanup()


@pytest.fixture
def engine(url: str, sandbox: SandboxOrchestrator) -> Iterator[Engine]:
    """The shop's own engine, with the driver's defaults."""
    made = create_engine(url)
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id TEXT PRIMARY KEY)"))
    yield made
    made.dispose()


def payment(sandbox: SandboxOrchestrator) -> Any:
    @sandbox.action("pay", key="{order}", irreversible=True)
    def pay(order: str, cents: int = 1) -> str:
        return f"paid {order}"

    return pay


def order(session: Any, name: str) -> None:
    session.execute(text("INSERT INTO orders VALUES (:name)"), {"name": name})


def orders(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT id FROM orders ORDER BY id")))


@pytest.mark.parametrize("first", ["order", "job"])
def test_commit_makes_both(sandbox: SandboxOrchestrator, engine: Engine, first: str) -> None:
    """Order and job are there together after the commit, and the job can be carried out."""
    pay = payment(sandbox)
    with Session(engine) as session:
        if first == "order":
            order(session, "A")
        handle = pay.enqueue("A", session=session)
        if first == "job":
            order(session, "A")
        assert sandbox.counts() == {}
        session.commit()
    assert handle.is_new
    assert orders(engine) == ["A"]
    assert sandbox.worker.run_once()
    assert handle.state() is State.SUCCEEDED


@pytest.mark.parametrize("first", ["order", "job"])
def test_rollback_makes_neither(sandbox: SandboxOrchestrator, engine: Engine, first: str) -> None:
    """Without the commit there is no job, and its key is free."""
    pay = payment(sandbox)
    with Session(engine) as session:
        if first == "order":
            order(session, "A")
        pay.enqueue("A", session=session)
        session.rollback()
    assert (sandbox.counts(), orders(engine)) == ({}, [])
    assert pay.enqueue("A").is_new


def test_a_connection_and_the_drivers_own_can_be_joined(
    sandbox: SandboxOrchestrator, engine: Engine, url: str
) -> None:
    """It need not be a session of the ORM."""
    pay = payment(sandbox)
    with engine.connect() as connection:
        pay.enqueue("A", session=connection)
        connection.commit()
        pay.enqueue("B", session=connection)
        connection.rollback()
    raw = drivers_own(url)
    pay.enqueue("C", session=raw)
    raw.commit()
    pay.enqueue("D", session=raw)
    raw.rollback()
    raw.close()
    assert sorted(str(call.key) for call in sandbox.calls()) == ["A", "C"]


def test_the_sandboxs_own_session_can_be_joined(sandbox: SandboxOrchestrator) -> None:
    """What the database component hands out is on the ledger's database."""
    pay = payment(sandbox)
    with sandbox.db_manager.get_session() as session:
        pay.enqueue("A", session=session)
        session.rollback()
        pay.enqueue("B", session=session)
        session.commit()
    assert [call.key for call in sandbox.calls()] == ["B"]


def test_a_refusal_leaves_the_users_transaction_as_it_was(
    sandbox: SandboxOrchestrator, engine: Engine
) -> None:
    """A batch that is refused adds nothing, and what the user wrote can still be committed."""
    pay = payment(sandbox)
    pay.enqueue("A", cents=1)
    with Session(engine) as session:
        order(session, "A")
        with pytest.raises(KeyConflict):
            pay.enqueue_many([("B", 1), ("A", 2)], session=session)
        session.commit()
    assert [call.key for call in sandbox.calls()] == ["A"]
    assert orders(engine) == ["A"]


def test_a_key_that_is_known_gives_the_known_job(
    sandbox: SandboxOrchestrator, engine: Engine
) -> None:
    """Inside a user's transaction as well, one key is one job."""
    pay = payment(sandbox)
    known = pay.enqueue("A")
    with Session(engine) as session:
        again = pay.enqueue("A", session=session)
        session.commit()
    assert (again.id, again.is_new) == (known.id, False)


def test_workers_are_woken_by_the_commit(sandbox: SandboxOrchestrator, engine: Engine) -> None:
    """Not before it, and not by a rollback."""
    pay = payment(sandbox)
    nudges = [sandbox.worker._nudges]
    with Session(engine) as session:
        pay.enqueue("A", session=session)
        nudges.append(sandbox.worker._nudges)
        session.commit()
        nudges.append(sandbox.worker._nudges)
    assert nudges[0] == nudges[1] < nudges[2]


def test_what_commits_by_itself_is_refused(
    sandbox: SandboxOrchestrator, engine: Engine, url: str
) -> None:
    """A connection without transactions cannot promise anything; nothing is queued."""
    pay = payment(sandbox)
    raw = drivers_own(url, commits_by_itself=True)
    with pytest.raises(ConfigurationError, match="begin a transaction"):
        pay.enqueue("A", session=raw)
    raw.close()
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pytest.raises(ConfigurationError, match="begin a transaction"),
    ):
        pay.enqueue("A", session=connection)
    assert sandbox.counts() == {}


def test_a_ledger_is_not_made_inside_a_transaction(tmp_path: Path, fake_clock: FakeClock) -> None:
    """Where there is no ledger yet and the user's transaction writes, the error says what to do."""
    raw = sqlite3.connect(tmp_path / "new.db")
    raw.execute("CREATE TABLE orders (id TEXT)")
    raw.execute("INSERT INTO orders VALUES ('A')")
    sandbox = SandboxOrchestrator(f"sqlite:///{tmp_path}/new.db", clock=fake_clock)
    sandbox.store._busy_timeout = 0.05

    @sandbox.action("note", irreversible=False)
    def note(order: str) -> None: ...

    with pytest.raises(StoreUnavailable, match="gonogo db upgrade"):
        note.enqueue("A", session=raw)
    raw.close()
    sandbox.cleanup()


def test_another_database_is_refused(sandbox: SandboxOrchestrator, tmp_path: Path) -> None:
    """A session on another file, on memory, or no session at all is an error that says so."""
    pay = payment(sandbox)
    with (
        Session(create_engine(f"sqlite:///{tmp_path}/other.db")) as session,
        pytest.raises(ConfigurationError, match=r"other\.db|psycopg 3"),
    ):
        pay.enqueue("A", session=session)
    raw = sqlite3.connect(":memory:")
    with pytest.raises(ConfigurationError, match=r"in memory|psycopg 3"):
        pay.enqueue("A", session=raw)
    raw.close()
    with pytest.raises(ConfigurationError, match="not this str"):
        pay.enqueue("A", session="shop")
    assert sandbox.counts() == {}


def test_a_ledger_in_memory_has_nothing_to_join(fake_clock: FakeClock) -> None:
    """Without a database there is no transaction to share."""
    sandbox = SandboxOrchestrator(clock=fake_clock)
    sandbox.arm(by="ann", reason="a test")
    raw = sqlite3.connect(":memory:")
    with pytest.raises(ConfigurationError, match="in memory"):
        payment(sandbox).enqueue("A", session=raw)
    raw.close()
    sandbox.cleanup()


def test_a_sqlite_ledger_that_is_busy_says_so(tmp_path: Path, fake_clock: FakeClock) -> None:
    """When another transaction writes, the job is refused and the user's transaction is told."""
    sandbox = SandboxOrchestrator(f"sqlite:///{tmp_path}/shop.db", clock=fake_clock)
    sandbox.arm(by="ann", reason="a test")
    pay = payment(sandbox)
    other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    raw = sqlite3.connect(tmp_path / "shop.db", timeout=0.05)
    with pytest.raises(StoreUnavailable, match="is locked"):
        pay.enqueue("A", session=raw)
    other.execute("ROLLBACK")
    raw.close()
    other.close()
    assert sandbox.counts() == {}
    sandbox.cleanup()


def test_two_transactions_that_want_one_key_get_one_job(
    fake_clock: FakeClock, postgres_url: str
) -> None:
    """On PostgreSQL the second waits for the first, gets its job, and loses nothing of its own."""
    sandbox = SandboxOrchestrator(postgres_url, clock=fake_clock)
    sandbox.arm(by="ann", reason="a test")
    pay = payment(sandbox)
    first, second = drivers_own(postgres_url), drivers_own(postgres_url)
    second.execute("CREATE TABLE orders (id TEXT)")
    mine = pay.enqueue("A", session=first)
    theirs: list[Any] = []

    def enqueue() -> None:
        second.execute("INSERT INTO orders VALUES ('B')")
        theirs.append(pay.enqueue("A", session=second))
        second.commit()

    thread = threading.Thread(target=enqueue)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    first.commit()
    thread.join(20)
    assert [(handle.id, handle.is_new) for handle in theirs] == [(mine.id, False)]
    assert first.execute("SELECT count(*) FROM orders").fetchone() == (1,)
    first.close()
    second.close()
    sandbox.cleanup()


def test_a_transaction_that_has_failed_is_not_joined(
    fake_clock: FakeClock, postgres_url: str
) -> None:
    """What PostgreSQL will roll back anyway cannot carry a job, and the error says so."""
    sandbox = SandboxOrchestrator(postgres_url, clock=fake_clock)
    sandbox.arm(by="ann", reason="a test")
    raw = drivers_own(postgres_url)
    with pytest.raises(psycopg.Error):
        raw.execute("SELECT nonsense")
    with pytest.raises(StoreError, match="failed already"):
        payment(sandbox).enqueue("A", session=raw)
    raw.close()
    sandbox.cleanup()
