"""What an action may use, as declared: rates and budgets (`Limit`) and slots (`Concurrency`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from gonogo.durations import (
    CALENDAR,
    calendar_period,
    load_zone,
    parse_duration,
    spell_duration,
)
from gonogo.errors import ConfigurationError
from gonogo.records import Charge
from gonogo.templates import Template

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

Arguments = Mapping[str, Any]
Key = str | Callable[[Arguments], object]
Cost = int | str | Callable[[Arguments], int]

MAX_KEY = 256
"""Longest key of a limit or slot, in characters."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``max`` units of ``name`` in any window of length ``per``.

    ::

        Limit("payment", 100, per="1h")
        Limit("payment.cents", 5_000_000, per="day", tz="Europe/Paris", cost="{cents}")
        Limit("api", 10, per="1s", key="{customer}", wait=True)

    Args:
        name: what is counted; actions that name the same limit share it.
        max: units allowed, a whole number greater than 0.
        per: a sliding window (``"1h"``, ``"30s"``, or seconds), or a calendar period in ``tz``:
            ``minute hour day week month``.
        cost: units of one call: a whole number, a single field (``"{cents}"``), or a function of
            the arguments. Money is counted in minor units (cents), never in floats.
        key: counts separately for each value: a template or a function of the arguments.
        tz: IANA time zone of a calendar period.
        wait: whether a call may wait for room instead of being denied.

    Attributes:
        fixed: the charge of every call, where they are all the same.

    Raises:
        ConfigurationError: when any of it makes no sense.
    """

    name: str
    max: int
    _: KW_ONLY
    per: str | float
    cost: Cost = 1
    key: Key | None = None
    tz: str = "UTC"
    wait: bool = False
    _window: float = field(init=False, repr=False, compare=False)
    _zone: ZoneInfo | None = field(init=False, repr=False, compare=False)
    _price: int | Callable[[Arguments], Any] = field(init=False, repr=False, compare=False)
    _key: Callable[[Arguments], object] | None = field(init=False, repr=False, compare=False)
    fixed: Charge | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        what = f"limit {self.name!r}"
        check_units(f"{what}: max", self.max, least=1)
        calendar = self.per in CALENDAR
        prepared: dict[str, Any] = {
            "_window": 0.0 if calendar else _length(what, self.per),
            "_zone": load_zone(self.tz) if calendar or self.tz != "UTC" else None,
            "_price": _price_of(f"{what}: cost", self.cost),
            "_key": _key_of(f"{what}: key", self.key),
            "fixed": None,
        }
        if not calendar and self.key is None and isinstance(self.cost, int):
            window = prepared["_window"]
            prepared["fixed"] = Charge(self.name, self.name, self.max, self.cost, window)
        for name, value in prepared.items():
            object.__setattr__(self, name, value)

    @property
    def terms(self) -> tuple[object, ...]:
        """What everybody who shares this limit must agree on."""
        return self.max, self._window or (self.per, self.tz)

    @property
    def span(self) -> str:
        """Its window for people: ``1h``, or ``day (Europe/Paris)``."""
        return spell_duration(self._window) if self._window else f"{self.per} ({self.tz})"

    @property
    def counted_in(self) -> str:
        """The window at this moment, for people: ``1h``, or ``this day (Europe/Paris)``."""
        return self.span if self._window else f"this {self.span}"

    def period(self, now: float) -> tuple[float | None, float]:
        """Start of the calendar period at ``now`` (``None`` when sliding), length in seconds."""
        if self._window:
            return None, self._window
        return calendar_period(str(self.per), self._zone or load_zone(self.tz), now)

    def charge(self, arguments: Arguments, now: float) -> Charge:
        """What a call with ``arguments`` would use at ``now``.

        Raises:
            ConfigurationError: when a template names an argument that is not there, or the cost
                is not a whole number of at least 0.
        """
        if self.fixed is not None:
            return self.fixed
        cost = self._price(arguments) if callable(self._price) else self._price
        return self._charge(cost, _row(self.name, self._key, arguments), now)

    def charge_of(self, cost: int, key: object | None, now: float) -> Charge:
        """A charge of ``cost`` units under ``key``, whatever the limit declares for them."""
        fixed = self.fixed
        if fixed is not None and key is None and type(cost) is int and cost == fixed.cost:
            return fixed
        return self._charge(cost, self.name if key is None else _keyed(self.name, key), now)

    def _charge(self, cost: int, row: str, now: float) -> Charge:
        check_units(f"limit {self.name!r}: cost", cost)
        since, window = self.period(now)
        return Charge(self.name, row, self.max, cost, window, since)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most ``max`` effects at a time.

    Args:
        max: slots, a whole number greater than 0.
        key: slots for each value separately: a template or a function of the arguments.
        name: share the slots with other actions under this name; else they are the action's own.
    """

    max: int
    key: Key | None = None
    name: str | None = None
    _key: Callable[[Arguments], object] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.name is not None:
            _check_name(self.name)
        check_units("concurrency: max", self.max, least=1)
        object.__setattr__(self, "_key", _key_of("concurrency: key", self.key))

    def slot(self, action: str, arguments: Arguments) -> str:
        """The slot a call of ``action`` fills: ``name``, or ``name[key]``."""
        return _row(self.name or action, self._key, arguments)


def check_units(what: str, units: object, *, least: int = 0) -> int:
    """``units`` if it is a whole number from ``least`` to 2**63 - 1; else `ConfigurationError`."""
    if type(units) is not int:  # a bool is a slip, and a float loses cents
        raise ConfigurationError(
            f"{what} must be a whole number (an int), not {type(units).__name__} {units!r}; "
            f"count money in minor units such as cents"
        )
    if not least <= units < 2**63:
        raise ConfigurationError(f"{what} must be at least {least} and below 2**63, not {units}")
    return units


def _length(what: str, per: str | float) -> float:
    try:
        return parse_duration(per)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{what}: per: {error}; or one of {', '.join(CALENDAR)}"
        ) from error


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"a limit needs a name, not {name!r}")
    if "[" in name or "]" in name:
        raise ConfigurationError(f"limit {name!r}: brackets are kept for keys; use another name")


def _row(name: str, key: Callable[[Arguments], object] | None, arguments: Arguments) -> str:
    return name if key is None else _keyed(name, key(arguments))


def _keyed(name: str, key: object) -> str:
    text = "" if key is None else str(key)
    if not 0 < len(text) <= MAX_KEY:
        raise ConfigurationError(
            f"limit {name!r}: its key must have 1 to {MAX_KEY} characters, but has {len(text)}"
        )
    return f"{name}[{text}]"


def _key_of(what: str, key: object) -> Callable[[Arguments], object] | None:
    if key is None or callable(key):
        return key
    return Template(key, what).render


def _price_of(what: str, cost: object) -> int | Callable[[Arguments], Any]:
    if callable(cost):
        return cost
    if isinstance(cost, str):
        return Template(cost, what).getter()
    return check_units(what, cost)
