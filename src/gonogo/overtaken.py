"""Plans that were overtaken: other calls took keys of theirs, so they cannot be applied."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from gonogo.plan import TO_DO
from gonogo.records import Call, PlanRecord, PlanState
from gonogo.store.port import Transaction

ENOUGH = 100
"""Calls whose keys others hold that are looked at; one holder that has not lapsed is enough."""


def takers(
    tx: Transaction, plan: PlanRecord, lapsed: Callable[[Call], bool], limit: int
) -> dict[str, Call]:
    """Who holds the keys of calls that applying ``plan`` would queue, by the ids of these.

    Args:
        lapsed: whether the time of a holder is over, so that its key is as good as free.
    """
    if plan.state not in {PlanState.READY, PlanState.APPROVED}:
        return {}
    holders: dict[str, Call] = {}
    for call in tx.calls.overtaken(plan.id, TO_DO, limit):
        holder = tx.calls.holder(call.action, call.key or "")
        if holder is not None and not lapsed(holder):
            holders[call.id] = holder
    return holders


def noted(call: Call, taker: Call | None) -> Call:
    """A planned call as it is shown: with who has its key meanwhile."""
    if taker is None:
        return call
    note = f"overtaken: call {taker.id} has its key meanwhile, and is {taker.state.value}"
    return structs.replace(call, note=note)
