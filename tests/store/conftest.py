"""The stores under test: every rule runs on each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.support.postgres import execute, logged_in

from gonogo.store.memory import MemoryStore
from gonogo.store.port import Store
from gonogo.store.postgres import PostgresStore
from gonogo.store.sqlite import SqliteStore
from gonogo.store.upgrade import status, upgrade

STORES = ["memory", "sqlite file", "sqlite memory", "postgres"]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty ledger of each kind."""
    with ExitStack() as stack:
        yield make(request.param, request, stack)


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[PostgresStore]:
    """An empty ledger on PostgreSQL, its tables made."""
    store = PostgresStore(postgres_url)
    store.write(lambda tx: None)
    yield store
    store.close()


def make(kind: str, request: pytest.FixtureRequest, stack: ExitStack) -> Store:
    made = _make(kind, request, stack)
    stack.callback(made.close)
    return made


def ledger_url(kind: str, request: pytest.FixtureRequest, stack: ExitStack) -> str:
    """Where a new ledger of a kind that several processes can open is.

    In PostgreSQL it is worked on as a role with the rights that `db status` says are needed and
    no others, so that a statement which takes another right fails.
    """
    if kind == "postgres":
        server = request.getfixturevalue("postgres_server")
        worker = server.role("worker")
        server.template("ledger", lambda url: _make_for(url, worker))
        return logged_in(stack.enter_context(server.database("ledger")), worker)
    return f"sqlite:///{request.getfixturevalue('tmp_path')}/ledger.db"


def _make_for(url: str, worker: str) -> None:
    upgrade(url)
    rights = status(logged_in(url, worker)).rights
    assert rights is not None
    execute(url, *rights.grants)


def _make(kind: str, request: pytest.FixtureRequest, stack: ExitStack) -> Store:
    if kind == "memory":
        return MemoryStore()
    if kind == "postgres":
        return PostgresStore(ledger_url(kind, request, stack))
    if kind == "sqlite memory":
        return SqliteStore("sqlite://")
    return SqliteStore(ledger_url(kind, request, stack))
