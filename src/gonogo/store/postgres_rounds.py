"""Running work again when other transactions came first."""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from typing import TypeVar

from gonogo.clock import Clock
from gonogo.store.postgres_errors import Contention

T = TypeVar("T")
_ROUNDS = 10
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1


class Rounds:
    """Up to ten rounds with growing pauses between, in all about half a second.

    Args:
        clock: measures the pauses.
        random: a function giving numbers in [0, 1). Each pause is cut to between its half and the
            whole of it, so that two that met do not meet again at once.
    """

    def __init__(self, clock: Clock, random: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._random = random or _random.random

    def run(self, attempt: Callable[[], T]) -> T:
        """The result of ``attempt``, which begins from nothing each time.

        Raises:
            StoreError: what the last `Contention` stands for.
        """
        pause = _FIRST_PAUSE
        for _ in range(_ROUNDS - 1):
            try:
                return attempt()
            except Contention:
                self._clock.sleep(pause * (0.5 + self._random() / 2))
                pause = min(2 * pause, _LONGEST_PAUSE)
        try:
            return attempt()
        except Contention as contention:
            raise contention.final from contention.__cause__
