"""When something recurs: a cron line in a time zone, or every so many seconds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from gonogo.clock import iso
from gonogo.durations import load_zone, parse_duration
from gonogo.errors import ConfigurationError

if TYPE_CHECKING:
    from gonogo.action import Action
    from gonogo.pings import Ping

CatchUp = Literal["skip", "one", "all"]
CATCH_UP = ("skip", "one", "all")

MOST_COUNTED = 1000
"""Ticks of a cron line that are counted at once; more that nobody made count as so many."""

FIELDS = 5
_FORM = "It has five fields: minute hour day-of-month month day-of-week"

HOUR = 3600.0
LONGEST = 10 * 366 * 86_400.0
SHORTEST = 1.0
"""Seconds between two ticks of ``every``, at most and at least."""


class Tick(Struct, frozen=True):
    """One instant at which a schedule is due.

    Attributes:
        schedule: its name.
        at: epoch seconds.
        local: the same in the schedule's time zone.
    """

    schedule: str
    at: float
    local: datetime

    @property
    def correlation_id(self) -> str:
        """What the tick's call is found by: ``schedule:payday@2027-01-15T08:00:00.000000Z``."""
        return f"schedule:{self.schedule}@{iso(self.at)}"


def schedule_of(correlation_id: str | None) -> str | None:
    """The schedule whose tick made a call, by the call's correlation id; ``None`` for others."""
    if correlation_id is None or not correlation_id.startswith("schedule:"):
        return None
    return correlation_id.removeprefix("schedule:").rpartition("@")[0] or None


class Rhythm:
    """The ticks of one schedule: pure arithmetic over epoch seconds.

    A cron line is read by the wall clock of its time zone. A time that a spring change skips
    ticks when the gap is over; a time that an autumn change repeats ticks once, the first time.
    Lines whose hour is ``*`` follow real time instead: each hour that passes. ``every`` counts real
    seconds and knows no time zone.

    Raises:
        ConfigurationError: not exactly one of ``cron`` and ``every``, or one that makes no sense.
    """

    def __init__(self, name: str, *, cron: str | None, every: str | float | None, tz: str) -> None:
        if (cron is None) == (every is None):
            raise ConfigurationError(
                f"schedule {name!r}: give either cron='0 9 * * MON-FRI' or every='15m'"
            )
        if cron is not None and not isinstance(cron, str):
            raise ConfigurationError(f"schedule {name!r}: cron={cron!r} is not text")
        self._name = name
        self._zone = load_zone(tz)
        self._cron = cron
        self._every = 0.0
        if every is not None:
            self._every = parse_duration(every)
            if self._every < SHORTEST:
                raise ConfigurationError(
                    f"schedule {name!r}: every={every!r} is less than {SHORTEST:g} s"
                )
            if self._every > LONGEST:
                raise ConfigurationError(
                    f"schedule {name!r}: every={every!r} is more than ten years"
                )
        elif len(str(cron).split()) != FIELDS or "\n" in str(
            cron
        ):  # of six the parser takes one for seconds
            raise ConfigurationError(f"schedule {name!r}: cron={cron!r} cannot be read: {_FORM}")
        else:
            self.after(0.0, 0.0)

    @property
    def spec(self) -> str:
        """The rhythm as it is kept and shown."""
        return f"every {self._every:.15g}" if self._cron is None else f"cron {self._cron}"

    @classmethod
    def read(cls, name: str, spec: str, tz: str) -> Rhythm:
        """The rhythm of a ``spec``."""
        kind, _, text = spec.partition(" ")
        if kind == "every":
            return cls(name, cron=None, every=float(text), tz=tz)
        return cls(name, cron=text, every=None, tz=tz)

    def tick(self, at: float) -> Tick:
        """The tick at an instant."""
        return Tick(self._name, at, datetime.fromtimestamp(at, self._zone))

    def after(self, at: float, anchor: float) -> float:
        """The first tick after ``at``; ``every`` counts from ``anchor``."""
        if self._cron is None:
            return anchor + (self._passed(at, anchor) + 1) * self._every
        return next(found for found in self._seek(at, reverse=False) if found > at)

    def last_until(self, at: float, anchor: float) -> float:
        """The last tick not after ``at``."""
        if self._cron is None:
            return anchor + self._passed(at, anchor) * self._every
        last = next(self._seek(math.floor(at) + 1.0, reverse=True))
        while last > at:  # around a repeated hour the parser may answer with the other one
            last = next(self._seek(last - HOUR, reverse=True))
        while (following := self.after(last, anchor)) <= at:
            last = following
        return last

    def count(self, first: float, last: float, anchor: float) -> int:
        """Ticks from ``first`` to ``last``, both included; at most `MOST_COUNTED` of a cron."""
        if self._cron is None:
            return round((last - first) / self._every) + 1
        counted, at = 0, first
        while at <= last and counted < MOST_COUNTED:
            counted += 1
            at = self.after(at, anchor)
        return counted

    def _passed(self, at: float, anchor: float) -> int:
        """Intervals that are over at ``at``, by the instants as they come out rounded."""
        passed = max(0, int((at - anchor) // self._every))
        if anchor + (passed + 1) * self._every <= at:
            return passed + 1
        return passed - 1 if passed and anchor + passed * self._every > at else passed

    def _seek(self, at: float, *, reverse: bool) -> Iterator[float]:
        """The cron line's ticks from ``at`` on, or back."""
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only schedules need it

        try:
            start = datetime.fromtimestamp(at, self._zone)
            for found in CronSim(self._cron or "", start, reverse=reverse):
                yield found.timestamp()
        except CronSimError as error:
            raise ConfigurationError(
                f"schedule {self._name!r}: cron={self._cron!r} cannot be read: {error}. {_FORM}"
            ) from error
        raise ConfigurationError(f"schedule {self._name!r}: cron={self._cron!r} never comes")


class Declared(Struct, frozen=True, kw_only=True):
    """A schedule as this process declared it.

    Attributes:
        arguments: what the action is called with: a mapping, or a function of the `Tick`.
        grace: seconds after which a tick that was not made counts as missed.
    """

    name: str
    action: Action[..., Any]
    rhythm: Rhythm
    tz: str
    arguments: Mapping[str, Any] | Callable[[Tick], Mapping[str, Any]]
    catch_up: CatchUp = "one"
    grace: float = 60.0
    ping: Ping | None = None

    def __post_init__(self) -> None:
        where = f"schedule {self.name!r}"
        if not isinstance(self.name, str):
            raise ConfigurationError(f"{where}: the name of a schedule is text")
        if not self.name.strip() or "@" in self.name:
            raise ConfigurationError(f"{where}: a schedule needs a name, without '@'")
        if self.catch_up not in CATCH_UP:
            raise ConfigurationError(
                f"{where}: catch_up={self.catch_up!r}: say {', '.join(CATCH_UP)}"
            )
        if not self.grace > 0:
            raise ConfigurationError(f"{where}: grace={self.grace!r} must be more than 0 seconds")
        if not (callable(self.arguments) or isinstance(self.arguments, Mapping)):
            raise ConfigurationError(
                f"{where}: arguments={self.arguments!r}: give a mapping, or a function of the tick"
            )

    @property
    def digest(self) -> str:
        """What tells two declarations of one name apart: what, when and how."""
        text = "\n".join(
            (self.action.name, self.rhythm.spec, self.tz, self.catch_up, f"{self.grace:.15g}")
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def arguments_at(self, tick: Tick) -> Mapping[str, Any]:
        """The arguments of the tick's call. Raises `ConfigurationError` for no mapping."""
        given = self.arguments(tick) if callable(self.arguments) else self.arguments
        if not isinstance(given, Mapping):
            raise ConfigurationError(
                f"schedule {self.name!r}: its arguments are {type(given).__name__}, not a mapping"
            )
        return given
