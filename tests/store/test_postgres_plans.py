"""PostgreSQL alone: a plan that was made on a small ledger is still good on a large one.

A prepared statement keeps its plan, and statistics lag behind a queue that fills within seconds.
"""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
import pytest
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from tests.store.making import NOW, call, queued

from gonogo.records import Outcome, State
from gonogo.store import postgres_statements, statements
from gonogo.store.compiling import CoreCompiler
from gonogo.store.postgres import PostgresStore
from gonogo.store.postgres_connection import connect
from gonogo.store.texts import Statements

LARGE = 2000
TAKEN = 5

ASKED: dict[str, Any] = {
    "now": NOW + 9,
    "most": TAKEN,
    "turn": "",
    "queue_0": "default",
    "queue_1": "other",
    "passing_0": "other",
    "id": "none",
    "call_id": "none",
    "key": "none",
    "count": 0,
    "action": "pay",
    "before": NOW,
    "rows": json.dumps(
        [{"if_id": "none", "if_epoch": 1, "if_state": "claimed", "state": "pending"}]
    ),
}


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (postgres_statements.due_in_turn, (1, 0)),
        (postgres_statements.due_in_turn, (1, 1)),
        (postgres_statements.due_in_turn, (2, 0)),
        (postgres_statements.replace_calls, (("state",),)),
        (postgres_statements.require_unawaited, ()),
        (statements.next_run_at, (1,)),
        (statements.call_by_id, ()),
        (statements.call_by_key, ()),
        (statements.expired_calls, ()),
        (statements.doubtful_calls, ()),
        (statements.overdue_calls, ()),
        (statements.lapsed_calls, ()),
        (statements.attempts_of, ()),
        (statements.next_chore, ()),
    ],
)
def test_a_plan_outlives_the_small_ledger_it_was_made_on(
    ledger: PostgresStore, build: Any, shape: tuple[Any, ...]
) -> None:
    """However many calls there are by now, it reads about as many rows as it is asked for."""
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call] # it has no types
    text = Statements(lambda: CoreCompiler(dialect, insert)).text(build, *shape)
    places: dict[str, int] = {}
    numbered = re.sub(
        r"%\((\w+)\)s", lambda m: f"${places.setdefault(m[1], len(places) + 1)}", str(text)
    )
    values = ", ".join(f"%({name})s" for name in places)
    statement = f"EXECUTE hot({values})" if values else "EXECUTE hot"
    asked = {name: ASKED[name] for name in places}
    raw = connect(ledger._url, 10.0)
    try:
        for way in ("seqscan", "hashjoin", "mergejoin"):
            raw.execute(f"SET enable_{way} = off".encode())
        raw.execute("SET plan_cache_mode = force_generic_plan")
        raw.execute(f"PREPARE hot AS {numbered}".encode())
        read(raw, statement, asked)
        grow(ledger)
        assert read(raw, statement, asked) <= 12 * TAKEN
    finally:
        raw.close()


def grow(ledger: PostgresStore) -> None:
    """Fill it with calls of every kind, and let nobody look at its statistics."""
    done = [
        call(State.SUCCEEDED, outcome=Outcome.SUCCEEDED, settled_at=NOW, held=True)
        for _ in range(LARGE)
    ]
    due = [queued(queue="default", run_at=NOW + n / 1000) for n in range(LARGE)]
    busy = [call(State.CLAIMED, lease_until=NOW + 999, epoch=1, attempt=1) for _ in range(LARGE)]
    ledger.write(lambda tx: tx.calls.insert_many([*done, *due, *busy]))


def read(raw: Any, statement: str, asked: dict[str, Any]) -> int:
    """The rows that all parts of its plan look at together, taken back at once."""
    with raw.transaction(force_rollback=True):
        explained = psycopg.ClientCursor(raw).execute(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", asked
        )
        (plan,) = explained.fetchone()
    return rows_of(plan[0]["Plan"])


def rows_of(node: dict[str, Any]) -> int:
    looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    looked_at += node.get("Rows Removed by Index Recheck", 0)
    mine = int(looked_at * node["Actual Loops"]) if "Scan" in node["Node Type"] else 0
    return mine + sum(map(rows_of, node.get("Plans", ())))
