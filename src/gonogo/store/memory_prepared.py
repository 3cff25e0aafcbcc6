"""Prepared uses of limits in memory: for good, and without a transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from gonogo.windows import CalendarWindow, SlidingWindow

if TYPE_CHECKING:
    from gonogo.store.memory import MemoryStore

Use = Callable[[int, float], bool]
"""Uses so many units of each limit at such a time, or of none; whether it did."""

Place = tuple[SlidingWindow | CalendarWindow, int]
"""A window and how much it may hold."""


def prepare_use(store: MemoryStore, places: Sequence[Place], switches: Collection[str]) -> Use:
    """A function that uses units of all ``places``, unless one of ``switches`` is set.

    An interrupt may come anywhere: whoever is interrupted lets go of the store's lock, if it has
    it. A ``with`` would be as safe and takes twice as long.
    """
    controls = store.controls
    acquire, release = store.lock.acquire, store.lock.release
    (window, most), *others = places

    def use(cost: int, now: float) -> bool:
        try:
            acquire()
            if store.busy or window.retired or (controls and not controls.isdisjoint(switches)):
                used = False
            elif others:
                used = _grant_all(places, cost, now)
            else:
                used = window.grant(now, cost, most) is not None
            release()
        except BaseException:
            _let_go(release)
            raise
        return used

    return use


def _grant_all(places: Sequence[Place], cost: int, now: float) -> bool:
    granted = 0
    try:
        for window, most in places:
            if window.retired or window.grant(now, cost, most) is None:
                break
            granted += 1
    except BaseException:
        _give_back(places[:granted], cost, now)
        raise
    if granted < len(places):
        _give_back(places[:granted], cost, now)
        return False
    return True


def _give_back(places: Sequence[Place], cost: int, now: float) -> None:
    for window, _ in places:
        window.give_back(window.take(now, 0), cost)  # the mark is the same again


def _let_go(release: Callable[[], None]) -> None:
    """Release a lock, unless this thread does not hold it."""
    try:
        release()
    except RuntimeError:
        return
