"""Time as a dependency: the only module that may read the machine's clocks."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """What every part of gonogo asks of time. All values are seconds."""

    def now(self) -> float:
        """Seconds since the Unix epoch. Never smaller than an earlier answer of the same clock."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that no administrator can set; only differences mean anything."""
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
        self._lock = threading.Lock()

    def now(self) -> float:
        monotonic = time.monotonic()
        if time.time() - monotonic - self._offset > self._tolerance:
            with self._lock:
                self._offset = max(self._offset, time.time() - time.monotonic())
        return monotonic + self._offset

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415 - only async callers pay for it

        await asyncio.sleep(max(0.0, seconds))

    def skew(self) -> float:
        return self.now() - time.time()


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


def iso(seconds: float) -> str:
    """Epoch ``seconds`` as people and machines read it: ISO 8601, UTC, microseconds."""
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_iso_second(whole)}.{micros:06d}Z"


@lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
