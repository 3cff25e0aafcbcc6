"""Any course of direct calls, held against a model of ten lines: the ledger says what happened."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.sandboxes import STORES, arm, make_sandbox, used

from gonogo.backoff import Retry
from gonogo.clock import FakeClock
from gonogo.errors import (
    EffectFailed,
    EffectRejected,
    GonogoError,
    KeyConflict,
    OutcomeUnknown,
    RateLimited,
)
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.signals import NotApplied, Rejected

BUDGET = 100
ACTS: dict[str, type[BaseException] | None] = {
    "ok": None,
    "not applied": NotApplied,
    "rejected": Rejected,
    "lost": TimeoutError,
}
calls = st.lists(
    st.tuples(st.sampled_from("ABCD"), st.integers(0, 60), st.sampled_from(sorted(ACTS))),
    max_size=12,
)


class Model:
    """What should happen: keys with their cents and how they ended, and the budget."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, str]] = {}
        self.spent = 0

    def expect(self, key: str, cents: int, act: str) -> type[GonogoError] | None:
        if key in self.known:
            before, ended = self.known[key]
            if before != cents:
                return KeyConflict
            return {"ok": None, "rejected": EffectRejected, "lost": OutcomeUnknown}[ended]
        if self.spent + cents > BUDGET:
            return RateLimited
        if act == "not applied":
            return EffectFailed
        self.known[key] = (cents, act)
        if act != "rejected":
            self.spent += cents
        return {"ok": None, "rejected": EffectRejected, "lost": OutcomeUnknown}[act]


def performing(sandbox: SandboxOrchestrator) -> Callable[[str, int, str], Any]:
    acts: list[str] = []

    @sandbox.action(
        "pay",
        key="{invoice}",
        irreversible=True,
        retry=Retry(max_retries=1),
        limits=[Limit("units", BUDGET, per="day", cost="{cents}")],
    )
    def pay(invoice: str, cents: int) -> int:
        if (raised := ACTS[acts[-1]]) is not None:
            raise raised
        return cents

    def call(invoice: str, cents: int, act: str) -> Any:
        acts.append(act)
        return pay(invoice, cents)

    return call


@pytest.mark.parametrize("kind", STORES)
@settings(max_examples=40)
@given(course=calls)
def test_any_course_of_calls_ends_as_the_model_says(
    kind: str, course: list[tuple[str, int, str]]
) -> None:
    """Each call ends as key, arguments and budget say; what is used is what was not refunded."""
    with tempfile.TemporaryDirectory() as folder:
        sandbox = arm(make_sandbox(kind, Path(folder), FakeClock()))
        model, pay = Model(), performing(sandbox)
        for key, cents, act in course:
            expected = model.expect(key, cents, act)
            if expected is None:
                assert pay(key, cents, act) == cents
            else:
                with pytest.raises(GonogoError) as caught:
                    pay(key, cents, act)
                assert type(caught.value) is expected
            assert used(sandbox) == model.spent
        counts = sandbox.counts()
        ends = [ended for _, ended in model.known.values()]
        assert counts.get(State.SUCCEEDED, 0) == ends.count("ok")
        assert counts.get(State.UNKNOWN, 0) == ends.count("lost")
        sandbox.cleanup()
