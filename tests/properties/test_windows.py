"""No window of any place and length ever holds more than its limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.windows import SLICES, BucketWindow, SlidingWindow

START = 1_800_000_000.0
lengths = st.sampled_from([0.1, 1.0, 7.3, 60.0, 3_600.0, 86_400.0])
steps = st.lists(
    st.tuples(
        st.floats(min_value=0.0, max_value=1.3),  # of the window, since the step before
        st.integers(min_value=0, max_value=5),
    ),
    min_size=1,
    max_size=60,
)
kinds = pytest.mark.parametrize("kind", [SlidingWindow, BucketWindow])


def admit(window, now: float, cost: int, limit: int) -> bool:
    if window.used(now) + cost > limit:
        return False
    window.take(now, cost)
    return True


@kinds
@given(lengths, steps, st.integers(min_value=1, max_value=9))
def test_no_window_is_ever_overfull(kind, length, steps, limit):
    """In every window that ends at an admitted event, at most ``limit`` units were admitted."""
    window, now, admitted = kind(length), START, []
    for share, cost in steps:
        now += share * length
        if admit(window, now, cost, limit):
            admitted.append((now, cost))
            inside = sum(units for at, units in admitted if at + length > now)
            assert inside <= limit


@given(lengths, steps, st.integers(min_value=1, max_value=9))
def test_the_exact_window_denies_only_when_it_is_full(length, steps, limit):
    """The exact window admits whatever a brute-force count would."""
    window, now, admitted = SlidingWindow(length), START, []
    for share, cost in steps:
        now += share * length
        inside = sum(units for at, units in admitted if at + length > now)
        assert admit(window, now, cost, limit) == (inside + cost <= limit)
        if inside + cost <= limit:
            admitted.append((now, cost))


@given(lengths, steps, st.integers(min_value=1, max_value=9))
def test_buckets_hold_back_at_most_one_slice(length, steps, limit):
    """Buckets deny only what a window longer by one slice (and rounding) would deny too."""
    window, now, admitted = BucketWindow(length), START, []
    longer = length * (1 + 1 / SLICES) + 1e-4
    for share, cost in steps:
        now += share * length
        if admit(window, now, cost, limit):
            admitted.append((now, cost))
        else:
            assert sum(units for at, units in admitted if at + longer > now) + cost > limit


@kinds
@given(lengths, steps, st.integers(min_value=1, max_value=9), st.integers(1, 9))
def test_after_retry_after_there_is_room(kind, length, steps, limit, wanted):
    """Waiting exactly as long as was said is enough, and None is said only when it never is."""
    window, now = kind(length), START
    for share, cost in steps:
        now += share * length
        admit(window, now, cost, limit)
    wait = window.retry_after(now, wanted, limit)
    if wanted > limit:
        assert wait is None
    else:
        assert window.used(now + wait) + wanted <= limit


@kinds
@given(lengths, steps)
def test_giving_everything_back_leaves_nothing(kind, length, steps):
    """Usage is zero when every unit was given back, in any order and however often."""
    window, now, marks = kind(length), START, []
    for share, cost in steps:
        now += share * length
        marks.append((window.take(now, cost), cost))
    for mark, cost in reversed(marks * 2):
        window.give_back(mark, cost)
    assert window.used(now) == 0


@given(lengths, steps, st.integers(min_value=1, max_value=9))
def test_a_window_is_the_same_whether_somebody_looks_or_not(length, steps, limit):
    """Grants alone, which look for what is over only now and then, admit what used() admits."""
    lazy, eager, now = SlidingWindow(length), SlidingWindow(length), START
    for share, cost in steps * 4:
        now += share * length / 40
        assert (lazy.grant(now, cost, limit) is not None) == admit(eager, now, cost, limit)
    assert lazy.used(now) == eager.used(now)
