"""What holds of the governor for every sequence of times, costs and refunds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import example, given
from hypothesis import strategies as st

from gonogo.clock import FakeClock
from gonogo.errors import RateLimited
from gonogo.governor import GovernorEnforcer, Grant, Limit
from gonogo.store.memory import MemoryStore

START = 1_000_000.0
WINDOW = 10.0


class AnyClock(FakeClock):
    """A clock that can be set to any time, as a careless administrator would."""

    def set(self, now: float) -> None:
        self._now = now


@dataclass
class Admitted:
    at: float
    cost: int


costs = st.integers(0, 6)
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 1.0, 2.5, WINDOW - 0.1, WINDOW, WINDOW + 0.1])
        | st.floats(0, 15, allow_nan=False),
        costs,
        st.sampled_from(["keep", "keep", "refund now", "refund first", "settle"]),
    ),
    max_size=40,
)


def most_in_a_window(admitted: list[Admitted]) -> int:
    """By brute force: the most units in any half-open window; one begins at some event."""
    return max(
        (sum(b.cost for b in admitted if a.at <= b.at and a.at + WINDOW > b.at) for a in admitted),
        default=0,
    )


@given(steps=steps, maximum=st.integers(1, 10))
def test_no_window_ever_holds_more_than_the_limit(
    steps: list[tuple[float, int, str]], maximum: int
) -> None:
    """Whatever is asked, refunded or settled, and when: no window holds more than max units."""
    clock = FakeClock(START)
    governor = GovernorEnforcer(clock=clock)
    limit = Limit("units", maximum, per=WINDOW, cost="{n}")
    admitted: list[Admitted] = []
    open_grants: list[tuple[Grant, Admitted]] = []
    for wait, cost, then in steps:
        clock.advance(wait)
        try:
            grant = governor.acquire(limit, arguments={"n": cost})
        except RateLimited:
            inside = sum(a.cost for a in admitted if a.at + WINDOW > clock.now())
            assert inside + cost > maximum, "denied although there was room"
            continue
        entry = Admitted(clock.now(), cost)
        admitted.append(entry)
        open_grants.append((grant, entry))
        if then == "settle":
            entry.cost //= 2
            open_grants.pop()[0].settle({"units": entry.cost})
        elif then != "keep":
            grant, entry = open_grants.pop(-1 if then == "refund now" else 0)
            grant.refund()
            entry.cost = 0
        assert most_in_a_window(admitted) <= maximum


@given(
    spent=st.lists(st.tuples(st.floats(0, WINDOW), st.integers(1, 5)), max_size=10),
    cost=st.integers(1, 10),
)
def test_retry_after_is_exact(spent: list[tuple[float, int]], cost: int) -> None:
    """Waiting as long as told admits; waiting a hair less does not."""

    def prepared() -> tuple[GovernorEnforcer, AnyClock]:
        clock = AnyClock(START)
        governor = GovernorEnforcer(clock=clock)
        governor.set_limit("units", 10, WINDOW)
        for wait, units in spent:
            clock.advance(wait)
            governor.check_limit("units", cost=units)
        return governor, clock

    governor, clock = prepared()
    try:
        governor.acquire("units", cost=cost)
        return
    except RateLimited as denied:
        retry_after = denied.retry_after
    assert retry_after is not None
    room = clock.now() + retry_after
    clock.set(room)
    assert governor.check_limit("units", cost=cost)[0]
    governor, clock = prepared()
    clock.set(math.nextafter(room, 0))
    assert not governor.check_limit("units", cost=cost)[0]


@given(
    rounds=st.lists(
        st.tuples(st.floats(0, 5), st.lists(st.integers(0, 4), min_size=3, max_size=3)),
        max_size=20,
    )
)
def test_a_denial_changes_nothing(rounds: list[tuple[float, list[int]]]) -> None:
    """Three limits are charged all or none, and after a denial all three are as before."""
    clock = FakeClock(START)
    governor = GovernorEnforcer(clock=clock)
    limits = [
        Limit("a", 5, per=WINDOW, cost="{a}"),
        Limit("b", 7, per="minute", cost="{b}"),
        Limit("c", 6, per=WINDOW, cost="{c}", key="{who}"),
    ]
    for limit in limits:
        governor.declare(limit)

    def usage() -> list[int]:
        keys = (None, None, "w")
        return [
            governor.get_status(limit.name, key=key)["current_actions"]
            for limit, key in zip(limits, keys, strict=True)
        ]

    for wait, (a, b, c) in rounds:
        clock.advance(wait)
        before = usage()
        try:
            governor.acquire(*limits, arguments={"a": a, "b": b, "c": c, "who": "w"})
        except RateLimited:
            assert usage() == before
            assert any(u + n > m for u, n, m in zip(before, (a, b, c), (5, 7, 6), strict=True)), (
                "denied although all had room"
            )
        else:
            assert usage() == [u + n for u, n in zip(before, (a, b, c), strict=True)]


@given(
    moves=st.lists(st.tuples(st.integers(-20, 8), st.integers(1, 4)), min_size=1, max_size=25),
    maximum=st.integers(1, 5),
)
@example(moves=[(0, 1), (8, 2), (-8, 1), (8, 4), (3, 2)], maximum=2)
def test_a_clock_that_steps_back_opens_no_window(
    moves: list[tuple[int, int]], maximum: int
) -> None:
    """For a limit in use, a clock set back gives no room that the latest time seen had not."""
    clock = AnyClock(START)
    governor = GovernorEnforcer(clock=clock)
    governor.set_limit("units", maximum, WINDOW)
    governor.check_limit("units", cost=0)
    admitted: list[Admitted] = []
    latest = START
    for move, cost in moves:
        clock.set(clock.now() + move)
        latest = max(latest, clock.now())
        if governor.check_limit("units", cost=cost)[0]:
            admitted.append(Admitted(latest, cost))
        assert most_in_a_window(admitted) <= maximum


@given(
    costs=st.lists(st.integers(1, 400), max_size=30),
    already=st.integers(0, 1000),
)
def test_a_forecast_tells_what_would_happen(costs: list[int], already: int) -> None:
    """What a forecast denies, and nothing else, is denied when the calls are really made."""
    clock = FakeClock(START)
    store = MemoryStore()
    governor = GovernorEnforcer(store=store, clock=clock)
    limit = Limit("cents", 1000, per="day", tz="Europe/Paris", cost="{n}")
    governor.acquire(limit, arguments={"n": already})
    groups = [[limit.charge({"n": cost}, clock.now())] for cost in costs]
    told = store.read(lambda tx: governor.forecast(tx, groups, clock.now()))
    denied = []
    for index, cost in enumerate(costs):
        try:
            governor.acquire(limit, arguments={"n": cost})
        except RateLimited:
            denied.append(index)
    assert [forecast.index for forecast in told] == denied


def test_a_million_units_are_one_entry() -> None:
    """The memory a charge takes does not depend on its cost."""
    clock = FakeClock(START)
    store = MemoryStore()
    governor = GovernorEnforcer(store=store, clock=clock)
    limit = Limit("units", 10_000_000, per=WINDOW, cost=1_000_000)
    grant = governor.acquire(limit)
    assert len(grant.reservations) == 1
    window = store._tables.limits._rows["units"]
    assert len(window._times) == len(window._costs) == 1  # type: ignore[union-attr]
    grant.refund()
    assert governor.get_status("units")["current_actions"] == 0
