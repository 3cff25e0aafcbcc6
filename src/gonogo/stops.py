"""What people stopped: the switches that keep queued calls in their places until they are let go.

A call is kept without a word in the ledger: it is not claimed, and falls due the moment that the
switch is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gonogo.action import Action
from gonogo.halts import HALT_ALL, HALTS, switches
from gonogo.pauses import PREFIX
from gonogo.records import Call, Control
from gonogo.said import HOLD

Actions = Mapping[str, Action[Any, Any]]


def stopped(actions: Actions, controls: Mapping[str, Control], now: float) -> set[str]:
    """Those of ``actions`` that are halted at ``now``, or held, and all that are halted by name."""
    halts = [name for name in controls if name.startswith(HALTS)]
    if not halts and HOLD not in controls:
        return set()
    known = {name for name in tuple(actions) if _stop(actions, name, controls, now)}
    return known.union(name.removeprefix(HALTS) for name in halts if controls[name].active(now))


def all_stopped(controls: Mapping[str, Control], now: float) -> bool:
    """Whether everything is halted at ``now``, be it known or not."""
    halt = controls.get(HALT_ALL)
    return halt is not None and halt.active(now)


def stop_of(
    call: Call, actions: Actions, controls: Mapping[str, Control], now: float
) -> Control | None:
    """The switch that keeps a queued call from being claimed at ``now``, if any."""
    if not controls or call.queue is None:
        return None
    paused = controls.get(PREFIX + call.queue)
    if paused is not None and paused.active(now):
        return paused
    return _stop(actions, call.action, controls, now)


def _stop(
    actions: Actions, name: str, controls: Mapping[str, Control], now: float
) -> Control | None:
    action = actions.get(name)
    held = action is not None and action.policy.irreversible
    names = (*switches(name), HOLD) if held else switches(name)
    found = (controls.get(one) for one in names)
    return next((one for one in found if one is not None and one.active(now)), None)
