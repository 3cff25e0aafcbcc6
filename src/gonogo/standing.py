"""A switch that stands: who set it, how it is ended, and that another one never shortens it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gonogo.decisions import decision
from gonogo.durations import spell_time
from gonogo.errors import Refused
from gonogo.records import Control, Decision

if TYPE_CHECKING:
    from gonogo.store.port import Transaction

ALL = "*"
"""Stands for every action in the name of a switch."""

HOLD_SUBJECT = "readiness"
"""What the decisions about holds are about; those about other switches, the switch."""

THROWN = {
    "halt": "halted",
    "hold": "held",
    "pause": "paused",
    "resume": "resumed",
    "release": "released",
}
"""What is decided about switches, and what is done by that."""


def standing(controls: Mapping[str, Control], name: str, now: float) -> Control | None:
    """The switch called ``name``, if it is on at ``now``."""
    control = controls.get(name)
    return control if control is not None and control.active(now) else None


def outlasts(one: Control, other: Control) -> bool:
    """Whether ``one`` is on longer than ``other``."""
    return other.until is not None and (one.until is None or one.until > other.until)


def replacing(before: Control | None, control: Control) -> dict[str, Any]:
    """What the decision for ``control`` keeps of the switch that it replaces, if one stands.

    Raises:
        Refused: ``before`` lasts longer; nothing is to be written.
    """
    if before is None:
        return {}
    end = control.until
    if end is not None and outlasts(before, control):
        refusal = Refused(
            f"nothing was changed: {spell_switch(before)}. That lasts longer than until "
            f"{spell_time(end)}, and is not shortened: end it first, with {remedy(before)}"
        )
        refusal.remedy = remedy(before)
        raise refusal
    return {"replaced": {"by": before.actor, "reason": before.reason, "until": before.until}}


def switch_on(tx: Transaction, control: Control, what: str) -> None:
    """Put a switch on, and record who decided ``what``, why, and in whose place.

    Raises:
        Refused: one of its name that lasts longer stands.
    """
    now = control.set_at
    detail = replacing(standing(tx.controls.all(), control.name, now), control)
    by, reason, until = control.actor, control.reason, control.until
    tx.controls.put(control)
    tx.decisions.append(
        decision(what, control.name, by=by, reason=reason, now=now, until=until, **detail)
    )


def switch_off(tx: Transaction, name: str, by: str, reason: str, now: float) -> bool:
    """End a switch, and record who decided it and why; false when none stands."""
    if standing(tx.controls.all(), name, now) is None:
        return False
    tx.controls.clear(name)
    tx.decisions.append(decision("resume", name, by=by, reason=reason, now=now))
    return True


def spell_switch(control: Control) -> str:
    """What is stopped, by whom, since and until when, and why."""
    end = "" if control.until is None else f", until {spell_time(control.until)}"
    since = f"since {spell_time(control.set_at)}{end}"
    return f"{_told(control)[0]} by {control.actor} {since}: {control.reason}"


def spell_throw(thrown: Decision) -> str:
    """What was stopped or let go, by whom, until when, and why."""
    until = thrown.detail.get("until")
    end = "" if until is None else f", until {spell_time(until)}"
    what = f"{_subject(thrown.subject)} was {THROWN[thrown.what]}"
    return f"{what} by {thrown.actor}{end}: {thrown.reason}"


def remedy(control: Control) -> str:
    """The command that ends it."""
    return _told(control)[1]


def _told(control: Control) -> tuple[str, str]:
    kind, _, name = control.name.partition(":")
    if (kind, name) == ("halt", ALL):
        return "everything is halted", "gonogo resume"
    return {
        "halt": (f"{name} is halted", f"gonogo resume {name}"),
        "hold": ("what is irreversible is held", "gonogo release"),
        "pause": (f"queue {name!r} is paused", f"gonogo queues resume {name}"),
        "pause-schedule": (f"schedule {name!r} is paused", f"gonogo schedules resume {name}"),
    }[kind]


def _subject(of_decision: str) -> str:
    kind, _, name = of_decision.partition(":")
    if kind == "pause":
        return f"queue {name!r}"
    if kind == "halt":
        return "everything" if name == ALL else name
    return "what is irreversible" if of_decision == HOLD_SUBJECT else of_decision
