"""A limit without room for a call: what the call takes, and in words what stands in its way."""

from __future__ import annotations

from collections.abc import Sequence

from gonogo.charges import Forecast
from gonogo.durations import spell_duration, spell_time
from gonogo.pipeline import Pipeline
from gonogo.records import Call, Charge, State
from gonogo.settings import DEFAULT_LIMITS, PREFIX


def charges_of(pipeline: Pipeline, call: Call) -> Sequence[Charge]:
    """What performing ``call`` takes of its limits; nothing where its action is not known here.

    Raises what a cost or a key of a limit raises that is a function of the user's.
    """
    action = pipeline.actions.get(call.action)
    if action is None:
        return ()
    declared = action.charges(action.parameters.load(call.args).values, pipeline.clock.now)
    return pipeline.governor.charges(call.action, declared, pipeline.clock.now())


def spell_shortage(pipeline: Pipeline, denial: Forecast) -> str:
    """What has no room, and when it will: ``limit 'payment': 100 of 100 taken, 1 wanted; …``."""
    room = f"{denial.used:,} of {denial.max:,} taken, {denial.cost:,} wanted"
    reopening = "" if denial.never else _reopening(pipeline, denial.limit)
    return f"limit {denial.row!r}{_origin(pipeline, denial.limit)}: {room}{reopening}"


def shortage_of(pipeline: Pipeline, call: Call) -> str | None:
    """What of its limits has no room for a due call now, in words; ``None`` where all have.

    What it holds since an earlier attempt it gets again. There is no answer either where its
    costs cannot be told. Raises `StoreError` when the ledger cannot be asked.
    """
    now = pipeline.clock.now()
    if call.state is not State.PENDING or call.waits or call.run_at > now:
        return None
    try:
        held = {reservation.row for reservation in call.reservations}
        charges = [charge for charge in charges_of(pipeline, call) if charge.row not in held]
    except Exception:  # noqa: BLE001 - costs and keys may be users' functions; asking breaks nothing
        return None
    found = pipeline.store.read(lambda tx: pipeline.governor.forecast(tx, [charges], now))
    return spell_shortage(pipeline, found[0]) if found else None


def _origin(pipeline: Pipeline, limit: str) -> str:
    """How to change a limit that nobody declared."""
    if limit not in DEFAULT_LIMITS or not pipeline.governor.is_default(limit):
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
    return f"; it has room from {spell_time(since + window)} at the earliest"
