"""What a plan's calls would use of each limit, and which of them it would hold back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from gonogo.charges import Forecast
from gonogo.plan import Costs
from gonogo.records import Call, Charge
from gonogo.secrets import describe

if TYPE_CHECKING:
    from gonogo.pipeline import Pipeline
    from gonogo.rehearsal import Rehearsal


def costs_of(pipeline: Pipeline, call: Call) -> Costs:
    """Units by limit row; empty where they cannot be known in this process."""
    try:
        return {c.row: c.cost for c in _charges(pipeline, call) if c.row != call.action}
    except Exception:  # noqa: BLE001 - costs and keys may be users' functions; totals stay partial
        return {}


def forecast(pipeline: Pipeline, rehearsal: Rehearsal) -> list[Call]:
    """The recorded calls; those that a limit holds back, taken in order, say so."""
    now = pipeline.clock.now()
    calls = {call.id: call for call in rehearsal.calls}
    groups: dict[str, list[Charge]] = {}
    for call in rehearsal.calls:
        if call.verdict == "new":
            try:
                declared = _charges(pipeline, call)
            except Exception as error:  # noqa: BLE001 - same; the plan says what is wrong
                why = f"what it takes of its limits cannot be told: {describe(error)}"
                rehearsal.problem(f"{call.name}: {why}")
                calls[call.id] = structs.replace(call, verdict="undetermined", note=why)
            else:
                groups[call.id] = list(pipeline.governor.charges(call.action, declared, now))
    ids, wanted = list(groups), list(groups.values())
    found = pipeline.store.read(lambda tx: pipeline.governor.forecast(tx, wanted, now))
    for denial in reversed(found):  # of several for one call the first counts
        calls[ids[denial.index]] = _held_back(rehearsal, calls[ids[denial.index]], denial)
    return list(calls.values())


def _charges(pipeline: Pipeline, call: Call) -> list[Charge]:
    action = pipeline.actions.get(call.action)
    if action is None or call.verdict == "undetermined":
        return []
    return action.charges(action.parameters.load(call.args).values, pipeline.clock.now())


def _held_back(rehearsal: Rehearsal, call: Call, denial: Forecast) -> Call:
    room = f"limit {denial.row!r}: {denial.used} of {denial.max} taken, {denial.cost} wanted"
    if denial.never:
        rehearsal.problem(f"{call.name} can never pass {room}")
        return structs.replace(call, verdict="denied", note=f"never passes {room}")
    return structs.replace(call, verdict="waits", note=f"waits for {room}")
