"""Usage of limits on an SQL database: one row a limit, loaded and saved as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from gonogo.records import Charge, Denial, Reservation, Usage
from gonogo.store.run import Run
from gonogo.store.texts import Names, names
from gonogo.windows import BucketWindow, CalendarWindow, fitting

if TYPE_CHECKING:
    from gonogo.store import schema, statements
else:
    schema = statements = Names()

_COLUMNS = ("name", "window", "since", "buckets", "idle_at")
_SWEPT_AT_ONCE = 10
_MOST_KEPT = 1000
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[tuple[int, int]]).decode

_Window = BucketWindow | CalendarWindow
_Terms = tuple[float, float | None, float]


class _Row:
    """What is counted of a limit, and its window, since and idle_at as the table has them."""

    __slots__ = ("stored", "window")

    def __init__(self, window: _Window | None = None, stored: _Terms | None = None) -> None:
        self.window = window
        self.stored = stored


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
        wanted = {charge.row: charge for charge in charges}
        rows = self._load(wanted)
        known = len(rows)
        if known < len(wanted) and self._run.locks:
            rows = self._load_all(wanted, rows, now)
        if clock is not None and self._run.locks:
            now = max(now, clock())
        taken: list[Reservation] = []
        for charge in charges:
            row = rows.get(charge.row) or rows.setdefault(charge.row, _Row())
            row.window = window = _fit(row.window, charge, now)
            used = window.used(now)
            if used + charge.cost > charge.max:
                self._forget(rows)
                used -= sum(held.cost for held in taken if held.row == charge.row)
                after = window.retry_after(now, charge.cost, charge.max)
                return Denial(charge.limit, charge.row, used, charge.max, charge.cost, after)
            mark = window.take(now, charge.cost)
            taken.append(Reservation(charge.row, charge.cost, mark, charge.window, charge.since))
        if known < len(wanted):
            self._sweep(now)
        self._save(rows)
        return tuple(taken)

    def release(self, reservations: Iterable[Reservation]) -> None:
        given_back = list(reservations)
        rows = self._load({held.row for held in given_back})
        changed = {
            held.row: rows[held.row]
            for held in given_back
            if held.row in rows and _change(rows[held.row].window, held, -held.cost)
        }
        self._save(changed)

    def adjust(self, reservation: Reservation, cost: int) -> Reservation:
        if cost != reservation.cost:
            rows = self._load({reservation.row})
            row = rows.get(reservation.row)
            if row is not None and _change(row.window, reservation, cost - reservation.cost):
                self._save(rows)
        return structs.replace(reservation, cost=cost)

    def usage(self, charges: Sequence[Charge], now: float) -> list[Usage]:
        rows = self._load({charge.row for charge in charges})
        return [
            Usage(charge.row, _fit(rows.get(charge.row, _Row()).window, charge, now).used(now))
            for charge in charges
        ]

    def _load(self, wanted: Iterable[str]) -> dict[str, _Row]:
        """The rows there are of ``wanted``; a kept one may be swept, then nothing counts in it."""
        kept = self._kept()
        if kept.keys() >= (named := set(wanted)):
            return {name: kept[name] for name in named}
        ordered = sorted(named)
        text = self._run.texts.text(statements.limit_rows, len(ordered), self._run.locks)
        found = self._run(text, names("name", ordered)).fetchall()
        rows = {
            name: _Row(_window(window, since, buckets), (window, since, idle_at))
            for name, window, since, buckets, idle_at in found
        }
        kept.update(rows)
        return rows

    def _kept(self) -> dict[str, _Row]:
        """Rows that hold from earlier transactions; to be added to."""
        if self._run.kept is None:
            return {}
        kept: dict[str, _Row] = self._run.kept.setdefault("limits", {})
        if len(kept) > _MOST_KEPT:
            kept.clear()
        return kept

    def _forget(self, rows: Iterable[str]) -> None:
        """What was counted in ``rows`` is not saved."""
        kept = self._kept()
        for name in rows:
            kept.pop(name, None)

    def _load_all(
        self, wanted: Mapping[str, Charge], found: dict[str, _Row], now: float
    ) -> dict[str, _Row]:
        """Every row, locked: where there is none yet, two first users would see nothing both.

        One that is swept away between the two statements is inserted again.
        """
        text = self._run.texts.insert_missing(schema.limits, _COLUMNS)
        while len(found) < len(wanted):
            for name in sorted(wanted.keys() - found.keys()):
                window, since, _ = _terms(empty := _fit(None, wanted[name], now))
                terms = window, since, now + wanted[name].window
                self._run(text, _parameters(name, _buckets(empty), terms))
            found = self._load(wanted)
        return found

    def _save(self, rows: Mapping[str, _Row]) -> None:
        for name in sorted(rows):
            row = rows[name]
            assert row.window is not None  # noqa: S101 - it is counted in
            buckets, terms = _buckets(row.window), _terms(row.window)
            if terms == row.stored:
                text = self._run.texts.update(statements.count_limit, ("buckets",))
                if self._run(text, {"buckets": buckets, "if_name": name}).rowcount == 1:
                    continue
            text = self._run.texts.upsert(schema.limits, _COLUMNS)
            self._run(text, _parameters(name, buckets, terms))
            row.stored = terms
        self._kept().update(rows)

    def _sweep(self, now: float) -> None:
        text = self._run.texts.text(statements.sweep_limits)
        self._run(text, {"now": now, "most": _SWEPT_AT_ONCE})


def _window(window: float, since: float | None, buckets: str) -> _Window:
    counted = _decode(buckets)
    if since is None:
        return BucketWindow(window, counted)
    return CalendarWindow(since, window, sum(units for _, units in counted))


def _buckets(window: _Window) -> str:
    if isinstance(window, BucketWindow):
        return _encode(window.dump()).decode()
    return _encode([(0, window.used(window.since))]).decode()


def _terms(window: _Window) -> _Terms:
    if isinstance(window, BucketWindow):
        return window.window, None, window.idle_at()
    return window.window, window.since, window.since + window.window


def _parameters(name: str, buckets: str, terms: _Terms) -> dict[str, Any]:
    window, since, idle_at = terms
    return {"name": name, "window": window, "since": since, "buckets": buckets, "idle_at": idle_at}


def _fit(window: _Window | None, charge: Charge, now: float) -> _Window:
    return fitting(window, BucketWindow, charge.window, charge.since, now)


def _change(window: _Window | None, held: Reservation, cost: int) -> int:
    """Count ``cost`` more (or less) where ``held`` was counted; 0 when that is over."""
    mark = held.bucket
    if window is None:
        return 0
    if isinstance(window, BucketWindow):
        if held.since is not None:
            return 0
        mark = window.mark_from(mark, held.window)
    return window.add(mark, cost) if cost > 0 else window.give_back(mark, -cost)
