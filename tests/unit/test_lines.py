"""Texts of others stay on their line, wherever a person reads them before a yes."""

from __future__ import annotations

import pytest
from msgspec import structs
from tests.support.plans import MARCH

from gonogo.explain import explain
from gonogo.lines import clean
from gonogo.plan_text import render
from gonogo.records import Attempt, Call, Decision, Fault, Outcome, PlanRecord, PlanState, State

FORGED = "bad row\nPlan 'x'  READY\r\x1b[2J\u2028\u202egnol\x85"
FLAT = "bad row Plan 'x'  READY\\x0d\\x1b[2J\\u2028\\u202egnol\\x85"

PLAN = structs.replace(MARCH, state=PlanState.INCOMPLETE, size=1)
CALL = Call(
    id="c1", action="payment", state=State.PLANNED, created_at=1_800_000_000.0, verdict="waits"
)


def test_what_could_begin_a_line_or_turn_one_is_spelled_out() -> None:
    """Also the separators and marks of Unicode; doing so again changes nothing."""
    assert clean(FORGED) == FLAT == clean(FLAT)
    assert clean("Zoë Müller, 3 €") == "Zoë Müller, 3 €"


@pytest.mark.parametrize(
    ("plan", "call"),
    [
        (structs.replace(PLAN, name=FORGED), CALL),
        (structs.replace(PLAN, problems=(FORGED,)), CALL),
        (PLAN, structs.replace(CALL, action=FORGED)),
        (PLAN, structs.replace(CALL, key=FORGED)),
        (PLAN, structs.replace(CALL, note=FORGED)),
    ],
)
def test_no_text_forges_a_line_of_a_plan(plan: PlanRecord, call: Call) -> None:
    """Neither its name, nor a problem, an action, a key or a note."""
    totals = {call.action: {"calls": 1, "uses": {FORGED: 1}}}
    text = render(plan, [call], {"waits": 1}, totals, uses=[{FORGED: 1}], ledger=FORGED)  # type: ignore[arg-type]  # a plain dict
    assert not any(line.startswith("Plan 'x'") for line in text.splitlines())
    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == len(text.split("\n"))


@pytest.mark.parametrize(
    "call",
    [
        structs.replace(CALL, action=FORGED),
        structs.replace(CALL, key=FORGED),
        structs.replace(CALL, note=FORGED),
        structs.replace(CALL, queue=FORGED),
    ],
)
def test_no_text_forges_a_sentence_of_a_story(call: Call) -> None:
    """Neither of the call, nor who decided and why, nor what an attempt raised."""
    attempt = Attempt(
        call_id="c1",
        attempt=1,
        epoch=1,
        owner=FORGED,
        started_at=1.0,
        ended_at=2.0,
        outcome=Outcome.UNKNOWN,
        fault=Fault(type="RuntimeError", message=FORGED),
        note=FORGED,
    )
    decision = Decision(id="d1", at=1.0, what="approved", subject="c1", actor=FORGED, reason=FORGED)
    for sentence in explain(call, [attempt], [decision], 10.0):
        assert sentence.isprintable()
