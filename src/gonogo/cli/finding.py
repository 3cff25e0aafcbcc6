"""Which plan, call or alert a person means: by its id, the beginning of it, its name or its key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from gonogo.cli.views import when
from gonogo.errors import NotFound, Refused
from gonogo.records import AlertState, Call, CallFilter, PlanRecord, PlanState, State

if TYPE_CHECKING:
    from gonogo.orchestrator import SandboxOrchestrator
    from gonogo.store.port import Transaction

LEAST = 8
"""Characters of an id that must be given."""

_MANY = 10_000
"""The newest plans, or alerts, that are looked through."""

_SHOWN = 5
_PAST_HEX = "g"
"""Follows every digit of an id in the order of the ledger."""


def plan_id(
    sandbox: SandboxOrchestrator, text: str, deciding: Collection[PlanState] | None = None
) -> str:
    """The id of the plan that ``text`` names.

    Of several plans of one name the newest is meant, but whoever decides on one must mean one: with
    ``deciding`` a name must be that of a single plan in these states that has not expired.

    Raises:
        NotFound: there is no such plan.
        Refused: it may be one of several.
    """
    found = sandbox.store.read(lambda tx: tx.plans.get(text))
    if found is not None:
        return found.id
    plans = sandbox.plans(limit=_MANY)
    named = [plan for plan in plans if plan.name == text]
    if deciding is not None:
        now = sandbox.clock.now()
        alive = (p for p in named if p.expires_at > now or p.state is PlanState.APPLIED)
        meant = [p for p in alive if p.state in deciding]
        if len(meant) > 1:
            raise _ambiguous(text, [_plan(plan) for plan in meant])
    else:
        meant = []
    if meant or named:
        return (meant or named)[0].id
    begun = [plan for plan in plans if _begins(plan.id, text)]
    if len(begun) > 1:
        raise _ambiguous(text, [_plan(plan) for plan in begun])
    if not begun:
        raise _missing(
            f"there is no plan {text!r} in this ledger{_short(text)}", "gonogo plan list"
        )
    return begun[0].id


def target_id(sandbox: SandboxOrchestrator, text: str) -> str:
    """The id of what ``text`` names and is to be approved: a ready plan, else a call.

    Raises `NotFound` and `Refused` as the others do; also where a plan and a call begin like that.
    """
    try:
        plan = plan_id(sandbox, text, {PlanState.READY})
    except NotFound:
        try:
            return call_id(sandbox, text)
        except NotFound:
            message = f"there is no plan and no call {text!r} in this ledger"
            raise _missing(message, "gonogo plan list") from None
    if plan != text and _begins(plan, text):
        before = text + _PAST_HEX
        waiting = sandbox.calls(states=(State.PLANNED,), alone=True, before=before, limit=_SHOWN)
        if begun := [call for call in waiting if _begins(call.id, text)]:
            raise _ambiguous(text, [plan, *map(_call, begun)])
    return plan


def call_id(sandbox: SandboxOrchestrator, text: str) -> str:
    """The id of the call that ``text`` names: of those with a key, the one that holds it.

    Where none holds it, the newest is meant.

    Raises:
        NotFound: there is no such call.
        Refused: it may be one of several.
    """
    actions = list(sandbox.actions)
    found = sandbox.store.read(lambda tx: _calls(tx, actions, text))
    if len(found) > 1:
        raise _ambiguous(text, [_call(call) for call in found])
    if not found:
        error = _missing(
            f"there is no call {text!r} in this ledger{_short(text)}", "gonogo calls list"
        )
        error.call_id = text
        raise error
    return found[0].id


def alert_id(sandbox: SandboxOrchestrator, text: str) -> str:
    """The id of the alert whose id ``text`` is or begins; one that is not resolved goes before.

    Raises:
        NotFound: there is no such alert.
        Refused: it may be one of several.
    """
    if sandbox.store.read(lambda tx: tx.alerts.get(text)) is not None:
        return text
    found = sandbox.store.read(lambda tx: tx.alerts.find(limit=_MANY))
    begun = [alert for alert in found if _begins(alert.id, text)]
    meant = [alert for alert in begun if alert.state is not AlertState.RESOLVED] or begun
    if len(meant) > 1:
        raise _ambiguous(text, [f"{a.id} ({a.task}: {a.reason}, {a.state.value})" for a in meant])
    if not meant:
        message = f"there is no alert {text!r} in this ledger{_short(text)}"
        raise _missing(message, "gonogo alerts list")
    return meant[0].id


def known_action(sandbox: SandboxOrchestrator, name: str) -> str:
    """``name``, if the application declares it or the ledger has a call of it; else `NotFound`."""
    if name not in sandbox.actions and not sandbox.calls(action=name, limit=1):
        known = ", ".join(sorted(sandbox.actions)) or "none"
        raise _missing(f"there is no action {name!r}; there are {known}", "gonogo calls list")
    return name


def _calls(tx: Transaction, actions: Sequence[str], text: str) -> list[Call]:
    if (call := tx.calls.get(text)) is not None:
        return [call]
    if held := [call for name in actions if (call := tx.calls.holder(name, text))]:
        return held
    newest: dict[str, Call] = {}
    for call in tx.calls.find(CallFilter(key=text)):
        known = newest.setdefault(call.action, call)
        if call.held and not known.held:
            newest[call.action] = call
    if newest:
        return [call for call in newest.values() if call.held] or list(newest.values())
    if len(text) < LEAST:
        return []
    last = CallFilter(before=text + _PAST_HEX, limit=_SHOWN + 1)
    return [call for call in tx.calls.find(last) if _begins(call.id, text)]


def _begins(known: str, text: str) -> bool:
    return len(text) >= LEAST and known.startswith(text)


def _short(text: str) -> str:
    if len(text) >= LEAST or not set(text) <= set("0123456789abcdef"):
        return ""
    return f"; the beginning of an id must have {LEAST} characters"


def _plan(plan: PlanRecord) -> str:
    return f"{plan.id} ({plan.name}, {plan.state.value}, {(when(plan.created_at) or '')[:19]})"


def _call(call: Call) -> str:
    return f"{call.id} ({call.action}, {call.key or 'no key'}, {call.state.value})"


def _ambiguous(text: str, candidates: Sequence[str]) -> Refused:
    more = ", and more" if len(candidates) > _SHOWN else ""
    listed = ", ".join(candidates[:_SHOWN])
    return Refused(f"{text!r} may be any of {listed}{more}; give one of these ids")


def _missing(message: str, remedy: str) -> NotFound:
    error = NotFound(message)
    error.remedy = remedy
    return error
