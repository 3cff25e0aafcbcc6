"""A plan as text: what a person has to look at is there, however long the plan is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from msgspec import structs
from tests.support.plans import MARCH

from gonogo.plan_text import MOST_LINES, Total, render
from gonogo.records import Call, PlanState, State


def planned(verdicts: Sequence[str]) -> list[Call]:
    return [
        Call(
            id=f"c{at}",
            action="payment",
            key=f"payment:INV-{at}",
            state=State.PLANNED,
            created_at=MARCH.created_at,
            position=at,
            verdict=verdict,
        )
        for at, verdict in enumerate(verdicts)
    ]


def test_a_short_plan_is_shown_whole() -> None:
    """Every call has its line, numbered from 1, with verdict and key."""
    text = render(MARCH, planned(["new", "done"]), {"new": 1, "done": 1}, {})
    assert "    1 new          payment:INV-0" in text
    assert "    2 done         payment:INV-1" in text
    assert "more" not in text


def shown(verdicts: Sequence[str]) -> str:
    return render(MARCH, planned(verdicts), Counter(verdicts), {})


@pytest.mark.parametrize("verdict", ["new", "done"])
def test_what_is_done_or_new_is_folded_in_a_long_plan(verdict: str) -> None:
    """Two hundred calls of which none needs a look do not bury the page."""
    text = shown([verdict] * 200)
    assert f"… 150 {verdict}" in text
    assert text.count("payment:INV-") == MOST_LINES


def test_what_would_be_performed_is_shown_before_what_is_done() -> None:
    """Nine new calls behind three hundred that are done are on the page, each of them."""
    text = shown(["done"] * 291 + ["new"] * 9)
    assert text.count(" new ") == 9
    assert "… 250 done" in text


def test_the_first_of_every_verdict_are_shown() -> None:
    """What waits does not vanish behind hundreds of new calls, nor they behind it."""
    for first, then in [("new", "waits"), ("waits", "new"), ("done", "in_flight")]:
        text = shown([first] * 200 + [then] * 200)
        assert f"    1 {first} " in text
        assert f"  201 {then} " in text


def test_what_was_left_out_is_counted_by_verdict_and_can_be_had() -> None:
    """The page says what is missing, where, and which command shows it."""
    text = shown(["done"] * 100 + ["duplicate"] * 100 + ["conflict"])
    assert "  100 " not in text
    assert "… 95 done" in text
    assert "… 56 duplicate" in text
    assert "left out: 95 done, 56 duplicate; all: gonogo plan show p1 --all" in text
    assert "left out" not in shown(["done"] * MOST_LINES)


def test_what_needs_a_look_is_shown_wherever_it_stands() -> None:
    """A doubt in the middle of a long plan is on the page, with what was left out around it."""
    verdicts = ["done"] * 200
    verdicts[100] = "in_doubt"
    text = shown(verdicts)
    assert "  101 in_doubt     payment:INV-100" in text
    assert "… 51 done" in text
    assert "… 99 done" in text


@pytest.mark.parametrize(
    "verdict", ["conflict", "denied", "in_doubt", "not_ready", "rejected", "undetermined"]
)
def test_what_needs_a_look_is_never_left_out(verdict: str) -> None:
    """However many there are, behind however many others, each is on the page."""
    text = shown(["waits"] * 100 + ["new"] * 100 + [verdict] * 90).partition("\n\n")[2]
    assert text.count(f" {verdict} ") == 90
    assert "  101 new " in text


def test_a_call_shows_what_it_takes_of_its_limits() -> None:
    """Amounts stand under each other; that a limit counts the call itself goes without saying."""
    uses = [{"cents": 12_000, "payment": 1}, {"cents": 9_000, "fees": 2}, {}]
    text = render(MARCH, planned(["new", "waits", "done"]), {}, {}, uses=uses)
    assert "    1 new          payment:INV-0         cents 12,000\n" in text
    assert "    2 waits        payment:INV-1  cents 9,000, fees 2" in text
    assert text.endswith("    3 done         payment:INV-2")


def test_a_whole_plan_shows_every_call_with_more_on_it() -> None:
    """Asked for all, nothing is left out and each call has what is to be added."""
    verdicts = ["done"] * 200
    text = render(MARCH, planned(verdicts), {}, {}, whole=lambda call: f"<{call.position}>")
    assert "payment:INV-123  <123>" in text
    assert text.count("<") == 200
    assert "left out" not in text


def test_what_goes_out_later_is_said_in_the_head() -> None:
    """A plan that a limit stretches says so, and when the first of the rest goes out."""
    calls = planned(["new", "waits", "waits"])
    calls[1] = structs.replace(calls[1], note="waits for limit 'x'; room from noon")
    text = render(MARCH, calls, {}, {})
    assert (
        "2 of its calls go out by themselves later, when there is room; first payment:INV-1: "
        in text
    )
    assert text.count("room from noon") == 2
    assert "1 of its calls goes out by itself" in render(MARCH, calls[:2], {}, {})
    assert "of its calls" not in render(MARCH, calls[:1], {}, {})


def test_an_applied_plan_says_what_became_of_its_calls() -> None:
    """Each queued row has its state, the head counts them; only what is pending goes out later."""
    ends = [State.SUCCEEDED, State.FAILED, State.UNKNOWN, State.CANCELLED, State.PENDING]
    calls = [
        structs.replace(call, state=state)
        for call, state in zip(planned(["new", *["waits"] * 4]), ends, strict=True)
    ]
    calls[4] = structs.replace(calls[4], note="no room in cents for 50 s")
    calls += [structs.replace(planned(["done"])[0], state=State.DISCARDED)]
    plan = structs.replace(MARCH, state=PlanState.APPLIED)
    totals: dict[str, Total] = {"payment": {"calls": 5, "uses": {}}}
    text = render(plan, calls, {"new": 1, "waits": 4, "done": 1}, totals)
    assert "  rehearsed: 1 done, 1 new, 4 waits\n" in text
    assert "  now: 1 cancelled, 1 failed, 1 pending, 1 succeeded, 1 unknown\n" in text
    assert "would perform" not in text
    for at, state in enumerate(ends, 1):
        assert f"    {at} {state.value:<12} payment:INV-" in text
    assert "    6 done         payment:INV-0" in text
    later = "1 of its calls goes out by itself later, when there is room; first payment:INV-4"
    assert f"{later}: no room in cents for 50 s\n" in text
    calls[4] = structs.replace(calls[4], note=None)
    assert "no room" not in (text := render(plan, calls, {"waits": 4}, totals))
    assert "when there is room" not in text


def test_failures_of_a_long_applied_plan_are_shown() -> None:
    """What failed or is unknown is never left out; what succeeded may be."""
    calls = [structs.replace(call, state=State.SUCCEEDED) for call in planned(["new"] * 200)]
    calls[150] = structs.replace(calls[150], state=State.FAILED)
    calls[160] = structs.replace(calls[160], state=State.UNKNOWN)
    text = render(structs.replace(MARCH, state=PlanState.APPLIED), calls, {"new": 200}, {})
    assert "  151 failed " in text
    assert "  161 unknown " in text
    assert "left out: 150 succeeded" in text


def test_one_call_is_not_many() -> None:
    """The totals count calls as a person would say it."""
    text = render(MARCH, planned(["new"]), {"new": 1}, {"a": {"calls": 1, "uses": {"mail": 3}}})
    assert "would perform a: 1 call, mail 3" in text
    text = render(MARCH, planned([]), {}, {"a": {"calls": 2, "uses": {}}})
    assert "would perform a: 2 calls" in text


def test_the_ledger_is_named() -> None:
    """Whoever approves sees where the calls would be known from then on."""
    head = render(MARCH, planned(["new"]), {"new": 1}, {}, ledger="sqlite:////srv/ops.db")
    assert head.splitlines()[2] == "  ledger sqlite:////srv/ops.db"
