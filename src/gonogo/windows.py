"""Counting what was used in a window of time: three ways, one interface.

A window hands out a *mark* with every `take`, the place where the units were counted, so that
they can be given back or corrected later. An event at ``t`` is over when ``now >= t + window``:
the window is half-open. All times are epoch seconds, all units whole numbers.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Protocol, TypeVar

SLICES = 60
"""Into how many buckets a window on the ledger is cut."""

_FEW = 64
"""Entries that need not be looked through for what is over."""


class Window(Protocol):
    """What the stores ask of a window."""

    __slots__ = ()

    def used(self, now: float) -> int:
        """Units that count at ``now``."""
        ...

    def take(self, now: float, cost: int) -> float:
        """Count ``cost`` units, room or not; the mark where they were counted."""
        ...

    def grant(self, now: float, cost: int, limit: int) -> float | None:
        """`take`, if there is room under ``limit``; else ``None``, and nothing is counted."""
        return None if self.used(now) + cost > limit else self.take(now, cost)

    def add(self, mark: float, cost: int) -> int:
        """Count ``cost`` more units at ``mark``; how many were, 0 when the mark is over."""
        ...

    def give_back(self, mark: float, cost: int) -> int:
        """Uncount up to ``cost`` units at ``mark``; how many were, never more than are there."""
        ...

    def retry_after(self, now: float, cost: int, limit: int) -> float | None:
        """Seconds until ``cost`` units fit under ``limit``; ``None`` when they never will."""
        ...


class SlidingWindow(Window):
    """The exact sliding window, for one process.

    Events of the same instant are one entry whatever they cost, so a cost of a million is as
    cheap as 1. Entries stand in the order of time; those that are over go together, when their
    room is asked for or they may be half of all. So to grant is O(1) amortised, and to find a mark
    is O(log n). Time that steps back is treated as the latest time seen.
    """

    __slots__ = (
        *("_begin", "_costs", "_end", "_latest", "_many", "_times", "_used"),
        *("retired", "window"),
    )

    def __init__(self, window: float) -> None:
        self.window = window
        self.retired = False
        self._end = float(window).__add__  # when an event of that time is over
        self._times: list[float] = []
        self._costs: list[int] = []
        self._begin = 0  # entries before it are over
        self._many = _FEW  # so many entries may be there before somebody looks which are over
        self._used = 0
        self._latest = -math.inf

    def used(self, now: float) -> int:
        self._latest = max(self._latest, now)
        self._drop()
        return self._used

    def grant(self, now: float, cost: int, limit: int) -> float | None:
        used = self._used + cost
        times = self._times
        if used <= limit and now > self._latest and len(times) < self._many:
            self._latest = now
            self._used = used
            self._costs.append(cost)  # first: see _drop
            times.append(now)
            return now
        return super().grant(now, cost, limit)

    def take(self, now: float, cost: int) -> float:
        if now > self._latest:
            self._latest = now
        else:
            now = self._latest
        self._used += cost
        if self._times and self._times[-1] == now:
            self._costs[-1] += cost
        else:
            self._costs.append(cost)  # first: see _drop
            self._times.append(now)
        return now

    def add(self, mark: float, cost: int) -> int:
        place = self._place(mark)
        if place is None:
            return 0
        self._costs[place] += cost
        self._used += cost
        return cost

    def give_back(self, mark: float, cost: int) -> int:
        place = self._place(mark)
        if place is None:
            return 0
        given = min(cost, self._costs[place])
        self._costs[place] -= given
        self._used -= given
        return given

    def retry_after(self, now: float, cost: int, limit: int) -> float | None:
        if cost > limit:
            return None
        excess = self.used(now) + cost - limit
        if excess <= 0:
            return 0.0
        for place in range(self._begin, len(self._times)):
            excess -= self._costs[place]
            if excess <= 0:
                return _until(self._end(self._times[place]), now)
        return None

    def resized(self, window: float) -> SlidingWindow:
        """The same events in a window of another length."""
        other = SlidingWindow(window)
        other._times = self._times[self._begin :]
        other._costs = self._costs[self._begin :]
        other._used = self._used
        other._latest = self._latest
        return other

    def _place(self, mark: float) -> int | None:
        self._drop()
        place = bisect_left(self._times, mark, self._begin)
        there = place < len(self._times) and self._times[place] == mark
        return place if there else None

    def _drop(self) -> None:
        """Uncount the entries that are over, and forget them once they are half of all.

        Whoever was interrupted left a cost without a time. So later costs count from the time of
        an entry that came after theirs, which holds them back longer and never shorter.
        """
        times, begin = self._times, self._begin
        if len(self._costs) > len(times):
            times.append(self._latest)
        if begin < len(times) and self._end(times[begin]) <= self._latest:
            over = bisect_right(times, self._latest, begin, key=self._end)
            self._used -= sum(self._costs[begin:over])
            self._begin = over
            if 2 * over >= len(times):
                del times[:over], self._costs[:over]
                self._begin = 0
        self._many = max(_FEW, 2 * len(times))


class CalendarWindow(Window):
    """Everything used since ``since``, for a period of ``window`` seconds; the mark is ``since``.

    `fitting` makes the next one when the period turns.
    """

    __slots__ = ("_used", "retired", "since", "window")

    def __init__(self, since: float, window: float, used: int = 0) -> None:
        self.since = since
        self.window = window
        self.retired = False
        self._used = used

    def used(self, now: float) -> int:
        return self._used

    def take(self, now: float, cost: int) -> float:
        self._used += cost
        return self.since

    def add(self, mark: float, cost: int) -> int:
        if mark != self.since:
            return 0
        self._used += cost
        return cost

    def give_back(self, mark: float, cost: int) -> int:
        given = min(cost, self._used) if mark == self.since else 0
        self._used -= given
        return given

    def retry_after(self, now: float, cost: int, limit: int) -> float | None:
        if cost > limit:
            return None
        return 0.0 if self._used + cost <= limit else _until(self.since + self.window, now)


class BucketWindow(Window):
    """The sliding window of the ledger: at most 61 numbers, whatever happens in the window.

    A window is cut into 60 slices of equal width. An event counts until its whole slice has left
    the window, so no window ever holds more than the limit, and units are held back for one slice
    at most. Slices in the future (the clock was set back) count. Time is whole microseconds in
    here, rounded so that the window is never shorter than asked; marks are numbers of slices.
    """

    __slots__ = ("_buckets", "_width", "window")

    def __init__(self, window: float, buckets: Iterable[tuple[int, int]] = ()) -> None:
        self.window = window
        self._width = _width(window)
        self._buckets: dict[int, int] = dict(buckets)

    def used(self, now: float) -> int:
        self._evict(self._slice(now))
        return sum(self._buckets.values())

    def take(self, now: float, cost: int) -> float:
        mark = self._slice(now)
        self._buckets[mark] = self._buckets.get(mark, 0) + cost
        return float(mark)

    def add(self, mark: float, cost: int) -> int:
        if mark not in self._buckets:
            return 0
        self._buckets[int(mark)] += cost
        return cost

    def give_back(self, mark: float, cost: int) -> int:
        given = min(cost, self._buckets.get(int(mark), 0))
        if given:
            self._buckets[int(mark)] -= given
        return given

    def retry_after(self, now: float, cost: int, limit: int) -> float | None:
        if cost > limit:
            return None
        excess = self.used(now) + cost - limit
        if excess <= 0:
            return 0.0
        for mark in sorted(self._buckets):
            excess -= self._buckets[mark]
            if excess <= 0:
                return _until(self._end(mark), now)
        return None

    def idle_at(self) -> float:
        """When nothing counts any more."""
        return self._end(max(self._buckets)) if self._buckets else 0.0

    def dump(self) -> list[tuple[int, int]]:
        """The buckets, oldest first; ``BucketWindow(window, dump)`` is this window again.

        More than 61 are possible only when a clock was far ahead; then the oldest are counted
        into their successors, which holds them back longer and never shorter.
        """
        buckets = sorted(self._buckets.items())
        while len(buckets) > SLICES + 1:
            (_, oldest), (mark, units), *rest = buckets
            buckets = [(mark, units + oldest), *rest]
        return buckets

    def resized(self, window: float) -> BucketWindow:
        """The same units in a window of another length, each at the end of its old slice."""
        other = BucketWindow(window)
        for mark, units in self._buckets.items():
            moved = other.mark_from(mark, self.window)
            other._buckets[moved] = other._buckets.get(moved, 0) + units
        return other

    def mark_from(self, mark: float, window: float) -> int:
        """The mark here of units that were marked in a window of another length."""
        if window == self.window:
            return int(mark)
        return ((int(mark) + 1) * _width(window) - 1) // self._width

    def _slice(self, now: float) -> int:
        return math.floor(now * 1e6) // self._width

    def _end(self, mark: int) -> float:
        """The instant from which slice ``mark`` surely no longer counts."""
        return ((mark + SLICES + 1) * self._width + 1) / 1e6

    def _evict(self, current: int) -> None:
        for mark in [mark for mark in self._buckets if current - mark > SLICES]:
            del self._buckets[mark]


S = TypeVar("S", SlidingWindow, BucketWindow)


def fitting(
    current: S | CalendarWindow | None,
    sliding: type[S],
    window: float,
    since: float | None,
    now: float,
) -> S | CalendarWindow:
    """``current``, or what must replace it so that it counts as declared.

    A later calendar period starts from zero; an earlier one (the clock was set back) counts into
    the later. A limit that is declared anew keeps what was used: a window of another length keeps
    the events, and one of another kind counts them as if they were used now, which holds them
    back longer and never shorter.

    Args:
        sliding: which sliding window to make.
        window, since: as in `gonogo.records.Charge`.
    """
    fitted: S | CalendarWindow
    if since is None:
        if isinstance(current, sliding):
            return current if current.window == window else current.resized(window)
        fitted = sliding(window)
    else:
        if isinstance(current, CalendarWindow):
            return current if since <= current.since else CalendarWindow(since, window)
        fitted = CalendarWindow(since, window)
    if current is not None and (used := current.used(now)):
        fitted.take(now, used)
    return fitted


def _width(window: float) -> int:
    """Microseconds of a slice; the one microsecond more makes up for the rounding of floats."""
    return -(-(math.ceil(window * 1e6) + 1) // SLICES)


def _until(instant: float, now: float) -> float:
    """Seconds from ``now`` to ``instant``, such that adding them to ``now`` does not fall short."""
    seconds = max(0.0, instant - now)
    return seconds if now + seconds >= instant else seconds + math.ulp(instant)
