"""The judgement: an action's own classification, broken errors, and secrets in what is kept."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest
from tests.support.sandboxes import only

from gonogo.backoff import Retry
from gonogo.clock import FakeClock
from gonogo.errors import (
    Drifted,
    EffectFailed,
    GonogoError,
    OutcomeUnknown,
    ResultUnavailable,
)
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Outcome, State
from gonogo.secrets import Secret
from gonogo.signals import NotApplied

HIDDEN = "hunter2-hunter2"


def explodes(error: BaseException) -> Outcome:
    raise RuntimeError("the classifier is broken")


@pytest.mark.parametrize(
    ("classify", "error", "outcome"),
    [
        (lambda e: Outcome.REJECTED, ValueError(), Outcome.REJECTED),
        (lambda e: Outcome.NOT_APPLIED, TimeoutError(), Outcome.NOT_APPLIED),
        (lambda e: Outcome.UNKNOWN, ConnectionRefusedError(), Outcome.UNKNOWN),
        (lambda e: None, ConnectionRefusedError(), Outcome.NOT_APPLIED),
        (lambda e: Outcome.SUCCEEDED, ValueError(), Outcome.UNKNOWN),
        (lambda e: "rejected", ValueError(), Outcome.UNKNOWN),
        (explodes, ConnectionRefusedError(), Outcome.UNKNOWN),
        (explodes, NotApplied(), Outcome.NOT_APPLIED),
    ],
)
def test_an_action_classifies_its_own_errors(
    sandbox: SandboxOrchestrator, classify: Any, error: Exception, outcome: Outcome
) -> None:
    """Its answer counts where it is one; a broken hook proves nothing; a signal is its word."""

    @sandbox.action(
        "pay", key="k", irreversible=True, classify=classify, retry=Retry(max_retries=0)
    )
    def pay() -> None:
        raise error

    with pytest.raises((EffectFailed, OutcomeUnknown)):
        pay()
    assert only(sandbox).outcome is outcome


class Broken(Exception):
    """An error that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_that_cannot_be_printed_is_settled(sandbox: SandboxOrchestrator) -> None:
    """Its type is kept, and nothing is left dispatched."""

    @sandbox.action("pay", key="k", irreversible=True)
    def pay() -> None:
        raise Broken

    with pytest.raises(OutcomeUnknown):
        pay()
    call = only(sandbox)
    assert (call.state, call.fault and call.fault.type) == (State.UNKNOWN, "Broken")


@pytest.mark.parametrize("kind", [ValueError, NotApplied])
def test_a_secret_in_an_error_is_not_kept(
    sandbox: SandboxOrchestrator, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """Ledger, log, alerts, error and traceback: the secret argument is in none of them."""

    @sandbox.action(
        "pay", key="{who}", irreversible=True, secrets=["code"], retry=Retry(max_retries=1)
    )
    def pay(who: str, code: str, pin: Secret[str]) -> None:
        raise kind(f"the bank said {code} is wrong, {pin.reveal()} too")

    caplog.set_level(logging.DEBUG)
    try:
        pay("ann", HIDDEN, Secret(f"pin-{HIDDEN}"))
    except GonogoError as error:
        shown = traceback.format_exc() + repr(error)
    call = only(sandbox)
    kept = [
        repr(call),
        repr(sandbox.store.read(lambda tx: tx.attempts.of(call.id))),
        repr(sandbox.alert_system.get_alerts()),
        "\n".join(sandbox.explain(call.id)),
        caplog.text,
        shown,
    ]
    assert not [text for text in kept if HIDDEN in text]
    assert "[secret]" in str(call.note)
    assert '"[secret]"' in call.args


def test_the_cause_is_chained(sandbox: SandboxOrchestrator) -> None:
    """Without a secret in it, the action's own exception is the cause."""

    @sandbox.action("pay", key="k", irreversible=True)
    def pay() -> None:
        raise ValueError("who knows")

    with pytest.raises(OutcomeUnknown) as caught:
        pay()
    assert isinstance(caught.value.__cause__, ValueError)


# preconditions on a direct call


@pytest.mark.parametrize("answer", [False, None, {}, 0, object(), OSError("no database")])
def test_a_precondition_that_does_not_hold_refuses(
    sandbox: SandboxOrchestrator, answer: Any
) -> None:
    """No, nothing, an error or something without JSON: not performed, no trace."""
    ran = []
    pay = sandbox.action("pay", key="{invoice}", irreversible=True)(lambda invoice: ran.append(1))

    @pay.precondition
    def is_open(invoice: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(Drifted, match="pay") as caught:
        pay("A")
    assert (caught.value.happened, ran, sandbox.calls()) == ("no", [], [])


def test_a_replay_does_not_ask_the_precondition(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """What was true before the effect is not true after it; the recorded answer stands."""
    paid: list[str] = []

    @sandbox.action("pay", key="{invoice}", irreversible=True, key_ttl=60)
    def pay(invoice: str) -> str:
        paid.append(invoice)
        return "paid"

    @pay.precondition
    def is_open(invoice: str) -> bool:
        return invoice not in paid

    assert pay("A") == "paid"
    assert pay.call("A").replayed
    fake_clock.advance(60.0)  # its key is free, so it would be performed: now it is asked
    with pytest.raises(Drifted):
        pay("A")
    assert paid == ["A"]


def test_drift_names_the_field(sandbox: SandboxOrchestrator) -> None:
    """A planned call whose facts changed is refused, naming what changed from what to what."""
    books = {"balance": 100, "bank": {"open": True}}
    pay = sandbox.action("pay", key="{invoice}", irreversible=True)(lambda invoice: "paid")
    pay.precondition(lambda invoice: books)
    with sandbox.rehearse("payday") as plan:
        pay.enqueue("A")
    books["balance"] = 80
    books["bank"] = {"open": False}
    sandbox.approve(plan, by="ann", reason="fine")
    (handle,) = sandbox.apply(plan)
    sandbox.worker.run_once()
    call = handle.call()
    assert call.state is State.FAILED
    assert "balance 100 → 80" in str(call.note)
    assert "bank.open True → False" in str(call.note)


def test_a_result_that_shows_a_secret_is_not_kept(sandbox: SandboxOrchestrator) -> None:
    """Its caller gets it; the ledger, and whoever asks again, only that it happened."""

    @sandbox.action("pay", key="k", irreversible=True)
    def pay(token: str) -> dict[str, str]:
        return {"sent": f"Bearer {token}"}

    assert pay(token=HIDDEN) == {"sent": f"Bearer {HIDDEN}"}
    call = only(sandbox)
    assert (call.state, call.result) == (State.SUCCEEDED, None)
    with pytest.raises(ResultUnavailable, match="secret argument"):
        pay(token=HIDDEN)
