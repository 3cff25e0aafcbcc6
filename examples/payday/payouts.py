"""Reads the list of invoices to pay: every line becomes a `Payout` or says what is wrong with it.

One bad line stops nothing else. Amounts are decimal text and become whole minor units (cents);
no float takes part.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from examples.payday import iban as ibans

COLUMNS = ("invoice", "supplier", "email", "iban", "amount", "currency", "due", "note")
PAID_IN = ("EUR", "GBP", "CHF")  # the currencies of our accounts; all have two decimals
KNOWN = (*PAID_IN, "USD", "JPY", "SEK", "NOK", "DKK", "PLN", "CZK")
LARGEST = Decimal(1_000_000)
_LONGEST_RECORD = 5  # lines a quoted note may span; a quote left open must not eat the file


class SheetError(Exception):
    """The file as a whole cannot be read as a list of invoices; no line of it was taken."""


@dataclass(frozen=True, slots=True)
class Payout:
    """One invoice to pay. ``cents`` are whole minor units of ``currency``."""

    line: int
    invoice: str
    supplier: str
    email: str
    iban: str
    cents: int
    currency: str
    due: date

    @property
    def terms(self) -> tuple[str, str, str, str, int, str]:
        """What is paid to whom: two lines of one invoice must agree on it."""
        return self.invoice, self.supplier, self.email, self.iban, self.cents, self.currency


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line is not paid: the field at fault, what it holds, and what is wrong with it."""

    line: int
    field: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field} {self.value!r}: {self.why}"


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a file held: the lines to pay and the lines to look at, both in file order."""

    payouts: tuple[Payout, ...]
    problems: tuple[Problem, ...]


class _Wrong(Exception):
    """A field's value cannot be taken; the message says why."""


def read(path: str | Path, *, rows: int | None = None) -> Sheet:
    """Read the invoices of the CSV file ``path``, at most the first ``rows`` of its records.

    UTF-8 with or without byte order mark, any line ends, RFC 4180 quotes. An invoice listed again
    with the same terms is kept (the ledger will know it); listed with other terms, none of its
    lines is paid, because which one is right is for a person to say.

    Raises:
        OSError: the file cannot be opened.
        SheetError: it does not begin with the expected header.
    """
    records = _records(Path(path).read_bytes())
    _check_header(next(records, (1, [])))
    payouts: list[Payout] = []
    problems: list[Problem] = []
    for count, (line, fields) in enumerate(records):
        if rows is not None and count >= rows:
            break
        found = _line(line, fields)
        if isinstance(found, Payout):
            payouts.append(found)
        else:
            problems.extend(found)
    kept, conflicts = _without_conflicts(payouts)
    return Sheet(tuple(kept), tuple(sorted(problems + conflicts, key=lambda p: p.line)))


def major(cents: int) -> str:
    """Cents as the decimal text that banks exchange: ``123456`` is ``1234.56``."""
    return f"{cents // 100}.{cents % 100:02d}"


def _records(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """The records with the line each begins on; blank lines are passed over.

    Text that is not UTF-8 stays visible as surrogates, to be refused field by field.
    """
    text = content.decode("utf-8-sig", errors="surrogateescape")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    at = 0
    while at < len(lines):
        length, fields = _record(lines[at : at + _LONGEST_RECORD])
        if any(field.strip() for field in fields):
            yield at + 1, fields
        at += length


def _record(lines: list[str]) -> tuple[int, list[str]]:
    """The record that begins with the first of ``lines``, and how many of them it spans.

    Where a quote is never closed the first line alone is the (bad) record: those below it may be
    good.
    """
    for length in range(1, len(lines) + 1):
        try:
            (fields,) = csv.reader(["\n".join(lines[:length])], strict=True)
        except (csv.Error, ValueError):
            continue
        return length, fields
    return 1, lines[:1]


def _check_header(header: tuple[int, list[str]]) -> None:
    names = [name.strip().lower() for name in header[1]]
    if names != list(COLUMNS):
        raise SheetError(
            f"line {header[0]}: expected the header {','.join(COLUMNS)}, found {','.join(names)!r}"
        )


def _line(line: int, fields: list[str]) -> Payout | list[Problem]:
    if len(fields) != len(COLUMNS):
        count = f"{len(fields)} columns"
        why = f"expected {len(COLUMNS)} ({', '.join(COLUMNS)}); is a quote or comma missing?"
        return [Problem(line, "columns", count, why)]
    values = {name: value.strip() for name, value in zip(COLUMNS, fields, strict=True)}
    problems = []
    taken: dict[str, str | int | date] = {}
    for name, take in _TAKE.items():
        try:
            taken[name] = take(_clean(values[name]))
        except _Wrong as wrong:
            problems.append(Problem(line, name, _shown(values[name]), str(wrong)))
    if problems:
        return problems
    cents = taken.pop("amount")
    return Payout(line=line, cents=cents, **taken)  # type: ignore[arg-type]  # keyed by _TAKE


def _without_conflicts(payouts: list[Payout]) -> tuple[list[Payout], list[Problem]]:
    listed: dict[str, list[Payout]] = {}
    for payout in payouts:
        listed.setdefault(payout.invoice, []).append(payout)
    conflicts = []
    for invoice, same in listed.items():
        if len({payout.terms for payout in same}) > 1:
            for payout in same:
                others = ", ".join(str(p.line) for p in same if p is not payout)
                why = f"also on line {others} with other terms; a person must say which is right"
                conflicts.append(Problem(payout.line, "invoice", invoice, why))
    disputed = {conflict.value for conflict in conflicts}
    return [payout for payout in payouts if payout.invoice not in disputed], conflicts


def _clean(value: str) -> str:
    if not value:
        raise _Wrong("is empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _Wrong("is not UTF-8 text")
    if any(character < " " or character == "\x7f" for character in value):
        raise _Wrong("holds a control character or a line break")
    return value


def _shown(value: str) -> str:
    readable = value.encode("utf-8", "replace").decode()
    return readable if len(readable) <= 40 else readable[:39] + "…"


def _invoice(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9./_-]{0,39}", value):
        raise _Wrong("an invoice number is 1 to 40 letters, digits or ./_-")
    return value


def _supplier(value: str) -> str:
    if len(value) > 70:
        raise _Wrong("is longer than the 70 characters a transfer carries")
    return value


def _email(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}", value):
        raise _Wrong("is not an e-mail address")
    return value


def _iban(value: str) -> str:
    compact = ibans.compact(value)
    why = ibans.why_invalid(compact)
    if why:
        raise _Wrong(why)
    return compact


def _amount(value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]+)?", value):
        raise _Wrong("is not an amount; write it as 1234.56")
    amount = Decimal(value)
    if amount <= 0:
        raise _Wrong("must be more than zero; a credit note is not a payment")
    if amount > LARGEST:
        raise _Wrong(f"is more than {LARGEST}; pay it by hand")
    cents = amount * 100
    if cents != cents.to_integral_value():
        raise _Wrong("has parts of a cent")
    return int(cents)


def _currency(value: str) -> str:
    code = value.upper()
    if code in PAID_IN:
        return code
    if code in KNOWN:
        raise _Wrong(f"by rule we pay in {', '.join(PAID_IN)} only")
    raise _Wrong("is not a currency we know")


def _due(value: str) -> date:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise _Wrong("is not a date; write it as 2026-03-31")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise _Wrong(f"there is no such day ({error})") from None


_TAKE: dict[str, Callable[[str], str | int | date]] = {
    "invoice": _invoice,
    "supplier": _supplier,
    "email": _email,
    "iban": _iban,
    "amount": _amount,
    "currency": _currency,
    "due": _due,
}
