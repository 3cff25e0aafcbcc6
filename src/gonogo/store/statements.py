"""What is asked of the ledger, in SQLAlchemy Core; `gonogo.store.texts` keeps the texts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    ScalarSelect,
    Select,
    Table,
    bindparam,
    delete,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.sql.expression import ClauseElement

from gonogo.records import AHEAD, State
from gonogo.store import rows, schema
from gonogo.store.schema import alerts, calls, decisions, limits, plans, slots

_MOST: ColumnElement[int] = bindparam("most")


def among(column: ColumnElement[Any], prefix: str, size: int) -> ColumnElement[bool]:
    """The column has one of so many values, which are parameters."""
    return column.in_([bindparam(f"{prefix}_{number}") for number in range(size)])


def _select(table: Table, record: rows.Rows[Any]) -> Select[Any]:
    return select(*(table.c[name] for name in record.columns))


def _most(query: Select[Any]) -> Select[Any]:
    """At most so many; the offset is said because SQLAlchemy would bind one."""
    return query.limit(_MOST).offset(schema.ZERO)


def _calls() -> Select[Any]:
    return _select(calls, rows.CALLS)


def _held(query: Select[Any], locked: bool) -> Select[Any]:
    """With ``locked``, nobody else changes what it finds until the transaction ends."""
    return query.with_for_update() if locked else query


def _due(condition: ColumnElement[bool], time: ColumnElement[Any]) -> Select[Any]:
    due = _calls().where(condition, time <= bindparam("now"))
    return _most(due.order_by(time, calls.c.id))


def call_by_id(locked: bool = False) -> ClauseElement:
    return _held(_calls().where(calls.c.id == bindparam("id")), locked)


def call_by_key(locked: bool = False) -> ClauseElement:
    wanted = (
        schema.holding,
        calls.c.action == bindparam("action"),
        calls.c.key == bindparam("key"),
    )
    return _held(_calls().where(*wanted), locked)


def replace_call() -> ClauseElement:
    return update(calls).where(
        calls.c.id == bindparam("if_id"),
        calls.c.epoch == bindparam("if_epoch"),
        calls.c.state == bindparam("if_state"),
    )


def due_groups(queues: int) -> Select[Any]:
    """Queue, action and priority of all that could be claimed, one row each.

    Each row is found by a search that begins behind the row before it, so the cost follows the
    number of groups and not the number of calls in them.
    """
    group = (calls.c.queue, calls.c.action, calls.c.priority)
    first = select(calls.c.id, *group).where(schema.claimable).order_by(*group)
    first = first.limit(schema.ONE).offset(schema.ZERO)
    found = select(first.subquery()).cte("found", recursive=True)
    following = func.coalesce(*(_next_group(found, same) for same in (2, 1, 0)))
    found = found.union_all(
        select(calls.c.id, *group).select_from(found.join(calls, calls.c.id == following))
    )
    return select(found.c.queue, found.c.action, found.c.priority).where(
        among(found.c.queue, "queue", queues)
    )


def _next_group(found: CTE, same: int) -> ScalarSelect[Any]:
    """The first call of the next group that has the ``same`` first columns as the last one found.

    One column is compared at a time: SQLite would search a comparison of rows from the beginning
    of the last group. The values added keep it from leaving the index because of their types.
    """
    later = calls.alias("later")
    place = (later.c.queue, later.c.action, later.c.priority)
    last = (
        found.c.queue + schema.NOTHING,
        found.c.action + schema.NOTHING,
        found.c.priority + schema.ZERO,
    )
    return (
        select(later.c.id)
        .where(
            later.c.state == schema.literal(State.PENDING),
            literal_column("NOT later.waits"),
            later.c.queue.is_not(None),
            *(column == value for column, value in zip(place[:same], last, strict=False)),
            place[same] > last[same],
        )
        .order_by(*place)
        .limit(schema.ONE)
        .offset(schema.ZERO)
        .scalar_subquery()
    )


def due_in_group() -> ClauseElement:
    """The calls of one group that are due, the earliest first."""
    due = select(calls.c.id, calls.c.action, calls.c.priority, calls.c.run_at).where(
        schema.claimable,
        calls.c.queue == bindparam("queue"),
        calls.c.action == bindparam("action"),
        calls.c.priority == bindparam("priority"),
        calls.c.run_at <= bindparam("now"),
    )
    return _most(due.order_by(calls.c.run_at, calls.c.id))


def claim_calls(size: int, ahead: bool) -> ClauseElement:
    """Claim so many calls by their ids, those that can still be claimed."""
    return (
        update(calls)
        .where(among(calls.c.id, "id", size), schema.claimable)
        .values(claimed_ahead() if ahead else claimed())
        .returning(*(calls.c[name] for name in rows.CALLS.columns))
    )


def claimed() -> dict[str, Any]:
    """What a claim sets."""
    return {**_taken(), "attempt": calls.c.attempt + schema.ONE}


def claimed_ahead() -> dict[str, Any]:
    """What a claim sets that is made for later."""
    return {**_taken(), "note": schema.literal(AHEAD)}


def _taken() -> dict[str, Any]:
    return {
        "state": schema.literal(State.CLAIMED),
        "owner": bindparam("by"),
        "lease_until": bindparam("till"),
        "epoch": calls.c.epoch + schema.ONE,
    }


def renew_call() -> ClauseElement:
    return (
        update(calls)
        .where(
            calls.c.id == bindparam("if_id"),
            calls.c.epoch == bindparam("if_epoch"),
            calls.c.owner == bindparam("if_owner"),
            schema.in_state(State.CLAIMED, State.DISPATCHED),
        )
        .values(lease_until=bindparam("till"))
    )


def expired_calls() -> ClauseElement:
    return _due(schema.leased, calls.c.lease_until)


def doubtful_calls() -> ClauseElement:
    return _due(schema.unknown, calls.c.run_at)


def overdue_calls() -> ClauseElement:
    return _due(schema.deadlined, calls.c.deadline_at)


def lapsed_calls(locked: bool = False) -> ClauseElement:
    """Locked without waiting: a key that somebody renews at this moment does not lapse."""
    due = _due(schema.lapsing & schema.finished, calls.c.expires_at)
    return due.with_for_update(skip_locked=True) if locked else due


def next_chore() -> ClauseElement:
    """The earliest of four times, each the first entry of an index."""
    times = [
        select(func.min(time).label("at")).where(condition)
        for condition, time in (
            (schema.leased, calls.c.lease_until),
            (schema.unknown, calls.c.run_at),
            (schema.deadlined, calls.c.deadline_at),
            (schema.lapsing & schema.finished, calls.c.expires_at),
        )
    ]
    return select(func.min(union_all(*times).subquery().c.at))


def calls_waiting_on(locked: bool = False) -> ClauseElement:
    waiting = schema.pending & (calls.c.after == bindparam("id"))
    return _held(_calls().where(waiting).order_by(calls.c.id), locked)


def is_awaited() -> ClauseElement:
    """Whether any pending call comes after another one."""
    return select(select(calls.c.id).where(schema.pending, calls.c.after.is_not(None)).exists())


def next_run_at(queues: int) -> ClauseElement:
    """The earliest of each queue's earliest, of the calls that wait for nothing.

    Those come first in their index. Asked for by that condition, PostgreSQL would rather read the
    whole index of what is due; asked for in one, all queues would be read.
    """
    firsts = (
        select(calls.c.run_at, calls.c.waits)
        .where(schema.queued, calls.c.queue == bindparam(f"queue_{number}"))
        .order_by(calls.c.waits, calls.c.run_at)
        .limit(schema.ONE)
        .offset(schema.ZERO)
        .subquery()
        for number in range(queues)
    )
    free = union_all(*(select(first.c.run_at).where(first.c.waits == false()) for first in firsts))
    return select(func.min(free.subquery().c.run_at))


def count_claimed(queues: int) -> ClauseElement:
    theirs = schema.in_state(State.CLAIMED) & (calls.c.owner == bindparam("by"))
    return (
        select(func.count())
        .select_from(calls)
        .where(schema.leased, theirs, among(calls.c.queue, "queue", queues))
    )


def backlog() -> ClauseElement:
    return select(calls.c.queue, func.count()).where(schema.queued).group_by(calls.c.queue)


def calls_in_lane() -> ClauseElement:
    members = _calls().where(schema.in_lane, calls.c.lane == bindparam("lane"))
    return _most(members.order_by(calls.c.waits, calls.c.run_at, calls.c.id))


def forgettable_calls() -> ClauseElement:
    old = select(calls.c.id).where(schema.forgettable, calls.c.settled_at < bindparam("before"))
    return _most(old.order_by(calls.c.settled_at)).with_for_update(skip_locked=True)


def forget_calls(size: int) -> ClauseElement:
    return delete(calls).where(among(calls.c.id, "id", size), schema.forgettable)


def forget_attempts(size: int) -> ClauseElement:
    return delete(schema.attempts).where(among(schema.attempts.c.call_id, "id", size))


def calls_of_plan() -> ClauseElement:
    wanted = calls.c.plan_id == bindparam("plan_id")
    return _calls().where(wanted).order_by(calls.c.position, calls.c.id)


def overtaken_calls(verdicts: int) -> ClauseElement:
    """Planned calls of a plan whose keys are held by now; those that are planned hold none."""
    planned = calls.alias("planned")
    taken = select(calls.c.id).where(
        schema.holding, calls.c.action == planned.c.action, calls.c.key == planned.c.key
    )
    found = select(*(planned.c[name] for name in rows.CALLS.columns)).where(
        planned.c.plan_id == bindparam("plan_id"),
        planned.c.state == schema.literal(State.PLANNED),
        among(planned.c.verdict, "verdict", verdicts),
        taken.correlate(planned).exists(),
    )
    return _most(found.order_by(planned.c.position))


def find_calls(fields: tuple[str, ...], states: int, rare: bool = False) -> ClauseElement:
    """Calls that match ``fields`` of a `CallFilter`, newest first; those of a plan in its order.

    With ``rare``, the newest of each state are looked up by the state, because those who look
    through all calls may look for long.
    """
    if rare:
        newest = (_newest_in(f"state_{number}", fields) for number in range(states))
        query = _calls().where(calls.c.id.in_(union_all(*newest)))
        return _most(query.order_by(calls.c.id.desc()))
    planned = "plan_id" in fields
    query = _calls().where(*(_matches(field, calls.c.action, planned) for field in fields))
    if states:
        query = query.where(among(calls.c.state, "state", states))
    order = (calls.c.position, calls.c.id) if planned else (calls.c.id.desc(),)
    return _most(query.order_by(*order))


def _newest_in(state: str, fields: tuple[str, ...]) -> Select[Any]:
    """Their ids; what is added to the action keeps the search in the index of the states."""
    action = calls.c.action + schema.NOTHING
    wanted = (_matches(field, action) for field in fields)
    found = select(calls.c.id).where(schema.remarkable, calls.c.state == bindparam(state), *wanted)
    return select(_most(found.order_by(calls.c.id.desc())).subquery().c.id)


def _matches(field: str, action: ColumnElement[str], planned: bool = False) -> ColumnElement[bool]:
    if field == "before" and planned:
        last = calls.alias("last")
        place = select(last.c.position).where(last.c.id == bindparam(field)).scalar_subquery()
        return calls.c.position > place
    if field == "before":
        return calls.c.id < bindparam(field)
    if field == "alone":
        return calls.c.plan_id.is_(None)
    if field == "key":  # in one index or in the other
        named = calls.c.key == bindparam(field)
        return or_(schema.holding & named, schema.keyed & named)
    if field == "correlation_id":
        own = calls.c.correlation_id.is_(None) & (calls.c.id == bindparam(field))
        return or_(calls.c.correlation_id == bindparam(field), own)
    return (action if field == "action" else calls.c[field]) == bindparam(field)


def count_calls() -> ClauseElement:
    """How many there are in each state but succeeded, and without a state how many in all."""
    remarkable = select(calls.c.state, func.count()).where(schema.remarkable)
    everything = select(null(), func.count()).select_from(calls)
    return union_all(remarkable.group_by(calls.c.state), everything)


def lock_number() -> ClauseElement:
    """Wait for the advisory lock of a number, which is held until the transaction ends."""
    return select(func.pg_advisory_xact_lock(bindparam("number", type_=BigInteger)))


def count_slot() -> ClauseElement:
    return select(func.count()).where(slots.c.slot == bindparam("slot"))


def free_slots() -> ClauseElement:
    return delete(slots).where(slots.c.call_id == bindparam("call_id"))


def attempts_of() -> ClauseElement:
    table = schema.attempts
    wanted = table.c.call_id == bindparam("call_id")
    return _select(table, rows.ATTEMPTS).where(wanted).order_by(table.c.seq)


def decisions_of() -> ClauseElement:
    wanted = decisions.c.subject == bindparam("subject")
    return _select(decisions, rows.DECISIONS).where(wanted).order_by(decisions.c.seq)


def latest_decisions() -> ClauseElement:
    newest = _select(decisions, rows.DECISIONS).order_by(decisions.c.seq.desc())
    return _most(newest)


def limit_rows(size: int, locked: bool = False) -> ClauseElement:
    """Locked in sorted order, so that two reservations can never wait for each other."""
    columns = (
        *(limits.c.name, limits.c.window, limits.c.since, limits.c.buckets, limits.c.idle_at),
    )
    wanted = among(limits.c.name, "name", size)
    return _held(select(*columns).where(wanted).order_by(limits.c.name), locked)


def count_limit() -> ClauseElement:
    """Only what is counted: nothing that an index keeps in order."""
    return update(limits).where(limits.c.name == bindparam("if_name"))


def sweep_limits() -> ClauseElement:
    idle = (
        select(limits.c.name)
        .where(limits.c.idle_at <= bindparam("now"))
        .order_by(limits.c.idle_at)
        .limit(_MOST)
        .offset(schema.ZERO)
        .with_for_update(skip_locked=True)
        .cte("idle")
    )
    return delete(limits).where(limits.c.name.in_(select(idle.c.name)))


def alert_by_id() -> ClauseElement:
    return _select(alerts, rows.ALERTS).where(alerts.c.id == bindparam("id"))


def unresolved_alert(locked: bool = False) -> ClauseElement:
    wanted = alerts.c.fingerprint == bindparam("fingerprint")
    return _held(_select(alerts, rows.ALERTS).where(schema.unresolved, wanted), locked)


def change_alert() -> ClauseElement:
    return update(alerts).where(
        alerts.c.id == bindparam("if_id"),
        alerts.c.state == bindparam("if_state"),
        alerts.c.count == bindparam("if_count"),
    )


def find_alerts(fields: tuple[str, ...]) -> ClauseElement:
    query = _select(alerts, rows.ALERTS)
    for field in fields:
        query = query.where(alerts.c[field] == bindparam(field))
    return _most(query.order_by(alerts.c.last_seen.desc(), alerts.c.id.desc()))


def plan_by_id(locked: bool = False) -> ClauseElement:
    return _held(_select(plans, rows.PLANS).where(plans.c.id == bindparam("id")), locked)


def replace_plan() -> ClauseElement:
    return update(plans).where(
        plans.c.id == bindparam("if_id"), plans.c.state == bindparam("if_state")
    )


def find_plans(states: int) -> ClauseElement:
    query = _select(plans, rows.PLANS)
    if states:
        query = query.where(among(plans.c.state, "state", states))
    return _most(query.order_by(plans.c.created_at.desc(), plans.c.id.desc()))


def all_controls() -> ClauseElement:
    return _select(schema.controls, rows.CONTROLS).order_by(schema.controls.c.name)


def clear_control() -> ClauseElement:
    return delete(schema.controls).where(schema.controls.c.name == bindparam("name"))


def schedule_by_name(locked: bool = False) -> ClauseElement:
    table = schema.schedules
    found = _select(table, rows.SCHEDULES).where(table.c.name == bindparam("name"))
    return found.with_for_update() if locked else found


def all_schedules() -> ClauseElement:
    return _select(schema.schedules, rows.SCHEDULES).order_by(schema.schedules.c.name)


def replace_schedule() -> ClauseElement:
    table = schema.schedules
    return update(table).where(
        table.c.name == bindparam("if_name"),
        table.c.digest == bindparam("if_digest"),
        table.c.next_at == bindparam("if_next"),
    )


def remove_schedule() -> ClauseElement:
    return delete(schema.schedules).where(schema.schedules.c.name == bindparam("name"))


def all_beats() -> ClauseElement:
    return _select(schema.beats, rows.BEATS).order_by(schema.beats.c.name)


def remove_beat() -> ClauseElement:
    return delete(schema.beats).where(schema.beats.c.name == bindparam("name"))
