"""The stores under test: every rule runs on each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gonogo.store.memory import MemoryStore
from gonogo.store.port import Store
from gonogo.store.sqlite import SqliteStore

STORES = ["memory", "sqlite file", "sqlite memory"]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty ledger of each kind."""
    made = make(request.param, request)
    yield made
    made.close()


def make(kind: str, request: pytest.FixtureRequest) -> Store:
    if kind == "memory":
        return MemoryStore()
    if kind == "sqlite memory":
        return SqliteStore("sqlite://")
    folder = request.getfixturevalue("tmp_path")
    return SqliteStore(f"sqlite:///{folder}/ledger.db")
