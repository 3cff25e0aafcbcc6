"""A bell: wakes whoever waits to hear that something happened, and costs nothing unheard."""

from __future__ import annotations

import threading


class Bell:
    """Rung when something may have changed; whoever heard it looks what.

    One who comes the moment it is rung may not hear it, so nobody waits for it alone: all wait a
    while and then look by themselves.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.waiting = 0
        """How many wait now."""

    def ring(self) -> None:
        """Wake all who wait now."""
        if self.waiting:
            with self._condition:
                self._condition.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until it is rung, ``seconds`` at most."""
        with self._condition:
            self.waiting += 1
            try:
                self._condition.wait(seconds)
            finally:
                self.waiting -= 1
