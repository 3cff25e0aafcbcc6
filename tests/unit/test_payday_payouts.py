"""The reader of the invoice list: every line is paid, or says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples.payday import make_payouts, payouts
from examples.payday.payouts import COLUMNS, Payout, Sheet, SheetError
from hypothesis import given
from hypothesis import strategies as st

GOOD = {
    "invoice": "INV-1",
    "supplier": "Amber Bakery GmbH",
    "email": "billing@amber.example.com",
    "iban": "DE89370400440532013000",
    "amount": "1234.56",
    "currency": "EUR",
    "due": "2026-03-31",
    "note": "",
}


def line(**changes: str) -> str:
    return ",".join({**GOOD, **changes}.values())


def sheet(tmp_path: Path, *lines: str, end: str = "\n", encoding: str = "utf-8") -> Sheet:
    file = tmp_path / "sheet.csv"
    file.write_bytes(end.join([",".join(COLUMNS), *lines, ""]).encode(encoding))
    return payouts.read(file)


def test_a_good_line_becomes_whole_cents_and_a_compact_iban(tmp_path: Path) -> None:
    """Amounts are whole minor units, IBANs compact capitals, currencies capitals, dates dates."""
    found = sheet(tmp_path, line(iban="de89 3704 0044 0532 0130 00", amount="7.5", currency="eur"))

    assert not found.problems
    (payout,) = found.payouts
    assert payout.cents == 750
    assert payout.iban == GOOD["iban"]
    assert payout.currency == "EUR"
    assert payout.due.isoformat() == "2026-03-31"
    assert payout.line == 2


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("invoice", "", "empty"),
        ("invoice", "INV 1", "invoice number"),
        ("supplier", "x" * 71, "70 characters"),
        ("email", "billing(at)amber.example.com", "e-mail"),
        ("email", "a@b.example.com@c.example.com", "e-mail"),
        ("iban", "DE89370400440532013001", "mistyped"),
        ("iban", "DE8937040044053201300", "form"),
        ("iban", "XX89370400440532013000", "accounts in XX"),
        ("iban", "US89370400440532013000", "no IBANs"),
        ("iban", "12345", "two letters"),
        ("amount", "12.5o", "1234.56"),
        ("amount", "1e3", "1234.56"),
        ("amount", "NaN", "1234.56"),
        ("amount", "١٢", "1234.56"),
        ("amount", "-5.00", "more than zero"),
        ("amount", "0.00", "more than zero"),
        ("amount", "1000000.01", "by hand"),
        ("amount", "1.005", "parts of a cent"),
        ("currency", "USD", "by rule"),
        ("currency", "JPY", "by rule"),
        ("currency", "EUO", "not a currency"),
        ("due", "31.03.2026", "2026-03-31"),
        ("due", "20260331", "2026-03-31"),
        ("due", "2026-02-30", "no such day"),
    ],
)
def test_a_bad_field_is_named_with_its_line_and_stops_nothing_else(
    tmp_path: Path, field: str, value: str, why: str
) -> None:
    """A bad field names its line, itself, its value and the reason; its neighbours are paid."""
    found = sheet(tmp_path, line(invoice="INV-0"), line(**{field: value}), line(invoice="INV-2"))

    assert [payout.invoice for payout in found.payouts] == ["INV-0", "INV-2"]
    (problem,) = found.problems
    assert (problem.line, problem.field) == (3, field)
    assert problem.value == (value if len(value) <= 40 else value[:39] + "…")
    assert why in problem.why
    assert str(problem).startswith(f"line 3, {field} ")


def test_every_bad_field_of_a_line_is_reported(tmp_path: Path) -> None:
    """A line with two faults gives two problems, so that one look at it mends both."""
    found = sheet(tmp_path, line(amount="ten", due="soon"))

    assert [problem.field for problem in found.problems] == ["amount", "due"]


@pytest.mark.parametrize("record", ["INV-1,Amber", line() + ",more", line().replace(",", ";")])
def test_a_wrong_number_of_columns_is_a_problem_of_its_line(tmp_path: Path, record: str) -> None:
    """A column too few or too many makes the line a problem, whatever its fields hold."""
    found = sheet(tmp_path, record, line())

    assert len(found.payouts) == 1
    (problem,) = found.problems
    assert (problem.line, problem.field) == (2, "columns")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_and_byte_order_marks_do_not_matter(
    tmp_path: Path, end: str, encoding: str
) -> None:
    """The same lines mean the same however the spreadsheet wrote them."""
    found = sheet(tmp_path, line(supplier="Zoë"), "", line(invoice=""), end=end, encoding=encoding)

    assert [payout.supplier for payout in found.payouts] == ["Zoë"]
    assert [problem.line for problem in found.problems] == [4]


def test_quotes_keep_commas_and_line_breaks_together(tmp_path: Path) -> None:
    """A quoted field may hold commas, quotes and line breaks; lines are counted as in the file."""
    quoted = line(supplier='"Amber, ""Bakery"""', note='"one\ntwo"')
    found = sheet(tmp_path, quoted, line(invoice=""))

    assert found.payouts[0].supplier == 'Amber, "Bakery"'
    assert found.problems[0].line == 4


def test_a_quote_left_open_costs_one_line(tmp_path: Path) -> None:
    """An unclosed quote is a problem of its own line, not of those below it."""
    others = [line(invoice=f"INV-{n}") for n in range(2, 12)]
    found = sheet(tmp_path, line(supplier='"Amber'), line(note='12" pipe', invoice="P-1"), *others)

    assert len(found.payouts) == 11
    (problem,) = found.problems
    assert problem.line == 2


def test_text_that_is_not_utf8_is_a_problem_of_its_line(tmp_path: Path) -> None:
    """A line in another encoding is refused by field; the rest of the file is read."""
    file = tmp_path / "sheet.csv"
    latin = line(supplier="Zoë").encode("latin-1")
    file.write_bytes(b"\n".join([",".join(COLUMNS).encode(), latin, line().encode()]))

    found = payouts.read(file)

    assert len(found.payouts) == 1
    assert (found.problems[0].line, found.problems[0].field) == (2, "supplier")
    str(found.problems[0]).encode()


def test_control_characters_never_reach_a_mail_header(tmp_path: Path) -> None:
    """A line break inside a field that goes into a mail or a transfer is refused."""
    found = sheet(tmp_path, line(supplier='"Amber\nBcc: all@example.com"'))

    assert found.problems[0].field == "supplier"


def test_an_invoice_listed_again_is_kept(tmp_path: Path) -> None:
    """The same invoice with the same terms twice is two lines; the ledger pays it once."""
    found = sheet(tmp_path, line(), line(note="again"))

    assert len(found.payouts) == 2
    assert not found.problems


def test_an_invoice_listed_with_other_terms_is_not_paid_at_all(tmp_path: Path) -> None:
    """Where two lines of one invoice disagree neither is paid, and each names the other."""
    found = sheet(tmp_path, line(), line(invoice="INV-2"), line(amount="9.00"))

    assert [payout.invoice for payout in found.payouts] == ["INV-2"]
    assert [(p.line, p.field, p.value) for p in found.problems] == [
        (2, "invoice", "INV-1"),
        (4, "invoice", "INV-1"),
    ]
    assert "line 4" in found.problems[0].why


@pytest.mark.parametrize("content", [b"", b"a,b,c\n1,2,3\n", b"\x00\x01\x02"])
def test_another_kind_of_file_is_refused_as_a_whole(tmp_path: Path, content: bytes) -> None:
    """Without the expected header no line is taken."""
    file = tmp_path / "sheet.csv"
    file.write_bytes(content)

    with pytest.raises(SheetError, match="expected the header"):
        payouts.read(file)


def test_rows_reads_the_beginning_only(tmp_path: Path) -> None:
    """``rows`` counts records, good or bad, from the top."""
    file = tmp_path / "sheet.csv"
    file.write_text("\n".join([",".join(COLUMNS), *[line(invoice=f"I-{n}") for n in range(9)]]))

    assert len(payouts.read(file, rows=4).payouts) == 4


@given(st.integers(min_value=1, max_value=100_000_000))
def test_cents_written_as_decimal_text_read_back_the_same(cents: int) -> None:
    """What `major` writes, the reader reads: no amount changes on the way."""
    assert payouts._amount(payouts.major(cents)) == cents


@given(st.binary(max_size=300))
def test_no_content_can_stop_the_reader(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    """Whatever bytes follow, the good line above them is read, and nothing is raised."""
    file = tmp_path_factory.mktemp("junk") / "sheet.csv"
    file.write_bytes("\n".join([",".join(COLUMNS), line(), ""]).encode() + junk)

    found = payouts.read(file)

    assert isinstance(found.payouts[0], Payout)
    for problem in found.problems:
        str(problem).encode()


def test_the_list_that_is_checked_in_is_the_generated_one() -> None:
    """`payouts.csv` is what `make_payouts` writes, to the byte."""
    assert make_payouts.FILE.read_bytes() == make_payouts.text().encode()


def test_the_list_holds_what_the_demo_shows() -> None:
    """200 lines: most are paid, one is there twice, one in two versions, some are malformed."""
    found = payouts.read(make_payouts.FILE)

    assert len(make_payouts.rows()) == make_payouts.ROWS + 1
    assert len(found.payouts) == 184
    assert len({payout.invoice for payout in found.payouts}) == 183
    assert {payout.currency for payout in found.payouts} == set(payouts.PAID_IN)
    assert {problem.field for problem in found.problems} == {*COLUMNS, "columns"} - {
        "supplier",
        "note",
    }
