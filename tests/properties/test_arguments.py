"""Canonical JSON: it round-trips, knows no order, and differs exactly where arguments do."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.arguments import Parameters
from gonogo.canonical import canonical, fingerprint
from gonogo.errors import ConfigurationError
from gonogo.secrets import MASK

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
whole = st.integers(-(2**63), 2**64 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | whole | finite | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same value with its dictionaries in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(item, chance)) for key, item in value.items()]
        chance.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(item, chance) for item in value]
    return value


@given(values)
def test_canonical_json_round_trips(value: Any) -> None:
    """Decoding gives the value back, and encoding that gives the same text."""
    encoded = canonical(value)
    decoded = msgspec.json.decode(encoded)
    assert decoded == value
    assert canonical(decoded) == encoded


@given(values, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_show(value: Any, chance: random.Random) -> None:
    """Two dictionaries that are equal have one text."""
    assert canonical(shuffled(value, chance)) == canonical(value)


@given(st.dictionaries(st.integers(), values, min_size=1, max_size=5))
def test_whole_numbers_as_keys_keep_apart(value: dict[int, Any]) -> None:
    """Keys that are numbers become texts, as many as there were, whatever their order."""
    decoded = msgspec.json.decode(canonical(value))
    assert decoded == {str(key): item for key, item in value.items()}
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@dataclass
class Line:
    """A line of an invoice."""

    what: str
    price: Decimal


def pay(
    invoice: str,
    cents: int,
    lines: list[Line],
    on: date | None = None,
    tags: frozenset[str] = frozenset(),
    rate: float = 1.0,
    extra: dict[str, int] | None = None,
) -> None: ...


PAY = Parameters(pay, action="pay")
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=2)
payments = st.fixed_dictionaries(
    {
        "invoice": text,
        "cents": whole,
        "lines": st.lists(st.builds(Line, text, decimals), max_size=3),
    },
    optional={
        "on": st.none() | st.dates(),
        "tags": st.frozensets(text, max_size=4),
        "rate": finite | st.integers(-(2**53), 2**53),
        "extra": st.none() | st.dictionaries(text, whole, max_size=3),
    },
)


def told(arguments: dict[str, Any]) -> Any:
    """What the function would see, comparable; 0.0 and -0.0 are different on purpose."""
    bound = PAY.bind((), arguments).values
    return {**bound, "rate": repr(bound["rate"]), "lines": repr(bound["lines"])}


@given(payments, payments)
def test_fingerprints_are_equal_exactly_when_arguments_are(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Equal arguments share a fingerprint, and nothing else does."""
    same = PAY.bind((), one).fingerprint == PAY.bind((), other).fingerprint
    assert same == (told(one) == told(other))
    assert PAY.bind((), one).fingerprint == PAY.bind((), dict(reversed(one.items()))).fingerprint


@given(payments)
def test_what_is_stored_is_what_is_called(arguments: dict[str, Any]) -> None:
    """Values loaded from the ledger are those the direct call got, types and all."""
    bound = PAY.bind((), arguments)
    loaded = PAY.load(bound.text)
    assert loaded.values == bound.values
    assert {n: type(v) for n, v in loaded.values.items()} == {
        n: type(v) for n, v in bound.values.items()
    }
    assert loaded.fingerprint == bound.fingerprint == fingerprint(bound.text)


@given(
    st.sampled_from([float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity")]),
    st.lists(st.sampled_from(["list", "dict"]), max_size=8),
)
def test_what_is_not_finite_is_found_at_any_depth(value: Any, nest: list[str]) -> None:
    """NaN and infinity never become null on the quiet."""
    for how in nest:
        value = [value] if how == "list" else {"x": value}
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        canonical({"value": value, "at": datetime(2026, 1, 1, tzinfo=UTC)})


def log_in(who: str, password: str) -> None: ...


@given(text, text.filter(lambda t: len(t) > 3))
def test_a_secret_leaves_no_trace(who: str, password: str) -> None:
    """Whatever the secret is, the stored text is that of the mask."""
    bound = Parameters(log_in, action="log_in").bind((who, password), {})
    assert msgspec.json.decode(bound.text) == {"who": who, "password": MASK}
    assert bound.values["password"] == password


@given(values)
def test_binding_never_fails_otherwise(value: Any) -> None:
    """Whatever is given, the answer is a call or a `ConfigurationError`."""
    try:
        PAY.bind((), {"invoice": value, "cents": value, "lines": value})
    except ConfigurationError:
        return
