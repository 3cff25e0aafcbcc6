"""Writes `payouts.csv`: two hundred invented invoices, with the blemishes that such lists have.

Run once (``python -m examples.payday.make_payouts``); the same file comes out every time. The
suppliers do not exist, their mail goes to example.com, and their accounts are at no bank.
"""

from __future__ import annotations

import csv
import io
import string
from datetime import date, timedelta
from pathlib import Path
from random import Random

from examples.payday import iban as ibans
from examples.payday.payouts import COLUMNS

FILE = Path(__file__).with_name("payouts.csv")
ROWS = 200
_FIRST = (
    "Amber", "Bramble", "Clover", "Dapple", "Ember", "Fern", "Gable", "Hollow", "Ivy", "Juniper",
    "Kestrel", "Lantern", "Meadow", "Nettle", "Otter", "Pebble", "Quill", "Rowan", "Saffron",
    "Thistle",
)  # fmt: skip
_SECOND = ("Bakery", "Cartage", "Drafting", "Electric", "Forge", "Joinery", "Print", "Software")
_LEGAL = {"DE": "GmbH", "AT": "GmbH", "CH": "AG", "FR": "SARL", "ES": "S.L.", "IT": "S.r.l.",
          "NL": "B.V.", "BE": "BV", "GB": "Ltd", "IE": "Ltd", "PT": "Lda.", "PL": "sp. z o.o.",
          "LU": "S.à r.l."}  # fmt: skip
_COUNTRIES = (
    ["DE"] * 8 + ["FR"] * 5 + ["NL"] * 4 + ["ES"] * 3 + ["IT"] * 3 + ["GB"] * 4 + ["CH"] * 3
)
_COUNTRIES += ["AT", "AT", "BE", "BE", "IE", "PT", "PL", "LU"]
_ACCOUNTS = {"AT": "n16", "BE": "n12", "CH": "n17", "DE": "n18", "ES": "n20", "FR": "n23",
             "GB": "XXXXn14", "IE": "XXXXn14", "IT": "Xn22", "LU": "n16", "NL": "XXXXn10",
             "PL": "n24", "PT": "n21"}  # fmt: skip
_NOTES = ("", "", "", "monthly fee", "second reminder", "see contract, annex 2", 'order "spring"')


def rows() -> list[list[str]]:
    """The records of the file, header first."""
    random = Random("payday")
    suppliers = [_supplier(random, number) for number in range(60)]
    records = [_invoice(random, number, suppliers) for number in range(1, ROWS - 1)]
    _blemish(records)
    records.insert(61, list(records[22]))  # the same invoice again
    disputed = list(records[87])
    disputed[4] = _add(disputed[4], "100.00")
    records.insert(150, disputed)  # and one again with another amount
    return [list(COLUMNS), *records]


def text() -> str:
    """The file as a spreadsheet writes it: byte order mark, CRLF, quotes where needed."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(rows())
    return "\ufeff" + out.getvalue()


def _supplier(random: Random, number: int) -> tuple[str, str, str, str]:
    country = random.choice(_COUNTRIES)
    first, second = _FIRST[number % len(_FIRST)], _SECOND[(number * 3) % len(_SECOND)]
    name = f"{first} {second} {_LEGAL[country]}"
    if number % 13 == 5:
        name = f"{first}, {second} & Daughters {_LEGAL[country]}"
    form = _ACCOUNTS[country]
    letters = form.rstrip(string.digits)[:-1]
    digits = "".join(random.choices(string.digits, k=int(form[len(letters) + 1 :])))
    account = letters + "00" + digits[2:]
    iban = country + ibans.check_digits(country, account) + account
    currency = {"GB": "GBP", "CH": "CHF"}.get(country, "EUR")
    return name, f"billing@{first.lower()}-{second.lower()}.example.com", iban, currency


def _invoice(random: Random, number: int, suppliers: list[tuple[str, str, str, str]]) -> list[str]:
    name, email, iban, currency = random.choice(suppliers)
    if number % 3 == 0:  # as people copy it from the letterhead
        iban = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
    cents = int(10 ** random.uniform(3.4, 5.9))
    amount = f"{cents // 100}.{cents % 100:02d}"
    due = date(2026, 3, 2) + timedelta(days=random.randrange(45))
    note = random.choice(_NOTES)
    return [f"INV-26-{number:04d}", name, email, iban, amount, currency, due.isoformat(), note]


def _blemish(records: list[list[str]]) -> None:
    """What goes wrong on such lists, one kind a line; positions count from 0."""
    swapped = records[9][3].replace(" ", "")
    records[9][3] = swapped[:-2] + f"{(int(swapped[-2:]) + 7) % 100:02d}"
    records[17][4] = "12,5o"
    records[29][4] = "-" + records[29][4]
    del records[36][2]
    records[44][5] = "EUO"
    records[53][6] = "2026-02-30"
    records[70][2] = "billing(at)otter.example.com"
    records[79][4] = "1.234,56"
    records[95][5] = "USD"
    records[104][4], records[104][5] = "48000", "JPY"
    records[112][4] = "310.505"
    records[121][0] = ""
    records[130][5] = "USD"
    records[139][3], records[139][6] = "DE00 1234", "soon"
    records[12][7] = "first line of a note\nand its second"
    records[160][1] = "  " + records[160][1] + " "


def _add(amount: str, more: str) -> str:
    cents = int(amount.replace(".", "")) + int(more.replace(".", ""))
    return f"{cents // 100}.{cents % 100:02d}"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8", newline="")
    print(f"{FILE.name}: {ROWS} invoices")
