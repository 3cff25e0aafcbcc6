"""What code inside an action raises to say what became of the effect."""

from __future__ import annotations


class Signal(Exception):
    """Base of the control signals; raising one is a statement of fact, not an accident."""


class NotApplied(Signal):
    """The effect surely did not happen (nothing was sent, or it was undone). May be retried.

    Args:
        reason: one sentence for people.
        retry_after: seconds the other side asked us to wait, when it said so.
    """

    def __init__(self, reason: str = "not applied", *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Rejected(Signal):
    """The other side refused for good: it did not happen and asking again will not help."""

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)


class Snooze(Signal):
    """Not now: run again after ``seconds``. Nothing happened and no attempt is used up."""

    def __init__(self, seconds: float, reason: str = "snoozed") -> None:
        super().__init__(reason)
        self.seconds = seconds


class Cancel(Signal):
    """Not any more: nothing happened and the call ends as cancelled; its key is free again."""

    def __init__(self, reason: str = "cancelled by the action") -> None:
        super().__init__(reason)
