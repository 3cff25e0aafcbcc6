"""What the end of a call means to whoever asked for it: its result, or the error that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gonogo.errors import (
    ConfigurationError,
    EffectFailed,
    EffectRejected,
    OutcomeUnknown,
    ResultUnavailable,
)
from gonogo.records import Call, Outcome, State

if TYPE_CHECKING:
    from gonogo.action import Action


def about(call: Call) -> dict[str, Any]:
    """What every error about a call carries."""
    return {"action": call.action, "key": call.key, "call_id": call.id}


def result_of(action: Action[Any, Any] | None, call: Call) -> Any:
    """The recorded result of a call that succeeded.

    Raises `ResultUnavailable` when it was not kept, and `ConfigurationError` when this process
    does not declare the action, which knows the result's type.
    """
    if call.result is None:
        raise ResultUnavailable(
            f"{call.name} happened in call {call.id}, but its result was not kept ({call.note})",
            **about(call),
        )
    if action is None:
        raise ConfigurationError(
            f"{call.name}: the action is not declared in this process", **about(call)
        )
    return action.decode_result(call.result)


def failure_of(call: Call) -> EffectFailed | OutcomeUnknown:
    """The error for a call that ended without a result; it says whether the effect happened."""
    if call.state not in {State.FAILED, State.CANCELLED}:
        return OutcomeUnknown(
            f"{call.name} may or may not have happened ({call.note}). It is not run again by "
            f"itself: find out, then resolve call {call.id}",
            **about(call),
        )
    kind = EffectRejected if call.outcome is Outcome.REJECTED else EffectFailed
    remedy = "; once the cause is mended, resolve it as absent to free its key" if call.held else ""
    failed = kind(f"{call.name} {call.note}; call {call.id}{remedy}", **about(call))
    failed.happened = call.happened
    return failed
