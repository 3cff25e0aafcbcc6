"""The calls on an SQL database."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gonogo.records import Call, CallFilter, State
from gonogo.store.rows import CALLS
from gonogo.store.run import Run
from gonogo.store.texts import Names, evened, names
from gonogo.store.turns import Due, in_turn

if TYPE_CHECKING:
    from gonogo.store import schema, statements
else:
    schema = statements = Names()


class SqlCalls:
    """The table of calls, and beside it the slots that dispatched calls fill."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def get(self, call_id: str) -> Call | None:
        return self._one(statements.call_by_id, {"id": call_id})

    def holder(self, action: str, key: str) -> Call | None:
        return self._one(statements.call_by_key, {"action": action, "key": key})

    def insert(self, call: Call) -> None:
        self.insert_many((call,))

    def insert_many(self, calls: Sequence[Call]) -> None:
        for columns, rows in groupby(map(CALLS.given, calls), tuple):
            self._run.many(self._run.texts.insert(schema.calls, columns), rows)
        for call in calls:
            self._note_inserted(call)

    def replace(self, before: Call, after: Call) -> bool:
        changed = CALLS.changes(before, after) or {"state": str(after.state)}
        text = self._run.texts.update(statements.replace_call, tuple(changed))
        fence = {"if_id": before.id, "if_epoch": before.epoch, "if_state": str(before.state)}
        if self._run(text, {**changed, **fence}).rowcount != 1:
            return False
        self._note(after)
        if before.slots or after.slots:
            self._refill(before, after)
        return True

    def claim(
        self,
        *,
        owner: str,
        queues: Sequence[str],
        now: float,
        lease_until: float,
        limit: int,
        ahead: int = 0,
        turn: str = "",
        passing: Collection[str] = (),
    ) -> list[Call]:
        most = limit + ahead
        due = self._due(queues, now, most, passing) if queues else []
        chosen = in_turn(due, turn, most)
        taken = {"by": owner, "till": lease_until}
        found = [
            *self._claim(chosen[:limit], taken),
            *self._claim(chosen[limit:], taken, ahead=True),
        ]
        return sorted(found, key=lambda call: chosen.index(call.id))

    def _claim(
        self, ids: Sequence[str], taken: Mapping[str, Any], *, ahead: bool = False
    ) -> list[Call]:
        if not ids:
            return []
        few = evened(ids)
        text = self._run.texts.text(statements.claim_calls, len(few), ahead)
        found = self._run(text, {**taken, **names("id", few)}).fetchall()
        return [CALLS.decode(row) for row in found]

    def _due(
        self, queues: Sequence[str], now: float, limit: int, passing: Collection[str]
    ) -> list[Due]:
        """Of each queue, action and priority the first ``limit`` calls that are due."""
        groups = self._run.texts.text(statements.due_groups, len(queues))
        text = self._run.texts.text(statements.due_in_group)
        due: list[Due] = []
        for queue, action, priority in self._run(groups, names("queue", queues)).fetchall():
            if action not in passing:
                group = {"queue": queue, "action": action, "priority": priority}
                found = self._run(text, {**group, "now": now, "most": limit}).fetchall()
                due += [Due(*row) for row in found]
        return due

    def claimed_by(self, owner: str, queues: Sequence[str]) -> int:
        text = self._run.texts.text(statements.count_claimed, len(queues))
        count: int = self._run(text, {"by": owner, **names("queue", queues)}).fetchone()[0]
        return count

    def renew(self, *, owner: str, calls: Mapping[str, int], lease_until: float) -> set[str]:
        text = self._run.texts.text(statements.renew_call)
        wanted = {"if_owner": owner, "till": lease_until}
        return {
            call_id
            for call_id, epoch in sorted(calls.items())
            if self._run(text, {**wanted, "if_id": call_id, "if_epoch": epoch}).rowcount
        }

    def expired(self, now: float, limit: int) -> list[Call]:
        return self._all(statements.expired_calls, {"now": now, "most": limit})

    def doubtful(self, now: float, limit: int) -> list[Call]:
        return self._all(statements.doubtful_calls, {"now": now, "most": limit})

    def overdue(self, now: float, limit: int) -> list[Call]:
        return self._all(statements.overdue_calls, {"now": now, "most": limit})

    def lapsed(self, now: float, limit: int) -> list[Call]:
        return self._all(statements.lapsed_calls, {"now": now, "most": limit}, self._run.locks)

    def next_chore(self) -> float | None:
        found = self._run(self._run.texts.text(statements.next_chore), {}).fetchone()
        earliest: float | None = found[0]
        return earliest

    def in_slot(self, slot: str) -> int:
        self._lock(slot)
        text = self._run.texts.text(statements.count_slot)
        count: int = self._run(text, {"slot": slot}).fetchone()[0]
        return count

    def waiting_on(self, call_id: str) -> list[Call]:
        if not self._is_awaited():
            return []
        return self._all(statements.calls_waiting_on, {"id": call_id}, self._run.locks)

    def next_run_at(self, queues: Sequence[str], passing: Collection[str] = ()) -> float | None:
        if not queues:
            return None
        if passing:
            firsts = self._due(queues, math.inf, 1, passing)
            return min((first.run_at for first in firsts), default=None)
        text = self._run.texts.text(statements.next_run_at, len(queues))
        earliest: float | None = self._run(text, names("queue", queues)).fetchone()[0]
        return earliest

    def in_lane(self, lane: str, limit: int) -> list[Call]:
        self._lock(f"lane:{lane}")
        return self._all(statements.calls_in_lane, {"lane": lane, "most": limit})

    def backlog(self) -> dict[str, int]:
        found = self._run(self._run.texts.text(statements.backlog), {}).fetchall()
        return dict(map(tuple, found))

    def prune(self, before: float, limit: int) -> int:
        text = self._run.texts.text(statements.forgettable_calls)
        found = self._run(text, {"before": before, "most": limit}).fetchall()
        if not found:
            return 0
        gone = names("id", [row[0] for row in found])
        self._run(self._run.texts.text(statements.forget_attempts, len(found)), gone)
        forgotten = self._run(self._run.texts.text(statements.forget_calls, len(found)), gone)
        return forgotten.rowcount

    def of_plan(self, plan_id: str) -> list[Call]:
        return self._all(statements.calls_of_plan, {"plan_id": plan_id})

    def overtaken(self, plan_id: str, verdicts: Collection[str], limit: int) -> list[Call]:
        wanted = {"plan_id": plan_id, "most": limit, **names("verdict", sorted(verdicts))}
        return self._all(statements.overtaken_calls, wanted, len(verdicts))

    def find(self, wanted: CallFilter) -> list[Call]:
        fields = _given(wanted)
        asked = (*fields, "alone") if wanted.alone else tuple(fields)
        shape = asked, len(wanted.states), _is_rare(wanted)
        text = self._run.texts.text(statements.find_calls, *shape)
        states = names("state", map(str, wanted.states))
        found = self._run(text, {**fields, **states, "most": wanted.limit}).fetchall()
        return [CALLS.decode(row) for row in found]

    def counts(self) -> dict[State, int]:
        found = self._run(self._run.texts.text(statements.count_calls), {}).fetchall()
        counts = {State(state): count for state, count in found if state is not None}
        total = next(count for state, count in found if state is None)
        if succeeded := total - sum(counts.values()):
            counts[State.SUCCEEDED] = succeeded
        return counts

    def _one(self, build: Callable[[bool], Any], wanted: Mapping[str, Any]) -> Call | None:
        row = self._run(self._run.texts.text(build, self._run.locks), wanted).fetchone()
        return None if row is None else CALLS.decode(row)

    def _all(self, build: Callable[..., Any], wanted: Mapping[str, Any], *shape: Any) -> list[Call]:
        found = self._run(self._run.texts.text(build, *shape), wanted)
        return [CALLS.decode(row) for row in found]

    def _is_awaited(self) -> bool:
        """Whether a call may wait for another one; seldom so, which is then asked only once."""
        kept = self._run.kept
        if kept is None:
            return True
        if "awaited" not in kept:
            text = self._run.texts.text(statements.is_awaited)
            (kept["awaited"],) = self._run(text, {}).fetchone()
        return bool(kept["awaited"])

    def _note_inserted(self, call: Call) -> None:
        self._note(call)
        if call.slots and call.state is State.DISPATCHED:
            self._fill(call)

    def _note(self, call: Call) -> None:
        if call.after is not None and self._run.kept is not None:
            self._run.kept.pop("awaited", None)
        queue = call.queue
        if queue is not None and call.state is State.PENDING and not call.waits:
            self._run.news.add(queue if call.run_at <= call.created_at else None)

    def _lock(self, name: str) -> None:
        """Be alone with what is counted by ``name``: reading it locks no row of those to come."""
        if self._run.locks:
            text = self._run.texts.text(statements.lock_number)
            self._run(text, {"number": _number(name)})

    def _refill(self, before: Call, after: Call) -> None:
        """Keep the slots in step with the state, in the transaction that changes it."""
        filled = before.state is State.DISPATCHED
        fills = after.state is State.DISPATCHED
        if filled and fills and before.slots == after.slots:
            return
        if filled:
            self._run(self._run.texts.text(statements.free_slots), {"call_id": before.id})
        if fills:
            self._fill(after)

    def _fill(self, call: Call) -> None:
        text = self._run.texts.insert(schema.slots, ("slot", "call_id"))
        for slot in call.slots:
            self._run(text, {"slot": slot, "call_id": call.id})


def _number(name: str) -> int:
    """The number by which a name is locked, in 63 bits, the same on every machine."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) >> 1


def _is_rare(wanted: CallFilter) -> bool:
    """Whether a list is better begun at its states than at its other fields, or at the newest."""
    narrow = wanted.key, wanted.plan_id, wanted.correlation_id
    usual = not wanted.states or State.SUCCEEDED in wanted.states
    return not usual and all(field is None for field in narrow)


def _given(wanted: CallFilter) -> dict[str, Any]:
    """The fields of a filter that are set, apart from its states and limit."""
    fields = ("action", "key", "plan_id", "correlation_id", "before")
    values = ((field, getattr(wanted, field)) for field in fields)
    return {field: value for field, value in values if value is not None}
