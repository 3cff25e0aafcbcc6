"""Time as a dependency: the only module that may read the machine's clocks."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

_TICKS: int | None = getattr(time, "CLOCK_BOOTTIME", None)

_LOOKED = 0.001
"""Seconds for which a look at the wall clock holds; any answer may be as old when it is used."""

REFRESHED = 10.0
"""Seconds after which a ledger's clock asks the database again."""

_PATIENCE = 5.0
"""Seconds a thread waits for another one that is asking."""

_SLOW = 0.02
"""Seconds an answer should take: by half of that it may be wrong."""

_ALMOST = 9.999_999
"""What is nearer to the end of its ten seconds may round up into the next ones."""

_AGAIN = 2
"""How often it is asked again after a slow answer; the fastest one counts."""


class Clock(Protocol):
    """What every part of gonogo asks of time. All values are seconds."""

    def now(self) -> float:
        """Seconds since the Unix epoch. Never smaller than an earlier answer of the same clock."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that nobody can set; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the caller for ``seconds``; zero or less returns at once."""
        ...

    async def asleep(self, seconds: float) -> None:
        """`sleep` for async code."""
        ...

    def skew(self) -> float:
        """Seconds by which ``now()`` is ahead of the machine's wall clock (negative: behind)."""
        ...


class SystemClock:
    """The machine's clock, held so that it never steps back while the process lives.

    A wall clock that is set back would reopen limits that are used up and keep dead leases alive.
    So time is the wall clock at start plus the monotonic clock since; it is moved forward when the
    wall clock is more than ``tolerance`` seconds ahead and never moved back. ``skew()`` says how
    far apart the two are, which the readiness check ``clock`` reports.
    """

    def __init__(self, tolerance: float = 1.0) -> None:
        self._tolerance = tolerance
        self._offset = time.time() - time.monotonic()
        self._look_at = -math.inf
        self._lock = threading.Lock()

    def now(self) -> float:
        monotonic = time.monotonic()
        if monotonic >= self._look_at:
            self._look(monotonic)
        return monotonic + self._offset

    def _look(self, monotonic: float) -> None:
        """Follow the wall clock if it is ahead."""
        if time.time() - monotonic - self._offset > self._tolerance:
            with self._lock:
                self._offset = max(self._offset, time.time() - time.monotonic())
        self._look_at = monotonic + _LOOKED

    def monotonic(self) -> float:
        return time.clock_gettime(_TICKS) if _TICKS is not None else time.monotonic()

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415 - only async callers pay for it

        await asyncio.sleep(max(0.0, seconds))

    def skew(self) -> float:
        return self.now() - time.time()


def refresh(clock: Clock) -> None:
    """Let a clock that follows a database's ask it again, if that was long ago; never raises."""
    if isinstance(clock, LedgerClock):
        clock.refresh(REFRESHED)


class LedgerClock:
    """The machine's clock, corrected to the one of the ledger's database.

    Leases, limits and deadlines are reckoned by the clocks of every machine on a ledger, so all of
    them take the database's. It is asked before the first answer, and again by `refresh`; between,
    time goes on by this machine's monotonic clock. The first correction may step back, for nothing
    was reckoned yet; after that time stands still until the database has caught up.

    A database that has no clock of its own (SQLite: it is on this machine) leaves it a
    `SystemClock`. While one is out of reach, time is the machine's, and nothing can be written.

    Args:
        reference: the database's time in epoch seconds, ``None`` when it has none of its own; may
            raise anything.
    """

    def __init__(self, reference: Callable[[], float | None]) -> None:
        self._reference = reference
        self._machine = SystemClock()
        self.now: Callable[[], float] = self._corrected
        self.monotonic = self._machine.monotonic
        self.sleep = self._machine.sleep
        self.asleep = self._machine.asleep
        self._offset: float | None = None
        self._has_reference = True
        self._last = float("-inf")
        self._asked_at = float("-inf")
        self._lock = threading.Lock()
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _in_child(me()))

    def _corrected(self) -> float:
        if self._offset is None:
            self.refresh(every=REFRESHED)
            if self._offset is None:
                return self._machine.now()
        now = max(self._last, _ticking() + self._offset)
        self._last = now
        return now

    def refresh(self, every: float = 0.0) -> None:
        """Ask the database again, unless it was asked within ``every`` seconds; never raises."""
        if not self._has_reference or _ticking() - self._asked_at < every:
            return
        if not self._lock.acquire(timeout=_PATIENCE):
            self._asked_at = _ticking()
            return
        try:
            if _ticking() - self._asked_at < every:
                return
            there, took, at = self._ask()
            for _ in range(_AGAIN):
                if took <= _SLOW:
                    break
                there, took, at = min((there, took, at), self._ask(), key=lambda one: one[1])
            self._asked_at = _ticking()
            if there is None:
                self._has_reference = False
                self.now = self._machine.now
            elif math.isfinite(there):
                self._offset = there - at
        except RuntimeError:  # asked inside a transaction: the next answer may correct it
            return
        except Exception:  # noqa: BLE001 - whatever keeps us from asking, the ledger will say it
            self._asked_at = _ticking()
        finally:
            self._lock.release()

    def _ask(self) -> tuple[float | None, float, float]:
        """The answer, how long it took, and when it was true: half way there and back."""
        before = _ticking()
        there = self._reference()
        after = _ticking()
        return there, after - before, (before + after) / 2

    def skew(self) -> float:
        if self._offset is None:
            return self._machine.skew()
        return self.now() - time.time()

    @property
    def is_corrected(self) -> bool:
        """Whether a database's clock was asked, and answered."""
        return self._offset is not None

    def ahead(self) -> float:
        """Seconds by which ``now()`` is ahead of the database, because it never steps back."""
        if self._offset is None:
            return 0.0
        return max(0.0, self._last - (_ticking() + self._offset))


def _in_child(clock: LedgerClock | None) -> None:
    """A lock that another thread of the parent held would never be free."""
    if clock is not None:
        clock._lock = threading.Lock()


class FakeClock:
    """A clock that moves only when told to; ``sleep`` advances it and returns at once."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
        self.advance(seconds)

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Move time forward by ``seconds``; negative values are ignored, as on a real clock."""
        with self._lock:
            self._now += max(0.0, seconds)

    def skew(self) -> float:
        return 0.0


def _ticking() -> float:
    """Seconds since the machine was started; where it can be told, those it slept count as well."""
    return time.clock_gettime(_TICKS) if _TICKS is not None else time.monotonic()


def give_way() -> None:
    """Let other threads that are ready run first; no time passes where there are none."""
    time.sleep(0)


def iso(seconds: float) -> str:
    """Epoch ``seconds`` as people and machines read it: ISO 8601, UTC, microseconds."""
    micros = round(seconds * 1_000_000)
    digits = str(micros % 1_000_000 + 1_000_000)  # the first is there to be cut off
    return f"{_iso_second(micros // 1_000_000)}.{digits[1:]}Z"


@lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Stamps:
    """`iso`, to the microsecond, for moments that mostly share ten seconds, written once."""

    __slots__ = ("_ten",)

    def __init__(self) -> None:
        self._ten = (math.nan, "")  # one attribute: other threads may be in other seconds

    def iso(self, seconds: float) -> str:
        """See `iso`."""
        start, head = self._ten
        into = seconds - start
        if not 0 < into < _ALMOST:
            start = math.floor(seconds / 10) * 10.0
            head, into = _iso_second(int(start))[:-1], seconds - start
            if not 0 < into < _ALMOST:
                return iso(seconds)
            self._ten = start, head
        return f"{head}{into:.6f}Z"
