"""Records as plain data: times in ISO 8601, JSON texts opened, secrets masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from gonogo.clock import iso
from gonogo.durations import spell_duration
from gonogo.errors import Happened
from gonogo.records import (
    NEVER,
    Attempt,
    Beat,
    Call,
    Control,
    Decision,
    PlanRecord,
    PlanState,
)
from gonogo.redactor import Redactor

if TYPE_CHECKING:
    from gonogo.orchestrator import SandboxOrchestrator
    from gonogo.plan import Plan
    from gonogo.settings import Settings

_TIMES = {
    *("created_at", "run_at", "lease_until", "dispatched_at", "settled_at", "deadline_at"),
    *("expires_at", "started_at", "ended_at", "approved_at", "applied_at", "set_at", "until", "at"),
}
_HIDDEN = {"held", "epoch", "reservations", "slots", "waits"}
_NAMED = 3
"""Calls of a process that are named one by one."""

_redactor = Redactor(max_depth=32, max_items=100_000, max_text=262_144)

EFFECT: dict[Happened, str] = {
    "yes": "it happened",
    "maybe": "it may have happened",
    "no": "it did not happen",
}


def call_view(call: Call) -> dict[str, Any]:
    """A call, with ``happened`` after its state."""
    view: dict[str, Any] = {"id": call.id, "action": call.action, "key": call.key}
    view.update(state=call.state.value, happened=call.happened)
    view.update({k: v for k, v in _plain(call).items() if k not in view and k not in _HIDDEN})
    view["correlation_id"] = call.correlation
    for name in ("args", "result", "facts"):
        view[name] = opened(getattr(call, name))
    return view


def attempt_view(attempt: Attempt) -> dict[str, Any]:
    """An attempt."""
    return _plain(attempt)


def decision_view(decision: Decision) -> dict[str, Any]:
    """A decision."""
    return {**_plain(decision), "detail": _redactor.fields(decision.detail)}


def control_view(control: Control) -> dict[str, Any]:
    """A switch."""
    return _plain(control)


def plan_view(plan: PlanRecord) -> dict[str, Any]:
    """A plan without its calls."""
    return _plain(plan)


def standing(sandbox: SandboxOrchestrator, plan: PlanRecord) -> str:
    """A plan's state; ``expired`` or ``overtaken`` where it can no longer be applied."""
    if plan.state not in {PlanState.READY, PlanState.APPROVED}:
        return plan.state.value
    if plan.expires_at <= sandbox.clock.now():
        return "expired"
    return "overtaken" if sandbox.planner.is_overtaken(plan) else plan.state.value


def whole_plan_view(plan: Plan) -> dict[str, Any]:
    """A plan with its verdicts, totals and calls, each with what it uses of its limits."""
    return {
        **plan_view(plan.record),
        "ledger": plan.ledger,
        "overtaken": plan.overtaken,
        "verdicts": plan.verdicts(),
        "states": plan.states(),
        "totals": plan.totals(),
        "calls": [
            {**call_view(call), "uses": used}
            for call, used in zip(plan.calls, plan.uses(), strict=True)
        ],
    }


def liveness(beat: Beat, now: float, settings: Settings) -> str:
    """``alive``, or ``silent`` when it has not been heard of for so long that it counts as dead."""
    within = settings.heartbeat_timeout if beat.kind == "heartbeat" else settings.lease
    return "alive" if beat.is_fresh(now, within) else "silent"


def doing(beat: Beat, calls: Sequence[Call] = (), now: float = 0.0) -> str:
    """What a process does: the ``calls`` it performs at ``now``, the one that takes longest first.

    Else what it said of itself with its last sign of life.
    """
    told = beat.detail
    if calls:
        return f"performs {_named(calls, now, 'for {}')}"
    if beat.kind == "worker":
        running, queues = told.get("running", 0), str(told.get("queues", "")).replace(",", ", ")
        if running:
            return f"performs {running:,} {'call' if running == 1 else 'calls'} of {queues}"
        idle = spell_duration(max(0.0, beat.at - told.get("asked_at", beat.at)))
        return f"waits for calls of {queues}; had last asked for some {idle} before"
    if "checks" in told:
        bad = sorted(name for name, ok in told["checks"].items() if not ok)
        return f"finds fault with {', '.join(bad)}" if bad else "finds all well"
    return ", ".join(f"{name} {value}" for name, value in told.items())


def did(beat: Beat, calls: Sequence[Call], now: float) -> str:
    """What a process that went silent did last: the ``calls`` that are still its own.

    Nothing of a worker whose calls others have found since.
    """
    if calls:
        return f"was last seen performing {_named(calls, now, 'begun {} ago')}"
    return "" if beat.kind == "worker" else f"when last heard of: {doing(beat)}"


def _named(calls: Sequence[Call], now: float, since: str) -> str:
    ages = ((call.name, spell_duration(_age(call, now))) for call in calls[:_NAMED])
    shown = [f"{name} {since.format(age)}" for name, age in ages]
    more = [f"{len(calls) - _NAMED:,} more"] if len(calls) > _NAMED else []
    return ", ".join([*shown, *more])


def performing_view(call: Call, now: float) -> dict[str, Any]:
    """A call that is being performed, and for how long."""
    return {
        "id": call.id,
        "action": call.action,
        "key": call.key,
        "attempt": call.attempt,
        "seconds": _age(call, now),
    }


def _age(call: Call, now: float) -> float:
    return max(0.0, now - (call.dispatched_at or now))


def opened(text: str | None) -> Any:
    """A JSON text of the ledger as data, with what is named like a secret masked."""
    if text is None:
        return None
    value = msgspec.json.decode(text)
    return _redactor.fields(value) if isinstance(value, dict) else _redactor.redact(value)


def when(seconds: float | None) -> str | None:
    """ISO 8601 of an instant; ``None`` for none and for never."""
    return None if seconds is None or seconds >= NEVER else iso(seconds)


def _plain(record: msgspec.Struct) -> dict[str, Any]:
    fields = structs.asdict(record)
    return {name: when(v) if name in _TIMES else _value(v) for name, v in fields.items()}


def _value(value: Any) -> Any:
    return msgspec.to_builtins(value)
