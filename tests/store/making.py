"""Records for tests, with only what matters said."""

from __future__ import annotations

import itertools
from typing import Any

from gonogo.records import (
    Alert,
    Attempt,
    Call,
    Charge,
    Decision,
    Outcome,
    PlanRecord,
    PlanState,
    Severity,
    State,
)

NOW = 1_800_000_000.0
_numbers = itertools.count()


def call(state: State = State.PENDING, **fields: Any) -> Call:
    fields = {"id": f"{next(_numbers):08}", "action": "pay", "created_at": NOW, **fields}
    return Call(state=state, **fields)


def queued(**fields: Any) -> Call:
    return call(State.PENDING, **{"queue": "main", "run_at": NOW, **fields})


def attempt(call_id: str, number: int, **fields: Any) -> Attempt:
    fields = {"epoch": number, "owner": "w", "started_at": NOW, "ended_at": NOW + 1, **fields}
    return Attempt(call_id=call_id, attempt=number, outcome=Outcome.UNKNOWN, **fields)


def decision(number: int, subject: str = "call-1") -> Decision:
    return Decision(
        id=f"d{number}",
        at=NOW,
        what="resolve",
        subject=subject,
        actor="ann",
        reason="seen it",
        detail={"n": number},
    )


def charge(row: str = "api", cost: int = 1, most: int = 10, **fields: Any) -> Charge:
    return Charge(limit=row, row=row, max=most, cost=cost, **{"window": 60.0, **fields})


def alert(number: int, fingerprint: str = "f", **fields: Any) -> Alert:
    fields = {"task": "pay", "reason": "failed", "severity": Severity.WARNING, **fields}
    return Alert(
        id=f"a{number}",
        fingerprint=fingerprint,
        context={"n": number},
        first_seen=NOW + number,
        last_seen=NOW + number,
        **fields,
    )


def plan(number: int, state: PlanState = PlanState.READY, **fields: Any) -> PlanRecord:
    return PlanRecord(
        id=f"p{number}",
        name="payday",
        state=state,
        created_at=NOW + number,
        expires_at=NOW + 3_600,
        digest="d",
        size=2,
        **fields,
    )
