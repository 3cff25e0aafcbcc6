"""Heaps over calls that change under them: the order in which calls fall due."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from gonogo.records import Call, State

_COMPACT_AT_LEAST = 256


class LazyHeap:
    """A heap of tuples whose stale entries go when they are met; ``alive`` says which hold."""

    __slots__ = ("_alive", "_compact_at", "_entries")

    def __init__(self, alive: Callable[[tuple[Any, ...]], bool]) -> None:
        self._alive = alive
        self._entries: list[tuple[Any, ...]] = []
        self._compact_at = _COMPACT_AT_LEAST

    def push(self, entry: tuple[Any, ...]) -> None:
        heapq.heappush(self._entries, entry)
        if len(self._entries) > self._compact_at:
            self._entries = list(set(filter(self._alive, self._entries)))
            heapq.heapify(self._entries)
            self._compact_at = max(_COMPACT_AT_LEAST, 2 * len(self._entries))

    def first(self) -> tuple[Any, ...] | None:
        entries = self._entries
        while entries:
            if self._alive(entries[0]):
                return entries[0]
            heapq.heappop(entries)
        return None

    def pop(self) -> tuple[Any, ...]:
        popped: tuple[Any, ...] = heapq.heappop(self._entries)
        return popped

    def alive(self) -> Iterator[tuple[Any, ...]]:
        return filter(self._alive, self._entries)

    def due(self, now: float, limit: int) -> list[str]:
        """Ids of up to ``limit`` entries that begin with a time not after ``now``."""
        if not self._entries or self._entries[0][0] > now:  # the usual answer, be it stale or not
            return []
        found: dict[tuple[Any, ...], None] = {}
        while len(found) < limit and (entry := self.first()) is not None and entry[0] <= now:
            found[self.pop()] = None
        for entry in found:
            heapq.heappush(self._entries, entry)
        return [entry[1] for entry in found]


class Queues:
    """Pending calls that a worker may take, by queue and action."""

    def __init__(self, rows: dict[str, Call]) -> None:
        self._rows = rows
        self._by_action: dict[tuple[str, str], Queue] = {}

    def push(self, call: Call) -> None:
        assert call.queue is not None  # noqa: S101 - direct calls are not queued
        place = call.queue, call.action
        if (queue := self._by_action.get(place)) is None:
            queue = self._by_action[place] = Queue(self._rows, *place)
        queue.push(call)

    def next_run_at(self, names: Sequence[str], passing: Collection[str]) -> float | None:
        found = (
            queue.next_run_at()
            for (name, action), queue in self._by_action.items()
            if name in names and action not in passing
        )
        return min((run_at for run_at in found if run_at is not None), default=None)

    def first(
        self,
        names: Sequence[str],
        now: float,
        turn: str,
        taken: Mapping[tuple[str, int], int],
        passing: Collection[str],
    ) -> str | None:
        """Id of the call to be claimed next, after ``taken`` calls of each action and priority."""
        best: tuple[Any, ...] | None = None
        for (name, action), queue in self._by_action.items():
            if name in names and action not in passing and (head := queue.first(now)) is not None:
                rank = taken.get((action, -head[0]), 0)
                place = (head[0], rank, action <= turn, action, *head[1:])
                best = place if best is None else min(best, place)
        return None if best is None else str(best[-1])


class Queue:
    """Pending calls of one action in a queue: those not due by time, those due by priority."""

    __slots__ = ("_action", "_due", "_later", "_name", "_rows")

    def __init__(self, rows: dict[str, Call], name: str, action: str) -> None:
        self._rows = rows
        self._name = name
        self._action = action
        self._later = LazyHeap(lambda entry: self._waits(entry[1], entry[0]) is not None)
        self._due = LazyHeap(self._is_due)

    def push(self, call: Call) -> None:
        self._later.push((call.run_at, call.id))

    def first(self, now: float) -> tuple[Any, ...] | None:
        """The entry ``(-priority, run_at, id)`` of the call to be claimed next at ``now``."""
        later = self._later
        while (head := later.first()) is not None and head[0] <= now:
            run_at, call_id = later.pop()
            self._due.push((-self._rows[call_id].priority, run_at, call_id))
        while (head := self._due.first()) is not None and head[1] > now:
            self._due.pop()
            later.push(head[1:])
        return head

    def next_run_at(self) -> float | None:
        times = [entry[1] for entry in self._due.alive()]
        if (head := self._later.first()) is not None:
            times.append(head[0])
        return min(times, default=None)

    def _waits(self, call_id: str, run_at: float) -> Call | None:
        call = self._rows.get(call_id)
        if (
            call is not None
            and call.state is State.PENDING
            and call.run_at == run_at
            and call.queue == self._name
            and call.action == self._action
            and not call.waits
        ):
            return call
        return None

    def _is_due(self, entry: tuple[Any, ...]) -> bool:
        call = self._waits(entry[2], entry[1])
        return call is not None and call.priority == -entry[0]
