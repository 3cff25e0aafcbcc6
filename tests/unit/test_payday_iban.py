"""IBANs: the check digits catch what people mistype."""

from __future__ import annotations

import string

import pytest
from examples.payday import iban as ibans
from hypothesis import assume, given
from hypothesis import strategies as st

# Published examples of the countries' registries.
EXAMPLES = [
    "AT611904300234573201",
    "BE68539007547034",
    "CH9300762011623852957",
    "DE89370400440532013000",
    "ES9121000418450200051332",
    "FR1420041010050500013M02606",
    "GB29NWBK60161331926819",
    "IE29AIBK93115212345678",
    "IT60X0542811101000000123456",
    "LU280019400644750000",
    "NL91ABNA0417164300",
    "PL61109010140000071219812874",
    "PT50000201231234567890154",
]
german_accounts = st.text(string.digits, min_size=18, max_size=18)


@pytest.mark.parametrize("iban", EXAMPLES)
def test_published_examples_are_valid_and_their_check_digits_computed(iban: str) -> None:
    """Every country's published example passes, and its check digits follow from the account."""
    assert ibans.why_invalid(iban) is None
    assert ibans.check_digits(iban[:2], iban[4:]) == iban[2:4]


@given(german_accounts)
def test_computed_check_digits_are_valid(account: str) -> None:
    """An IBAN made with `check_digits` is valid, whatever the account."""
    assert ibans.why_invalid("DE" + ibans.check_digits("DE", account) + account) is None


@given(german_accounts, st.integers(2, 21), st.sampled_from(string.digits))
def test_one_wrong_digit_is_always_found(account: str, at: int, digit: str) -> None:
    """Changing any one digit of a valid IBAN makes it invalid."""
    iban = "DE" + ibans.check_digits("DE", account) + account
    assume(iban[at] != digit)

    assert ibans.why_invalid(iban[:at] + digit + iban[at + 1 :]) is not None


@given(german_accounts, st.integers(4, 20))
def test_two_swapped_digits_are_always_found(account: str, at: int) -> None:
    """Swapping two different neighbours of a valid IBAN makes it invalid."""
    iban = "DE" + ibans.check_digits("DE", account) + account
    assume(iban[at] != iban[at + 1])

    swapped = iban[:at] + iban[at + 1] + iban[at] + iban[at + 2 :]
    assert ibans.why_invalid(swapped) is not None


def test_check_digits_outside_their_range_are_refused() -> None:
    """99 leaves the same remainder as 02, but no IBAN is ever given it."""
    account = next(a for n in range(500) if ibans.check_digits("DE", a := f"{n:018d}") == "02")

    assert ibans.why_invalid("DE02" + account) is None
    assert ibans.why_invalid("DE99" + account) is not None


@given(st.text(max_size=40))
def test_no_text_breaks_the_check(text: str) -> None:
    """Any text gets an answer, and a valid one is a fixed point of `compact`."""
    compact = ibans.compact(text)

    if ibans.why_invalid(compact) is None:
        assert ibans.compact(compact) == compact
