"""What a plan's calls would use of each limit, and which of them it would hold back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from gonogo.charges import Forecast
from gonogo.durations import spell_duration, spell_time
from gonogo.plan import TO_DO, Uses
from gonogo.records import Call, Charge
from gonogo.secrets import describe
from gonogo.settings import DEFAULT_LIMITS, PREFIX

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
        calls[place] = _held_back(pipeline, rehearsal, calls[place], denial)
    return calls, [_units(groups.get(place, ())) for place in range(len(calls))]


def uses_of(pipeline: Pipeline, calls: Sequence[Call]) -> Uses:
    """What a plan's calls take of their limits; partial where this process cannot know costs."""
    now = pipeline.clock.now()

    def used(call: Call) -> dict[str, int]:
        if call.verdict not in TO_DO and call.verdict != "denied":
            return {}
        try:
            declared = _charges(pipeline, call)
        except Exception:  # noqa: BLE001 - same; what the plan says stands all the same
            return {}
        return _units(pipeline.governor.charges(call.action, declared, now))

    return [used(call) for call in calls]


def _units(charges: Sequence[Charge]) -> dict[str, int]:
    return {charge.row: charge.cost for charge in charges}


def _charges(pipeline: Pipeline, call: Call) -> Sequence[Charge]:
    action = pipeline.actions.get(call.action)
    if action is None or call.verdict == "undetermined":
        return []
    return action.charges(action.parameters.load(call.args).values, pipeline.clock.now)


def _held_back(pipeline: Pipeline, rehearsal: Rehearsal, call: Call, denial: Forecast) -> Call:
    name = f"limit {denial.row!r}{_origin(pipeline, denial.limit)}"
    room = f"{name}: {denial.used:,} of {denial.max:,} taken, {denial.cost:,} wanted"
    if denial.never:
        rehearsal.problem(f"{call.name} can never pass {room}")
        return structs.replace(call, verdict="denied", note=f"never passes {room}")
    note = f"waits for {room}{_reopening(pipeline, denial.limit)}"
    return structs.replace(call, verdict="waits", note=note)


def _origin(pipeline: Pipeline, limit: str) -> str:
    """How to change a limit that nobody declared."""
    if not pipeline.governor.is_default(limit):
        return ""
    setting = f"{PREFIX}{DEFAULT_LIMITS[limit][0]}".upper()
    return f" (a default, which {setting} changes)"


def _reopening(pipeline: Pipeline, limit: str) -> str:
    """When a full limit has room again."""
    known = pipeline.governor.rate_limits.get(limit)
    if known is None:
        return ""
    since, window = known.period(pipeline.clock.now())
    if since is None:
        return f"; units are free again {spell_duration(window)} after they were taken"
    return f"; applied now, it has room from {spell_time(since + window)} at the earliest"
