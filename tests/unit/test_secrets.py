"""Secrets do not show: by type, by name, by path, by form."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251  to see that it refuses
import re
import sys
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.card_numbers import _DIGITS, _masked
from gonogo.errors import ConfigurationError
from gonogo.redactor import Redactor
from gonogo.secrets import (
    _FORMS,
    _SAME,
    Secret,
    describe,
    may_hold_secret,
    redact_text,
    show_error,
)

VISA = "4111111111111111"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9"


class Colour(Enum):
    RED = "red"


@dataclass
class Person:
    name: str
    password: str


class Order(msgspec.Struct):
    number: int
    api_key: str


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class HostileMapping(OrderedDict[str, object]):
    def items(self) -> Any:
        raise RuntimeError("no")


def test_a_secret_prints_as_the_mask() -> None:
    """Every way of turning it into text gives the mask; only reveal() gives the value."""
    secret = Secret("hunter2")
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r}", "%s" % secret):  # noqa: UP031 - every way there is
        assert text == "[secret]"
    assert f"{[secret]}" == "[[secret]]"
    assert secret.reveal() == "hunter2"


def test_secrets_are_equal_when_their_values_are() -> None:
    """They compare and hash by value, among themselves only."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


def test_a_secret_is_copied_but_not_pickled() -> None:
    """A copy is the secret itself; a pickle would be the value in clear."""
    secret = Secret(["a"])
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) is secret
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_a_secret_does_not_become_json_by_accident() -> None:
    """msgspec does not know the type, and says so rather than writing the value."""
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret("hunter2"))


@pytest.mark.parametrize(
    "key",
    [
        "password", "PASSWORD", "db_password", "passwd", "passphrase", "secret", "client_secret",
        "token", "accessToken", "Authorization", "api_key", "api-key", "apiKey", "cookie",
        "Set-Cookie", "private_key", "session_id", "cvv", "card_number", "credentials",
    ],
)  # fmt: skip
def test_names_that_hold_secrets(key: str) -> None:
    """A key that is named like a secret is masked, whatever its value and depth."""
    redactor = Redactor()
    assert redactor.fields({key: 42}) == {key: "[secret]"}
    assert redactor.redact({"a": [{key: {"b": 1}}]}) == {"a": [{key: "[secret]"}]}


@pytest.mark.parametrize(
    "key", ["invoice", "author", "keyboard", "max_tokens", "token_count", "iban"]
)
def test_names_that_do_not(key: str) -> None:
    """Names that only resemble one are shown."""
    assert Redactor().fields({key: 42}) == {key: 42}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [secret]"),
        ("basic dXNlcjpwYXNz", "basic [secret]"),
        (f"key:\n{PEM}\nend", "key:\n[secret]\nend"),
        (PEM[:40], "[secret]"),
        (f"got {JWT}", "got [secret]"),
        ("postgresql://me:hunter2@db/x", "postgresql://me:[secret]@db/x"),
        ("/pay?token=abc&invoice=7", "/pay?token=[secret]&invoice=7"),
        ("password: hunter2, user: me", "password: [secret], user: me"),
        ('{"api_key": "abc"}', '{"api_key": "[secret]"}'),
        ("sk_live_12345678", "[secret]"),
        ("ghp_" + "a" * 36, "[secret]"),
        ("AKIA" + "A" * 16, "[secret]"),
    ],
)
def test_secrets_that_can_be_told_by_their_form(text: str, shown: str) -> None:
    """What names the secret stays, the secret itself is masked, as is what was cut in two."""
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "text",
    ["", "INV-7", "paid 12000 cents", "https://example.com/a?b=c", "the token bucket",
     "a@b.example", "2027-01-15T08:00:00Z", "user:me", "01a204f658897960e6b6439789acf450"],
)  # fmt: skip
def test_texts_without_secrets_stay(text: str) -> None:
    """Ordinary texts come out as they went in."""
    assert redact_text(text) == text


@pytest.mark.parametrize("number", [VISA, "4111 1111 1111 1111", "4111-1111-1111-1111",
                                    "378282246310005", "5555555555554444", "6011111111111117",
                                    "4222222222222"])  # fmt: skip
def test_payment_cards_are_masked(number: str) -> None:
    """Card numbers of 13 to 19 digits, in groups or not, alone or in a sentence."""
    assert redact_text(number) == "[secret]"
    assert redact_text(f"card {number}, thanks") == "card [secret], thanks"


@pytest.mark.parametrize(
    "number",
    ["4111111111111112", "1700000000000", "411111111111", "41111111111111111111111", "a" + VISA,
     VISA + "b"],
)  # fmt: skip
def test_numbers_that_are_no_cards_stay(number: str) -> None:
    """Wrong check digit, a time in milliseconds, too short, too long, part of a word."""
    assert redact_text(number) == number


@pytest.mark.parametrize(
    "iban",
    ["FR7630006000011234567890189",
     "FR76 3000 6000 0112 3456 7890 189", "GB29 NWBK 6016 1331 9268 19",
     "DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "NL91 ABNA 0417 1643 00",
     "BE68 5390 0754 7034"],
)  # fmt: skip
def test_ibans_are_not_cards(iban: str) -> None:
    """A valid IBAN is shown, also where its digits look like a card number."""
    assert redact_text(f"to {iban}.") == f"to {iban}."


def test_every_iban_whose_digits_pass_as_a_card_is_shown() -> None:
    """German IBANs in groups, with the account numbers that pass the Luhn test among them."""
    for account in range(2000):
        body = f"370400440532{account:06d}"
        check = 98 - int(body + "131400") % 97
        iban = f"DE{check:02d}{body}"
        grouped = " ".join(iban[place : place + 4] for place in range(0, len(iban), 4))
        assert redact_text(grouped) == grouped


def test_a_card_after_an_iban_is_still_masked() -> None:
    """An IBAN protects its own digits, not those of its neighbours."""
    for iban in ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00"):
        assert redact_text(f"{iban} {VISA}") == f"{iban} [secret]"
    assert redact_text(f"DE00 {VISA}") == "DE00 [secret]"


def test_a_card_among_other_numbers_is_masked() -> None:
    """Neighbouring numbers do not hide it, and stay."""
    assert redact_text("2 4111 1111 1111 1111 7") == "2 [secret] 7"
    assert redact_text(f"{VISA} {VISA}") == "[secret] [secret]"


def test_looking_for_secrets_takes_time_in_proportion_to_the_text() -> None:
    """Texts made to be hard for the expressions are done within the test's patience."""
    for piece in ("a.", "a-", "1 ", "4", "eyJ-", "secret-", "a://", "AA00 ", "-----BEGIN "):
        redact_text(piece * 8000 + "x://token")


@pytest.mark.parametrize(
    "secret",
    [VISA, PEM, JWT, "basic abcdef", "sk_live_12345678", "ghp_" + "a" * 36, "AKIA" + "A" * 16,
     "token=x", "a://me:x@db/long"],
)  # fmt: skip
def test_a_secret_among_other_texts_is_masked(secret: str) -> None:
    """Texts that are looked at together hide none of each other's."""
    others = {"before": "a text of some length", "after": "and one more, of someone@example.com"}
    shown = Redactor().fields({**others, "said": secret, "last": "INV-2027-01-15-A"})
    assert shown == {**others, "said": redact_text(secret), "last": "INV-2027-01-15-A"}
    assert "[secret]" in shown["said"]


def test_a_card_as_a_number_is_masked() -> None:
    """The type does not hide it; other large numbers stay."""
    redactor = Redactor()
    shown = redactor.fields({"a": int(VISA), "b": int(VISA) + 1, "c": -int(VISA), "d": [int(VISA)]})
    assert shown == {"a": "[secret]", "b": int(VISA) + 1, "c": -int(VISA), "d": ["[secret]"]}


def test_long_texts_are_cut() -> None:
    """At the limit, with a mark; a card across the cut does not leave half of it behind."""
    assert redact_text("x" * 10_000, 100) == "x" * 100 + "…"
    assert "4111" not in redact_text("x" * 89 + " " + VISA + " tail", 100)


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("customer.name", {"customer": {"name": "x", "no": 1}}),
        ("CUSTOMER.NAME", {"customer": {"name": "x", "no": 1}}),
        ("*.name", {"customer": {"name": "x", "no": 1}}),
        ("**.name", {"customer": {"name": "x", "no": 1}}),
        ("customer.*", {"customer": {"name": "x"}}),
    ],
)
def test_key_paths_are_masked(path: str, hidden: dict[str, dict[str, object]]) -> None:
    """One star is any one key, two are any number of them; case does not matter."""
    shown = Redactor([path]).fields(hidden)
    assert shown["customer"]["name"] == "[secret]"
    assert shown["customer"].get("no", 1) == 1


def test_a_path_means_what_it_says() -> None:
    """Without stars it starts at the top; the items of a list have the list's path."""
    redactor = Redactor(["name", "people.name"])
    assert redactor.fields({"name": 1, "pet": {"name": 2}}) == {
        "name": "[secret]",
        "pet": {"name": 2},
    }
    assert redactor.fields({"people": [{"name": 1, "no": 2}]}) == {
        "people": [{"name": "[secret]", "no": 2}]
    }
    assert Redactor(["**.name"]).fields({"name": 1}) == {"name": "[secret]"}
    assert Redactor(["a.b"]).fields({"axb": 1}) == {"axb": 1}


def test_further_patterns_are_masked() -> None:
    """One's own expressions on key names add to the built-in ones."""
    assert Redactor(patterns=["^iban$"]).fields({"IBAN": 1, "token": 2, "a": 3}) == {
        "IBAN": "[secret]",
        "token": "[secret]",
        "a": 3,
    }


@pytest.mark.parametrize("wrong", [{"paths": "a.b"}, {"paths": ["a..b"]}, {"paths": [""]},
                                   {"patterns": ["("]}])  # fmt: skip
def test_paths_and_patterns_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    """A malformed rule is an error when it is made, not a leak when it is used."""
    with pytest.raises(ConfigurationError):
        Redactor(**wrong)


def test_values_become_plain() -> None:
    """Whatever comes in, what comes out is JSON material that says what it was."""
    shown = Redactor().fields(
        {
            "when": datetime(2027, 1, 15, 8, tzinfo=UTC),
            "day": date(2027, 1, 15),
            "amount": Decimal("12.50"),
            "id": UUID(int=1),
            "colour": Colour.RED,
            "raw": b"abc",
            "nan": float("nan"),
            "inf": float("inf"),
            "huge": 2**80,
            "person": Person("ana", "hunter2"),
            "order": Order(7, "abc"),
            "both": (1, Secret(2)),
            "set": {3},
            "keys": {1: "a", None: "b"},
            "type": int,
        }
    )
    assert shown == {
        "when": "2027-01-15T08:00:00+00:00",
        "day": "2027-01-15",
        "amount": "12.50",
        "id": str(UUID(int=1)),
        "colour": "red",
        "raw": "<3 bytes>",
        "nan": "nan",
        "inf": "inf",
        "huge": str(2**80),
        "person": {"name": "ana", "password": "[secret]"},
        "order": {"number": 7, "api_key": "[secret]"},
        "both": [1, "[secret]"],
        "set": [3],
        "keys": {"1": "a", "None": "b"},
        "type": "<class 'int'>",
    }


def test_hostile_values_are_shown_by_their_type() -> None:
    """A failing repr or mapping costs that value only."""
    shown = Redactor().fields({"a": Hostile(), "b": [HostileMapping(x=1)], "c": 1})
    assert shown == {"a": "<unprintable Hostile>", "b": ["<unprintable HostileMapping>"], "c": 1}


def test_rings_depth_and_width_are_bounded() -> None:
    """A ring, a well and a flood all end."""
    ring: list[object] = [1]
    ring.append(ring)
    assert Redactor().redact(ring) == [1, "<ring>"]
    well: object = "bottom"
    for _ in range(50):
        well = [well]
    assert "<too deep>" in str(Redactor().redact(well))
    assert len(Redactor(max_items=10).redact(list(range(1000)))) == 10
    wide = Redactor(max_items=10).redact({str(number): number for number in range(1000)})
    assert len(wide) == 10
    assert wide["…"] == "991 more"
    tree: object = 1
    for _ in range(8):
        tree = [tree] * 50
    assert len(str(Redactor(max_items=100).redact(tree))) < 5000


def test_a_value_seen_twice_is_no_ring() -> None:
    """Only an ancestor makes a ring."""
    shared = {"a": 1}
    assert Redactor().redact([shared, shared]) == [{"a": 1}, {"a": 1}]


def test_ever_new_names_do_not_fill_the_memory() -> None:
    """What is remembered about names is bounded."""
    redactor = Redactor()
    for number in range(10_000):
        redactor.fields({f"name-{number}": 1})
    assert len(redactor._known) <= 4096
    assert len(redactor._hidden) <= 4096


def test_an_error_is_described_without_secrets() -> None:
    """Type and message; an error whose message fails is named all the same."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(ValueError("token=abc")) == "ValueError: token=[secret]"
    assert describe(KeyError()) == "KeyError"
    assert describe(Broken()) == "Broken: (no message)"


def test_an_error_is_shown_with_its_traceback_and_no_locals() -> None:
    """Frames and lines are there, what the variables held is not."""
    hunter = "hunter2".upper()
    try:
        raise ValueError(len(hunter))
    except ValueError as error:
        shown = show_error(error)
    assert shown["type"] == "ValueError"
    assert "raise ValueError(len(hunter))" in shown["traceback"]
    assert "HUNTER2" not in str(shown)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_whatever_goes_in_json_comes_out(value: object) -> None:
    """The redactor never raises, and the standard encoder takes what it gives."""
    msgspec.json.encode(Redactor().redact(value))


@given(st.text(), st.text(alphabet=st.characters(categories=["L", "N"]), min_size=12))
def test_a_marked_secret_is_nowhere_in_the_output(prefix: str, value: str) -> None:
    """By name, by type and at any depth, the value is not in what comes out."""
    redactor = Redactor(["deep.*.here"])
    shown = redactor.fields(
        {
            "password": value,
            "wrapped": Secret(value),
            "list": [{"token": value}, (Secret(value),)],
            "deep": {"x": {"here": value}},
        }
    )
    assert value not in str(shown)


@given(st.text(max_size=60), st.text(max_size=60))
def test_redacting_twice_changes_nothing_more(before: str, after: str) -> None:
    """The mask itself is never taken for a secret again."""
    once = redact_text(f"{before} password={VISA} {after}")
    assert redact_text(once) == once


def test_what_is_shown_can_be_written() -> None:
    """Lone surrogates, as in undecodable file names, are spelled: the ledger is UTF-8."""
    assert describe(ValueError("\udcff")) == "ValueError: \\udcff"


@pytest.mark.parametrize("text", ["basic abcdef", "a://:x@", "token=x", "x_secret: 1", "api-key:y"])
def test_the_shortest_secrets_are_masked(text: str) -> None:
    """However short a text is, a secret that can be told by its form does not stay in it."""
    assert "[secret]" in redact_text(text)


def test_a_short_text_is_cut_as_well() -> None:
    """A limit below the length of any secret still holds."""
    assert redact_text("abcdefgh", 3) == "abc…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("basic\tabcdef", "basic\t[secret]"),
        ("ba\u017fic abcdef", "ba\u017fic [secret]"),
        ("BAS\u0130C abcdef", "BAS\u0130C [secret]"),
        ("bas\u0131c abcdef", "bas\u0131c [secret]"),
        ("to\u212aen=abc", "to\u212aen=[secret]"),
        ("größe, pa\u017f\u017fword=abc", "größe, pa\u017f\u017fword=[secret]"),
        ("größe, api key=1, API_KEY=abc", "größe, api key=1, API_KEY=[secret]"),
        ("x_://me:hunter2@db", "x_://me:[secret]@db"),
        ("größe: " + VISA, "größe: [secret]"),
        ("4\u0661\u0661\u0661 1111 1111 1111", "[secret]"),
    ],
)
def test_no_short_cut_passes_a_secret(text: str, shown: str) -> None:
    """Other spaces, and what an expression takes for a letter or digit of ASCII, do not hide it."""
    assert redact_text(text) == shown


PIECES = st.sampled_from(
    ["bearer", "Basic", "BASIC", "-----BEGIN RSA PRIVATE KEY-----", "-----END X-----", "eyJ", JWT,
     "https://me:x@db/", "://", "password", "api-key", "token", "secret", "[secret]", "AKIA",
     "A" * 16, "sk_live_", "ghp_", "a" * 36, VISA, VISA[:8], "4111 1111", "DE89 3704 0044",
     "=", ":", " ", "\t", "-", "_", "@", ".", ",", '"', "\\", "\n", "\u017f", "\u0131",
     "\u0130", "\u212a", "\u0661", "1", "x", "Straße"]
)  # fmt: skip


TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)


@given(TEXTS)
def test_short_cuts_do_not_show(text: str) -> None:
    """Looking only where a hint is finds what looking for every form everywhere finds."""
    thorough = text
    for form in _FORMS:
        thorough = form.mask(thorough)
    thorough = _DIGITS.sub(lambda match: _masked(match, "[secret]"), thorough)
    assert redact_text(text) == thorough


@given(st.lists(TEXTS, max_size=4), st.sampled_from([3, 12, 40, 8192]))
def test_texts_are_shown_together_as_each_by_itself(texts: list[str], limit: int) -> None:
    """A look at several at once passes none that a look at it alone would not."""
    fields = {str(number): text for number, text in enumerate(texts)}
    shown = Redactor(max_text=limit).fields(fields)
    assert shown == {key: redact_text(text, limit) for key, text in fields.items()}
    assert list(shown) == list(fields)


@given(TEXTS)
def test_what_a_glance_passes_has_nothing_to_mask(text: str) -> None:
    """A text, and any that has it for a line, is passed only if the close look leaves it alone."""
    if not may_hold_secret(f"before\n{text}\nafter"):
        assert redact_text(text) == text


def test_no_letter_of_another_script_hides_a_hint() -> None:
    """What an expression that ignores case takes for a letter of ASCII is known, all of it."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    strangers = {char for char in re.findall("[a-z]", every, re.IGNORECASE) if not char.isascii()}
    assert strangers == set(_SAME)


FIELDS = st.dictionaries(
    TEXTS | st.sampled_from(["password", "note", 'a"b', "a\\u0062", "\ud800"]),
    TEXTS | st.integers() | st.none() | st.floats() | st.just(int(VISA)) | st.lists(TEXTS),
    max_size=5,
)


@given(FIELDS, st.sampled_from([8, 40, 8192]))
def test_fields_are_covered_as_each_by_itself(fields: dict[str, Any], limit: int) -> None:
    """Looked at together or one by one, whatever their names and neighbours: the same is shown."""
    redactor = Redactor(max_text=limit)
    one_by_one = {
        key: "[secret]" if redactor.is_secret(key) else redactor.redact(value, key)
        for key, value in fields.items()
    }
    before = dict(fields)
    assert redactor.fields(fields) == one_by_one
    assert fields == before


@pytest.mark.parametrize("number", [2**30 - 1, 2**30, -(2**30), 10**12 - 1, 10**12, int(VISA)])
def test_numbers_are_shown_like_those_inside(number: int) -> None:
    """Where a glance at a number ends, nothing changes but what is a payment card's."""
    shown = Redactor().fields({"a": number})
    assert shown == {"a": "[secret]" if number == int(VISA) else number}


@given(st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just(int(VISA)))
def test_a_field_is_shown_like_a_value_inside_one(value: object) -> None:
    """What is settled at a glance at the top comes out as on the long way."""
    shown = Redactor().fields({"a": value, "b": [value]})
    assert [shown["a"]] == shown["b"]
