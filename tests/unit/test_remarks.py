"""One bad call among many is found: which it was, where it was made, with what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.scene import WHO, Sandboxes, payment

from gonogo.action import Given
from gonogo.batches import shown
from gonogo.errors import ConfigurationError, KeyConflict
from gonogo.orchestrator import SandboxOrchestrator

HERE = Path(__file__)


def rehearse(sandbox: SandboxOrchestrator, rows: list[Any], verb: str = "__call__") -> None:
    pay = payment(sandbox)
    with sandbox.rehearse("r"):
        for row in rows:
            getattr(pay, verb)(*row)  # the line


@pytest.mark.parametrize("verb", ["__call__", "enqueue"])
def test_the_call_that_does_not_fit_is_found(sandboxes: Sandboxes, verb: str) -> None:
    """By its number, the one before it, the line of the job, and its arguments; the plan has it."""
    sandbox = sandboxes()
    line = HERE.read_text().splitlines().index("            getattr(pay, verb)(*row)  # the line")
    with pytest.raises(ConfigurationError) as wrong:
        rehearse(sandbox, [("A", 1), ("B", "1O0"), ("C", 1)], verb)
    found = (
        f"call 2 of the plan, after pay (pay:A), made in {HERE}, line {line + 1}, "
        "with invoice='B', cents='1O0': action 'pay'"
    )
    assert str(wrong.value).startswith(found)
    (plan,) = sandbox.plans()
    assert found in plan.problems[0]


@pytest.mark.parametrize("verb", ["__call__", "enqueue"])
def test_a_key_that_cannot_be_made_is_found_by_its_place(sandboxes: Sandboxes, verb: str) -> None:
    """Functions of the declaration fail on one row: it is told like arguments that do not fit."""
    sandbox = sandboxes()

    @sandbox.action("pay", key=lambda a: a["invoice"].split("-")[1], irreversible=True)
    def pay(invoice: str) -> None: ...

    def payday() -> None:
        for invoice in ("INV-1", "INV2"):
            getattr(pay, verb)(invoice)  # the bad row

    failed = "its key function failed with IndexError"
    with pytest.raises(ConfigurationError, match=failed) as wrong, sandbox.rehearse("p"):
        payday()
    text = "            getattr(pay, verb)(invoice)  # the bad row"
    line = HERE.read_text().splitlines().index(text)
    found = f"call 2 of the plan, after pay (1), made in {HERE}, line {line + 1}, with invoice="
    assert str(wrong.value).startswith(found)


def test_a_job_that_fails_between_its_calls_says_where(sandboxes: Sandboxes) -> None:
    """Its own exception goes on its way; after which call and in which line it came is told."""
    sandbox = sandboxes()
    pay = payment(sandbox)

    def payday(rows: list[str]) -> None:
        for row in rows:
            invoice, cents = row.split(",")
            pay(invoice, json.loads(cents))  # the line of the row

    for rows, last in (
        (["A,1", "B,x"], "after call 1 of the plan, pay (pay:A)"),
        (["A,x"], "before the first call of the plan"),
    ):
        with pytest.raises(ValueError, match="Expecting value") as wrong, sandbox.rehearse("p"):
            payday(rows)
        text = "            pay(invoice, json.loads(cents))  # the line of the row"
        line = HERE.read_text().splitlines().index(text) + 1
        place = f"{last}, in {HERE}, line {line}"
        assert wrong.value.__notes__ == [f"The rehearsal ended there, {place}"]
        plan = sandbox.plans()[0]
        assert plan.problems[0].startswith("it ended with JSONDecodeError: ")
        assert plan.problems[0].endswith(place)
        sandbox.discard(plan.id, **WHO)
        sandboxes.clock.advance(1)


def test_a_simulator_that_fails_names_the_call(sandboxes: Sandboxes) -> None:
    """Of many calls of one action it is that one."""
    sandbox = sandboxes()
    pay = payment(sandbox)

    @pay.simulate
    def _(invoice: str, cents: int) -> str:
        return {"A": "fine"}[invoice]

    with sandbox.rehearse("payday") as plan:
        pay("A")
        pay("B")
    assert plan.problems == ("pay (pay:B): its simulator failed with KeyError: 'B'",)


def test_a_conflict_says_how_the_arguments_differ(sandboxes: Sandboxes) -> None:
    """Which of two rows is right is decided without looking for them."""
    sandbox = sandboxes()
    with pytest.raises(KeyConflict, match=r"\(cents 3 here, 1 there\)") as conflict:
        rehearse(sandbox, [("A", 1), ("B", 1), ("A", 3)])
    assert f"It is call 3 of the plan, after pay (pay:B), made in {HERE}" in str(conflict.value)


def test_secrets_are_not_shown(sandboxes: Sandboxes) -> None:
    """Neither by name, nor misspelled, nor where one by position may be in another's place."""
    sandbox = sandboxes()

    @sandbox.action("login", irreversible=False, secrets=["pin"])
    def login(user: str, pin: int, place: str) -> None: ...

    given = Given(("1234",), {"pin": "1234", "api_key": "1234", "pni": "1234", "place": "Bonn"})
    told = shown(login, given)
    assert told == "user='str', pin='[secret]', api_key='[secret]', pni='str', place='Bonn'"
    assert shown(payment(sandbox), Given((), {})) == "no arguments"
