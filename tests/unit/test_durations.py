"""Durations and calendar periods."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.durations import (
    CALENDAR,
    calendar_period,
    load_zone,
    parse_duration,
    spell_duration,
)
from gonogo.errors import ConfigurationError

ZONES = [
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Havana",
    "Antarctica/Troll",
    "Pacific/Apia",
]


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("90m", 5400),
        ("1h", 3600),
        ("1d", 86400),
        ("2w", 1209600),
        ("250ms", 0.25),
        ("1h30m", 5400),
        (" 1h 30m ", 5400),
        ("1.5h", 5400),
        (60, 60),
        (0.5, 0.5),
    ],
)
def test_a_duration_is_units_or_seconds(text: str | float, seconds: float) -> None:
    """A duration is written as numbers with units, which add up, or as seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    ["", " ", "1", "h", "1y", "-1h", "1h-", "h1", "0s", 0, -1, math.inf, math.nan, True, None, []],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    """What is not a positive, finite length of time is a ConfigurationError."""
    with pytest.raises(ConfigurationError):
        parse_duration(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.21, "0.3s"), (59.2, "1m"), (3600, "1h"), (3661, "1h 1m"), (90061, "1d 1h")],
)
def test_a_duration_for_people_has_two_units(seconds: float, text: str) -> None:
    """People read at most two units, never less than the time meant where seconds are shown."""
    assert spell_duration(seconds) == text


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-24", 24), ("2026-10-25", 25)],
)
def test_a_day_is_as_long_as_daylight_saving_makes_it(day: str, hours: int) -> None:
    """A day in Paris has 23 hours when the clock goes forward and 25 when it goes back."""
    paris = ZoneInfo("Europe/Paris")
    noon = at(f"{day}T12:00", "Europe/Paris")
    assert calendar_period("day", paris, noon) == (at(f"{day}T00:00", "Europe/Paris"), hours * 3600)


def test_the_first_instant_of_a_day_belongs_to_it() -> None:
    """Midnight begins the new day; the instant before belongs to the old one."""
    utc = ZoneInfo("UTC")
    midnight = at("2026-05-02T00:00")
    assert calendar_period("day", utc, midnight)[0] == midnight
    assert calendar_period("day", utc, math.nextafter(midnight, 0))[0] == midnight - 86400


def test_a_week_begins_on_monday_and_a_month_on_its_first() -> None:
    """Weeks are those of ISO 8601; months have their own lengths."""
    utc = ZoneInfo("UTC")
    now = at("2024-02-29T13:00")
    assert calendar_period("week", utc, now) == (at("2024-02-26T00:00"), 7 * 86400)
    assert calendar_period("month", utc, now) == (at("2024-02-01T00:00"), 29 * 86400)


def test_a_midnight_that_happens_twice_counts_the_first_time() -> None:
    """St. John's set the clock back at 00:01: the day had begun, and begins once."""
    zone = ZoneInfo("America/St_Johns")
    first = datetime(2006, 10, 29, 0, 0, tzinfo=zone).timestamp()
    again_23_30 = first + 60 + 29 * 60
    assert datetime.fromtimestamp(again_23_30, zone).hour == 23
    assert calendar_period("day", zone, again_23_30) == (first, 25 * 3600)


def test_an_hour_over_a_half_hour_change_is_one_longer_period() -> None:
    """Lord Howe goes back by half an hour: that hour lasts ninety minutes."""
    zone = ZoneInfo("Australia/Lord_Howe")
    start = datetime(2026, 4, 5, 1, 0, tzinfo=zone).timestamp()
    assert calendar_period("hour", zone, start + 1800) == (start, 5400)
    assert calendar_period("hour", zone, start + 4000) == (start, 5400)


@given(
    name=st.sampled_from(CALENDAR),
    zone=st.sampled_from(ZONES),
    now=st.integers(631_152_000, 2_208_988_800),  # 1990 to 2040
)
def test_periods_have_no_gap_and_no_overlap(name: str, zone: str, now: int) -> None:
    """A period contains the instant asked for, all its instants agree, and the next one follows."""
    info = ZoneInfo(zone)
    start, length = calendar_period(name, info, now)
    assert start <= now < start + length
    for share in (0.0, 0.25, 0.5, 0.75, 0.99):
        assert calendar_period(name, info, start + int(length * share)) == (start, length)
    assert calendar_period(name, info, start + length)[0] == start + length


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("name", CALENDAR)
def test_periods_follow_each_other_over_every_change_of_the_clock(zone: str, name: str) -> None:
    """Around each change of the clock from 2000 to 2012, periods still touch without overlap."""
    info = ZoneInfo(zone)
    moment = datetime(2000, 1, 1, tzinfo=UTC)
    while moment.year < 2012:
        later = moment + timedelta(days=1)
        if moment.astimezone(info).utcoffset() != later.astimezone(info).utcoffset():
            now, until = moment.timestamp(), later.timestamp()
            while now < until:
                start, length = calendar_period(name, info, now)
                assert start <= now < start + length
                now = start + length
                assert calendar_period(name, info, now)[0] == now
                if name == "minute":
                    now += 60 * 12  # one in thirteen will do
        moment = later


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_an_unknown_time_zone_is_named(name: str) -> None:
    """A time zone that is not in the IANA database is a ConfigurationError naming it."""
    with pytest.raises(ConfigurationError, match="time zone"):
        load_zone(name)
