"""In which order due calls are handed out: by priority, and within one the actions take turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple


class Due(NamedTuple):
    """What is asked of a due call to give it its turn."""

    id: str
    action: str
    priority: int
    run_at: float


def in_turn(due: Iterable[Due], turn: str, limit: int) -> list[str]:
    """Ids of up to ``limit`` calls in the order in which they are claimed; see `Calls.claim`.

    An action with many calls cannot keep another waiting for longer than one call of each: within
    a priority come the first calls of all actions, then the second ones, and so on.
    """
    ranks: Counter[tuple[str, int]] = Counter()
    order = []
    for call in sorted(due, key=lambda call: (-call.priority, call.run_at, call.id)):
        group = call.action, call.priority
        order.append((-call.priority, ranks[group], call.action <= turn, call.action, call.id))
        ranks[group] += 1
    return [place[-1] for place in sorted(order)[:limit]]
