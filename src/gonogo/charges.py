"""Arithmetic on charges and words for their denial; pure functions, shared by all who count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from gonogo.durations import spell_time
from gonogo.records import Charge, Denial


class Forecast(Struct, frozen=True):
    """One limit that would deny one item: ``used`` units are taken by then, ``cost`` are wanted.

    ``never`` says that no waiting helps, because the cost alone exceeds the limit.
    """

    index: int
    limit: str
    row: str
    used: int
    max: int
    cost: int
    never: bool


def forecast(groups: Sequence[Sequence[Charge]], used: Mapping[str, int]) -> list[Forecast]:
    """Which of ``groups``, taken in this order, would be denied, and by what.

    ``used`` is what is in use of each row now. A denied group uses nothing of what the later ones
    find; a group that several limits deny appears once for each.
    """
    taken = dict(used)
    forecasts: list[Forecast] = []
    for index, group in enumerate(groups):
        charges = merge(group)
        denied = [
            Forecast(index, c.limit, c.row, taken.get(c.row, 0), c.max, c.cost, c.cost > c.max)
            for c in charges
            if taken.get(c.row, 0) + c.cost > c.max
        ]
        forecasts += denied
        if not denied:
            taken.update({c.row: taken.get(c.row, 0) + c.cost for c in charges})
    return forecasts


def merge(charges: Iterable[Charge]) -> tuple[Charge, ...]:
    """One charge for each row, so that a row is judged and settled once."""
    rows: dict[str, Charge] = {}
    for charge in charges:
        known = rows.get(charge.row)
        if known is not None:
            charge = Charge(  # noqa: PLW2901 - the sum takes its place
                charge.limit,
                charge.row,
                charge.max,
                charge.cost + known.cost,
                charge.window,
                charge.since,
            )
        rows[charge.row] = charge
    return tuple(rows.values())


def limit_of(row: str) -> str:
    """The limit's name in a row, ``name`` or ``name[key]``."""
    return row.partition("[")[0]


def explain_denial(denial: Denial, span: str, counted_in: str, now: float) -> str:
    """One sentence on what has no room at ``now``, and what to do; for the rest see `Limit`.

    It says when and not in how long: it is kept as the note of a call, and read later.
    """
    start = f"Rate limit exceeded for {denial.row!r}: "
    if denial.retry_after is None:
        return (
            f"{start}a cost of {denial.cost} can never be admitted, because the limit is "
            f"{denial.max} per {span}. Nothing was used; split it, or raise the limit"
        )
    return (
        f"{start}{denial.used} of {denial.max} used in {counted_in}, {denial.cost} wanted. "
        f"Nothing was used; try again at {spell_time(math.ceil(now + denial.retry_after))}"
    )
