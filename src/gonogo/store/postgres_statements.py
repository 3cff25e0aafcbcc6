"""Statements over many rows at once, which are given as one JSON text.

Their texts do not depend on how many rows there are, and one parameter costs the driver less than
a row of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    cast,
    collate,
    column,
    func,
    insert,
    literal_column,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.expression import ClauseElement, ColumnClause

from gonogo.records import State
from gonogo.store import schema, statements
from gonogo.store.rows import CALLS
from gonogo.store.schema import calls

FENCE = ("if_id", "if_epoch", "if_state")
"""By what a call is found that is to be replaced: only as its writer knows it."""


def require(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Fail, by a division by zero, where ``condition`` does not hold."""
    return literal_column("1").op("/")(cast(condition, Integer))


def controls() -> ClauseElement:
    """The switches as one text, in which the same ones always look the same."""
    return select(_controls())


def require_controls() -> ClauseElement:
    """Fail where the switches are not as they were ``known``."""
    return select(require(_controls() == bindparam("known")))


def require_no_controls() -> ClauseElement:
    """Fail where there is any switch; it costs the server half as much as to list none."""
    return select(require(~select(schema.ONE).select_from(schema.controls).exists()))


def _controls() -> ColumnElement[str]:
    switches = schema.controls
    times = (cast(switches.c.set_at, Text), cast(switches.c.until, Text))
    each = func.json_build_array(switches.c.name, switches.c.actor, switches.c.reason, *times)
    listed = func.json_agg(aggregate_order_by(each, switches.c.name))
    found = select(cast(listed, Text)).scalar_subquery()
    return func.coalesce(found, literal_column("'[]'"))


def replace_calls(columns: tuple[str, ...]) -> ClauseElement:
    """Set ``columns`` of the calls whose fences hold; fail where those are not ``count``."""
    types: tuple[Any, ...] = (Text, Integer, Text)
    fence: list[ColumnClause[Any]] = list(map(column, FENCE, types))
    given = _given([*fence, *_like(calls, columns)])
    replaced = (
        update(calls)
        .where(
            calls.c.id == given.c.if_id,
            calls.c.epoch == given.c.if_epoch,
            calls.c.state == given.c.if_state,
        )
        .values({name: given.c[name] for name in columns})
        .returning(schema.ONE)
        .cte("replaced")
    )
    return select(require(func.count() == bindparam("count"))).select_from(replaced)


def due_in_turn(queues: int, passed: int) -> ClauseElement:
    """The due calls whose turn it is, locked: those that `in_turn` would choose, in its order.

    Texts are compared byte by byte, as Python does, whatever the database's own order is.
    """
    due = _due_calls(queues, passed).cte("due")
    action, number = collate(due.c.action, "C"), collate(due.c.id, "C")
    within = func.row_number().over(
        partition_by=(due.c.action, due.c.priority), order_by=(due.c.run_at, number)
    )
    ranked = select(due.c.id, due.c.priority, action.label("action"), within.label("rank"))
    each = ranked.subquery("ranked")
    turn = (each.c.priority.desc(), each.c.rank, each.c.action <= bindparam("turn"))
    place = func.row_number().over(order_by=(*turn, each.c.action, collate(each.c.id, "C")))
    placed = select(each.c.id, place.label("place")).order_by(place)
    chosen = placed.limit(bindparam("most")).offset(schema.ZERO).cte("chosen")
    found = select(chosen.c.place, *(calls.c[name] for name in CALLS.columns))
    found = found.select_from(chosen.join(calls, calls.c.id == chosen.c.id))
    return found.where(*_still_claimable()).with_for_update(of=calls)


def _due_calls(queues: int, passed: int) -> Select[Any]:
    """The due calls of all groups, locked, without waiting for anybody."""
    group = _due_groups()
    due = (
        select(calls.c.id, calls.c.action, calls.c.priority, calls.c.run_at)
        .where(
            schema.claimable,
            calls.c.queue == group.c.queue,
            calls.c.action == group.c.action,
            calls.c.priority == group.c.priority,
            calls.c.run_at <= bindparam("now"),
        )
        .order_by(calls.c.run_at, calls.c.id)
        .limit(bindparam("most"))
        .offset(schema.ZERO)
        .with_for_update(skip_locked=True)
        .lateral("due_call")
    )
    found = select(due.c.id, due.c.action, due.c.priority, due.c.run_at)
    found = found.select_from(group.join(due, true()))
    found = found.where(statements.among(group.c.queue, "queue", queues))
    return found.where(~statements.among(group.c.action, "passing", passed)) if passed else found


def _due_groups() -> CTE:
    """What `statements.due_groups` finds, in all queues: by one search for each group."""
    first = _first_group(calls).subquery()
    found = select(first.c.queue, first.c.action, first.c.priority).cte("found", recursive=True)
    later = calls.alias("later")
    behind = tuple_(*_place(later)) > tuple_(*_place(found))
    following = _first_group(later).where(behind).lateral("following")
    columns = _place(following)
    return found.union_all(select(*columns).select_from(found.join(following, true())))


def _first_group(table: FromClause) -> Select[Any]:
    pending = table.c.state == schema.literal(State.PENDING)
    claimable = (pending, ~table.c.waits, table.c.queue.is_not(None))
    first = select(*_place(table)).where(*claimable).order_by(*_place(table))
    return first.limit(schema.ONE).offset(schema.ZERO)


def _place(table: FromClause) -> tuple[ColumnElement[Any], ...]:
    return table.c.queue, table.c.action, table.c.priority


def _still_claimable() -> tuple[ColumnElement[bool], ...]:
    """`schema.claimable`, said so that no index of the calls that are due can answer it.

    A plan that was made while few calls were due would read them all, and be kept as they grow.
    """
    state = calls.c.state + schema.NOTHING
    pending = state == schema.literal(State.PENDING)
    return pending, literal_column("NOT waits"), calls.c.queue.is_not(None)


def insert_rows(table: Table, columns: tuple[str, ...]) -> ClauseElement:
    """Insert rows of ``columns``."""
    given = _given(_like(table, columns))
    return insert(table).from_select(columns, select(*(given.c[name] for name in columns)))


def require_unawaited() -> ClauseElement:
    """Fail where pending calls wait for one of the ids that are given."""
    given = _given([column("id", Text)])
    waiting = select(calls.c.id).where(schema.pending, calls.c.after.in_(select(given.c.id)))
    return select(require(~waiting.exists()))


def _given(columns: Iterable[ColumnClause[Any]]) -> TableValuedAlias:
    rows = func.json_to_recordset(bindparam("rows", type_=JSON))
    return rows.table_valued(*columns).render_derived(name="given", with_types=True)


def _like(table: Table, columns: Iterable[str]) -> list[ColumnClause[Any]]:
    found: list[Column[Any]] = [table.c[name] for name in columns]
    return [column(each.name, each.type) for each in found]
