"""Lengths of time as people write them: ``"90m"``, ``"1h30m"``, ``"day"`` in a time zone."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gonogo.errors import ConfigurationError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

CALENDAR = ("minute", "hour", "day", "week", "month")
"""The calendar periods there are. A week begins on Monday (ISO 8601)."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")


def parse_duration(value: str | float) -> float:
    """Seconds of a duration: a number of seconds, or units such as ``"30s"`` and ``"1h30m"``.

    Units are ``ms s m h d w``; a day is 86,400 seconds.

    Raises:
        ConfigurationError: when it cannot be read, or is not a positive, finite length.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigurationError(f"{value!r} is not a duration: give seconds, or text like '90m'")
    seconds = _read(value) if isinstance(value, str) else float(value)
    if seconds is None:
        raise ConfigurationError(
            f"cannot read {value!r} as a duration: write a number and a unit, such as '30s', "
            f"'90m', '1h' or '1d', or give seconds as a number"
        )
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigurationError(f"a duration must be longer than zero and finite, not {value!r}")
    return seconds


def spell_duration(seconds: float) -> str:
    """``seconds`` for people, rounded up to a tenth or to two units: ``0.3s``, ``1h 5m``."""
    if seconds < 10:
        return f"{math.ceil(seconds * 10) / 10:g}s"
    rest = math.ceil(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def spell_time(at: float) -> str:
    """The instant ``at`` (epoch seconds) for people, in UTC: ``2027-01-15 08:00:00Z``."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"


def load_zone(name: str) -> ZoneInfo:
    """The time zone ``name`` of the IANA database; `ConfigurationError` when it is unknown."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only calendar windows need it

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as error:
        raise ConfigurationError(
            f"unknown time zone {name!r}: use an IANA name such as 'Europe/Paris' or 'UTC'"
        ) from error


def calendar_period(name: str, zone: ZoneInfo, now: float) -> tuple[float, float]:
    """The period of the calendar that contains ``now``: its start and its real length in seconds.

    Periods never overlap and leave no gap, whatever daylight saving does: a day has 23, 24 or 25
    hours, and a midnight that happens twice counts the first time.
    """
    now = math.floor(now)  # periods begin on whole seconds, and a datetime would round up
    if name in ("minute", "hour"):
        return _clock_period(60 if name == "minute" else 3600, zone, now)
    local = datetime.fromtimestamp(now, zone).replace(
        hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0
    )
    first = _first_day(name, local)
    start, end = _instant(first, zone), _instant(_next_first(name, first), zone)
    while end <= now:  # clocks set back over midnight: the new day had already begun
        first = _next_first(name, first)
        start, end = end, _instant(_next_first(name, first), zone)
    return start, end - start


def _read(text: str) -> float | None:
    """Seconds of ``text``; ``None`` when it is not a duration."""
    position, seconds = 0, 0.0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            return None
        seconds += float(part[1]) * _SECONDS[part[2]]
        position = part.end()
    return seconds if position else None


def _clock_period(size: int, zone: ZoneInfo, now: float) -> tuple[float, float]:
    """From one instant at which the local clock reads a full minute or hour to the next one.

    Where a change of the clock is no multiple of ``size``, the period around it is longer.
    """
    start = _round_down(size, now, _offset(zone, now))
    start = _round_down(size, start, _offset(zone, start))
    end = start + size
    past = (end + _offset(zone, end)) % size
    if past:
        end += size - past
    return start, end - start


def _round_down(size: int, instant: float, offset: float) -> float:
    return (instant + offset) // size * size - offset


def _offset(zone: ZoneInfo, instant: float) -> float:
    offset = datetime.fromtimestamp(instant, UTC).astimezone(zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def _instant(local: datetime, zone: ZoneInfo) -> float:
    return local.replace(tzinfo=zone).timestamp()


def _first_day(name: str, day: datetime) -> datetime:
    if name == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if name == "month" else day


def _next_first(name: str, first: datetime) -> datetime:
    if name == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if name == "week" else 1)
