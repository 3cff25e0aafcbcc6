"""What one process has in hand of the ledger's jobs, from the claim to the settlement."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec import Struct

from gonogo.action import Action
from gonogo.arguments import Bound
from gonogo.owner import Owner
from gonogo.performed import Performed
from gonogo.records import Call

T = TypeVar("T")
INFINITE = float("inf")


class Begun(Struct, frozen=True):
    """A call of which everything is allowed and committed, and nothing performed.

    Attributes:
        brief: it was begun with others, so its outcome may wait for theirs.
    """

    call: Call
    action: Action[Any, Any]
    bound: Bound
    brief: bool = False

    @property
    def id(self) -> str:
        """Of the call."""
        return self.call.id


class Over(Struct, frozen=True):
    """A call whose attempt is over and not settled."""

    begun: Begun
    performed: Performed


class UnderWay:
    """The calls whose leases this process keeps alive, by how far they are.

    Claimed and **ready** for a thread; admitted and **begun**, one in each thread while others may
    wait for a thread; **over** and to be settled. Thread-safe. A child leaves to the process that
    forked it what that one had in hand. Times are monotonic seconds.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._held: dict[str, tuple[Call, Action[Any, Any] | None]] = {}
        self._ready: deque[tuple[float, Call]] = deque()
        self._begun: deque[tuple[float, Begun]] = deque()
        self._over: list[tuple[float, Over]] = []
        self._given_up: dict[str, Call] = {}
        self._mutex = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._held)

    @property
    def waits(self) -> bool:
        """Whether any waits for a thread."""
        return bool(self._ready or self._begun)

    def claimed(self, calls: Iterable[Call], now: float, ready: Iterable[Call] = ()) -> None:
        """These are ours, and of these some are ``ready`` for any thread."""
        with self._mutex:
            self._held.update({call.id: (call, None) for call in calls})
            self._ready.extend((now, call) for call in ready)

    def next_ready(self) -> Call | None:
        """The claimed call that waits longest; the caller begins it."""
        found = self.next_few(lambda call: None, 0.0)
        return found[0] if found else None

    def next_few(self, seconds: Callable[[Call], float | None], room: float) -> list[Call]:
        """The claimed call that waits longest, and those behind it that fit into ``room``.

        Args:
            seconds: how long one will take; ``None`` for one that is to be begun by itself.
        """
        with self._mutex:
            while self._ready and self._ready[0][1].owner != self._owner.name:
                self._ready.popleft()
            found = fitting((call for _, call in self._ready), seconds, room)
            for _ in found:  # last: an interrupt may come while they are looked at
                self._ready.popleft()
        return found

    def admitted(self, call: Call, action: Action[Any, Any]) -> None:
        """It is dispatched."""
        with self._mutex:
            self._held[call.id] = (call, action)

    def begin_soon(self, begun: Iterable[Begun], now: float, *, unless: Callable[[], bool]) -> bool:
        """Any thread may perform these; false, and they are nobody's here, if ``unless`` says so.

        It is asked while nobody else can take them, or take them back.
        """
        with self._mutex:
            if unless():
                for each in begun:
                    self._held.pop(each.id, None)
                return False
            self._begun.extend((now, each) for each in begun)
            return True

    def next_begun(self) -> Begun | None:
        """The one of them that waits longest; the caller performs it."""
        with self._mutex:
            while self._begun:
                begun = self._begun.popleft()[1]
                if begun.call.owner == self._owner.name:
                    return begun
        return None

    def end(self, over: Over, now: float) -> float:
        """Its attempt is over; since when the oldest one waits that is to be settled."""
        with self._mutex:
            self._over.append((now, over))
            return self._over[0][0]

    def take_over(self, before: float = INFINITE) -> list[Over]:
        """What is to be settled, if the oldest waits since ``before``; the caller settles it."""
        with self._mutex:
            if not self._over or self._over[0][0] >= before:
                return []
            over, self._over = self._over, []
        return [each for _, each in over if each.begun.call.owner == self._owner.name]

    def forget(self, *call_ids: str) -> None:
        """They are in nobody's hands here any more."""
        with self._mutex:
            for call_id in call_ids:
                self._held.pop(call_id, None)
                self._given_up.pop(call_id, None)

    def give_up(self, call: Call) -> None:
        """It was settled, but its function runs on."""
        with self._mutex:
            if self._held.pop(call.id, None) is not None:  # else it ended meanwhile
                self._given_up[call.id] = call

    @property
    def held(self) -> dict[str, int]:
        """The epoch of each call whose lease is to be renewed."""
        with self._mutex:
            return {call_id: call.epoch for call_id, (call, _) in self._held.items()}

    @property
    def given_up(self) -> list[Call]:
        """Those that were settled while their functions run on."""
        with self._mutex:
            return list(self._given_up.values())

    @property
    def performing(self) -> list[tuple[Call, Action[Any, Any]]]:
        """Those that threads perform at this moment."""
        with self._mutex:
            waiting = {begun.id for _, begun in self._begun}
            waiting |= {over.begun.id for _, over in self._over}
            return [
                (call, action)
                for call, action in self._held.values()
                if action is not None and call.owner == self._owner.name and call.id not in waiting
            ]

    def take_ready(self, before: float) -> list[Call]:
        """The claimed calls that wait for a thread since ``before``; the caller gives them back."""
        with self._mutex:
            calls = _older(self._ready, before)
            for call in calls:
                self._held.pop(call.id, None)
        return [call for call in calls if call.owner == self._owner.name]

    def take_begun(self, before: float = INFINITE) -> list[Begun]:
        """The begun calls that wait for a thread since ``before``; the caller gives them back."""
        with self._mutex:
            begun = _older(self._begun, before)
            for each in begun:
                self._held.pop(each.id, None)
        return [each for each in begun if each.call.owner == self._owner.name]

    def take_unbegun(self) -> list[Call]:
        """Every claimed call that no thread has begun to perform."""
        with self._mutex:
            waiting = [c for c, action in self._held.values() if action is None]
            self._ready.clear()
            for call in waiting:
                del self._held[call.id]
        return [call for call in waiting if call.owner == self._owner.name]


def fitting(
    calls: Iterable[Call], seconds: Callable[[Call], float | None], room: float
) -> list[Call]:
    """The first call, and those behind it that fit into ``room`` with it.

    Args:
        seconds: how long one will take; ``None`` for one that is to be begun by itself.
    """
    found: list[Call] = []
    for call in calls:
        takes = seconds(call)
        room -= INFINITE if takes is None else takes
        if found and room < 0:
            break
        found.append(call)
        if room < 0:
            break
    return found


def _older(line: deque[tuple[float, T]], before: float) -> list[T]:
    """Take the head of the line, as far as it waits since ``before``."""
    found = []
    while line and line[0][0] < before:
        found.append(line.popleft()[1])
    return found
