"""Limits, the governor's guards, and the kill switch."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from gonogo.charges import Forecast
from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError, Halted, RateLimited, StoreUnavailable
from gonogo.governor import GovernorEnforcer
from gonogo.halts import check_halt
from gonogo.limits import Concurrency, Limit
from gonogo.records import Charge, Control
from gonogo.store.memory import MemoryStore
from gonogo.windows import SlidingWindow


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def governor(clock: FakeClock) -> GovernorEnforcer:
    return GovernorEnforcer(clock=clock)


def used(governor: GovernorEnforcer, name: str) -> int:
    current: int = governor.get_status(name)["current_actions"]
    return current


# Limit


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Limit("", 1, per="1h"),
        lambda: Limit(" ", 1, per="1h"),
        lambda: Limit(None, 1, per="1h"),
        lambda: Limit("a[b]", 1, per="1h"),
        lambda: Limit("a", 0, per="1h"),
        lambda: Limit("a", -1, per="1h"),
        lambda: Limit("a", True, per="1h"),
        lambda: Limit("a", 1.5, per="1h"),
        lambda: Limit("a", 1, per="1x"),
        lambda: Limit("a", 1, per=0),
        lambda: Limit("a", 1, per="fortnight"),
        lambda: Limit("a", 1, per="1h", cost=-1),
        lambda: Limit("a", 1, per="1h", cost=True),
        lambda: Limit("a", 1, per="1h", cost=0.5),
        lambda: Limit("a", 1, per="1h", cost="{cents"),
        lambda: Limit("a", 1, per="1h", cost="{cents} and {more}"),
        lambda: Limit("a", 1, per="1h", cost="7"),
        lambda: Limit("a", 1, per="1h", cost="{cents:d}"),
        lambda: Limit("a", 1, per="1h", key=""),
        lambda: Limit("a", 1, per="1h", key="{}"),
        lambda: Limit("a", 1, per="1h", key="{0}"),
        lambda: Limit("a", 1, per="1h", key="{customer.__class__}"),
        lambda: Limit("a", 1, per="1h", key=7),
        lambda: Limit("a", 1, per="day", tz="Mars/Olympus"),
        lambda: Limit("a", 1, per="1h", tz="Mars/Olympus"),
        lambda: Concurrency(0),
        lambda: Concurrency(1, name=""),
        lambda: Concurrency(1, key="{"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(declare: Any) -> None:
    """What cannot be meant is refused where it is declared, not when the first call comes."""
    with pytest.raises(ConfigurationError):
        declare()


def test_a_limit_cannot_be_changed() -> None:
    """A limit is frozen, equal to one declared alike, and prints as what was declared."""
    limit = Limit("payment", 100, per="1h", cost="{cents}")
    with pytest.raises(AttributeError):
        limit.max = 1000  # type: ignore[misc]
    assert limit == Limit("payment", 100, per="1h", cost="{cents}")
    assert "payment" in repr(limit)
    assert "_price" not in repr(limit)


def test_a_charge_counts_what_the_arguments_say() -> None:
    """The cost comes from its template, the row from the key, the window from ``per``."""
    limit = Limit("cents", 500, per="1h", cost="{cents}", key="{customer.id}/{day:%Y}")

    class Customer:
        id = "c-7"

    import datetime

    arguments = {"cents": 120, "customer": Customer(), "day": datetime.date(2026, 5, 1)}
    assert limit.charge(arguments, 5.0) == Charge("cents", "cents[c-7/2026]", 500, 120, 3600.0)


def test_cost_and_key_may_be_functions() -> None:
    """A function of the arguments gives the cost, and another one the key."""
    limit = Limit(
        "tokens", 500, per="1m", cost=lambda a: len(a["text"]), key=lambda a: a["user"].lower()
    )
    charge = limit.charge({"text": "hello", "user": "ANA"}, 0.0)
    assert (charge.cost, charge.row) == (5, "tokens[ana]")


def test_a_calendar_limit_counts_from_the_start_of_its_period() -> None:
    """A day in Paris begins at local midnight and is as long as daylight saving makes it."""
    limit = Limit("payment", 1, per="day", tz="Europe/Paris")
    noon = 1_774_778_400.0  # 2026-03-29T10:00:00Z, the day the clock goes forward
    charge = limit.charge({}, noon)
    assert charge.since == 1_774_738_800.0  # 2026-03-28T23:00:00Z
    assert charge.window == 23 * 3600


@pytest.mark.parametrize(
    ("limit", "arguments"),
    [
        (Limit("cents", 9, per="1h", cost="{cents}"), {"amount": 1}),
        (Limit("cents", 9, per="1h", key="{cents}"), {"amount": 1}),
        (Limit("cents", 9, per="1h", key="{amount.cents}"), {"amount": 1}),
    ],
)
def test_a_template_that_names_nothing_says_what_there_is(
    limit: Limit, arguments: dict[str, Any]
) -> None:
    """A missing argument is a ConfigurationError naming limit, template and the arguments."""
    with pytest.raises(ConfigurationError) as error:
        limit.charge(arguments, 0.0)
    for word in ("'cents'", "{", "amount"):
        assert word in str(error.value)


@pytest.mark.parametrize("cost", [True, 1.0, 1.5, "3", Decimal(3), None, -1])
def test_only_whole_numbers_are_costs(cost: object) -> None:
    """A cost that is no whole number of at least 0 is an error, never rounded or guessed."""
    with pytest.raises(ConfigurationError, match="'cents': cost"):
        Limit("cents", 9, per="1h", cost="{cents}").charge({"cents": cost}, 0.0)


@pytest.mark.parametrize("customer", [None, "", "x" * 300])
def test_a_key_must_tell_calls_apart(customer: object) -> None:
    """An empty, missing or endless key is refused: it would lump different customers together."""
    for key in ("{customer}", lambda a: a["customer"]):
        with pytest.raises(ConfigurationError, match="limit 'api'"):
            Limit("api", 9, per="1h", key=key).charge({"customer": customer}, 0.0)


def test_a_slot_is_the_actions_own_unless_named() -> None:
    """Concurrency counts under the action's name, a shared name, and the key if there is one."""
    assert Concurrency(2).slot("pay", {}) == "pay"
    assert Concurrency(2, name="bank").slot("pay", {}) == "bank"
    assert Concurrency(2, key="{iban}").slot("pay", {"iban": "FR1"}) == "pay[FR1]"


# The checklist's surface


def test_a_limit_allows_its_maximum_and_then_denies(
    governor: GovernorEnforcer, clock: FakeClock
) -> None:
    """Up to ``max`` units are allowed in a window; the next is denied until the first leaves."""
    governor.set_limit("payment", 2, 60)
    assert governor.check_limit("payment")[0]
    clock.advance(10)
    assert governor.check_limit("payment")[0]
    allowed, message = governor.check_limit("payment")
    assert not allowed
    assert message.startswith("Rate limit exceeded")
    for word in ("payment", "2 of 2", " at 2027-01-15 08:01:00Z", "Nothing was used"):
        assert word in message
    clock.advance(50)
    assert governor.check_limit("payment")[0]
    assert not governor.check_limit("payment")[0]


def test_the_status_says_how_much_is_left(governor: GovernorEnforcer, clock: FakeClock) -> None:
    """The status of a limit is its use, its terms, its denials and when there is room again."""
    governor.set_limit("payment", 1, 60)
    governor.check_limit("payment")
    clock.advance(20)
    governor.check_limit("payment")
    assert governor.get_status("payment") == {
        "resource": "payment",
        "current_actions": 1,
        "max_actions": 1,
        "window_seconds": 60,
        "denied_count": 1,
        "retry_after": 40,
    }
    assert governor.get_status() == {"payment": governor.get_status("payment")}


def test_asking_for_the_status_uses_nothing(governor: GovernorEnforcer) -> None:
    """However often the status is read, the room stays the same."""
    governor.set_limit("payment", 1, 60)
    for _ in range(3):
        assert governor.get_status("payment")["current_actions"] == 0
    assert governor.check_limit("payment")[0]


def test_what_has_no_limit_is_allowed_and_said_so(governor: GovernorEnforcer) -> None:
    """An undeclared limit is no limit, and the message says that there is none."""
    assert governor.check_limit("tea") == (True, "No limit set for 'tea'")
    assert governor.get_status("tea")["max_actions"] is None


@pytest.mark.parametrize("cost", [True, 1.0, "1", -1])
def test_a_cost_that_makes_no_sense_is_an_error(governor: GovernorEnforcer, cost: Any) -> None:
    """A wrong cost is neither allowed nor denied: the code is wrong, and says so."""
    governor.set_limit("payment", 5, 60)
    with pytest.raises(ConfigurationError, match="cost"):
        governor.check_limit("payment", cost=cost)
    assert used(governor, "payment") == 0


def test_keys_are_counted_apart(governor: GovernorEnforcer) -> None:
    """One customer's use takes no room from another's."""
    governor.declare(Limit("api", 1, per="1m", key="{customer}"))
    assert governor.check_limit("api", key="a")[0]
    assert governor.check_limit("api", key="b")[0]
    assert not governor.check_limit("api", key="a")[0]
    assert governor.get_status("api", key="a")["current_actions"] == 1


def test_violations_are_kept_and_bounded(clock: FakeClock) -> None:
    """Denials can be asked for by resource; the oldest go when there are too many."""
    governor = GovernorEnforcer(clock=clock, history=3)
    governor.set_limit("payment", 1, 60)
    governor.set_limit("export", 1, 60)
    governor.check_limit("payment")
    governor.check_limit("export")
    governor.check_limit("export")
    for _ in range(4):
        governor.check_limit("payment")
    assert [v.limit for v in governor.violations()] == ["payment"] * 3
    assert governor.violations("export") == []
    assert governor.get_status("payment")["denied_count"] == 4
    assert governor.get_status("export")["denied_count"] == 1


# Checks that go without a transaction once they were made


def test_a_check_of_several_is_all_or_none(governor: GovernorEnforcer) -> None:
    """When one of several has no room none is used, the first time and every later time."""
    governor.set_limit("calls", 10, 60)
    governor.set_limit("cents", 7, 60)
    for name in ("calls", "cents"):
        assert governor.check_limit(name) == (True, "Allowed")
    assert governor.check_limits("calls", "cents", cost=3) == (True, "Allowed")
    for _ in range(2):
        allowed, message = governor.check_limits("calls", "cents", cost=4)
        assert (allowed, "'cents'" in message) == (False, True)
    assert governor.check_limits("calls", "cents", cost=3)[0]
    assert (used(governor, "calls"), used(governor, "cents")) == (7, 7)


def test_a_check_of_several_counts_a_name_twice_that_is_named_twice(
    governor: GovernorEnforcer,
) -> None:
    """Naming a limit twice uses twice the cost, or nothing."""
    governor.set_limit("calls", 5, 60)
    assert [governor.check_limits("calls", "calls")[0] for _ in range(3)] == [True, True, False]
    assert used(governor, "calls") == 4


def test_a_check_of_nothing_limited_says_so(governor: GovernorEnforcer) -> None:
    """What has no limit is allowed; with one that has, the others change nothing."""
    assert governor.check_limits("tea", "milk") == (True, "No limit set for 'tea', 'milk'")
    governor.set_limit("tea", 1, 60)
    assert [governor.check_limits("tea", "milk")[0] for _ in range(2)] == [True, False]


def test_a_check_that_was_made_before_sees_a_halt(governor: GovernorEnforcer) -> None:
    """A halt, of one or of everything, denies also what was granted just before."""
    governor.set_limit("payment", 10, 60)
    governor.set_limit("api", 10, 60)
    for what in ("payment", None):
        assert governor.check_limit("payment")[0]
        assert governor.check_limits("api", "payment")[0]
        governor.halt(what, by="ana", reason="down")
        assert "Halted" in governor.check_limit("payment")[1]
        assert not governor.check_limits("api", "payment")[0]
        governor.resume(what, by="ana", reason="up")
    assert used(governor, "api") == 2


@pytest.mark.parametrize("names", [("payment",), ("api", "payment")])
def test_a_check_that_was_made_before_sees_new_terms(
    governor: GovernorEnforcer, clock: FakeClock, names: tuple[str, ...]
) -> None:
    """What was used counts under another maximum, window, and kind of window."""
    governor.set_limit("api", 100, 60)
    governor.set_limit("payment", 10, 60)
    for terms in ((3, 60.0), (4, 600.0)):
        assert governor.check_limits(*names)[0]
        governor.set_limit("payment", *terms)
    assert governor.check_limits(*names)[0]
    day = Limit("payment", 9, per="day").charge({}, clock.now())
    governor._store.write(lambda tx: tx.limits.reserve([day], clock.now()))
    clock.advance(1)
    assert not governor.check_limits(*names)[0]


def test_a_check_that_was_made_before_survives_a_sweep(
    governor: GovernorEnforcer, clock: FakeClock
) -> None:
    """A row that was forgotten because nothing counted in it is made anew, and counts again."""
    governor.set_limit("payment", 2, 60)
    governor.declare(Limit("api", 1, per="1m", key="{customer}"))
    governor.check_limit("payment")
    clock.advance(3600)
    for customer in range(1100):
        governor.check_limit("api", key=customer)
    assert [governor.check_limit("payment")[0] for _ in range(3)] == [True, True, False]
    assert used(governor, "payment") == 2


def test_a_check_inside_a_transaction_is_refused(governor: GovernorEnforcer) -> None:
    """Work in a transaction that asks the governor is told so, and lets the others go on."""
    governor.set_limit("payment", 10, 60)
    governor.check_limit("payment")
    with pytest.raises(RuntimeError, match="inside another"):
        governor._store.write(lambda tx: governor.check_limit("payment"))
    other: list[bool] = []
    asking = threading.Thread(
        target=lambda: other.append(governor.check_limit("payment")[0]), daemon=True
    )
    asking.start()
    asking.join(10)
    assert other == [True]


def test_an_interrupted_check_lets_the_others_go_on(
    governor: GovernorEnforcer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the midst of a check leaves no lock behind."""
    governor.set_limit("payment", 10, 60)
    governor.check_limit("payment")

    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SlidingWindow, "grant", interrupted)
        with pytest.raises(KeyboardInterrupt):
            governor.check_limit("payment")
    other: list[bool] = []
    asking = threading.Thread(
        target=lambda: other.append(governor.check_limit("payment")[0]), daemon=True
    )
    asking.start()
    asking.join(10)
    assert other == [True]


def test_an_interrupted_check_of_several_uses_none(
    governor: GovernorEnforcer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the first of three was granted gives it back."""
    for name in ("a", "b", "c"):
        governor.set_limit(name, 10, 60)
    governor.check_limits("a", "b", "c")
    grant, granted = SlidingWindow.grant, []

    def interrupted(window: SlidingWindow, now: float, cost: int, limit: int) -> float | None:
        if granted:
            raise KeyboardInterrupt
        granted.append(window)
        return grant(window, now, cost, limit)

    with monkeypatch.context() as patch:
        patch.setattr(SlidingWindow, "grant", interrupted)
        with pytest.raises(KeyboardInterrupt):
            governor.check_limits("a", "b", "c")
    assert [used(governor, name) for name in ("a", "b", "c")] == [1, 1, 1]


class Interrupted(list[float]):
    """A list that is interrupted when it has taken something in, once."""

    armed = True

    def append(self, entry: float) -> None:
        super().append(entry)
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["_times", "_costs"])
@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_a_check_interrupted_while_it_counts_gives_back_what_it_took_before(
    governor: GovernorEnforcer, clock: FakeClock, names: tuple[str, ...], place: str
) -> None:
    """Ctrl-C while the last of them is counted leaves the others unused and no lock behind."""
    for name in names:
        governor.set_limit(name, 10, 60)
    governor.check_limits(*names)
    clock.advance(1)
    rows: Any = governor._store._tables.limits._rows  # type: ignore[attr-defined]  # in memory
    setattr(rows[names[-1]], place, Interrupted(getattr(rows[names[-1]], place)))
    with pytest.raises(KeyboardInterrupt):
        governor.check_limits(*names)
    assert {used(governor, name) for name in names[:-1]} <= {1}
    clock.advance(1)
    asking = threading.Thread(target=governor.check_limits, args=names, daemon=True)
    asking.start()
    asking.join(10)
    assert {used(governor, name) for name in names[:-1]} <= {2}
    assert used(governor, names[-1]) == 3  # what was interrupted may have been used
    clock.advance(60)
    assert {used(governor, name) for name in names} == {0}


def test_a_check_being_prepared_waits_for_no_denial(
    governor: GovernorEnforcer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is granted and who is denied in the same moment do not wait for each other for ever."""
    governor.set_limit("payment", 10, 60)
    full = Charge("api", "api", 0, 1, 60.0)
    store, inside, prepare = governor._store, threading.Event(), MemoryStore.prepare

    def denied(tx: Any) -> None:
        inside.set()
        asking.join(0.2)
        with pytest.raises(RateLimited):
            governor.reserve(tx, [full], 0.0)

    def after_the_other_began(*given: Any) -> Any:
        denying.start()
        inside.wait(10)
        return prepare(*given)

    monkeypatch.setattr(MemoryStore, "prepare", after_the_other_began)
    denying = threading.Thread(target=store.write, args=(denied,), daemon=True)
    asking = threading.Thread(target=governor.check_limit, args=("payment",), daemon=True)
    asking.start()
    asking.join(5)
    assert not asking.is_alive()


def test_terms_that_change_while_a_check_is_prepared_hold(
    governor: GovernorEnforcer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is prepared under old terms is not kept once there are others."""
    governor.set_limit("payment", 10, 60)
    prepare = MemoryStore.prepare

    def meanwhile(*given: Any) -> Any:
        use = prepare(*given)
        governor.set_limit("payment", 1, 60)
        return use

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "prepare", meanwhile)
        governor.check_limit("payment")
    assert not governor.check_limit("payment")[0]


# Declaring


def test_equal_terms_may_be_declared_by_many(governor: GovernorEnforcer) -> None:
    """Actions share a limit by its name; each has its own cost."""
    governor.declare(Limit("payment", 100, per="1h"))
    governor.declare(Limit("payment", 100, per=3600, cost="{items}"))
    assert list(governor.rate_limits) == ["payment"]


@pytest.mark.parametrize(
    "other",
    [
        Limit("payment", 50, per="1h"),
        Limit("payment", 100, per="2h"),
        Limit("payment", 100, per="hour"),
    ],
)
def test_different_terms_under_one_name_are_refused(
    governor: GovernorEnforcer, other: Limit
) -> None:
    """One name with two maxima or windows is a ConfigurationError naming both."""
    governor.declare(Limit("payment", 100, per="1h"))
    with pytest.raises(ConfigurationError, match=r"'payment'.*100 per 1h.*per"):
        governor.declare(other)


@pytest.mark.parametrize(
    ("per", "used", "most"),
    [("hour", "in this hour (UTC), 1 wanted", "3 per hour (UTC)."), ("1h", "in 1h, ", "3 per 1h.")],
)
def test_a_denial_tells_the_hour_from_an_hour(
    governor: GovernorEnforcer, per: str, used: str, most: str
) -> None:
    """A calendar period is not spelled like a sliding window of its length."""
    governor.declare(Limit("payment", 3, per=per))
    assert governor.check_limit("payment", 3)[0]
    assert f"3 of 3 used {used}" in governor.check_limit("payment")[1]
    assert f"the limit is {most}" in governor.check_limit("payment", 4)[1]


def test_a_default_gives_way(governor: GovernorEnforcer) -> None:
    """A default yields to a declaration, whichever comes first."""
    governor.declare(Limit("payment", 100, per="1h"), default=True)
    assert governor.is_default("payment")
    governor.declare(Limit("payment", 5, per="1h"))
    assert not governor.is_default("payment")
    governor.declare(Limit("payment", 100, per="1h"), default=True)
    assert governor.rate_limits["payment"].max == 5


def test_setting_a_limit_anew_keeps_what_was_used(governor: GovernorEnforcer) -> None:
    """A limit that is raised or lowered counts on from where it was."""
    governor.set_limit("payment", 2, 60)
    governor.check_limit("payment")
    governor.set_limit("payment", 1, 60)
    assert not governor.check_limit("payment")[0]
    governor.set_limit("payment", 3, 3600)
    assert used(governor, "payment") == 1


def test_a_limit_set_by_an_operator_binds_actions(governor: GovernorEnforcer) -> None:
    """`set_limit` changes the terms of declared charges, and reaches the action of that name."""
    declared = Limit("payment", 100, per="1h", cost="{n}")
    governor.set_limit("payment", 3, 60)
    assert governor.charges("refund", [declared.charge({"n": 2}, 0.0)], 0.0) == (
        Charge("payment", "payment", 3, 2, 60.0),
    )
    assert governor.charges("payment", [], 0.0) == (Charge("payment", "payment", 3, 1, 60.0),)
    assert governor.charges("refund", [], 0.0) == ()
    assert governor.charges("payment", [declared.charge({"n": 2}, 0.0)], 0.0) == (
        Charge("payment", "payment", 3, 2, 60.0),
    )


def test_charges_that_were_asked_for_before_follow_new_terms(governor: GovernorEnforcer) -> None:
    """The same declared charges are looked up until somebody sets a limit, and then reckoned."""
    declared = (Limit("payment", 100, per="1h").charge({}, 0.0),)
    assert governor.charges("refund", declared, 0.0) == declared
    for most in (3, 2):
        governor.set_limit("payment", most, 60)
        for _ in range(2):
            charge = Charge("payment", "payment", most, 1, 60.0)
            assert governor.charges("refund", declared, 0.0) == (charge,)
    governor.set_limit("refund", 7, 60)
    assert [charge.max for charge in governor.charges("refund", declared, 0.0)] == [2, 7]
    assert governor.charges("refund", (), 0.0) == (Charge("refund", "refund", 7, 1, 60.0),)


def test_charges_of_a_period_follow_the_calendar(governor: GovernorEnforcer) -> None:
    """A limit of a calendar period is charged to the period there is, however often it is asked."""
    governor.declare(Limit("payment", 100, per="day"))
    begun = [governor.charges("payment", (), day * 86_400.0 + 1)[0].since for day in range(3)]
    assert begun == [0.0, 86_400.0, 172_800.0]


def test_charges_of_one_row_are_one(governor: GovernorEnforcer) -> None:
    """A call that uses a row twice is judged by the sum."""
    charge = Limit("cents", 10, per="1h", cost=6).charge({}, 0.0)
    assert governor.charges("pay", [charge, charge], 0.0)[0].cost == 12


# Acquire, settle, refund


def test_several_limits_are_taken_all_or_none(governor: GovernorEnforcer) -> None:
    """When one of several limits has no room, none of them is used."""
    governor.set_limit("calls", 10, 60)
    governor.set_limit("payment", 1, 60)
    governor.acquire("calls", "payment")
    with pytest.raises(RateLimited) as denied:
        governor.acquire("calls", "payment")
    assert denied.value.retry_after == 60
    assert used(governor, "calls") == 1


def test_a_cost_beyond_the_limit_is_never_admitted(governor: GovernorEnforcer) -> None:
    """A cost greater than the limit is denied for good: there is no time to retry after."""
    governor.set_limit("cents", 1000, 60)
    with pytest.raises(RateLimited, match="never be admitted") as denied:
        governor.acquire("cents", cost=1001, timeout=1e9)
    assert denied.value.retry_after is None


def test_waiting_ends_when_there_is_room(governor: GovernorEnforcer, clock: FakeClock) -> None:
    """With a time-out, acquire waits exactly until there is room."""
    governor.set_limit("api", 1, 10)
    governor.acquire("api")
    governor.acquire("api", timeout=10)
    assert clock.slept == [10]


def test_waiting_in_vain_is_not_begun(governor: GovernorEnforcer, clock: FakeClock) -> None:
    """When the room comes only after the time-out, the denial comes at once."""
    governor.set_limit("api", 1, 10)
    governor.acquire("api")
    with pytest.raises(RateLimited):
        governor.acquire("api", timeout=9.9)
    assert clock.slept == []


def test_a_refund_gives_room_back(governor: GovernorEnforcer) -> None:
    """What was refunded can be used again."""
    governor.set_limit("payment", 1, 60)
    governor.acquire("payment").refund()
    assert governor.check_limit("payment")[0]


def test_settling_counts_the_actual_cost(governor: GovernorEnforcer) -> None:
    """The actual cost replaces the reserved one, by limit name or by row."""
    limit = Limit("cents", 100, per="1h", cost="{cents}", key="{who}")
    grant = governor.acquire(limit, arguments={"cents": 60, "who": "a"})
    grant.settle({"cents": 10})
    assert governor.get_status("cents", key="a")["current_actions"] == 10
    governor.acquire(limit, arguments={"cents": 60, "who": "a"}).settle({"cents[a]": 90})
    assert governor.get_status("cents", key="a")["current_actions"] == 100
    assert governor.violations() == []


def test_an_overspend_is_counted_and_kept(governor: GovernorEnforcer) -> None:
    """A cost beyond the limit cannot be undone: it counts, and is a violation."""
    governor.set_limit("cents", 100, 60)
    governor.acquire("cents", cost=60).settle({"cents": 130})
    (violation,) = governor.violations("cents")
    assert (violation.kind, violation.used, violation.max) == ("overspent", 130, 100)
    assert governor.get_status("cents")["denied_count"] == 0
    assert not governor.check_limit("cents")[0]


def test_costing_less_is_no_overspend(governor: GovernorEnforcer) -> None:
    """Of two effects only the one that cost more than reserved is to blame for an overspend."""
    governor.set_limit("cents", 100, 60)
    cheap = governor.acquire("cents", cost=40)
    governor.acquire("cents", cost=60).settle({"cents": 130})
    cheap.settle({"cents": 30})
    assert [v.cost for v in governor.violations()] == [130]


def test_a_grant_ends_once(governor: GovernorEnforcer) -> None:
    """Refunding twice, or after settling, is an error and gives nothing back."""
    governor.set_limit("cents", 100, 60)
    governor.acquire("cents", cost=50)
    grant = governor.acquire("cents", cost=30)
    grant.settle({"cents": 20})
    with pytest.raises(ConfigurationError, match="before"):
        grant.refund()
    assert used(governor, "cents") == 70


def test_a_settlement_that_makes_no_sense_leaves_the_grant_open(
    governor: GovernorEnforcer,
) -> None:
    """Wrong names or costs are errors that name them; the grant can still be refunded."""
    governor.set_limit("cents", 100, 60)
    grant = governor.acquire("cents", cost=30)
    for costs in ({"euros": 1}, {"cents": 1.5}, {"cents": -1}, {"cents": True}):
        with pytest.raises(ConfigurationError):
            grant.settle(costs)  # type: ignore[arg-type]
    grant.refund()
    assert used(governor, "cents") == 0


def test_a_grant_whose_end_could_not_be_written_can_be_ended_again(clock: FakeClock) -> None:
    """When the store fails during a refund, trying again refunds once."""

    class Flaky(MemoryStore):
        failing = False

        def write(self, work: Any, *, durable: bool = True) -> Any:
            if self.failing:
                raise StoreUnavailable("down")
            return super().write(work, durable=durable)

    store = Flaky()
    governor = GovernorEnforcer(store=store, clock=clock)
    governor.set_limit("cents", 100, 60)
    grant = governor.acquire("cents", cost=30)
    store.failing = True
    with pytest.raises(StoreUnavailable):
        grant.refund()
    store.failing = False
    grant.refund()
    assert used(governor, "cents") == 0


def test_a_store_that_fails_allows_nothing(clock: FakeClock) -> None:
    """A guard fails closed: without its ledger the governor raises instead of allowing."""

    class Down(MemoryStore):
        def write(self, work: Any, *, durable: bool = True) -> Any:
            raise StoreUnavailable("down")

    governor = GovernorEnforcer(store=Down(), clock=clock)
    governor.set_limit("payment", 1, 60)
    with pytest.raises(StoreUnavailable):
        governor.check_limit("payment")


def test_acquiring_an_undeclared_name_is_an_error(governor: GovernorEnforcer) -> None:
    """A misspelt limit is not silently unlimited."""
    governor.set_limit("payment", 1, 60)
    with pytest.raises(ConfigurationError, match=r"'paymnet'.*payment"):
        governor.acquire("paymnet")


def test_the_pipelines_settlement_never_refuses(clock: FakeClock) -> None:
    """After the effect nothing may fail: costs that make no sense stay as reserved."""
    store = MemoryStore()
    governor = GovernorEnforcer(store=store, clock=clock)
    charge = Limit("cents", 100, per="1h", cost=30).charge({}, clock.now())
    odd: Mapping[str, Any]
    for odd in ({"euros": 1}, {"cents": 1.5}, {"cents": -1}, {}):

        def work(tx: Any, odd: Mapping[str, Any] = odd) -> None:
            held = governor.reserve(tx, [charge], clock.now())
            assert governor.settle(tx, held, odd) == held
            governor.release(tx, held)

        store.write(work)


# Forecast


def test_a_forecast_says_which_item_is_denied_and_uses_nothing(clock: FakeClock) -> None:
    """A rehearsal learns at which item which limit has no room, what fits later, and uses none."""
    store = MemoryStore()
    governor = GovernorEnforcer(store=store, clock=clock)
    cents = Limit("cents", 100, per="1h", cost="{cents}")
    count = Limit("count", 3, per="1h")
    governor.acquire(cents, count, arguments={"cents": 30})
    now = clock.now()
    groups = [
        [cents.charge({"cents": c}, now), count.charge({}, now)] for c in (60, 20, 500, 10, 5)
    ]
    found = store.read(lambda tx: governor.forecast(tx, groups, now))
    assert found == [
        Forecast(1, "cents", "cents", 90, 100, 20, never=False),
        Forecast(2, "cents", "cents", 90, 100, 500, never=True),
        Forecast(4, "cents", "cents", 100, 100, 5, never=False),
        Forecast(4, "count", "count", 3, 3, 1, never=False),
    ]
    assert (used(governor, "cents"), used(governor, "count")) == (30, 1)


def test_a_forecast_of_nothing_is_empty(governor: GovernorEnforcer) -> None:
    """Calls without limits are never denied by one."""
    assert MemoryStore().read(lambda tx: governor.forecast(tx, [[], []], 0.0)) == []


# Kill switch


def test_a_halt_denies_until_it_is_undone(governor: GovernorEnforcer) -> None:
    """While halted everything asked for is denied with who and why; resuming ends that."""
    governor.set_limit("payment", 5, 60)
    governor.halt("payment", by="ana", reason="provider is down")
    allowed, message = governor.check_limit("payment")
    assert not allowed
    assert message.startswith("Halted by ana")
    assert "provider is down" in message
    assert governor.check_limit("export")[0]
    with pytest.raises(Halted):
        governor.acquire("payment")
    assert used(governor, "payment") == 0
    assert governor.resume("payment", by="ana", reason="it is up")
    assert governor.check_limit("payment")[0]
    assert not governor.resume("payment", by="ana", reason="it is up")


def test_halting_everything_halts_each(governor: GovernorEnforcer) -> None:
    """A halt without a name is a halt of every action, even of those without a limit."""
    governor.halt(by="ana", reason="fire")
    assert not governor.check_limit("payment")[0]
    assert not governor.resume("payment", by="ana", reason="only this")
    assert not governor.check_limit("payment")[0]
    assert governor.resume(by="ana", reason="over")
    assert governor.check_limit("payment")[0]


def test_a_halt_may_end_by_itself(governor: GovernorEnforcer, clock: FakeClock) -> None:
    """A halt with an end is over at that instant."""
    governor.halt(by="ana", reason="lunch", until=clock.now() + 10)
    assert not governor.check_limit("payment")[0]
    clock.advance(10)
    assert governor.check_limit("payment")[0]


def test_a_halt_is_recorded(clock: FakeClock) -> None:
    """Halting and resuming leave a decision each: who, what, why, when."""
    store = MemoryStore()
    governor = GovernorEnforcer(store=store, clock=clock)
    governor.halt("payment", by="ana", reason="down", until=clock.now() + 60)
    governor.resume("payment", by="bo", reason="up")
    halt, resume = store.read(lambda tx: tx.decisions.of("halt:payment"))
    assert (halt.what, halt.actor, halt.reason, halt.at) == ("halt", "ana", "down", clock.now())
    assert halt.detail == {"until": clock.now() + 60}
    assert (resume.what, resume.actor, resume.reason) == ("resume", "bo", "up")


@pytest.mark.parametrize("words", [{"by": "", "reason": "x"}, {"by": "ana", "reason": " "}])
def test_a_halt_needs_who_and_why(governor: GovernorEnforcer, words: dict[str, str]) -> None:
    """Nobody halts or resumes anonymously or without a reason."""
    with pytest.raises(ConfigurationError):
        governor.halt(**words)
    with pytest.raises(ConfigurationError):
        governor.resume(**words)


def test_a_halt_that_is_over_already_is_refused(
    governor: GovernorEnforcer, clock: FakeClock
) -> None:
    """An end in the past would be a kill switch that does nothing."""
    with pytest.raises(ConfigurationError, match="until"):
        governor.halt(by="ana", reason="x", until=clock.now())


def test_the_error_of_a_halt_says_how_to_go_on() -> None:
    """`check_halt` names action, person, reason and time, and when trying again makes sense."""
    control = Control(name="halt:pay", actor="ana", reason="down", set_at=0.0, until=100.0)
    with pytest.raises(Halted) as error:
        check_halt({"halt:pay": control}, "pay", 40.0)
    assert (error.value.action, error.value.retry_after) == ("pay", 60.0)
    for word in ("ana", "down", "1970-01-01", "resume('pay'"):
        assert word in str(error.value)
    check_halt({"halt:pay": control}, "pay", 100.0)
    check_halt({"halt:pay": control}, "refund", 40.0)


# Threads


def test_threads_never_over_admit() -> None:
    """Sixteen threads that ask at once are granted exactly what the limit allows."""
    governor = GovernorEnforcer(clock=FakeClock())
    governor.set_limit("payment", 50, 3600)
    start = threading.Barrier(16)
    allowed: list[bool] = []

    def ask() -> None:
        start.wait()
        for _ in range(25):
            allowed.append(governor.check_limit("payment")[0])

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(allowed) == 400
    assert sum(allowed) == 50
    assert governor.get_status("payment")["denied_count"] == 350


def test_a_length_that_cannot_be_read_names_its_limit() -> None:
    """The message says which limit is wrong, and what could stand there instead."""
    with pytest.raises(ConfigurationError, match=r"limit 'mail': per: .*'dya'.*day"):
        Limit("mail", 5, per="dya")
