"""One bad call among many is found: which it was, where it was made, with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.scene import Sandboxes, payment

from gonogo.action import Given
from gonogo.errors import ConfigurationError, KeyConflict
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.remarks import shown

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
