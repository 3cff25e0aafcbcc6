"""What the company does on payday, declared once: pay an invoice, then tell the supplier."""

from __future__ import annotations

import smtplib
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from urllib.error import URLError

from examples.payday.bank import Bank, Booking
from examples.payday.mailbox import Folder
from examples.payday.payouts import Payout, Problem, Sheet, major
from examples.payday.places import Places
from gonogo import Limit, Retry, SandboxOrchestrator, Snooze, absent, cannot_tell, current, landed
from gonogo.action import Action, CallView
from gonogo.errors import KeyConflict
from gonogo.evidence import Evidence
from gonogo.records import State

RETRY = Retry(max_retries=6, base_delay=0.3, max_delay=2.0)
CLIENT_TIMEOUT = 1.0  # seconds we wait for an answer; the provider is slower at times
VERIFY_AFTER = 3.0  # seconds after which a request that was sent has been booked or never will be
SENDER = "accounts@payday.example.com"


@dataclass(frozen=True, slots=True)
class Payday:
    """The sandbox with its two actions, and the job that uses them."""

    sandbox: SandboxOrchestrator
    payment: Action[..., Booking]
    confirmation: Action[..., None]

    def run(self, sheet: Sheet) -> list[Problem]:
        """Order the payment of every invoice, and its confirmation once it is paid.

        Returns the invoices that were ordered before with other terms: those are not paid.
        """
        conflicts = []
        for payout in sheet.payouts:
            try:
                paid = self.payment.enqueue(
                    payout.invoice, payout.iban, payout.cents, payout.currency
                )
            except KeyConflict as conflict:
                why = f"was ordered before with other terms ({conflict})"
                conflicts.append(Problem(payout.line, "invoice", payout.invoice, why))
                continue
            if paid.is_new or not self._refused(payout.invoice):
                self.confirmation.enqueue(*_letter(payout), after=paid)
        return conflicts

    def _refused(self, invoice: str) -> bool:
        """Whether the provider refused this payment for good: then there is nothing to confirm."""
        key = f"payment:{invoice}"
        failed = self.sandbox.calls(action="payment", key=key, states=(State.FAILED,), limit=1)
        return any(call.held for call in failed)


def build(places: Places, **settings: Any) -> Payday:
    """Declare the actions. ``settings`` are the orchestrator's."""
    sandbox = SandboxOrchestrator(places.ledger, **settings)
    bank = Bank(places.provider, timeout=CLIENT_TIMEOUT)
    folder = Folder(places.mail)

    @sandbox.action(
        "payment",
        key="payment:{invoice}",
        irreversible=True,
        retry=RETRY,
        timeout=10,
        verify_after=VERIFY_AFTER,
        limits=[
            Limit("payment", 1_000, per="1h"),
            Limit("payment.cents", 50_000_000, per="1d", cost="{cents}", key="{currency}"),
        ],
    )
    def payment(invoice: str, iban: str, cents: int, currency: str) -> Booking:
        try:
            return bank.pay(invoice, iban, major(cents), currency)
        except URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):  # they are down, and all calls are
                raise Snooze(1.0, "the provider does not take connections") from error
            raise

    @payment.verify
    def in_the_books(call: CallView) -> Evidence:
        bookings = bank.payments(call.arguments["invoice"])
        if not bookings:
            return absent("the provider's books do not have it")
        booking = bookings[0]
        if booking["amount"] != major(call.arguments["cents"]):
            return cannot_tell(f"the provider booked {booking['amount']} for it")
        return landed(booking, f"the provider booked it as number {booking['id']}")

    @sandbox.action(
        "confirmation",
        key="confirmation:{invoice}",
        irreversible=True,
        retry=RETRY,
        timeout=10,
        verify_after=1.0,
        limits=[Limit("mail", 10_000, per="1h")],
    )
    def confirmation(invoice: str, supplier: str, email: str, amount: str) -> None:
        message = EmailMessage()
        message["Message-ID"] = message_id(current().key)
        message["From"] = SENDER
        message["To"] = email
        message["Subject"] = f"Invoice {invoice} is paid"
        message.set_content(f"Dear {supplier},\n\nwe have paid {amount} for invoice {invoice}.\n")
        with smtplib.SMTP("127.0.0.1", places.smtp_port, timeout=5) as server:
            server.send_message(message)

    @confirmation.verify
    def in_the_mailbox(call: CallView) -> Evidence:
        if folder.copies(message_id(call.key)):
            return landed(None, "the mail server has it")
        return absent("the mail server does not have it")

    return Payday(sandbox, payment, confirmation)


def message_id(key: str | None) -> str:
    """The Message-ID of a confirmation: one a key, so that it can be found again."""
    return f"<{(key or '').replace(':', '.')}@payday.example.com>"


def _letter(payout: Payout) -> tuple[str, str, str, str]:
    amount = f"{payout.currency} {major(payout.cents)}"
    return payout.invoice, payout.supplier, payout.email, amount
