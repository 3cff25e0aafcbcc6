"""What those who listen are told of the jobs that a transaction wrote."""

from __future__ import annotations

from collections.abc import Collection

CHANNEL = "gonogo_due"
SAY = f"SELECT pg_notify('{CHANNEL}', %(news)s)"
_LONGEST = 1000
"""Characters of a queue's name: a notification takes less than 8000 bytes."""
_MOST = 8
"""Notifications of one transaction."""


def told(queues: Collection[str | None]) -> list[str]:
    """The notifications for jobs that are due in ``queues``; ``None`` stands for any others.

    An empty one says nothing but that there is something to be looked for.
    """
    if not queues:
        return []
    names = {queue or "" for queue in queues}
    if len(names) > _MOST or any(len(name) > _LONGEST for name in names):
        return [""]
    return sorted(names)


def heard(notification: str) -> str | None:
    """The queue in which a job is due, or ``None`` where more is not known."""
    return notification or None
