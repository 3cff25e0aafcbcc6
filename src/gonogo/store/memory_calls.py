"""The calls in memory, with the indexes that keep every question short."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any

from msgspec import structs

from gonogo.errors import StoreError
from gonogo.records import OPEN, TERMINAL, Call, CallFilter, State, taken_by
from gonogo.store.changes import changes
from gonogo.store.memory_index import LazyHeap, Queues

_PENDING, _CLAIMED, _DISPATCHED = State.PENDING, State.CLAIMED, State.DISPATCHED
_UNKNOWN = State.UNKNOWN
_by_id = attrgetter("id")


class MemoryCalls:
    """Calls by id; ``_move`` is the one place that changes them and their indexes."""

    def __init__(
        self,
        journal: list[tuple[Callable[..., object], object, object]],
        forget: Callable[[str], None],
        drop: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._forget = forget
        self._drop = drop
        self._rows: dict[str, Call] = {}
        self._counts = dict.fromkeys(State, 0)
        self._held: dict[tuple[str, str], str] = {}
        self._slots: dict[str, int] = {}
        self._leased: dict[str, None] = {}
        self._unknown: dict[str, None] = {}
        self._queues = Queues(self._rows)
        self._lanes: dict[str, dict[str, None]] = {}
        self._plans: dict[str, dict[str, None]] = {}
        self._after: dict[str, dict[str, None]] = {}
        self._deadlines = LazyHeap(self._has_deadline)
        self._expiries = LazyHeap(self._expires)
        self.finished: deque[str] = deque()

    def get(self, call_id: str) -> Call | None:
        return self._rows.get(call_id)

    def holder(self, action: str, key: str) -> Call | None:
        call_id = self._held.get((action, key))
        return None if call_id is None else self._rows[call_id]

    def insert(self, call: Call) -> None:
        if call.id in self._rows:
            raise StoreError(f"call {call.id} is in the ledger already", call_id=call.id)
        self._journal.append((self._put, call.id, None))
        self._move(None, call)

    def insert_many(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self.insert(call)

    def replace(self, before: Call, after: Call) -> bool:
        known = self._rows.get(before.id)
        if known is None or known.epoch != before.epoch or known.state is not before.state:
            return False
        if known is not before:  # keep what else was written since, as a renewed lease
            after = structs.replace(known, **changes(before, after))
        self._change(known, after)
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
        claimed: list[Call] = []
        turns: Counter[tuple[str, int]] = Counter()
        while len(claimed) < limit + ahead:
            call_id = self._queues.first(queues, now, turn, turns, passing)
            if call_id is None:
                break
            call = self._rows[call_id]
            turns[call.action, call.priority] += 1
            after = taken_by(owner, call, lease_until, ahead=len(claimed) >= limit)
            self._change(call, after)
            claimed.append(after)
        return claimed

    def claimed_by(self, owner: str, queues: Sequence[str]) -> int:
        return sum(
            call.state is _CLAIMED and call.owner == owner and call.queue in queues
            for call in self._of(self._leased)
        )

    def renew(self, *, owner: str, calls: Mapping[str, int], lease_until: float) -> set[str]:
        renewed = set()
        for call_id, epoch in calls.items():
            call = self._rows.get(call_id)
            if (
                call is not None
                and call.epoch == epoch
                and call.owner == owner
                and (call.state is _CLAIMED or call.state is _DISPATCHED)
            ):
                self._change(call, structs.replace(call, lease_until=lease_until))
                renewed.add(call_id)
        return renewed

    def expired(self, now: float, limit: int) -> list[Call]:
        return _first(
            limit,
            ((call.lease_until, call) for call in self._of(self._leased)),
            now,
        )

    def doubtful(self, now: float, limit: int) -> list[Call]:
        return _first(limit, ((call.run_at, call) for call in self._of(self._unknown)), now)

    def overdue(self, now: float, limit: int) -> list[Call]:
        return [self._rows[call_id] for call_id in self._deadlines.due(now, limit)]

    def lapsed(self, now: float, limit: int) -> list[Call]:
        return [self._rows[call_id] for call_id in self._expiries.due(now, limit)]

    def next_chore(self) -> float | None:
        times = [call.lease_until for call in self._of(self._leased)]
        times += [call.run_at for call in self._of(self._unknown)]
        heads = (heap.first() for heap in (self._deadlines, self._expiries))
        times += [head[0] for head in heads if head is not None]
        return min((time for time in times if time is not None), default=None)

    def in_slot(self, slot: str) -> int:
        return self._slots.get(slot, 0)

    def waiting_on(self, call_id: str) -> list[Call]:
        if call_id not in self._after:
            return []
        waiting = self._of(self._after[call_id])
        return sorted((call for call in waiting if call.state is _PENDING), key=_by_id)

    def in_lane(self, lane: str, limit: int) -> list[Call]:
        members = self._of(self._lanes.get(lane, ()))
        return heapq.nsmallest(limit, members, key=attrgetter("waits", "run_at", "id"))

    def next_run_at(self, queues: Sequence[str], passing: Collection[str] = ()) -> float | None:
        return self._queues.next_run_at(queues, passing)

    def backlog(self) -> dict[str, int]:
        pending = (call.queue for call in self._rows.values() if call.state is _PENDING)
        return dict(Counter(queue for queue in pending if queue is not None))

    def prune(self, before: float, limit: int) -> int:
        finished = (self._rows.get(call_id) for call_id in self.finished)
        old = (call for call in finished if call is not None and _forgettable(call, before))
        oldest = heapq.nsmallest(limit, old, key=attrgetter("settled_at"))
        for call in oldest:
            self._journal.append((self._put, call.id, call))
            self._put(call.id, None)
            self._drop(call.id)
        return len(oldest)

    def of_plan(self, plan_id: str) -> list[Call]:
        calls = self._of(self._plans.get(plan_id, ()))
        return sorted(calls, key=lambda call: (call.position or 0, call.id))

    def overtaken(self, plan_id: str, verdicts: Collection[str], limit: int) -> list[Call]:
        planned = (c for c in self.of_plan(plan_id) if c.state is State.PLANNED)
        taken = (c for c in planned if c.verdict in verdicts and (c.action, c.key) in self._held)
        return list(islice(taken, limit))

    def find(self, wanted: CallFilter) -> list[Call]:
        if wanted.plan_id is not None:
            return self._of_plan(wanted)
        found = (call for call in self._rows.values() if _matches(call, wanted))
        return heapq.nlargest(wanted.limit, found, key=_by_id)

    def _of_plan(self, wanted: CallFilter) -> list[Call]:
        rows = self.of_plan(wanted.plan_id or "")
        if wanted.before is not None:
            last = self._rows.get(wanted.before)
            if last is None or last.position is None:
                return []
            behind = last.position
            rows = [c for c in rows if c.position is not None and c.position > behind]
        unpaged = structs.replace(wanted, before=None)
        return [call for call in rows if _matches(call, unpaged)][: wanted.limit]

    def counts(self) -> dict[State, int]:
        return {state: count for state, count in self._counts.items() if count}

    def trim(self, history: int) -> None:
        """Forget the oldest finished calls that hold no key, beyond the history."""
        while len(self.finished) > history:
            call = self._rows.get(self.finished.popleft())
            if call is not None and call.state in TERMINAL and not call.held:
                self._put(call.id, None)
                self._forget(call.id)

    def _of(self, ids: Iterable[str]) -> Iterator[Call]:
        rows = self._rows
        return (rows[call_id] for call_id in ids)

    def _change(self, before: Call, after: Call) -> None:
        self._journal.append((self._put, after.id, before))
        self._move(before, after)

    def _put(self, call_id: str, call: Call | None) -> None:
        before = self._rows.get(call_id)
        if before is not call:
            self._move(before, call)

    def _move(self, before: Call | None, call: Call | None) -> None:
        """Put ``call`` where ``before`` was; one of them may be missing, not both.

        Raises `StoreError`, before anything is changed, when another call holds its key.
        """
        if before is None or call is None or before.held is not call.held:
            self._hold(before, call)
        if before is not None:
            self._unindex(before)
        if call is not None:
            self._rows[call.id] = call
            self._index(call)
        elif before is not None:
            del self._rows[before.id]

    def _hold(self, before: Call | None, call: Call | None) -> None:
        """Give back the key that ``before`` held, and take the one that ``call`` holds."""
        if before is not None and before.held and before.key is not None:
            del self._held[before.action, before.key]
        if call is None or not call.held or call.key is None:
            return
        if self._held.setdefault((call.action, call.key), call.id) != call.id:
            raise taken(call)

    def _unindex(self, call: Call) -> None:
        state = call.state
        self._counts[state] -= 1
        if call.plan_id is not None or call.after is not None or call.lane is not None:
            self._unindex_groups(call)
        if call.lease_until is not None:
            self._leased.pop(call.id, None)
        if state is _DISPATCHED:
            for slot in call.slots:
                self._slots[slot] -= 1
                if not self._slots[slot]:
                    del self._slots[slot]
        elif state is _UNKNOWN:
            del self._unknown[call.id]

    def _index(self, call: Call) -> None:
        state = call.state
        self._counts[state] += 1
        if call.plan_id is not None or call.after is not None or call.lane is not None:
            self._index_groups(call)
        if state is _DISPATCHED or state is _CLAIMED:
            if call.lease_until is not None:
                self._leased[call.id] = None
            if state is _DISPATCHED:
                for slot in call.slots:
                    self._slots[slot] = self._slots.get(slot, 0) + 1
        elif state is _PENDING:
            self._index_pending(call)
        elif state is _UNKNOWN:
            self._unknown[call.id] = None
        elif state in TERMINAL:
            if not call.held:
                self.finished.append(call.id)
            elif call.expires_at is not None:
                self._expiries.push((call.expires_at, call.id))

    def _index_groups(self, call: Call) -> None:
        if call.plan_id is not None:
            _add(self._plans, call.plan_id, call.id)
        if call.after is not None:
            _add(self._after, call.after, call.id)
        if call.lane is not None and call.state in OPEN:
            _add(self._lanes, call.lane, call.id)

    def _unindex_groups(self, call: Call) -> None:
        if call.plan_id is not None:
            _remove(self._plans, call.plan_id, call.id)
        if call.after is not None:
            _remove(self._after, call.after, call.id)
        if call.lane is not None:
            _remove(self._lanes, call.lane, call.id)

    def _index_pending(self, call: Call) -> None:
        if call.queue is not None:
            if not call.waits:
                self._queues.push(call)
        elif call.lease_until is not None:
            self._leased[call.id] = None
        if call.deadline_at is not None:
            self._deadlines.push((call.deadline_at, call.id))

    def _has_deadline(self, entry: tuple[Any, ...]) -> bool:
        call = self._rows.get(entry[1])
        return call is not None and call.state is _PENDING and call.deadline_at == entry[0]

    def _expires(self, entry: tuple[Any, ...]) -> bool:
        call = self._rows.get(entry[1])
        return (
            call is not None
            and call.held
            and call.expires_at == entry[0]
            and call.state in TERMINAL
        )


def _forgettable(call: Call, before: float) -> bool:
    over = call.state in TERMINAL and not call.held
    return over and call.settled_at is not None and call.settled_at < before


def taken(call: Call) -> StoreError:
    """The error of a write that would give a key to a second call."""
    return StoreError(
        f"{call.action}: key {call.key!r} is held by another call; "
        "look the holder up in the same transaction before inserting",
        action=call.action,
        key=call.key,
        call_id=call.id,
    )


def _first(limit: int, timed: Iterable[tuple[float | None, Call]], now: float) -> list[Call]:
    due = ((at, call.id, call) for at, call in timed if at is not None and at <= now)
    return [call for _, _, call in heapq.nsmallest(limit, due, key=lambda entry: entry[:2])]


def _add(index: dict[str, dict[str, None]], name: str, call_id: str) -> None:
    index.setdefault(name, {})[call_id] = None


def _remove(index: dict[str, dict[str, None]], name: str, call_id: str) -> None:
    if (ids := index.get(name)) is not None:
        ids.pop(call_id, None)
        if not ids:
            del index[name]


def _matches(call: Call, wanted: CallFilter) -> bool:
    return (
        (not wanted.states or call.state in wanted.states)
        and (wanted.action is None or call.action == wanted.action)
        and (wanted.key is None or call.key == wanted.key)
        and (wanted.plan_id is None or call.plan_id == wanted.plan_id)
        and (wanted.correlation_id is None or call.correlation == wanted.correlation_id)
        and (wanted.before is None or call.id < wanted.before)
        and not (wanted.alone and call.plan_id is not None)
    )
