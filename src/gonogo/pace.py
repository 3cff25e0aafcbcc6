"""What experience says of the near future: how fast a process works, how long an action takes."""

from __future__ import annotations

MOST_AHEAD = 120
SOON = 0.1
"""Calls that are claimed ahead at most, and seconds within which they shall be begun."""

WEIGHT = 1 / 8
"""Of the newest duration in the average of an action's."""


class Pace:
    """How many calls to claim ahead: about as many as are begun within `SOON`, by experience."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._size = 0

    def ahead(self, now: float) -> int:
        """How many, when all that was claimed before is begun at ``now``."""
        took = max(now - self._since, SOON / 4)
        return min(MOST_AHEAD, int(self._size * SOON / took))

    def note(self, now: float, size: int) -> None:
        """So many were claimed at ``now``."""
        self._since, self._size = now, size


class Durations:
    """How long the code of each action takes, in seconds: an average that follows the newest."""

    def __init__(self) -> None:
        self._average: dict[str, float] = {}

    def note(self, action: str, seconds: float) -> None:
        """It took so long this time. Of threads that come together one may go unheard."""
        known = self._average.get(action, seconds)
        self._average[action] = known + WEIGHT * (seconds - known)

    def of(self, action: str) -> float | None:
        """What it will take; ``None`` when it has not run here yet."""
        return self._average.get(action)
