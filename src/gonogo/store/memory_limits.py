"""Usage of limits in memory, counted exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import structs

from gonogo.records import Charge, Denial, Reservation, Usage
from gonogo.store.memory_prepared import Place
from gonogo.windows import CalendarWindow, SlidingWindow, fitting

_SWEEP_AT_LEAST = 1024


class MemoryLimits:
    """One window for each limit row; rows that nothing counts in are swept as others come."""

    def __init__(self, journal: list[tuple[Callable[..., object], object, object]]) -> None:
        self._journal = journal
        self._rows: dict[str, SlidingWindow | CalendarWindow] = {}
        self._sweep_at = _SWEEP_AT_LEAST

    def reserve(
        self, charges: Sequence[Charge], now: float, clock: Callable[[], float] | None = None
    ) -> tuple[Reservation, ...] | Denial:
        journal = self._journal
        begun = len(journal)
        taken: list[Reservation] = []
        for charge in charges:
            window = self._rows.get(charge.row)
            if (
                type(window) is not SlidingWindow
                or charge.since is not None
                or window.window != charge.window
            ):
                window = self._window(charge, now)
            mark = window.grant(now, charge.cost, charge.max)
            if mark is None:
                while len(journal) > begun:
                    undo, key, value = journal.pop()
                    undo(key, value)
                used = window.used(now)
                after = window.retry_after(now, charge.cost, charge.max)
                return Denial(charge.limit, charge.row, used, charge.max, charge.cost, after)
            journal.append((window.give_back, mark, charge.cost))
            taken.append(Reservation(charge.row, charge.cost, mark, charge.window, charge.since))
        return tuple(taken)

    def places(self, charges: Sequence[Charge]) -> list[Place]:
        """The windows of ``charges`` and how much each may hold.

        None at all where one is of a calendar period, or must be made or changed first.
        """
        places: list[Place] = []
        for charge in charges:
            window = self._rows.get(charge.row)
            if type(window) is not SlidingWindow or window.window != charge.window:
                return []
            if charge.since is not None:
                return []
            places.append((window, charge.max))
        return places

    def release(self, reservations: Iterable[Reservation]) -> None:
        for held in reservations:
            window = self._rows.get(held.row)
            if window is not None and (given := window.give_back(held.bucket, held.cost)):
                self._journal.append((window.add, held.bucket, given))

    def adjust(self, reservation: Reservation, cost: int) -> Reservation:
        window = self._rows.get(reservation.row)
        if window is not None:
            more = cost - reservation.cost
            if more > 0 and window.add(reservation.bucket, more):
                self._journal.append((window.give_back, reservation.bucket, more))
            elif more < 0 and (given := window.give_back(reservation.bucket, -more)):
                self._journal.append((window.add, reservation.bucket, given))
        return structs.replace(reservation, cost=cost)

    def usage(self, charges: Sequence[Charge], now: float) -> list[Usage]:
        return [Usage(charge.row, self._used(charge, now)) for charge in charges]

    def _used(self, charge: Charge, now: float) -> int:
        window = self._rows.get(charge.row)
        return fitting(window, SlidingWindow, charge.window, charge.since, now).used(now)

    def _window(self, charge: Charge, now: float) -> SlidingWindow | CalendarWindow:
        """The row's window, made or changed to fit the charge."""
        old = self._rows.get(charge.row)
        new = fitting(old, SlidingWindow, charge.window, charge.since, now)
        if new is old:
            return new
        if old is None and len(self._rows) >= self._sweep_at:
            self._sweep(now)
        self._journal.append((self._put, charge.row, old))
        self._put(charge.row, new)
        return new

    def _put(self, row: str, window: SlidingWindow | CalendarWindow | None) -> None:
        """The one place that changes which window a row has, and tells the windows."""
        old = self._rows.pop(row, None)
        if old is not None:
            old.retired = True
        if window is not None:
            window.retired = False
            self._rows[row] = window

    def _sweep(self, now: float) -> None:
        for row, window in list(self._rows.items()):
            over = isinstance(window, CalendarWindow) and window.since + window.window <= now
            if over or not window.used(now):
                self._journal.append((self._put, row, window))
                self._put(row, None)
        self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._rows))
