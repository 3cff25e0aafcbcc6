"""The kill switch, kept as controls named ``halt:…``: set, cleared and asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gonogo.decisions import require_who_and_why
from gonogo.durations import spell_time
from gonogo.errors import ConfigurationError, Halted
from gonogo.records import Control
from gonogo.standing import ALL, standing, switch_off, switch_on

if TYPE_CHECKING:
    from gonogo.store.port import Transaction

HALTS = "halt:"
"""How the name of a control begins that halts something; the name of an action follows."""

HALT_ALL = f"{HALTS}{ALL}"
"""Name of the control that halts every action."""


def switches(action: str) -> tuple[str, str]:
    """Names of the controls that halt ``action``."""
    return HALT_ALL, HALTS + action


def check_halt(controls: Mapping[str, Control], action: str, now: float) -> None:
    """Raise `Halted` when ``action``, or everything, is halted at ``now``."""
    if not controls:
        return
    for name in switches(action):
        if (control := standing(controls, name, now)) is not None:
            _raise_halted(control, action, now)


def _raise_halted(control: Control, action: str, now: float) -> None:
    argument = "" if control.name == HALT_ALL else f"{action!r}, "
    what = "everything" if control.name == HALT_ALL else repr(action)
    raise Halted(
        f"Halted by {control.actor}: {what} since {spell_time(control.set_at)} "
        f"({control.reason}). {action!r} did not happen and nothing was used; "
        f"resume({argument}by=..., reason=...) lets it run again",
        action=action,
        retry_after=None if control.until is None else control.until - now,
    )


def set_halt(
    tx: Transaction, action: str | None, by: str, reason: str, until: float | None, now: float
) -> Control:
    """Halt ``action`` (``None``: everything) and record who decided it, why, and in whose place.

    Raises:
        ConfigurationError: without who and why, or when ``until`` has passed.
        Refused: a halt that lasts longer stands.
    """
    require_who_and_why("halting", by, reason)
    if until is not None and until <= now:
        raise ConfigurationError("halt: 'until' has passed; give a later time or none")
    control = Control(name=_name(action), actor=by, reason=reason, set_at=now, until=until)
    switch_on(tx, control, "halt")
    return control


def clear_halt(tx: Transaction, action: str | None, by: str, reason: str, now: float) -> bool:
    """End a halt and record who decided it and why; false when there was none."""
    require_who_and_why("resuming", by, reason)
    return switch_off(tx, _name(action), by, reason, now)


def _name(action: object) -> str:
    if action is None:
        return HALT_ALL
    if not isinstance(action, str) or not action.strip() or action == ALL:
        raise ConfigurationError(f"{action!r} is not an action's name; give none for everything")
    return HALTS + action
