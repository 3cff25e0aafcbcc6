"""What a plan's calls would use of each limit, and which of them it would hold back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from gonogo.charges import Forecast
from gonogo.plan import TO_DO, Uses
from gonogo.records import Call, Charge
from gonogo.secrets import describe
from gonogo.shortage import charges_of, spell_shortage

if TYPE_CHECKING:
    from gonogo.pipeline import Pipeline
    from gonogo.rehearsal import Rehearsal


def forecast(pipeline: Pipeline, rehearsal: Rehearsal) -> tuple[list[Call], Uses]:
    """The recorded calls, of which those that a limit holds back, taken in order, say so.

    With them what each takes of its limits; see `Plan.uses`.
    """
    now = pipeline.clock.now()
    calls = list(rehearsal.calls)
    groups: dict[int, Sequence[Charge]] = {}
    for place, call in enumerate(calls):
        if call.verdict == "new":
            try:
                groups[place] = _charges(pipeline, call)
            except Exception as error:  # noqa: BLE001 - costs and keys may be users' functions
                why = f"what it takes of its limits cannot be told: {describe(error)}"
                rehearsal.problem(f"{call.name}: {why}")
                calls[place] = structs.replace(call, verdict="undetermined", note=why)
    places, wanted = list(groups), list(groups.values())
    found = pipeline.store.read(lambda tx: pipeline.governor.forecast(tx, wanted, now))
    for denial in reversed(found):  # of several for one call the first counts
        place = places[denial.index]
        calls[place] = _held_back(pipeline, rehearsal, calls[place], denial)
    return calls, [_units(groups.get(place, ())) for place in range(len(calls))]


def uses_of(pipeline: Pipeline, calls: Sequence[Call]) -> Uses:
    """What a plan's calls take of their limits; partial where this process cannot know costs."""

    def used(call: Call) -> dict[str, int]:
        if call.verdict not in TO_DO and call.verdict != "denied":
            return {}
        try:
            return _units(_charges(pipeline, call))
        except Exception:  # noqa: BLE001 - same; what the plan says stands all the same
            return {}

    return [used(call) for call in calls]


def _units(charges: Sequence[Charge]) -> dict[str, int]:
    return {charge.row: charge.cost for charge in charges}


def _charges(pipeline: Pipeline, call: Call) -> Sequence[Charge]:
    return () if call.verdict == "undetermined" else charges_of(pipeline, call)


def _held_back(pipeline: Pipeline, rehearsal: Rehearsal, call: Call, denial: Forecast) -> Call:
    room = spell_shortage(pipeline, denial)
    if denial.never:
        rehearsal.problem(f"{call.name} can never pass {room}")
        return structs.replace(call, verdict="denied", note=f"never passes {room}")
    return structs.replace(call, verdict="waits", note=f"waits for {room}")
