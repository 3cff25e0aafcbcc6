"""What people stopped: the switches that keep queued calls in their places until they are let go.

A call is kept without a word in the ledger: it is not claimed, and falls due the moment that the
switch is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from gonogo.action import Action
from gonogo.halts import HALT_ALL, HALTS, switches
from gonogo.pauses import PREFIX
from gonogo.records import QUEUED, Call, Control, Decision, State
from gonogo.said import HOLD
from gonogo.standing import HOLD_SUBJECT, standing
from gonogo.store.port import Transaction

Actions = Mapping[str, Action[Any, Any]]

_WITHDRAWN = {State.CANCELLED, State.FAILED, State.UNKNOWN}
"""The states of calls that may have ended before they were begun (again)."""


class Stop(Struct, frozen=True):
    """A switch that is on, and how many of the calls that were looked at it keeps."""

    control: Control
    calls: int


def stops(
    calls: Iterable[Call], actions: Actions, controls: Mapping[str, Control], now: float
) -> list[Stop]:
    """The switches that keep any of ``calls`` at ``now``; of planned ones, once they are queued."""
    places = Counter((call.action, _queue(call, actions)) for call in calls)
    kept: Counter[str] = Counter()
    for (action, queue), count in places.items():
        if control := _stop_at(queue, action, actions, controls, now):
            kept[control.name] += count
    return [Stop(controls[name], count) for name, count in kept.items()]


def stopped(actions: Actions, controls: Mapping[str, Control], now: float) -> set[str]:
    """Those of ``actions`` that are halted at ``now``, or held, and all that are halted by name."""
    halts = [name for name in controls if name.startswith(HALTS)]
    if not halts and HOLD not in controls:
        return set()
    known = {name for name in tuple(actions) if _stop(actions, name, controls, now)}
    return known.union(name.removeprefix(HALTS) for name in halts if controls[name].active(now))


def all_stopped(controls: Mapping[str, Control], now: float) -> bool:
    """Whether everything is halted at ``now``, be it known or not."""
    return standing(controls, HALT_ALL, now) is not None


def stop_of(
    call: Call, actions: Actions, controls: Mapping[str, Control], now: float
) -> Control | None:
    """The switch that keeps a queued call from being claimed at ``now``, if any."""
    if not controls or call.queue is None:
        return None
    return _stop_at(call.queue, call.action, actions, controls, now)


def thrown(tx: Transaction, call: Call, actions: Actions, now: float) -> list[Decision]:
    """Who stopped such calls from the request of ``call`` to its last begin, and who let them go.

    Not in order, and with what stood already when it was queued.
    """
    if call.queue is None:
        return []
    began, ended = call.created_at, _waited_until(tx, call, now)
    action = actions.get(call.action)
    held = action is not None and action.policy.irreversible
    subjects = (PREFIX + call.queue, *switches(call.action), *((HOLD_SUBJECT,) if held else ()))
    told: list[Decision] = []
    for subject in subjects:
        found = tx.decisions.of(subject)
        told += [one for one in found if began < one.at <= ended]
        earlier = max((one for one in found if one.at <= began), key=lambda d: d.at, default=None)
        if earlier is not None and _stood(earlier, began):
            told.append(earlier)
    return told


def _waited_until(tx: Transaction, call: Call, now: float) -> float:
    """When it was last begun, or ended in its queue; ``now`` while it still waits."""
    if call.state in QUEUED:
        return now
    ended = call.settled_at if call.state in _WITHDRAWN else None
    if ended is not None and all(one.ended_at != ended for one in tx.attempts.of(call.id)):
        return ended  # no attempt ended it: it was cancelled or refused, or had no time left
    return call.dispatched_at or now


def _stood(earlier: Decision, at: float) -> bool:
    until = earlier.detail.get("until")
    return earlier.what in {"halt", "hold", "pause"} and (until is None or until > at)


def _stop_at(
    queue: str, action: str, actions: Actions, controls: Mapping[str, Control], now: float
) -> Control | None:
    paused = standing(controls, PREFIX + queue, now)
    return paused or _stop(actions, action, controls, now)


def _queue(call: Call, actions: Actions) -> str:
    """The queue of a call, or the one that it will be put in."""
    if call.queue is not None:
        return call.queue
    action = actions.get(call.action)
    return "default" if action is None else action.policy.queue


def _stop(
    actions: Actions, name: str, controls: Mapping[str, Control], now: float
) -> Control | None:
    action = actions.get(name)
    held = action is not None and action.policy.irreversible
    names = (*switches(name), HOLD) if held else switches(name)
    found = (standing(controls, one, now) for one in names)
    return next((one for one in found if one is not None), None)
