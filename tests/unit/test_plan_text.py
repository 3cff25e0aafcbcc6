"""A plan as text: what a person has to look at is there, however long the plan is."""

from __future__ import annotations

from collections.abc import Sequence

from gonogo.plan_text import MOST_LINES, render
from gonogo.records import Call, PlanRecord, PlanState, State

PLAN = PlanRecord(
    id="p1",
    name="march",
    state=PlanState.READY,
    created_at=1_800_000_000.0,
    expires_at=1_800_086_400.0,
    digest="v1:" + "0" * 64,
    size=0,
)


def planned(verdicts: Sequence[str]) -> list[Call]:
    return [
        Call(
            id=f"c{at}",
            action="payment",
            key=f"payment:INV-{at}",
            state=State.PLANNED,
            created_at=PLAN.created_at,
            position=at,
            verdict=verdict,
        )
        for at, verdict in enumerate(verdicts)
    ]


def test_a_short_plan_is_shown_whole() -> None:
    """Every call has its line, numbered from 1, with verdict and key."""
    text = render(PLAN, planned(["new", "done"]), {"new": 1, "done": 1}, {}, "memory")
    assert "    1 new          payment:INV-0" in text
    assert "    2 done         payment:INV-1" in text
    assert "more" not in text


def test_what_is_done_or_new_is_folded_in_a_long_plan() -> None:
    """Two hundred calls that were performed before do not bury the page."""
    for verdict in ("new", "done"):
        text = render(PLAN, planned([verdict] * 200), {verdict: 200}, {}, "memory")
        assert "… 185 more" in text
        assert text.count("payment:INV-") == 15


def test_what_needs_a_look_is_shown_wherever_it_stands() -> None:
    """A doubt in the middle of a long plan is on the page, with what was left out around it."""
    verdicts = ["done"] * 200
    verdicts[100] = "in_doubt"
    text = render(PLAN, planned(verdicts), {"done": 199, "in_doubt": 1}, {}, "memory")
    assert "  101 in_doubt     payment:INV-100" in text
    assert "… 90 more" in text
    assert "… 94 more" in text


def test_a_long_plan_full_of_problems_stays_readable() -> None:
    """However many calls need a look, the page is bounded and says how many it left out."""
    text = render(PLAN, planned(["in_doubt"] * 500), {"in_doubt": 500}, {}, "memory")
    assert text.count("payment:INV-") == MOST_LINES
    assert "more" in text


def test_one_call_is_not_many() -> None:
    """The totals count calls as a person would say it."""
    text = render(PLAN, planned(["new"]), {"new": 1}, {"a": {"calls": 1, "mail": 3}}, "memory")
    assert "would perform a: 1 call, mail 3" in text
    text = render(PLAN, planned([]), {}, {"a": {"calls": 2}}, "memory")
    assert "would perform a: 2 calls" in text
