"""Queues that people paused, kept as controls named ``pause:…``: set, cleared and asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from gonogo.decisions import require_who_and_why
from gonogo.errors import ConfigurationError, Refused
from gonogo.records import Control
from gonogo.standing import standing, switch_off, switch_on

if TYPE_CHECKING:
    from gonogo.store.port import Transaction

PREFIX = "pause:"
SCHEDULE = "pause-schedule:"
"""Begins the name of the control that pauses a schedule."""


class QueuePaused(Refused):
    """A call was claimed of a queue that was paused before it began: it goes back in its place."""


class QueueStatus(Struct, frozen=True):
    """A queue as it is now: its pending calls, and who paused it."""

    pending: int
    paused: Control | None = None


def look_at_queues(tx: Transaction, names: Sequence[str], now: float) -> dict[str, QueueStatus]:
    """Every queue that has pending calls, is paused at ``now``, or is among ``names``."""
    backlog = tx.calls.backlog()
    paused = {
        name.removeprefix(PREFIX): control
        for name, control in tx.controls.all().items()
        if name.startswith(PREFIX) and control.active(now)
    }
    return {
        name: QueueStatus(backlog.get(name, 0), paused.get(name))
        for name in sorted({*names, *backlog, *paused})
    }


def running(
    controls: Mapping[str, Control], names: Sequence[str], now: float, prefix: str = PREFIX
) -> tuple[str, ...]:
    """Those of ``names`` (of queues, unless ``prefix`` says otherwise) that go on at ``now``."""
    if not controls:
        return tuple(names)
    return tuple(name for name in names if standing(controls, prefix + name, now) is None)


def check_pause(controls: Mapping[str, Control], queue: str, now: float) -> None:
    """Refuse what was claimed of ``queue`` and not begun, while it is paused at ``now``.

    Raises:
        QueuePaused: it is.
    """
    if (control := standing(controls, PREFIX + queue, now)) is not None:
        raise QueuePaused(
            f"queue {queue!r} is paused by {control.actor}: {control.reason}. "
            "Resume it to let its jobs run"
        )


def set_pause(
    tx: Transaction, queue: str, by: str, reason: str, until: float | None, now: float
) -> Control:
    """Pause ``queue`` and record who decided it and why; ``until`` in epoch seconds.

    Raises:
        ConfigurationError: without who and why, without a queue, or when ``until`` has passed.
        Refused: a pause that lasts longer stands.
    """
    require_who_and_why("pausing a queue", by, reason)
    if until is not None and until <= now:
        raise ConfigurationError("pause: 'until' has passed; give a later time or none")
    control = Control(name=_name(queue), actor=by, reason=reason, set_at=now, until=until)
    switch_on(tx, control, "pause")
    return control


def clear_pause(tx: Transaction, queue: str, by: str, reason: str, now: float) -> bool:
    """End a pause and record who decided it and why; false when there was none."""
    require_who_and_why("resuming a queue", by, reason)
    return switch_off(tx, _name(queue), by, reason, now)


def _name(queue: object) -> str:
    if not isinstance(queue, str) or not queue.strip():
        raise ConfigurationError(f"{queue!r} is not the name of a queue")
    return PREFIX + queue
