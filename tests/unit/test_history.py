"""The attempts of a call, told whole whether each has a row or not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.store.making import attempt, call

from gonogo import NotApplied, landed
from gonogo.history import attempts_of
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Attempt, Outcome, State
from gonogo.store.memory import MemoryStore


def told(sandbox: SandboxOrchestrator, call_id: str) -> list[Attempt]:
    found = sandbox.call(call_id)
    return sandbox.store.read(lambda tx: attempts_of(tx, found))


@pytest.fixture
def sandbox(fake_clock: Any) -> Any:
    made = SandboxOrchestrator(clock=fake_clock, random=lambda: 0.5)
    yield made
    made.cleanup()


def test_a_success_at_once_is_told_without_a_row(sandbox: SandboxOrchestrator) -> None:
    """By the call's own: who, when, which attempt."""
    note = sandbox.action("note", irreversible=False)(lambda: "done")
    done = sandbox.call(note.call().call_id)
    (only,) = told(sandbox, done.id)
    assert (only.attempt, only.outcome, only.owner) == (1, Outcome.SUCCEEDED, done.owner)
    assert (only.started_at, only.ended_at) == (done.dispatched_at, done.settled_at)
    assert sandbox.store.read(lambda tx: tx.attempts.of(done.id)) == []
    assert any("attempt 1 ran" in sentence for sentence in sandbox.explain(done.id))


def test_what_failed_before_is_told_first(sandbox: SandboxOrchestrator) -> None:
    """Failures have rows of their own."""
    answers: list[Any] = [NotApplied("busy"), "done"]

    @sandbox.action("note", irreversible=False)
    def note() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    first, second = told(sandbox, note.call().call_id)
    assert (first.outcome, second.outcome) == (Outcome.NOT_APPLIED, Outcome.SUCCEEDED)
    assert (first.attempt, second.attempt) == (1, 2)


def test_what_evidence_settled_is_no_second_attempt(
    sandbox: SandboxOrchestrator, fake_clock: Any
) -> None:
    """The attempt that nobody heard of is the one that landed; it is told once, as it was."""
    sandbox.arm(by="ann", reason="a test")

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str) -> str:
        raise TimeoutError("no answer")

    pay.verify(lambda _: landed("there"))
    handle = pay.enqueue("A-1")
    sandbox.worker.run_once()
    fake_clock.advance(3600.0)
    sandbox.recovery.run_once()
    assert sandbox.call(handle.id).state is State.SUCCEEDED
    assert [a.outcome for a in told(sandbox, handle.id)] == [Outcome.UNKNOWN]


def test_a_row_of_an_older_ledger_is_told_once() -> None:
    """Success had a row of its own there."""
    store, done = MemoryStore(), call(State.SUCCEEDED, attempt=1)
    row = attempt(done.id, 1)
    store.write(lambda tx: (tx.calls.insert(done), tx.attempts.append(row)))
    assert store.read(lambda tx: attempts_of(tx, done)) == [row]
