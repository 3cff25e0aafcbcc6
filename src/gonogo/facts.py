"""Preconditions: what was true when the plan was made must still be true before the effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gonogo.deadlines import Run
from gonogo.errors import Drifted
from gonogo.records import Call
from gonogo.secrets import describe

if TYPE_CHECKING:
    from gonogo.action import Action

PATIENCE = 30.0
"""Seconds a precondition may take when its action has no time-out of its own."""


def read_facts(
    action: Action[Any, Any], arguments: Mapping[str, Any], key: str | None
) -> str | None:
    """What the action's precondition reads now, as canonical JSON; ``None`` for a bare yes.

    Raises `Drifted` when it says no, fails, gives no answer within the action's time-out, or
    returns something that has no JSON form: a guard that does not answer refuses.
    """
    assert action.reader is not None  # noqa: S101 - callers ask only where one is declared
    about: dict[str, Any] = {"action": action.name, "key": key}
    reader, patience = action.reader, action.policy.timeout or PATIENCE
    run = Run(lambda: action.parameters.invoke(reader, arguments), 0.0, f"gonogo-facts-{key}")
    if not run.wait(patience):
        raise Drifted(
            f"{action.name} ({key}) was not performed: its precondition gave no answer within "
            f"{patience:g} s",
            **about,
        )
    if run.error is not None:
        raise Drifted(
            f"{action.name} ({key}) was not performed: its precondition failed with "
            f"{describe(run.error)}",
            **about,
        ) from run.error
    facts = run.value
    if facts is True:
        return None
    if not facts:
        raise Drifted(
            f"{action.name} ({key}) was not performed: its precondition no longer holds "
            f"(it returned {facts!r})",
            **about,
        )
    try:
        return msgspec.json.encode(facts, order="sorted").decode()
    except (TypeError, ValueError, OverflowError) as error:
        raise Drifted(
            f"{action.name} ({key}): its precondition must return True or facts with a JSON form: "
            f"{error}",
            **about,
        ) from error


def require_same(call: Call, now: str | None) -> None:
    """Raise `Drifted`, naming each field that changed, when ``now`` differs from the plan's facts.

    A call without recorded facts (it was never planned) has nothing to differ from.
    """
    if call.facts is None or call.facts == now:
        return
    before = msgspec.json.decode(call.facts)
    after = None if now is None else msgspec.json.decode(now)
    raise Drifted(
        f"{call.name} was not performed, because the world changed since "
        f"the plan: {'; '.join(_differences(before, after))}. Rehearse again and approve anew",
        action=call.action,
        key=call.key,
        call_id=call.id,
    )


def _differences(before: Any, after: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[str] = []
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                inner = f"{path}.{name}" if path else str(name)
                found += _differences(before.get(name), after.get(name), inner)
        return found
    return [f"{path or 'value'} {before!r} → {after!r}"]
