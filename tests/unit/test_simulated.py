"""Values of a rehearsal: they admit what they are, and nobody takes them for results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.sandboxes import arm

from gonogo.clock import FakeClock
from gonogo.errors import Refused
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.simulated import Simulated, Undetermined, Unknown, find_tainted

Use = Callable[[Any], object]

MAKE_TEXT: list[Use] = [str, "{}".format, lambda v: f"{v}", lambda v: "%s" % v]  # noqa: UP031 - one of the ways
MAKE_OTHER: list[Use] = [int, float, bytes, hash, lambda v: {v: 1}, lambda v: [1, 2][v], range]
DECIDE: list[Use] = [
    *(bool, len, list, lambda v: v == 1, lambda v: v != 1, lambda v: v < 1, lambda v: v >= 1),
    *(lambda v: v.amount, lambda v: v["amount"], lambda v: 1 in v, lambda v: not v),
]


@pytest.mark.parametrize("use", MAKE_TEXT + MAKE_OTHER + DECIDE)
def test_the_unknown_stops_whoever_guesses(use: Use) -> None:
    """Whatever needs the value stops the rehearsal, and the plan says why."""
    problems: list[str] = []
    with pytest.raises(Undetermined, match=r"result of pay \(A\)"):
        use(Unknown("pay (A)", problems.append))
    assert len(problems) == 1


@pytest.mark.parametrize("use", MAKE_TEXT + MAKE_OTHER)
def test_the_simulated_is_no_text_and_no_number(use: Use) -> None:
    """A made-up value that became a text could not be told from a result."""
    problems: list[str] = []
    with pytest.raises(Undetermined):
        use(Simulated(1, "pay (A)", problems.append))
    assert problems


def test_decisions_are_taken_on_the_simulated_value() -> None:
    """Reading, comparing and looping work, and what is read stays simulated."""
    value = Simulated({"id": "X", "lines": [1, 2]}, "pay", pytest.fail)
    assert value["id"] == "X"
    assert isinstance(value["id"], Simulated)
    assert [isinstance(line, Simulated) for line in value["lines"]] == [True, True]
    assert value["lines"][0] < 2 <= value["lines"][1]
    assert value["lines"][1] > value["lines"][0]
    assert (len(value), bool(value), "id" in value) == (2, True, True)
    assert Simulated(1, "a", pytest.fail) == Simulated(1, "b", pytest.fail)
    assert value.value == {"id": "X", "lines": [1, 2]}


@pytest.mark.parametrize("value", [Unknown("pay", print), Simulated("X", "pay", print)])
def test_they_show_what_they_are(value: Any) -> None:
    """Their repr is safe to print; JSON of them does not exist; they have no hidden methods."""
    assert repr(value).startswith(("<unknown", "<simulated"))
    with pytest.raises(TypeError):
        json.dumps({"value": value})
    with pytest.raises(AttributeError):
        value.__wrapped__  # noqa: B018 - reading it is the case under test
    assert find_tainted({"a": [value]}) is value


def test_what_is_clean_is_clean() -> None:
    """Plain values of every kind are not tainted; a ring ends."""
    ring: list[Any] = []
    ring.append(ring)
    assert find_tainted([1, "a", None, {"b": {2.0}}, b"", ring, object()]) is None


@pytest.mark.parametrize("value", [Unknown("pay", print), Simulated("X", "pay", print)])
def test_they_are_refused_live(fake_clock: FakeClock, value: Any) -> None:
    """What a rehearsal made up never gets into a real call or job."""
    sandbox = arm(SandboxOrchestrator(clock=fake_clock))

    @sandbox.action("mail", key="k", irreversible=True)
    def mail(receipt: Any) -> None:
        pytest.fail("it was performed")

    for send in (mail, mail.enqueue):
        with pytest.raises(Refused, match="rehearsal"):
            send({"receipt": value})
    assert sandbox.calls() == []
