"""Windows of time: what counts, until when, and what can be taken back."""

from __future__ import annotations

import pytest

from gonogo.windows import SLICES, BucketWindow, CalendarWindow, SlidingWindow, fitting

T = 1_800_000_000.0


@pytest.fixture(params=[SlidingWindow, BucketWindow])
def window(request):
    return request.param(60.0)


def test_units_count_until_the_window_is_over(window):
    """What was taken counts one instant before the window is over."""
    window.take(T, 3)
    assert window.used(T + 59.999) == 3


def test_the_exact_window_is_half_open():
    """An event at t no longer counts at t + window."""
    window = SlidingWindow(60.0)
    window.take(T, 3)
    assert window.used(T + 60) == 0


def test_buckets_hold_back_for_one_slice_at_most():
    """On the ledger an event is over at most one slice (and a rounding) after the window."""
    window = BucketWindow(60.0)
    window.take(T, 3)
    assert window.used(T + 60 + 60 / SLICES + 0.001) == 0


def test_a_cost_of_a_million_is_one_entry():
    """The size of a cost does not matter to what is kept."""
    window = SlidingWindow(60.0)
    for _ in range(3):
        window.take(T, 1_000_000)
    assert (window.used(T), len(window._times)) == (3_000_000, 1)


def test_the_exact_window_forgets_what_is_over_without_being_asked():
    """A window that always has room keeps at most about twice what counts."""
    window = SlidingWindow(60.0)
    for tick in range(5_000):
        assert window.grant(T + tick, 1, 10_000) == T + tick
    assert len(window._times) == len(window._costs) <= 130
    assert window.used(T + 4_999) == 60


class Interrupted(list[float]):
    """A list that is interrupted when it has taken something in, once."""

    armed = True

    def append(self, entry: float) -> None:
        super().append(entry)
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("count", ["take", "grant"])
@pytest.mark.parametrize("place", ["_times", "_costs"])
def test_an_interrupt_makes_nothing_count_shorter(before, count, place):
    """After Ctrl-C at any step of counting, what comes later counts its time, and is over then."""
    window = SlidingWindow(60.0)
    for tick in range(before):
        window.take(T + tick, 1)
    setattr(window, place, Interrupted(getattr(window, place)))
    with pytest.raises(KeyboardInterrupt):
        window.take(T + 2, 1) if count == "take" else window.grant(T + 2, 1, 99)
    for tick in (10, 20):
        assert window.grant(T + tick, 5, 99) == T + tick
    assert window.used(T + 69) >= 10
    assert window.used(T + 79) >= 5
    assert window.used(T + 200) == 0
    assert window.grant(T + 200, 5, 5) is not None


def test_a_mark_is_found_among_many():
    """Units are given back at their own instant, also when earlier ones are over."""
    window = SlidingWindow(60.0)
    marks = [window.take(T + tick, tick) for tick in range(100)]
    assert window.used(T + 100) == sum(range(41, 100))
    assert [window.give_back(mark, 1_000) for mark in marks[40:44]] == [0, 41, 42, 43]
    assert window.add(marks[50], 7) == 7
    assert window.used(T + 100) == sum(range(44, 100)) + 7


def test_buckets_are_bounded():
    """However much is taken, a window on the ledger is at most 61 numbers."""
    window = BucketWindow(60.0)
    for tick in range(5_000):
        window.take(T + tick * 0.1, 1)
        window.used(T + tick * 0.1)
    assert len(window.dump()) <= SLICES + 1


def test_buckets_of_a_clock_far_ahead_are_bounded_and_kept():
    """Slices in the future are merged into the later ones; no unit is forgotten."""
    window = BucketWindow(60.0)
    for tick in range(200):
        window.take(T + tick * 10, 1)
    again = BucketWindow(60.0, window.dump())
    assert len(window.dump()) == SLICES + 1
    assert again.used(T) == 200


def test_time_that_steps_back_frees_nothing(window):
    """A clock that is set back does not reopen what is used."""
    window.take(T, 3)
    assert window.used(T - 3_600) == 3


def test_the_exact_window_keeps_the_latest_time():
    """An event that comes with an earlier time is counted at the latest time seen."""
    window = SlidingWindow(60.0)
    window.take(T, 1)
    assert window.take(T - 30, 1) == T
    assert window.used(T + 59) == 2


def test_given_back_units_are_free_at_once(window):
    """Units go back where they were counted."""
    mark = window.take(T, 5)
    assert (window.give_back(mark, 2), window.used(T)) == (2, 3)


def test_never_more_is_given_back_than_is_there(window):
    """Giving back twice cannot push usage below zero."""
    mark = window.take(T, 5)
    assert [window.give_back(mark, 5), window.give_back(mark, 5), window.used(T)] == [5, 0, 0]


def test_nothing_is_given_back_after_the_window(window):
    """A mark that is over gives nothing back and takes nothing more."""
    mark = window.take(T, 5)
    later = T + 100
    window.take(later, 1)
    window.used(later)
    assert (window.give_back(mark, 5), window.add(mark, 5), window.used(later)) == (0, 0, 1)


def test_more_can_be_counted_at_a_mark(window):
    """An actual cost above the estimate is counted where the estimate was."""
    mark = window.take(T, 0)
    assert (window.add(mark, 4), window.used(T)) == (4, 4)


def test_retry_after_waits_for_as_many_as_are_needed():
    """The wait ends when enough of the oldest events are over, not when all are."""
    window = SlidingWindow(60.0)
    window.take(T, 2)
    window.take(T + 10, 2)
    assert window.retry_after(T + 20, 2, 4) == 40
    assert window.retry_after(T + 20, 3, 4) == 50
    assert window.retry_after(T + 20, 2, 6) == 0


def test_a_cost_above_the_limit_never_fits(window):
    """A cost that is greater than the limit has no retry_after."""
    assert window.retry_after(T, 11, 10) is None


def test_a_calendar_period_ends_at_its_end():
    """Units of a calendar period count until the next begins."""
    day = CalendarWindow(T, 86_400.0)
    day.take(T + 5, 10)
    assert day.retry_after(T + 400, 1, 10) == 86_000
    assert day.retry_after(T + 400, 11, 10) is None


def test_a_later_period_starts_from_zero_and_an_earlier_one_does_not():
    """A new day is empty; yesterday's clock counts into today."""
    day = CalendarWindow(T, 86_400.0, 7)
    assert fitting(day, SlidingWindow, 86_400.0, T + 86_400, T + 86_400).used(T) == 0
    assert fitting(day, SlidingWindow, 86_400.0, T - 86_400, T) is day


@pytest.mark.parametrize("kind", [SlidingWindow, BucketWindow])
def test_a_limit_declared_anew_keeps_what_was_used(kind):
    """Another length or kind of window forgets nothing that still counts."""
    window = kind(60.0)
    window.take(T, 5)
    longer = fitting(window, kind, 600.0, None, T)
    day = fitting(window, kind, 86_400.0, T - 100, T)
    back = fitting(day, kind, 60.0, None, T)
    assert [longer.used(T + 300), day.used(T), back.used(T)] == [5, 5, 5]


def test_a_mark_survives_another_length_of_window():
    """Units can be given back after the window was declared anew."""
    window = BucketWindow(60.0)
    mark = window.take(T, 5)
    longer = window.resized(600.0)
    assert longer.give_back(longer.mark_from(mark, 60.0), 5) == 5
