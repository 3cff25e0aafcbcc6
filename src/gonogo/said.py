"""What people said, a hold or halts, as lines of the evidence for a verdict."""

from __future__ import annotations

from collections.abc import Mapping

from gonogo.clock import iso
from gonogo.deadlines import CheckResult
from gonogo.halts import HALT_ALL, HALTS
from gonogo.records import Control, Verdict

HOLD = "hold"
"""Name of the control, and of its line in the evidence."""

HALT = "halt"
"""Name of the line that tells of a halt of everything; ``halt:<action>`` tells of one action's."""

Line = tuple[Verdict, CheckResult]
"""What something means for the verdict, and its line in the evidence."""


def is_switch(name: str) -> bool:
    """Whether a line of this name tells what people said, and not what a check did."""
    return name in {HOLD, HALT} or name.startswith(HALTS)


def held(control: Control, now: float) -> CheckResult:
    """The line of a hold."""
    return _told("held", control, now, HOLD)


def halted(controls: Mapping[str, Control], now: float) -> list[Line]:
    """Every halt at ``now``: that of everything is a HOLD, that of an action is only told."""
    return [
        (Verdict.HOLD, _told("everything is halted", control, now, HALT))
        if control.name == HALT_ALL
        else (Verdict.GO, _told("halted", control, now, control.name, critical=False))
        for control in controls.values()
        if is_switch(control.name) and control.name != HOLD and control.active(now)
    ]


def unreadable(evidence: str, now: float, name: str) -> Line:
    """The ledger does not say whether there is one: a guard that cannot look says no."""
    return Verdict.NO_GO, _line(evidence, now, name, critical=True)


def _told(
    what: str, control: Control, now: float, name: str, *, critical: bool = True
) -> CheckResult:
    end = "" if control.until is None else f", until {iso(control.until)}"
    said = f"{what} by {control.actor}{end}: {control.reason}"
    return _line(said, now, name, critical=critical)


def _line(evidence: str, now: float, name: str, *, critical: bool) -> CheckResult:
    return CheckResult(
        name=name, ok=False, evidence=evidence, critical=critical, at=now, seconds=0.0
    )
