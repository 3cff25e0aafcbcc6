"""A plan's record as tests of its texts have it."""

from __future__ import annotations

from gonogo.records import PlanRecord, PlanState

MARCH = PlanRecord(
    id="p1",
    name="march",
    state=PlanState.READY,
    created_at=1_800_000_000.0,
    expires_at=1_800_086_400.0,
    digest="v1:" + "0" * 64,
    size=0,
)
