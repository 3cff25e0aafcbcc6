"""What people stopped, told where somebody decides about calls or waits for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from gonogo.cli.base import Session
from gonogo.cli.views import control_view
from gonogo.lines import clean
from gonogo.records import QUEUED, Call, Control, State

if TYPE_CHECKING:
    from gonogo.orchestrator import SandboxOrchestrator
    from gonogo.stops import Stop

MOST = 10_000
"""Pending calls that are looked at, the newest; of older ones is known only whether one is due."""


class Kept(NamedTuple):
    """How many due calls something keeps, and what it is, with how it is ended."""

    calls: int
    why: str


def stops_of(sandbox: SandboxOrchestrator, calls: Iterable[Call]) -> list[Stop]:
    """The switches that are on now and keep any of ``calls`` that are still to be performed."""
    from gonogo.stops import stops  # noqa: PLC0415 - help needs none of the components

    to_come = [call for call in calls if _is_to_come(call)]
    controls = sandbox.store.read(lambda tx: tx.controls.all())
    return stops(to_come, sandbox.actions, controls, sandbox.clock.now())


def note_stops(session: Session, calls: Iterable[Call]) -> list[Stop]:
    """Say of each such switch who set it, since when, why and how it is ended."""
    from gonogo.standing import remedy, spell_switch  # noqa: PLC0415 - same

    found = stops_of(session.sandbox, calls)
    for stop in found:
        told = f"{spell_switch(stop.control)}; {remedy(stop.control)} lets it go"
        session.out.note(f"note: {clean(told)}")
    return found


def stop_views(found: Iterable[Stop]) -> list[dict[str, Any]]:
    """The switches as plain data, each with the number of calls that it keeps."""
    return [{**control_view(stop.control), "calls": stop.calls} for stop in found]


def still_stopped(sandbox: SandboxOrchestrator, names: Iterable[str] | None) -> list[Control]:
    """The halts and the hold that are on and stop one of ``names``; ``None``: of all actions."""
    from gonogo.halts import HALT_ALL, HALTS, switches  # noqa: PLC0415 - help needs none of the components
    from gonogo.said import HOLD  # noqa: PLC0415 - same
    from gonogo.standing import standing  # noqa: PLC0415 - same

    now, actions = sandbox.clock.now(), sandbox.actions
    controls = sandbox.store.read(lambda tx: tx.controls.all())
    if names is None:
        halted = (name.removeprefix(HALTS) for name in controls if name.startswith(HALTS))
        names = sorted({*actions, *halted})
    wanted: dict[str, None] = {HALT_ALL: None}
    for name in names:
        action = actions.get(name)
        held = action is None or action.policy.irreversible
        wanted |= dict.fromkeys([*switches(name), *([HOLD] if held else [])])
    found = (standing(controls, one, now) for one in wanted)
    return [control for control in found if control is not None]


def spell_effect(effect: str, over: str, still: Iterable[Control]) -> str:
    """What letting go did: ``effect``; or what is ``over``, and what ``still`` stands."""
    from gonogo.standing import remedy, spell_switch  # noqa: PLC0415 - same

    told = "; ".join(f"{spell_switch(one)}; {remedy(one)} lets it go" for one in still)
    return f"{over}, BUT {told}" if told else effect


def kept_back(sandbox: SandboxOrchestrator) -> list[Kept]:
    """What keeps due calls of this worker's queues from being performed: switches, and the lock."""
    from gonogo.standing import remedy, spell_switch  # noqa: PLC0415 - same
    from gonogo.stops import stop_of, stops  # noqa: PLC0415 - same

    now, actions = sandbox.clock.now(), sandbox.actions
    controls = sandbox.store.read(lambda tx: tx.controls.all())
    pending = sandbox.calls(states=(State.PENDING,), limit=MOST)
    mine = [c for c in pending if c.queue in sandbox.delivery.queues and not c.waits]
    due = [call for call in mine if call.run_at <= now]
    kept = [
        Kept(stop.calls, f"{spell_switch(stop.control)}; {remedy(stop.control)} lets them go")
        for stop in stops(due, actions, controls, now)
    ]
    free = (call for call in mine if stop_of(call, actions, controls, now) is None)
    if locked := sum(_is_locked(sandbox, call, controls, now) for call in free):
        why = "the sandbox is locked (dry-run) and nobody approved them; gonogo arm lets them go"
        kept.append(Kept(locked, why))
    if not due and len(pending) == MOST and _is_due(sandbox, now):
        why = f"it is older than the newest {MOST:,} that wait, which alone were looked at"
        kept.append(Kept(1, why))
    return kept


def turned_away(sandbox: SandboxOrchestrator, ids: Iterable[str]) -> list[Kept]:
    """Of calls that were refused, how many wait for another try, and why the first was.

    What `kept_back` tells of is left out, and what is not of this worker's queues.
    """
    from gonogo.stops import stop_of  # noqa: PLC0415 - same

    now, actions, queues = sandbox.clock.now(), sandbox.actions, sandbox.delivery.queues
    found, controls = sandbox.store.read(
        lambda tx: ([tx.calls.get(one) for one in ids], tx.controls.all())
    )
    waiting = [
        call
        for call in found
        if call is not None
        and (call.state is State.PENDING and call.queue in queues)
        and stop_of(call, actions, controls, now) is None
        and not _is_locked(sandbox, call, controls, now)
    ]
    if not waiting:
        return []
    first = waiting[0]
    return [Kept(len(waiting), f"{first.name}: {first.note or 'no reason is known'}")]


def _is_due(sandbox: SandboxOrchestrator, now: float) -> bool:
    run_at = sandbox.store.read(lambda tx: tx.calls.next_run_at(sandbox.delivery.queues))
    return run_at is not None and run_at <= now


def _is_locked(
    sandbox: SandboxOrchestrator, call: Call, controls: Mapping[str, Control], now: float
) -> bool:
    """Whether the lock refuses a call that is due, or was refused and put off for a moment."""
    from gonogo.returns import LONGEST_WAIT  # noqa: PLC0415 - same

    action = sandbox.actions.get(call.action)
    guarded = action is not None and action.policy.irreversible and call.approved_by is None
    near = call.run_at <= now + (LONGEST_WAIT if call.note else 0.0)
    return guarded and near and sandbox.dry_run_lock.locked(controls, now)


def _is_to_come(call: Call) -> bool:
    from gonogo.plan import TO_DO  # noqa: PLC0415 - same

    planned = call.state is State.PLANNED and (call.verdict is None or call.verdict in TO_DO)
    return planned or call.state in QUEUED
