"""What a plan's calls would use of each limit, and which of them it would hold back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from gonogo.charges import Forecast
from gonogo.plan import TO_DO, Totals
from gonogo.records import Call, Charge
from gonogo.secrets import describe

if TYPE_CHECKING:
    from gonogo.pipeline import Pipeline
    from gonogo.rehearsal import Rehearsal


def forecast(pipeline: Pipeline, rehearsal: Rehearsal) -> tuple[list[Call], Totals]:
    """The recorded calls, of which those that a limit holds back, taken in order, say so.

    With them the totals of those that would be performed; see `Plan.totals`.
    """
    now = pipeline.clock.now()
    calls = list(rehearsal.calls)
    groups: dict[int, Sequence[Charge]] = {}
    for place, call in enumerate(calls):
        if call.verdict == "new":
            try:
                declared = _charges(pipeline, call)
            except Exception as error:  # noqa: BLE001 - costs and keys may be users' functions
                why = f"what it takes of its limits cannot be told: {describe(error)}"
                rehearsal.problem(f"{call.name}: {why}")
                calls[place] = structs.replace(call, verdict="undetermined", note=why)
            else:
                groups[place] = pipeline.governor.charges(call.action, declared, now)
    places, wanted = list(groups), list(groups.values())
    found = pipeline.store.read(lambda tx: pipeline.governor.forecast(tx, wanted, now))
    for denial in reversed(found):  # of several for one call the first counts
        place = places[denial.index]
        calls[place] = _held_back(rehearsal, calls[place], denial)
    return calls, _totals(calls, lambda place: groups.get(place, ()))


def totals_of(pipeline: Pipeline, calls: Sequence[Call]) -> Totals:
    """The totals of a plan's calls; partial where costs cannot be known in this process."""

    def charges(place: int) -> Iterable[Charge]:
        try:
            return _charges(pipeline, calls[place])
        except Exception:  # noqa: BLE001 - same; what the plan says stands all the same
            return ()

    return _totals(calls, charges)


def _totals(calls: Sequence[Call], charges: Callable[[int], Iterable[Charge]]) -> Totals:
    totals: Totals = {}
    for place, call in enumerate(calls):
        if call.verdict in TO_DO:
            sums = totals.setdefault(call.action, {"calls": 0})
            sums["calls"] += 1
            for charge in charges(place):
                if charge.row != call.action:
                    sums[charge.row] = sums.get(charge.row, 0) + charge.cost
    return totals


def _charges(pipeline: Pipeline, call: Call) -> Sequence[Charge]:
    action = pipeline.actions.get(call.action)
    if action is None or call.verdict == "undetermined":
        return []
    return action.charges(action.parameters.load(call.args).values, pipeline.clock.now)


def _held_back(rehearsal: Rehearsal, call: Call, denial: Forecast) -> Call:
    room = f"limit {denial.row!r}: {denial.used} of {denial.max} taken, {denial.cost} wanted"
    if denial.never:
        rehearsal.problem(f"{call.name} can never pass {room}")
        return structs.replace(call, verdict="denied", note=f"never passes {room}")
    return structs.replace(call, verdict="waits", note=f"waits for {room}")
