"""The tables on a PostgreSQL connection whose transactions are drafted."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from gonogo.records import Attempt, Call, Control, State, taken_by
from gonogo.store import postgres_statements, rows, schema
from gonogo.store.postgres_draft import Draft
from gonogo.store.sql import SqlAttempts, SqlControls, SqlTransaction
from gonogo.store.sql_calls import SqlCalls
from gonogo.store.texts import names

_Switch = tuple[str, str, str, str, str | None]
"""One as `postgres_statements.controls` tells of it."""
_decode = msgspec.json.Decoder(list[_Switch]).decode


class DraftTransaction(SqlTransaction):
    """The tables on one connection; used for one transaction after the other."""

    __slots__ = ()

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self.calls = DraftCalls(draft)
        self.attempts = DraftAttempts(draft)
        self.controls = DraftControls(draft)


class DraftCalls(SqlCalls):
    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._draft = draft

    def insert_many(self, calls: Sequence[Call]) -> None:
        if calls and self._draft.guesses and all(map(_is_plain, calls)):
            self._draft.insert(schema.calls, rows.CALLS, calls)
            for call in calls:
                self._note(call)
        else:
            super().insert_many(calls)

    def replace(self, before: Call, after: Call) -> bool:
        stored = self._draft.stored(before)
        if stored is None or before.slots or after.slots or not self._draft.guesses:
            return super().replace(before, after)
        changed = rows.CALLS.changes(stored, after) or {"state": str(after.state)}
        if not _has_json(changed.values()):
            return super().replace(before, after)
        self._draft.replace((stored.id, stored.epoch, str(stored.state)), changed)
        self._note(after)
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
        if not queues:
            return []
        text = self._draft.texts.text(postgres_statements.due_in_turn, len(queues), len(passing))
        wanted = {**names("queue", queues), **names("passing", sorted(passing)), "turn": turn}
        found = self._draft(text, {**wanted, "now": now, "most": limit + ahead}).fetchall()
        claimed = []
        for place, *columns in sorted(found, key=itemgetter(0)):
            due = rows.CALLS.decode(columns)
            claimed.append(taken_by(owner, due, lease_until, ahead=place > limit))
            self._draft.take(due, claimed[-1])
        if not self._draft.guesses:  # then whose a failure is must show at once
            self._draft.send()
        return claimed

    def waiting_on(self, call_id: str) -> list[Call]:
        if not self._draft.replaces(call_id):
            return super().waiting_on(call_id)
        self._draft.guess_unawaited(call_id)
        return []


class DraftAttempts(SqlAttempts):
    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._draft = draft

    def append(self, attempt: Attempt) -> None:
        times = (attempt.started_at, attempt.ended_at)
        if not self._draft.guesses or not _has_json(times):
            super().append(attempt)
            return
        self._draft.insert(schema.attempts, rows.ATTEMPTS, (attempt,))


class DraftControls(SqlControls):
    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._draft = draft

    def all(self) -> dict[str, Control]:
        switches = map(_switch, _decode(self._draft.controls()))
        return {switch.name: switch for switch in switches}

    def put(self, control: Control) -> None:
        super().put(control)
        self._draft.forget_controls()

    def clear(self, name: str) -> bool:
        cleared = super().clear(name)
        self._draft.forget_controls()
        return cleared


def _switch(told: _Switch) -> Control:
    name, actor, reason, set_at, until = told
    ends = None if until is None else float(until)
    return Control(name=name, actor=actor, reason=reason, set_at=float(set_at), until=ends)


def _is_plain(call: Call) -> bool:
    """Whether a row of its own says it all, and in JSON."""
    fills = call.slots and call.state is State.DISPATCHED
    return not fills and _has_json((call.run_at, call.deadline_at, call.expires_at))


def _has_json(values: Iterable[Any]) -> bool:
    """Whether all of them are the same in JSON: it has no number that is not finite."""
    for value in values:  # noqa: SIM110 - a generator would take three times as long
        if type(value) is float and not math.isfinite(value):
            return False
    return True
