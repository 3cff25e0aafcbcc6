"""PostgreSQL alone: a claim whose row cannot be written is nobody's, and costs nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.store.making import NOW, call, queued
from tests.store.together import together
from tests.support.postgres import execute

from gonogo.errors import StoreError
from gonogo.records import State
from gonogo.store.postgres import PostgresStore

CLAIM = {"owner": "me", "queues": ("default",), "now": NOW, "lease_until": NOW + 9, "limit": 1}


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    made = PostgresStore(postgres_url)
    made.write(lambda tx: tx.controls.all())
    yield made
    made.close()


def on_claim(url: str, do: str) -> None:
    """Have the database ``do`` something when a call is claimed."""
    execute(
        url,
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {do} END $$",
        "CREATE TRIGGER refuse BEFORE UPDATE ON gonogo_calls FOR EACH ROW "
        "WHEN (NEW.state = 'claimed') EXECUTE FUNCTION refuse()",
    )


def test_a_claim_that_was_not_written_is_not_told(store: PostgresStore, postgres_url: str) -> None:
    """Whatever keeps the row from being written, nobody is told that the call is theirs."""
    due = queued(queue="default", run_at=NOW - 1)
    store.write(lambda tx: tx.calls.insert(due))
    on_claim(postgres_url, "RETURN NULL;")
    try:
        claimed: list[Any] = store.write(lambda tx: tx.calls.claim(**CLAIM))
    except StoreError:
        claimed = []
    assert store.read(lambda tx: tx.calls.get(due.id)) == due
    assert claimed == []


def test_a_claim_that_is_refused_costs_nobody_else(store: PostgresStore, postgres_url: str) -> None:
    """Who shares the commit is written; the error is the claimer's."""
    due, other = queued(queue="default", run_at=NOW - 1), call()
    store.write(lambda tx: tx.calls.insert(due))
    on_claim(postgres_url, "RAISE EXCEPTION 'no';")

    def settles(tx: Any) -> None:
        tx.calls.insert(other)

    claim, settled = together(store, [lambda tx: tx.calls.claim(**CLAIM), settles])
    assert isinstance(claim, StoreError)
    assert settled is None
    assert store.read(lambda tx: tx.calls.counts()) == {State.PENDING: 2}
