"""What every contender can do: take jobs in, tell what is left, and work them off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Begun = Callable[[], None]
"""What a job does: it tells the benchmark that it runs."""


class Queue(Protocol):
    """A contender on the side of who asks for jobs.

    Its module also has ``work(url, begun, hands)``, which takes jobs until the process is ended.
    """

    def put(self, number: int) -> object:
        """Queue one job, durably."""

    def put_many(self, numbers: Sequence[int]) -> object:
        """Queue these, seen by workers all at once where the contender can do so."""

    def left(self) -> int:
        """Jobs that are not settled yet."""

    def close(self) -> None: ...
