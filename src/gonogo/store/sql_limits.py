"""Usage of limits on an SQL database: one row a limit, loaded and saved as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from gonogo.records import Charge, Denial, Reservation, Usage
from gonogo.store import schema, statements
from gonogo.store.run import Run
from gonogo.store.statements import names
from gonogo.windows import BucketWindow, CalendarWindow, fitting

_COLUMNS = ("name", "window", "since", "buckets", "idle_at")
_SWEPT_AT_ONCE = 10
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[tuple[int, int]]).decode

_Window = BucketWindow | CalendarWindow


class SqlLimits:
    """Every row that a reservation needs is read in one statement, in sorted order.

    A row costs the same whatever was used in its window. Rows in which nothing counts any more
    are swept when new ones come, a few at a time, so the table is as long as what is in use.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def reserve(
        self, charges: Sequence[Charge], now: float, clock: Callable[[], float] | None = None
    ) -> tuple[Reservation, ...] | Denial:
        rows = {charge.row: charge for charge in charges}
        windows = self._load(rows)
        known = len(windows)
        if known < len(rows) and self._run.locks:
            windows = self._load_all(rows, windows, now)
        if clock is not None and self._run.locks:
            now = max(now, clock())
        taken: list[Reservation] = []
        for charge in charges:
            window = _fit(windows.get(charge.row), charge, now)
            windows[charge.row] = window
            used = window.used(now)
            if used + charge.cost > charge.max:
                used -= sum(held.cost for held in taken if held.row == charge.row)
                after = window.retry_after(now, charge.cost, charge.max)
                return Denial(charge.limit, charge.row, used, charge.max, charge.cost, after)
            mark = window.take(now, charge.cost)
            taken.append(Reservation(charge.row, charge.cost, mark, charge.window, charge.since))
        if known < len(rows):
            self._sweep(now)
        self._save(windows)
        return tuple(taken)

    def release(self, reservations: Iterable[Reservation]) -> None:
        given_back = list(reservations)
        windows = self._load({held.row for held in given_back})
        changed = {
            held.row: windows[held.row]
            for held in given_back
            if held.row in windows and _change(windows[held.row], held, -held.cost)
        }
        self._save(changed)

    def adjust(self, reservation: Reservation, cost: int) -> Reservation:
        if cost != reservation.cost:
            windows = self._load({reservation.row})
            window = windows.get(reservation.row)
            if window is not None and _change(window, reservation, cost - reservation.cost):
                self._save(windows)
        return structs.replace(reservation, cost=cost)

    def usage(self, charges: Sequence[Charge], now: float) -> list[Usage]:
        windows = self._load({charge.row for charge in charges})
        return [
            Usage(charge.row, _fit(windows.get(charge.row), charge, now).used(now))
            for charge in charges
        ]

    def _load(self, wanted: Iterable[str]) -> dict[str, _Window]:
        ordered = sorted(wanted)
        if not ordered:
            return {}
        text = self._run.texts.text(statements.limit_rows, len(ordered), self._run.locks)
        found = self._run(text, names("name", ordered)).fetchall()
        return {name: _window(window, since, buckets) for name, window, since, buckets in found}

    def _load_all(
        self, rows: Mapping[str, Charge], found: dict[str, _Window], now: float
    ) -> dict[str, _Window]:
        """Every row, locked: where there is none yet, two first users would see nothing both.

        One that is swept away between the two statements is inserted again.
        """
        text = self._run.texts.insert_missing(schema.limits, _COLUMNS)
        while len(found) < len(rows):
            for name in sorted(rows.keys() - found.keys()):
                empty = _row(_fit(None, rows[name], now))
                self._run(text, {"name": name, **empty, "idle_at": now + rows[name].window})
            found = self._load(rows)
        return found

    def _save(self, windows: dict[str, _Window]) -> None:
        text = self._run.texts.upsert(schema.limits, _COLUMNS)
        for name in sorted(windows):
            self._run(text, {"name": name, **_row(windows[name])})

    def _sweep(self, now: float) -> None:
        text = self._run.texts.text(statements.sweep_limits)
        self._run(text, {"now": now, "most": _SWEPT_AT_ONCE})


def _window(window: float, since: float | None, buckets: str) -> _Window:
    counted = _decode(buckets)
    if since is None:
        return BucketWindow(window, counted)
    return CalendarWindow(since, window, sum(units for _, units in counted))


def _row(window: _Window) -> dict[str, Any]:
    if isinstance(window, BucketWindow):
        since, buckets, idle_at = None, window.dump(), window.idle_at()
    else:
        since, buckets = window.since, [(0, window.used(window.since))]
        idle_at = window.since + window.window
    return {
        "window": window.window,
        "since": since,
        "buckets": _encode(buckets).decode(),
        "idle_at": idle_at,
    }


def _fit(window: _Window | None, charge: Charge, now: float) -> _Window:
    return fitting(window, BucketWindow, charge.window, charge.since, now)


def _change(window: _Window, held: Reservation, cost: int) -> int:
    """Count ``cost`` more (or less) where ``held`` was counted; 0 when that is over."""
    mark = held.bucket
    if isinstance(window, BucketWindow):
        if held.since is not None:
            return 0
        mark = window.mark_from(mark, held.window)
    return window.add(mark, cost) if cost > 0 else window.give_back(mark, -cost)
