"""Limits: all or nothing, never over, given back where they were taken."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.making import NOW, charge

from gonogo.records import Denial, Usage


def reserve(store, *charges, now=NOW):
    return store.write(lambda tx: tx.limits.reserve(charges, now))


def used(store, *rows, now=NOW, **fields):
    wanted = [charge(row, **fields) for row in rows]
    return [usage.used for usage in store.read(lambda tx: tx.limits.usage(wanted, now))]


def release(store, *reservations):
    store.write(lambda tx: tx.limits.release(reservations))


def test_a_granted_charge_is_used(store):
    """A reservation says what was taken, and the usage shows it."""
    (held,) = reserve(store, charge("api", 3))
    assert (held.row, held.cost, held.window, held.since) == ("api", 3, 60.0, None)
    assert store.read(lambda tx: tx.limits.usage([charge("api")], NOW)) == [Usage("api", 3)]


def test_exactly_the_limit_fits(store):
    """A limit of ten grants ten and not eleven."""
    assert reserve(store, charge(cost=10))
    denial = reserve(store, charge(cost=1))
    assert isinstance(denial, Denial)
    assert (denial.limit, denial.row, denial.used, denial.max, denial.cost) == (
        "api",
        "api",
        10,
        10,
        1,
    )


def test_all_or_nothing(store):
    """When one charge has no room, none of the others is used either."""
    reserve(store, charge("full", 10))
    denial = reserve(store, charge("free", 1), charge("full", 1), charge("other", 1))
    assert isinstance(denial, Denial)
    assert denial.row == "full"
    assert used(store, "free", "full", "other") == [0, 10, 0]


def test_charges_of_one_row_add_up(store):
    """Two charges of the same row are granted together or not at all."""
    denial = reserve(store, charge(cost=6), charge(cost=6))
    assert isinstance(denial, Denial)
    assert (denial.used, used(store, "api")) == (0, [0])
    assert len(reserve(store, charge(cost=5), charge(cost=5))) == 2
    assert used(store, "api") == [10]


def test_no_charges_are_granted(store):
    """Reserving nothing succeeds with nothing."""
    assert reserve(store) == ()


def test_retry_after_is_enough(store):
    """Waiting as long as the denial says makes room."""
    reserve(store, charge(cost=9))
    denial = reserve(store, charge(cost=2), now=NOW + 5)
    assert isinstance(denial, Denial)
    assert not isinstance(reserve(store, charge(cost=2), now=NOW + 5 + denial.retry_after), Denial)


def test_what_never_fits_has_no_retry_after(store):
    """A cost above the limit is denied for good."""
    denial = reserve(store, charge(cost=11))
    assert isinstance(denial, Denial)
    assert denial.retry_after is None


def test_usage_leaves_with_the_window(store):
    """Units count until the window is over (on a ledger: and one slice more)."""
    reserve(store, charge(cost=10))
    assert used(store, "api", now=NOW + 59.9) == [10]
    assert used(store, "api", now=NOW + 61.1) == [0]


def test_released_units_are_free(store):
    """Units given back can be taken again at once."""
    held = reserve(store, charge("a", 10), charge("b", 10))
    release(store, *held)
    assert used(store, "a", "b") == [0, 0]
    assert not isinstance(reserve(store, charge("a", 10)), Denial)


def test_releasing_twice_never_goes_below_zero(store):
    """Units are given back once, whatever is asked."""
    reserve(store, charge(cost=2), now=NOW)
    (held,) = reserve(store, charge(cost=3), now=NOW + 30)
    release(store, held)
    release(store, held)
    assert used(store, "api", now=NOW + 30) == [2]


def test_releasing_after_the_window_takes_nothing_from_others(store):
    """Units that left by time are not given back out of later ones."""
    (held,) = reserve(store, charge(cost=5))
    reserve(store, charge(cost=4), now=NOW + 100)
    release(store, held)
    assert used(store, "api", now=NOW + 100) == [4]


def test_releasing_what_is_unknown_does_nothing(store):
    """A reservation of a row that is gone is ignored."""
    (held,) = reserve(store, charge(cost=5))
    release(store)
    release(store, type(held)("nobody", 5, held.bucket, 60.0))
    assert used(store, "api", "nobody") == [5, 0]


@pytest.mark.parametrize("actual", [0, 3, 10, 25])
def test_the_actual_cost_replaces_the_reserved_one(store, actual):
    """An adjustment counts the actual cost, even above the limit."""
    (held,) = reserve(store, charge(cost=5))
    adjusted = store.write(lambda tx: tx.limits.adjust(held, actual))
    assert (adjusted.cost, adjusted.bucket) == (actual, held.bucket)
    assert used(store, "api") == [actual]
    release(store, adjusted)
    assert used(store, "api") == [0]


def test_a_cost_of_nothing_can_become_something(store):
    """A reservation of zero units can be adjusted upwards."""
    (held,) = reserve(store, charge(cost=0))
    store.write(lambda tx: tx.limits.adjust(held, 4))
    assert used(store, "api") == [4]


def test_a_calendar_period_turns(store):
    """A calendar limit counts from the start of its period and begins again with the next."""
    day = {"window": 86_400.0, "since": NOW}
    (held,) = reserve(store, charge(cost=10, **day), now=NOW + 80_000)
    denial = reserve(store, charge(cost=1, **day), now=NOW + 86_000)
    assert isinstance(denial, Denial)
    assert denial.retry_after == 400
    tomorrow = {"window": 86_400.0, "since": NOW + 86_400}
    assert reserve(store, charge(cost=10, **tomorrow), now=NOW + 86_400)
    release(store, held)
    assert used(store, "api", now=NOW + 86_400, **tomorrow) == [10]


def test_a_clock_set_back_does_not_reopen_yesterday(store):
    """An earlier period counts into the later one that is already there."""
    reserve(store, charge(cost=10, window=86_400.0, since=NOW))
    again = reserve(store, charge(cost=1, window=86_400.0, since=NOW - 86_400))
    assert isinstance(again, Denial)


def test_a_limit_declared_anew_forgets_nothing(store):
    """A window of another length or kind starts with what still counts."""
    (held,) = reserve(store, charge(cost=4))
    assert used(store, "api", window=600.0) == [4]
    reserve(store, charge(cost=1, window=600.0))
    release(store, held)
    assert used(store, "api", window=600.0) == [1]
    reserve(store, charge(cost=1, window=86_400.0, since=NOW - 10))
    assert used(store, "api", window=86_400.0, since=NOW - 10) == [2]


def test_a_denial_that_is_followed_by_a_commit_uses_nothing(store):
    """A transaction may go on after a denial; what it writes is kept, the charges are not."""

    def work(tx):
        tx.limits.reserve([charge("a", 1)], NOW)
        return tx.limits.reserve([charge("a", 1), charge("b", 99)], NOW)

    assert isinstance(store.write(work), Denial)
    assert used(store, "a", "b") == [1, 0]


def test_a_rollback_gives_back_and_takes_again(store):
    """After an error neither a reservation, nor a release, nor an adjustment has happened."""
    one, two = reserve(store, charge("a", 2), charge("b", 3))

    def work(tx):
        tx.limits.reserve([charge("a", 5), charge("new", 5)], NOW)
        tx.limits.release([one])
        tx.limits.adjust(two, 9)
        raise KeyError

    with pytest.raises(KeyError):
        store.write(work)
    assert used(store, "a", "b", "new") == [2, 3, 0]


def test_many_rows_that_are_over_do_not_stay(store):
    """Rows of keys that are no longer used are swept; a live one never is."""
    reserve(store, charge("live", 7, window=1e6))
    for number in range(1200):
        reserve(store, charge(f"key-{number}", 1, window=1.0), now=NOW + number * 10)
    assert used(store, "live", now=NOW + 12_000, window=1e6) == [7]
    assert not isinstance(reserve(store, charge("key-0", 10, window=1.0), now=NOW + 12_000), Denial)


def test_threads_never_over_admit(store):
    """Under concurrent callers exactly the limit is granted."""
    start, granted = threading.Barrier(4), []

    def work():
        start.wait()
        for _ in range(25):
            if not isinstance(reserve(store, charge(most=30)), Denial):
                granted.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 30


steps = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=40),
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=3),
        st.sampled_from(["keep", "keep", "release", "adjust"]),
    ),
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(steps, st.integers(0, 10**9))
def test_no_window_is_ever_overfull(store, steps, salt):
    """Whatever is taken, given back and adjusted, no window holds more than its limit."""
    now, counted = NOW, []
    for wait, wishes, then in steps:
        now += wait
        charges = [charge(f"{row}-{salt}", cost, most=6) for row, cost in wishes]
        held = reserve(store, *charges, now=now)
        if isinstance(held, Denial):
            continue
        if then == "release":
            release(store, *held)
            continue
        for reservation in held:
            cost = reservation.cost
            if then == "adjust":
                cost //= 2
                store.write(lambda tx, r=reservation, c=cost: tx.limits.adjust(r, c))
            counted.append((now, reservation.row, cost))
        for row in {row for _, row, _ in counted}:
            assert sum(c for at, name, c in counted if name == row and at + 60 > now) <= 6


def test_units_count_from_when_they_are_taken(store, request):
    """Whoever had to wait for the row takes its units then, or they would leave too early."""
    asked = []

    def clock():
        asked.append(NOW + 30)
        return asked[-1]

    charged = charge("api", 1, window=60.0)
    assert store.write(lambda tx: tx.limits.reserve([charged], NOW, clock))
    waits = bool(asked)  # one that can only have one writer has waited before it began
    begun = NOW + 30 if waits else NOW
    assert used(store, "api", now=begun + 59.9) == [1]
    assert used(store, "api", now=begun + 62) == [0]
    assert waits is ("postgres" in request.node.name)
