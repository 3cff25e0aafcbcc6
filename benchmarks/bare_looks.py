"""The look-ups of a ledger by the driver alone: how much of what they grow by is the database's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from sqlalchemy import make_url
from sqlalchemy.dialects import postgresql
from tests.support.postgres import plain

from gonogo.store import postgres_statements, statements
from gonogo.store.compiling import CoreCompiler, for_sqlite
from gonogo.store.texts import Statements

_QUEUE = {"queue_0": "default"}
_PLANS = " ".join(
    f"-c {setting}"
    for setting in (
        "plan_cache_mode=force_generic_plan",
        *(f"enable_{way}=off" for way in ("seqscan", "hashjoin", "mergejoin")),
        "jit=off",
    )
)
"""Planned once, by the same rules as ours: to plan a claim takes longer than the claim."""


class BareLooks:
    """Says the ledger's own statements on a connection that nobody else uses.

    Args:
        connection: of the driver's, where each statement is a transaction unless one is begun.
        texts: of the statements, as it takes them.
        begin: what begins a transaction of several statements, where there are any.
    """

    def __init__(self, connection: Any, texts: Statements, begin: str = "") -> None:
        self._raw = connection
        self._texts = texts
        self._begin = begin

    def holder(self, key: str) -> None:
        """The call that holds a key."""
        assert self._ask([(statements.call_by_key, (False,), {"action": "payment", "key": key})])

    def calls(self, key: str) -> None:
        """The calls of a key."""
        shape = ("key",), 0, False
        assert self._ask([(statements.find_calls, shape, {"key": key, "most": 100})])

    def due(self, now: float) -> None:
        """What could be claimed: nothing."""
        group = {"queue": "default", "action": "payment", "priority": 0}
        wanted = {"now": now, "most": 1}
        if self._begin:
            said = [
                (statements.due_groups, (1,), _QUEUE),
                (statements.due_in_group, (), {**group, **wanted}),
            ]
        else:
            said = [(postgres_statements.due_in_turn, (1, 0), {**_QUEUE, **wanted, "turn": ""})]
        assert not self._ask(said)

    def _ask(self, said: Sequence[tuple[Any, tuple[Any, ...], Mapping[str, Any]]]) -> Any:
        """All in one transaction; what the last one finds."""
        if self._begin:
            self._raw.execute(self._begin)
        for build, shape, wanted in said:
            text = self._texts.text(build, *shape)
            placed = text.placed(wanted) if text.placed else wanted
            found = self._raw.execute(text, placed).fetchall()
        if self._begin:
            self._raw.rollback()
        return found


@contextmanager
def bare_looks(url: str) -> Iterator[BareLooks]:
    """At the ledger of this URL."""
    if url.startswith("sqlite"):
        path = make_url(url).database or ""
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            yield BareLooks(file, Statements(for_sqlite), "BEGIN")
        return
    dialect = postgresql.dialect(paramstyle="pyformat")
    settings = {"autocommit": True, "prepare_threshold": 0, "options": _PLANS}
    with closing(psycopg.connect(plain(url), **settings)) as server:
        yield BareLooks(server, Statements(lambda: CoreCompiler(dialect, postgresql.insert)))
