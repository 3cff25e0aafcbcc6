"""A budget against retry storms."""

from __future__ import annotations

import threading
from collections import deque

from gonogo.backoff import require_number
from gonogo.clock import Clock, SystemClock


class RetryBudget:
    """Keeps retries a fraction of the first calls, so that they cannot become a storm.

    A token bucket as in Finagle's ``RetryBudget``: each first call deposits ``ratio`` tokens, a
    retry withdraws one, and ``per_second`` tokens a second are there in any case. What was put in
    or taken is forgotten after ``ttl`` seconds. Thread-safe.
    """

    _SLICES = 10
    _NOTED = 256

    def __init__(
        self,
        ratio: float = 0.2,
        per_second: float = 10.0,
        *,
        ttl: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        require_number("ratio", ratio, 0)
        require_number("per_second", per_second, 0)
        require_number("ttl", ttl, 0.001)
        self._ratio = ratio
        self._reserve = per_second * ttl
        self._slice = ttl / self._SLICES
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._slices: deque[tuple[int, float]] = deque(maxlen=self._SLICES + 1)
        self._noted: list[float] = []  # when there were first calls that no slice holds yet

    def deposit(self, at: float | None = None) -> None:
        """Note a first call, now or ``at`` a moment just read from the monotonic clock."""
        noted = self._noted
        noted.append(self._clock.monotonic() if at is None else at)
        if len(noted) > self._NOTED:
            with self._lock:
                self._enter()

    def withdraw(self) -> bool:
        """Take the token for one retry; false when there is none."""
        with self._lock:
            if self._balance() < 1.0 - 1e-9:
                return False
            self._add(-1.0, self._slice_of(self._clock.monotonic()))
            return True

    @property
    def balance(self) -> float:
        """Retries that may be made now."""
        with self._lock:
            return self._balance()

    def _balance(self) -> float:
        self._enter()
        oldest = self._slice_of(self._clock.monotonic()) - self._SLICES
        while self._slices and self._slices[0][0] <= oldest:
            self._slices.popleft()
        return self._reserve + sum(amount for _, amount in self._slices)

    def _enter(self) -> None:
        """Put the calls that were only noted, which takes no lock, into their slices."""
        moments = self._noted[:]
        if not moments:
            return
        del self._noted[: len(moments)]  # and none of those that came meanwhile
        first, last = self._slice_of(moments[0]), self._slice_of(moments[-1])
        if first == last:
            self._add(self._ratio * len(moments), last)
        else:
            for moment in moments:
                self._add(self._ratio, self._slice_of(moment))

    def _add(self, amount: float, place: int) -> None:
        if self._slices and self._slices[-1][0] >= place:
            place, there = self._slices.pop()
            amount += there
        self._slices.append((place, amount))

    def _slice_of(self, moment: float) -> int:
        return int(moment / self._slice)
