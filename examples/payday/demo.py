"""Payday, from the list of invoices to the reconciled books: ``python -m examples.payday.demo``.

Rehearses, approves and applies the run with two worker processes, kills one of them in the middle
of its work, and then compares the ledger with the provider's books and the mail server's folder.
State is kept in ``var/payday``: run again, it continues where it was and pays nothing twice.

Exit codes: 0 the books agree, 1 they do not, 2 it could not run, 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from examples.payday.app import Payday, build
from examples.payday.bank import Bank, Booking
from examples.payday.children import ChildFailed
from examples.payday.ledger import Ledger, arguments
from examples.payday.mailbox import Folder
from examples.payday.make_payouts import FILE
from examples.payday.payouts import Sheet, SheetError, major, read
from examples.payday.reconcile import Line, reconcile
from examples.payday.run import Run
from examples.payday.show import Screen
from examples.payday.stage import STATE, Busy, Stage
from gonogo import RetryBackoffManager
from gonogo.clock import SystemClock
from gonogo.errors import GonogoError
from gonogo.records import Call

T = TypeVar("T")

CLOCK = SystemClock()


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    screen = Screen()
    try:
        sheet = read(options.csv, rows=options.rows)
        with Stage(options.state, clock=CLOCK, seed=options.seed) as stage:
            if options.fresh:
                stage.clear()
            return 0 if _payday(sheet, stage, screen) else 1
    except KeyboardInterrupt:
        screen.say("\nInterrupted. Run it again to continue; nothing is paid twice.")
        return 130
    except (OSError, SheetError, Busy, ChildFailed, GonogoError) as error:
        print(f"payday: {error}", file=sys.stderr)
        return 2


def _payday(sheet: Sheet, stage: Stage, screen: Screen) -> bool:
    screen.step("1  The list of invoices")
    screen.sheet(sheet)
    places = stage.open()
    app = build(places)
    ledger = Ledger(app.sandbox.store)
    try:
        screen.step("2  Rehearse, approve, apply")
        _order(app, sheet, screen)
        screen.step("3  Perform, with two workers, one of which is killed")
        settled = Run(ledger, stage, places, screen, CLOCK).to_the_end()
        screen.step("4  Reconcile")
        bank = Bank(places.provider, timeout=10)
        payments = _compare_payments(sheet, ledger, _patiently(bank.payments))
        mails = _compare_mails(sheet, ledger, Folder(places.mail))
        screen.faults(_patiently(bank.faults))
        eventful = [line.call for line in [*payments, *mails] if line.eventful and line.call]
        _explain(app, ledger, eventful, stage.folder / "explained.txt", screen)
        _write(payments, mails, stage.folder / "reconciliation.csv")
        screen.reconciliation("Payments: the ledger and the provider's books", payments)
        screen.reconciliation("Confirmations: the ledger and the mail server", mails)
    finally:
        app.sandbox.cleanup()
    agree = settled and all(line.in_order for line in [*payments, *mails])
    screen.verdict(agree)
    return agree


def _order(app: Payday, sheet: Sheet, screen: Screen) -> None:
    with app.sandbox.rehearse("payday") as plan:
        conflicts = app.run(sheet)
    screen.say(str(plan))
    for conflict in conflicts:
        screen.say(f"  {conflict}")
    app.sandbox.approve(plan, by="accounts@payday.example.com", reason="agrees with the list")
    app.sandbox.apply(plan)


def _patiently(ask: Callable[[], T]) -> T:
    """Ask the provider, who may just not be listening. Reading can be repeated at will."""
    patience = RetryBackoffManager(max_retries=20, base_delay=0.1, max_delay=0.5)
    return patience.execute_with_retry(ask, "the provider's books")


def _compare_payments(sheet: Sheet, ledger: Ledger, books: list[Booking]) -> list[Line]:
    def terms(call: Call) -> tuple[str, ...]:
        told = arguments(call)
        return told["iban"], major(told["cents"]), told["currency"]

    return reconcile(
        [payout.invoice for payout in sheet.payouts],
        ledger.latest("payment"),
        [(b["reference"], (b["iban"], b["amount"], b["currency"])) for b in books],
        terms=terms,
    )


def _compare_mails(sheet: Sheet, ledger: Ledger, folder: Folder) -> list[Line]:
    return reconcile(
        [payout.invoice for payout in sheet.payouts],
        ledger.latest("confirmation"),
        [(message.invoice, (message.to,)) for message in folder.messages()],
        terms=lambda call: (arguments(call)["email"],),
    )


def _explain(app: Payday, ledger: Ledger, calls: list[Call], file: Path, screen: Screen) -> None:
    """A line for each, all of `explain` for the most eventful one and, in ``file``, for all."""
    if not calls:
        return
    screen.say(f"{len(calls)} calls did not go by themselves:")
    for call in calls:
        screen.say(f"  {call.key}: {ledger.story(call)}")
    told = {call.id: "\n".join(app.sandbox.explain(call.id)) for call in calls}
    file.write_text("\n\n".join(told.values()) + "\n", encoding="utf-8")
    most = max(calls, key=lambda call: (call.attempt, call.id))
    screen.say(f"\nOne of them in full; {file} has them all:")
    screen.say(textwrap.indent(told[most.id], "  "))


def _write(payments: list[Line], mails: list[Line], file: Path) -> None:
    """The whole comparison, line by line."""
    with file.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["invoice", "what", "ledger", "other side has", "finding"])
        for what, lines in (("payment", payments), ("confirmation", mails)):
            for line in lines:
                state = "" if line.call is None else line.call.state.value
                table.writerow([line.reference, what, state, line.entries, line.finding.value])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.payday.demo", description=__doc__.partition("\n\n")[0]
    )
    parser.add_argument("--csv", type=Path, default=FILE, help="the invoices (default: ours)")
    parser.add_argument("--rows", type=int, help="only the first ROWS of them")
    parser.add_argument("--seed", type=int, default=0, help="deals the faults")
    parser.add_argument("--state", type=Path, default=STATE, help="kept between runs")
    parser.add_argument("--fresh", action="store_true", help="forget all earlier runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
