"""The governor: rates, quotas and budgets that never over-admit, and the kill switch.

Units are reserved before an effect, settled to the actual cost after it, and given back only when
the effect is proven not to have happened. Several limits are taken all or none.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from gonogo.charges import Forecast, explain_denial, forecast, limit_of, merge
from gonogo.clock import Clock, SystemClock
from gonogo.durations import spell_duration
from gonogo.errors import ConfigurationError, Halted, RateLimited
from gonogo.events import EventBus, control_changed
from gonogo.halts import check_halt, clear_halt, set_halt, switches
from gonogo.limits import Limit, check_units
from gonogo.records import Charge, Control, Denial, Reservation
from gonogo.store.memory import MemoryStore
from gonogo.store.memory_prepared import Use
from gonogo.store.port import Store, Transaction

_ALLOWED = True, "Allowed"
_ONE = 1
_MANY = 1024
"""Prepared checks that are kept."""


class Violation(Struct, frozen=True):
    """A denial, or an effect that cost more than its limit had left.

    ``used`` is what was in use, for an overspend with the actual cost; times are epoch seconds.
    """

    at: float
    kind: Literal["denied", "overspent"]
    limit: str
    row: str
    used: int
    max: int
    cost: int


class Grant:
    """Units that were granted; end it once, with `settle` or `refund`, or keep what was taken."""

    __slots__ = ("_ended", "_governor", "reservations")

    def __init__(self, reservations: tuple[Reservation, ...], governor: GovernorEnforcer) -> None:
        self.reservations = reservations
        self._governor = governor
        self._ended = threading.Lock()

    def __repr__(self) -> str:
        return f"Grant(reservations={self.reservations!r})"

    def settle(self, costs: Mapping[str, int]) -> None:
        """Replace reserved costs by the actual ones, by limit name or row (``name[key]``).

        Raises:
            ConfigurationError: when a name is not held, a cost is not a whole number of at least
                0, or the grant has ended before.
        """
        held = {name for r in self.reservations for name in (r.row, limit_of(r.row))}
        for name, cost in costs.items():
            check_units(f"actual cost of {name!r}", cost)
            if name not in held:
                raise ConfigurationError(
                    f"this grant holds no {name!r}; it holds: {', '.join(sorted(held)) or 'none'}"
                )
        self._end(lambda tx: self._governor.settle(tx, self.reservations, costs))

    def refund(self) -> None:
        """Give everything back: only when the effect surely did not happen."""
        self._end(lambda tx: self._governor.release(tx, self.reservations))

    def _end(self, work: Any) -> None:
        if not self._ended.acquire(blocking=False):
            raise ConfigurationError("this grant was settled or refunded before; it can end once")
        try:
            self._governor._store.write(work)
        except BaseException:
            self._ended.release()
            raise


class GovernorEnforcer:
    """Enforces limits, alone in memory or on the ledger of ``store``.

    Args:
        store: the ledger; without one, exact windows in this process.
        clock: the source of time.
        events: told when somebody halts or resumes.
        history: violations that are kept.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        events: EventBus | None = None,
        history: int = 1000,
    ) -> None:
        self._events = events
        self._store: Store = store if store is not None else MemoryStore(history)
        self._clock: Clock = clock or SystemClock()
        self._limits: dict[str, Limit] = {}
        self._prepared: dict[str | tuple[str, ...], Use] = {}
        self._standing: dict[str, tuple[Sequence[Charge], tuple[Charge, ...]]] = {}
        self._defaults: set[str] = set()
        self._violations: deque[Violation] = deque(maxlen=history)
        self._denied: Counter[str] = Counter()
        self._mutex = threading.Lock()

    # Declaring ------------------------------------------------------------------------------

    @property
    def rate_limits(self) -> dict[str, Limit]:
        """The limits there are, by name."""
        with self._mutex:
            return dict(self._limits)

    def declare(self, limit: Limit, *, default: bool = False) -> None:
        """Make ``limit`` known; declaring equal terms again is fine.

        With ``default`` it gives way to a limit of that name which is there or comes later.

        Raises:
            ConfigurationError: when the name is taken with another ``max`` or ``per``.
        """
        with self._mutex:
            known = self._limits.get(limit.name)
            if known is not None and default:
                return
            replaceable = known is None or limit.name in self._defaults
            if known is not None and not replaceable and known.terms != limit.terms:
                raise ConfigurationError(
                    f"limit {limit.name!r} is declared twice with different terms: {known.max} per "
                    f"{known.span} and {limit.max} per {limit.span}. Give one of them another "
                    f"name, or change it on purpose with set_limit()"
                )
            if replaceable:
                self._put(limit)
                (self._defaults.add if default else self._defaults.discard)(limit.name)

    def is_default(self, name: str) -> bool:
        """Whether limit ``name`` is one that was declared as a default, and by nobody else."""
        with self._mutex:
            return name in self._defaults

    def set_limit(self, resource: str, max_actions: int, window_seconds: float = 3600) -> None:
        """Set or replace a limit; what was used stays used.

        Raises:
            ConfigurationError: when a value is not positive.
        """
        limit = Limit(resource, max_actions, per=window_seconds)
        with self._mutex:
            self._put(limit)
            self._defaults.discard(resource)

    def _put(self, limit: Limit) -> None:
        self._limits[limit.name] = limit
        self._prepared.clear()
        self._standing.clear()

    def has_limit(self, name: str) -> bool:
        """Whether there is a limit of this name."""
        return name in self._limits

    def charges(self, action: str, declared: Sequence[Charge], now: float) -> tuple[Charge, ...]:
        """What a call uses: its ``declared`` charges under the terms in force now.

        A limit that has the action's name applies to it even where the action does not declare
        it, when it can be counted without arguments; so `set_limit` reaches every action.
        """
        known = self._standing.get(action)
        if known is not None and known[0] is declared:
            return known[1]
        with self._mutex:
            charges = self._charges(action, declared, now)
            if type(declared) is tuple and all(charge.since is None for charge in charges):
                self._standing[action] = declared, charges
        return charges

    def _charges(self, action: str, declared: Sequence[Charge], now: float) -> tuple[Charge, ...]:
        own = self._limits.get(action)
        charges = []
        for charge in declared:
            charges.append(self._in_force(charge, now))
            if charge.limit == action:
                own = None
        if own is not None and own.key is None and isinstance(own.cost, int):
            charges.append(own.charge_of(own.cost, None, now))
        return tuple(charges) if len(charges) < 2 else merge(charges)

    def _in_force(self, charge: Charge, now: float) -> Charge:
        known = self._limits.get(charge.limit)
        if known is None or known.fixed is charge:
            return charge
        since, window = known.period(now)
        if (known.max, window, since) == (charge.max, charge.window, charge.since):
            return charge
        return Charge(charge.limit, charge.row, known.max, charge.cost, window, since)

    # Inside a transaction -------------------------------------------------------------------

    def reserve(
        self,
        tx: Transaction,
        charges: Sequence[Charge],
        now: float,
        clock: Callable[[], float] | None = None,
    ) -> tuple[Reservation, ...]:
        """Take all of ``charges`` or none; for ``clock`` see `Limits.reserve`.

        A store may run the transaction again, so whoever began it notes a denial, once; see
        `note_denial`.

        Raises:
            RateLimited: naming the limit that has no room and when it will; nothing was used.
        """
        granted = tx.limits.reserve(charges, now, clock)
        if isinstance(granted, Denial):
            refusal = RateLimited(
                explain_denial(granted, *self._spelled(granted, charges), now),
                retry_after=granted.retry_after,
            )
            refusal.limit, refusal.row = granted.limit, granted.row
            refusal.used, refusal.max, refusal.cost = granted.used, granted.max, granted.cost
            raise refusal
        return granted

    def _spelled(self, denial: Denial, charges: Sequence[Charge]) -> tuple[str, str]:
        """The window of a denied charge, and which of its kind is counted in, for people."""
        limit = self._limits.get(denial.limit)
        if limit is not None:
            return limit.span, limit.counted_in
        span = spell_duration(next(c.window for c in charges if c.row == denial.row))
        return span, span

    def release(self, tx: Transaction, reservations: Iterable[Reservation]) -> None:
        """Give units back: only for effects proven not applied."""
        tx.limits.release(reservations)

    def settle(
        self, tx: Transaction, reservations: Sequence[Reservation], costs: Mapping[str, int]
    ) -> tuple[Reservation, ...]:
        """Replace reserved costs by the actual ``costs``, given by row or by limit name.

        The effect has happened, so nothing here refuses: a cost beyond the limit is kept as a
        violation, and one that is missing or is not a whole number stays as reserved.
        """
        settled = []
        for held in reservations:
            cost = costs.get(held.row, costs.get(limit_of(held.row), held.cost))
            if type(cost) is not int or cost < 0 or cost == held.cost:
                settled.append(held)
                continue
            settled.append(tx.limits.adjust(held, cost))
            if cost > held.cost:
                self._check_overspend(tx, held, cost)
        return tuple(settled)

    def forecast(
        self, tx: Transaction, groups: Sequence[Sequence[Charge]], now: float
    ) -> list[Forecast]:
        """Which of ``groups``, taken in this order at ``now``, would be denied, and by what.

        Nothing is used; see `gonogo.charges.forecast`.
        """
        rows = {charge.row: charge for group in groups for charge in group}
        used = {u.row: u.used for u in tx.limits.usage(list(rows.values()), now)}
        return forecast(groups, used)

    def _check_overspend(self, tx: Transaction, held: Reservation, cost: int) -> None:
        limit = self._limits.get(limit_of(held.row))
        if limit is None:
            return
        now = self._clock.now()
        charge = Charge(limit.name, held.row, limit.max, 0, held.window, held.since)
        used = tx.limits.usage([charge], now)[0].used
        if used > limit.max:
            over = Denial(limit.name, held.row, used, limit.max, cost, None)
            self._note("overspent", over, now)

    # Alone ----------------------------------------------------------------------------------

    def check_limit(
        self, resource: str, cost: int = 1, key: object | None = None
    ) -> tuple[bool, str]:
        """Use ``cost`` units of ``resource`` if there is room: whether it was, and a sentence.

        Denied while ``resource`` is halted. A resource without a limit is allowed.

        Raises:
            ConfigurationError: when the cost or the key makes no sense.
        """
        if key is None and (cost is _ONE or (type(cost) is int and cost >= 0)):
            try:
                use = self._prepared[resource]
            except KeyError:
                return self._check((resource,), cost, key)
            if use(cost, self._clock.now()):
                return _ALLOWED
        return self._check((resource,), cost, key)

    def check_limits(
        self, *resources: str, cost: int = 1, key: object | None = None
    ) -> tuple[bool, str]:
        """`check_limit` of several: ``cost`` units of each are used, or none of any.

        Raises:
            ConfigurationError: when the cost or the key makes no sense.
        """
        use = self._prepared.get(resources) if key is None else None
        if use is not None and type(cost) is int and cost >= 0 and use(cost, self._clock.now()):
            return _ALLOWED
        return self._check(resources, cost, key)

    def _check(self, resources: tuple[str, ...], cost: int, key: object | None) -> tuple[bool, str]:
        now = self._clock.now()
        limits = [self._limits.get(name) for name in resources]
        charges = merge(limit.charge_of(cost, key, now) for limit in limits if limit is not None)
        try:
            self._take(charges, resources, now)
        except (RateLimited, Halted) as refusal:
            return False, str(refusal)
        if not charges:
            return True, f"No limit set for {', '.join(map(repr, resources))}"
        if type(self._store) is MemoryStore and key is None:  # another kind may do more in a write
            self._prepare(self._store, resources, now)
        return _ALLOWED

    def _prepare(self, store: MemoryStore, resources: tuple[str, ...], now: float) -> None:
        """Let later checks of ``resources`` go without a transaction, if they can.

        The store is asked without our lock, for which a denial waits inside of a transaction.
        """
        limits = [self._limits.get(name) for name in resources]
        charges = [limit.charge_of(1, None, now) for limit in limits if limit is not None]
        if len(charges) < len(resources) or len(set(resources)) < len(resources):
            return  # no limit is a message of its own; one that is named twice is charged twice
        halting = {name for resource in resources for name in switches(resource)}
        use = store.prepare(charges, halting)
        if use is None:
            return
        with self._mutex:
            if limits != [self._limits.get(name) for name in resources]:
                return  # other terms hold by now
            if len(self._prepared) >= _MANY:
                self._prepared.clear()
            self._prepared[resources if len(resources) > 1 else resources[0]] = use

    def acquire(
        self,
        *limits: str | Limit,
        cost: int = 1,
        key: object | None = None,
        arguments: Mapping[str, Any] | None = None,
        timeout: float = 0,
    ) -> Grant:
        """Take units of several limits, all or none, waiting for room up to ``timeout`` seconds.

        A limit given by name is charged ``cost`` under ``key``; with ``arguments``, and for a
        `Limit`, what it declares is charged.

        Raises:
            RateLimited: when there is no room in time; it does not wait when waiting cannot help.
            Halted: when one of the names is halted.
            ConfigurationError: when a name has no limit, or a cost makes no sense.
        """
        found = [self._find(limit) for limit in limits]
        names = tuple(limit.name for limit in found)
        give_up = self._clock.monotonic() + timeout if timeout > 0 else None
        while True:
            now = self._clock.now()
            charges = merge(
                limit.charge_of(cost, key, now)
                if isinstance(given, str) and arguments is None
                else self._in_force(limit.charge(arguments or {}, now), now)
                for given, limit in zip(limits, found, strict=True)
            )
            try:
                return Grant(self._take(charges, names, now), self)
            except RateLimited as denied:
                wait = denied.retry_after
                if wait is None or give_up is None or wait > give_up - self._clock.monotonic():
                    raise
            self._clock.sleep(wait)

    def get_status(self, resource: str | None = None, key: object | None = None) -> dict[str, Any]:
        """Of one resource, or of all by name: how much is used, allowed, and was denied.

        ``retry_after`` is in seconds, 0 while there is room for one unit. ``key`` asks for one
        value of a limit that counts by key.
        """
        if resource is None:
            return {name: self.get_status(name) for name in self.rate_limits}
        limit = self._limits.get(resource)
        status: dict[str, Any] = {
            "resource": resource,
            "current_actions": 0,
            "max_actions": None,
            "window_seconds": None,
            "denied_count": self._denied[resource],
            "retry_after": 0.0,
        }
        if limit is None:
            return status
        now = self._clock.now()
        charge = limit.charge_of(1, key, now)
        used, retry_after = self._store.write(lambda tx: _room(tx, charge, now))
        status.update(
            current_actions=used,
            max_actions=limit.max,
            window_seconds=charge.window,
            retry_after=retry_after,
        )
        return status

    def violations(self, resource: str | None = None) -> list[Violation]:
        """Denials and overspends of this process, oldest first."""
        with self._mutex:
            return [v for v in self._violations if resource is None or v.limit == resource]

    def _find(self, limit: str | Limit) -> Limit:
        if isinstance(limit, Limit):
            self.declare(limit)
            return limit
        try:
            return self._limits[limit]
        except KeyError:
            raise ConfigurationError(
                f"there is no limit {limit!r}; declare it or call set_limit(). There are: "
                f"{', '.join(sorted(self.rate_limits)) or 'none'}"
            ) from None

    def _take(
        self, charges: Sequence[Charge], names: Sequence[str], now: float
    ) -> tuple[Reservation, ...]:
        def work(tx: Transaction) -> tuple[Reservation, ...]:
            controls = tx.controls.all()
            for name in names:
                check_halt(controls, name, now)
            return self.reserve(tx, charges, now, self._clock.now)

        try:
            return self._store.write(work)
        except RateLimited as refusal:
            self.note_denial(refusal, now)
            raise

    def note_denial(self, refusal: RateLimited, now: float) -> None:
        """Count a refusal that is on its way to its caller; nothing, where no limit was reached."""
        limit, row = refusal.limit, refusal.row
        used, most, cost = refusal.used, refusal.max, refusal.cost
        if limit is None or row is None or used is None or most is None or cost is None:
            return
        self._note("denied", Denial(limit, row, used, most, cost, refusal.retry_after), now)

    def _note(self, kind: Literal["denied", "overspent"], denial: Denial, now: float) -> None:
        with self._mutex:
            if kind == "denied":
                self._denied[denial.limit] += 1
            self._violations.append(
                Violation(now, kind, denial.limit, denial.row, denial.used, denial.max, denial.cost)
            )

    # Kill switch ----------------------------------------------------------------------------

    def halt(
        self, action: str | None = None, *, by: str, reason: str, until: float | None = None
    ) -> Control:
        """Refuse ``action``, or everything, from now on; recorded with who and why.

        ``until`` (epoch seconds) is when it ends by itself; without it, `resume` ends it.

        Raises:
            ConfigurationError: without ``by`` and ``reason``, or when ``until`` has passed.
            Refused: a halt that lasts longer stands; `resume` ends it first.
        """
        now = self._clock.now()
        control = self._store.write(lambda tx: set_halt(tx, action, by, reason, until, now))
        control_changed(self._events, now, control.name, by, on=True)
        return control

    def resume(self, action: str | None = None, *, by: str, reason: str) -> bool:
        """End a halt; false when there was none. A halt of everything is ended without a name.

        Raises:
            ConfigurationError: without ``by`` and ``reason``.
        """
        now = self._clock.now()
        cleared = self._store.write(lambda tx: clear_halt(tx, action, by, reason, now))
        if cleared:
            control_changed(self._events, now, f"halt:{action or '*'}", by, on=False)
        return cleared


def _room(tx: Transaction, charge: Charge, now: float) -> tuple[int, float]:
    """Units in use, and seconds until one more has room."""
    used = tx.limits.usage([charge], now)[0].used
    if used < charge.max:
        return used, 0.0
    denial = tx.limits.reserve([charge], now)  # there is no room, so this takes nothing
    return used, (denial.retry_after or 0.0) if isinstance(denial, Denial) else 0.0
