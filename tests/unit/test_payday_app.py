"""The payday's two actions: what they do, what they take for evidence, what the job leaves out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from examples.payday.app import Payday, build
from examples.payday.books import Order
from examples.payday.faults import FINE
from examples.payday.mailbox import Folder, Mailbox
from examples.payday.payouts import Payout, Problem, Sheet
from examples.payday.places import Places
from examples.payday.provider import REFUSED, Provider

from gonogo.records import Call, State

PAYOUT = Payout(
    line=2,
    invoice="INV-1",
    supplier="Amber Bakery GmbH",
    email="billing@amber.example.com",
    iban="DE89370400440532013000",
    cents=12_050,
    currency="EUR",
    due=date(2026, 3, 31),
)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    made = Provider(tmp_path / "books.db", seed=None)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def app(tmp_path: Path, provider: Provider) -> Iterator[Payday]:
    with Mailbox(tmp_path / "mail", seed=None) as mailbox:
        made = build(
            Places(
                ledger=f"sqlite:///{tmp_path / 'ledger.db'}",
                provider=f"http://127.0.0.1:{provider.port}",
                smtp_port=mailbox.port,
                mail=tmp_path / "mail",
            )
        )
        yield made
        made.sandbox.cleanup()


def order(app: Payday, *payouts: Payout) -> list[Problem]:
    """Rehearse, approve and apply; returns what the job reported."""
    with app.sandbox.rehearse("payday") as plan:
        problems = app.run(Sheet(payouts, ()))
    app.sandbox.approve(plan, by="somebody", reason="a test")
    app.sandbox.apply(plan)
    while app.sandbox.worker.run_once():
        pass
    return problems


def states(app: Payday) -> dict[str, State]:
    """Key → state of every call that was queued."""
    calls = app.sandbox.calls()
    return {c.key or "": c.state for c in calls if c.state is not State.DISCARDED}


def unheard(app: Payday) -> Call:
    """A payment of `PAYOUT` whose outcome nobody heard."""
    bound = app.payment.parameters.bind(
        (PAYOUT.invoice, PAYOUT.iban, PAYOUT.cents, PAYOUT.currency), {}
    )
    return Call(id="c", action="payment", state=State.UNKNOWN, created_at=0, args=bound.text)


def test_an_invoice_is_paid_and_then_confirmed(
    app: Payday, provider: Provider, tmp_path: Path
) -> None:
    """The provider books the decimal amount; the supplier's mail names invoice and amount."""
    assert order(app, PAYOUT) == []

    (booking,) = provider.books.payments()
    assert (booking["reference"], booking["amount"], booking["currency"]) == (
        "INV-1",
        "120.50",
        "EUR",
    )
    assert booking["idempotency_key"] is None
    (message,) = Folder(tmp_path / "mail").messages()
    assert (message.invoice, message.to) == ("INV-1", PAYOUT.email)


def test_an_invoice_listed_twice_is_paid_once(app: Payday, provider: Provider) -> None:
    """The same line again, in this list or in the next, is known and not paid."""
    order(app, PAYOUT, replace(PAYOUT, line=3))
    order(app, PAYOUT)

    assert len(provider.books.payments()) == 1


def test_an_invoice_that_was_paid_with_other_terms_is_reported(
    app: Payday, provider: Provider
) -> None:
    """A changed amount is no reason to pay again; the job goes on with the next invoice."""
    order(app, PAYOUT)

    problems = order(app, replace(PAYOUT, cents=1), replace(PAYOUT, invoice="INV-2", line=3))

    assert [(problem.line, problem.field, problem.value) for problem in problems] == [
        (2, "invoice", "INV-1")
    ]
    assert [b["reference"] for b in provider.books.payments()] == ["INV-1", "INV-2"]


def test_a_refused_payment_is_not_confirmed(
    app: Payday, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal cancels the confirmation, and the next run orders neither again."""
    monkeypatch.setattr(provider, "deal", lambda *_: REFUSED)
    order(app, PAYOUT)
    expected = {"payment:INV-1": State.FAILED, "confirmation:INV-1": State.CANCELLED}
    assert states(app) == expected

    monkeypatch.setattr(provider, "deal", lambda *_: FINE)
    order(app, PAYOUT)

    assert states(app) == expected
    assert not provider.books.payments()


def test_a_provider_that_does_not_listen_uses_up_no_attempt(tmp_path: Path) -> None:
    """A refused connection puts the payment off, and costs none of its attempts."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    places = Places(f"sqlite:///{tmp_path / 'l.db'}", f"http://127.0.0.1:{port}", port, tmp_path)
    app = build(places)

    order(app, PAYOUT)

    (payment,) = app.sandbox.calls(action="payment")
    assert (payment.state, payment.attempt) == (State.PENDING, 0)
    app.sandbox.cleanup()


def test_the_books_are_evidence(app: Payday, provider: Provider) -> None:
    """A booking means landed, none means absent, and one with another amount proves nothing."""
    verify = app.payment.verifier
    assert verify is not None
    view = app.payment.view(unheard(app))

    assert verify(view).finding == "absent"
    provider.books.book(Order("INV-1", PAYOUT.iban, "120.50", "EUR"), None)
    assert verify(view).finding == "landed"
    assert verify(view).result["amount"] == "120.50"


def test_another_amount_in_the_books_is_no_evidence(app: Payday, provider: Provider) -> None:
    """What was booked under the invoice's number may be another payment: a person must look."""
    provider.books.book(Order("INV-1", PAYOUT.iban, "1.00", "EUR"), None)
    verify = app.payment.verifier
    assert verify is not None

    assert verify(app.payment.view(unheard(app))).finding == "cannot_tell"
