"""Which tick of a schedule is made now, and which are let go: the catch-up policy. Pure."""

from __future__ import annotations

from msgspec import Struct, structs

from gonogo.records import Schedule
from gonogo.schedule import Declared, Tick


class Turn(Struct, frozen=True):
    """What a scheduler does about a schedule that is due.

    Attributes:
        before, after: the schedule as it was seen, and as it will stand.
        tick: the tick whose call is made; ``None`` makes none.
        missed: ticks that are let go, and the one that is made later than the grace allows.
    """

    before: Schedule
    after: Schedule
    tick: Tick | None
    missed: int


def next_turn(declared: Declared, schedule: Schedule, now: float) -> Turn:
    """Decide about a schedule whose ``next_at`` is not after ``now``.

    ``all`` makes every tick, one a turn. ``one`` makes the last one that is due and lets go those
    before it. ``skip`` does the same, and makes none at all when even the last one is late.
    """
    rhythm, first = declared.rhythm, schedule.next_at
    last = first
    if schedule.catch_up != "all":
        last = max(first, rhythm.last_until(now, schedule.anchor))
    is_late = now - last > schedule.grace
    due = 1 if last == first else rhythm.count(first, last, schedule.anchor)
    missed = due - 1 + is_late
    made = not (is_late and schedule.catch_up == "skip")
    after = structs.replace(
        schedule,
        next_at=rhythm.after(last, schedule.anchor),
        last_at=last if made else schedule.last_at,
        missed=schedule.missed + missed,
        note=None,
    )
    return Turn(schedule, after, rhythm.tick(last) if made else None, missed)
