"""A ledger belongs to one environment: no other touches it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.making import queued

from gonogo.errors import SchemaError
from gonogo.store import open_store
from gonogo.store.upgrade import status
from gonogo.store.urls import parse


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/ledger.db"


def touch(url: str, environment: str | None) -> None:
    """Write to the ledger as a process of ``environment``."""
    store = open_store(parse(url), environment)
    try:
        store.write(lambda tx: tx.calls.insert(queued()))
    finally:
        store.close()


def test_the_first_environment_owns_the_ledger(url: str) -> None:
    """Whoever else comes is refused before anything is read or written."""
    touch(url, "production")
    touch(url, "production")
    assert status(url).environment == "production"
    with pytest.raises(SchemaError, match=r"'production', and this process is 'staging'"):
        touch(url, "staging")
    store = open_store(parse(url), "production")
    assert sum(store.read(lambda tx: tx.calls.counts()).values()) == 2
    store.close()


def test_who_says_no_environment_is_another_one(url: str) -> None:
    """A process that forgot to say where it is does not get production's ledger."""
    touch(url, "production")
    with pytest.raises(SchemaError, match="SANDBOX_ENVIRONMENT"):
        touch(url, None)


def test_a_ledger_without_one_can_be_given_one(url: str) -> None:
    """A ledger that belongs to nobody yet is marked by the first environment that comes."""
    touch(url, None)
    assert status(url).environment is None
    touch(url, "production")
    with pytest.raises(SchemaError):
        touch(url, None)
