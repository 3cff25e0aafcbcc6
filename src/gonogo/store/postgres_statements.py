"""Statements over many rows at once, which are given as one JSON text.

Their texts do not depend on how many rows there are, and one parameter costs the driver less than
a row of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Integer,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    column,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql.expression import ClauseElement, ColumnClause

from gonogo.store import schema
from gonogo.store.schema import calls

FENCE = ("if_id", "if_epoch", "if_state")
"""By what a call is found that is to be replaced: only as its writer knows it."""


def replace_calls(columns: tuple[str, ...]) -> ClauseElement:
    """Set ``columns`` of the calls whose fences hold; how many there are is its row count."""
    types: tuple[Any, ...] = (Text, Integer, Text)
    fence: list[ColumnClause[Any]] = list(map(column, FENCE, types))
    given = _given([*fence, *_like(calls, columns)])
    return (
        update(calls)
        .where(
            calls.c.id == given.c.if_id,
            calls.c.epoch == given.c.if_epoch,
            calls.c.state == given.c.if_state,
        )
        .values({name: given.c[name] for name in columns})
    )


def insert_rows(table: Table, columns: tuple[str, ...]) -> ClauseElement:
    """Insert rows of ``columns``."""
    given = _given(_like(table, columns))
    return insert(table).from_select(columns, select(*(given.c[name] for name in columns)))


def awaited() -> ClauseElement:
    """The ids, out of those given, for which pending calls wait."""
    given = _given([column("id", Text)])
    waiting = schema.pending & calls.c.after.in_(select(given.c.id))
    return select(calls.c.after).where(waiting).distinct()


def _given(columns: Iterable[ColumnClause[Any]]) -> TableValuedAlias:
    rows = func.json_to_recordset(bindparam("rows", type_=JSON))
    return rows.table_valued(*columns).render_derived(name="given", with_types=True)


def _like(table: Table, columns: Iterable[str]) -> list[ColumnClause[Any]]:
    found: list[Column[Any]] = [table.c[name] for name in columns]
    return [column(each.name, each.type) for each in found]
