"""Rhythms: when a schedule ticks, also where the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gonogo.errors import ConfigurationError
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.schedule import Rhythm, schedule_of

PARIS = "Europe/Paris"


def at(text: str) -> float:
    """The instant of an ISO 8601 text."""
    return datetime.fromisoformat(text).timestamp()


def cron(line: str, tz: str = PARIS) -> Rhythm:
    return Rhythm("test", cron=line, every=None, tz=tz)


def ticks(rhythm: Rhythm, after: str, count: int) -> list[str]:
    """The next ``count`` ticks in UTC."""
    found, instant = [], at(after)
    for _ in range(count):
        instant = rhythm.after(instant, 0.0)
        found.append(datetime.fromtimestamp(instant, UTC).strftime("%m-%d %H:%M"))
    return found


def test_a_cron_line_is_read_in_its_time_zone() -> None:
    """Nine o'clock is nine o'clock on the wall, summer and winter."""
    payday = cron("0 9 * * MON-FRI")
    assert ticks(payday, "2027-01-14T12:00+00:00", 2) == ["01-15 08:00", "01-18 08:00"]
    assert ticks(payday, "2027-07-14T12:00+00:00", 1) == ["07-15 07:00"]


def test_a_time_that_spring_skips_ticks_after_the_gap() -> None:
    """Half past two does not exist on the last Sunday of March: it ticks at three."""
    assert ticks(cron("30 2 * * *"), "2027-03-27T12:00+00:00", 2) == ["03-28 01:00", "03-29 00:30"]


def test_a_time_that_autumn_repeats_ticks_once() -> None:
    """Half past two comes twice on the last Sunday of October: the first one counts."""
    assert ticks(cron("30 2 * * *"), "2027-10-30T12:00+00:00", 2) == ["10-31 00:30", "11-01 01:30"]


def test_every_hour_follows_real_time() -> None:
    """Where the hour is ``*`` each hour that passes has its ticks, in the changes too."""
    hourly = cron("0 * * * *")
    assert ticks(hourly, "2027-10-30T23:30+00:00", 4) == [
        "10-31 00:00",
        "10-31 01:00",
        "10-31 02:00",
        "10-31 03:00",
    ]
    assert ticks(hourly, "2027-03-27T23:30+00:00", 3) == [
        "03-28 00:00",
        "03-28 01:00",
        "03-28 02:00",
    ]


def test_every_counts_from_its_anchor() -> None:
    """``every`` has the same ticks wherever one begins to look."""
    rhythm = Rhythm("test", cron=None, every="15m", tz="UTC")
    anchor = 1000.0
    assert rhythm.after(1000.0, anchor) == 1900.0
    assert rhythm.after(1899.9, anchor) == 1900.0
    assert rhythm.after(1900.0, anchor) == 2800.0
    assert rhythm.last_until(2799.0, anchor) == 1900.0
    assert rhythm.count(1900.0, 4600.0, anchor) == 4


def test_a_long_interval_is_kept_exactly() -> None:
    """A grid that shifts after a restart would lose ticks, or make them twice."""
    for every in (1_047_605.0, 10_000_001.0, 1000.25):
        rhythm = Rhythm("test", cron=None, every=every, tz="UTC")
        assert Rhythm.read("test", rhythm.spec, "UTC").after(0.0, 0.0) == every
    assert Rhythm("test", cron=None, every=1.0, tz="UTC").count(0.0, 86_400.0, 0.0) == 86_401


def test_a_rhythm_is_read_back() -> None:
    """What the ledger keeps says the same as what was declared."""
    for rhythm in (cron("0 9 * * *"), Rhythm("test", cron=None, every=90, tz=PARIS)):
        again = Rhythm.read("test", rhythm.spec, PARIS)
        assert again.spec == rhythm.spec
        assert again.after(1e9, 7.0) == rhythm.after(1e9, 7.0)


def test_a_tick_names_its_call() -> None:
    """The schedule is found by the correlation id of its call, and by nothing else."""
    tick = cron("0 9 * * *").tick(at("2027-01-15T08:00+00:00"))
    assert tick.local.hour == 9
    assert tick.correlation_id == "schedule:test@2027-01-15T08:00:00.000000Z"
    assert schedule_of(tick.correlation_id) == "test"
    assert schedule_of("payday@x") is None
    assert schedule_of(None) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give either cron="),
        ({"cron": "0 9 * * *", "every": 5}, "give either cron="),
        ({"cron": "nine o'clock"}, "five fields"),
        ({"cron": "*/10 * * * * *"}, "five fields"),
        ({"cron": "0 9 * *\n*"}, "five fields"),
        ({"cron": 5}, "not text"),
        ({"every": 1e308}, "more than ten years"),
        ({"every": 60, "name": 5}, "is text"),
        ({"every": 60, "arguments": 5}, "give a mapping"),
        ({"every": 60, "ping": 5}, "give an address"),
        ({"every": 60, "ping": "https://monitor.example.com/x\n"}, "no spaces or line breaks"),
        ({"every": 60, "ping": "https:///x"}, "names a host"),
        ({"cron": "0 25 * * *"}, "cannot be read"),
        ({"cron": "0 0 31 4,6 *"}, "Bad day-of-month"),
        ({"every": 0.5}, "less than 1 s"),
        ({"every": "soon"}, "soon"),
        ({"cron": "0 9 * * *", "tz": "Europe/Pariss"}, "Europe/Pariss"),
        ({"every": 60, "catch_up": "two"}, "skip, one, all"),
        ({"every": 60, "grace": 0}, "0"),
        ({"every": 60, "name": " "}, "needs a name"),
        ({"every": 60, "name": "a@b"}, "without '@'"),
        ({"every": 60, "ping": "ftp://x"}, "http"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    """A schedule that cannot tick is refused where it is declared, with the remedy."""
    sandbox = SandboxOrchestrator()
    act = sandbox.action("act", irreversible=False)(lambda: None)
    with pytest.raises(ConfigurationError, match=said):
        sandbox.schedule(given.pop("name", "test"), act, **given)
    assert sandbox.scheduler.declared == {}
