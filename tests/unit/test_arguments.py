"""Arguments: bound, checked, converted, in one canonical form, and without secrets."""

from __future__ import annotations

import enum
import functools
import json
import math
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, TypedDict
from urllib.parse import quote, quote_plus
from uuid import UUID

import attrs
import msgspec
import pytest

from gonogo.arguments import Parameters, TaintedArgument
from gonogo.canonical import canonical, fingerprint
from gonogo.errors import ConfigurationError
from gonogo.secrets import Secret
from gonogo.signals import Cancel
from gonogo.simulated import Simulated, Unknown


def parameters(fn: Callable[..., Any], **options: Any) -> Parameters:
    return Parameters(fn, action="act", **options)


@pytest.mark.parametrize(
    "given",
    [('é\n"', 7, True), ("", -(2**63), False), ("\0", 2**64, True)],
)
def test_arguments_by_position_are_bound_as_those_by_name(given: tuple[Any, ...]) -> None:
    """Types that need no converting give the same text, digest and values either way."""

    def act(zeta: str, alpha: int, mid: bool) -> None: ...

    bound = parameters(act).bind(given, {})
    named = parameters(act).bind((), dict(zip(("zeta", "alpha", "mid"), given, strict=True)))
    assert (bound.text, bound.fingerprint) == (named.text, named.fingerprint)
    assert list(bound.values.items()) == list(named.values.items())


@pytest.mark.parametrize("given", [(True, 1), (1, True), ("x", 1), (1.0, 1)])
def test_what_does_not_fit_exactly_is_looked_at_closely(given: tuple[Any, ...]) -> None:
    """A bool is no int, and what JSON or the annotation cannot hold is refused by name."""

    def act(alpha: int, beta: int) -> None: ...

    assert "act" in refusal(act, *given)


def refusal(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """What binding these arguments is refused with."""
    with pytest.raises(ConfigurationError) as caught:
        parameters(fn).bind(args, kwargs)
    return str(caught.value)


class Kind(enum.Enum):
    """A kind."""

    A = "a"


@dataclass
class Order:
    """An order with nested values."""

    id: UUID
    lines: list[Decimal] = field(default_factory=list)


@attrs.define
class Box:
    """An attrs class."""

    size: int


class Row(TypedDict):
    """A row."""

    day: date


class Point(msgspec.Struct):
    """A msgspec struct."""

    x: int


def anything(x: Any) -> None: ...


def typed(
    order: Order,
    kind: Kind = Kind.A,
    box: Box | None = None,
    row: Row | None = None,
    at: datetime | None = None,
    blob: bytes = b"",
    tags: frozenset[str] = frozenset(),
    mode: Literal["x", "y"] = "x",
    point: Point | int = 3,
    counts: dict[int, int] | None = None,
) -> None: ...


UUID7 = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def test_typed_values_travel_and_come_back() -> None:
    """What was given is what the function gets, now and when it is loaded from the ledger."""
    given = {
        "order": Order(UUID7, [Decimal("1.10")]),
        "kind": Kind.A,
        "box": Box(2),
        "row": {"day": date(2026, 2, 28)},
        "at": datetime(2026, 2, 28, 12, tzinfo=timezone(timedelta(hours=2))),
        "blob": b"\x00\xff",
        "tags": frozenset({"b", "a"}),
        "mode": "y",
        "point": Point(1),
        "counts": {10: 1, 2: 2},
    }
    subject = parameters(typed)
    bound = subject.bind((), given)
    assert bound.values == given
    loaded = subject.load(bound.text)
    assert (loaded.values, loaded.fingerprint) == (given, bound.fingerprint)


def test_plain_material_is_converted() -> None:
    """A dictionary becomes the dataclass, a text the decimal; both have one canonical form."""
    plain = parameters(typed).bind(({"id": str(UUID7), "lines": ["1.10"]},), {})
    rich = parameters(typed).bind((Order(UUID7, [Decimal("1.10")]),), {})
    assert plain.values["order"] == Order(UUID7, [Decimal("1.10")])
    assert plain.fingerprint == rich.fingerprint


def test_equal_arguments_have_one_fingerprint() -> None:
    """However they are passed, in whatever order or number type, and with defaults said or not."""

    def pay(invoice: str, rate: float = 1.0, *, tags: dict[str, int] | None = None) -> None: ...

    subject = parameters(pay)
    prints = {
        subject.bind(("A",), {}).fingerprint,
        subject.bind(("A", 1), {}).fingerprint,
        subject.bind((), {"rate": 1.0, "invoice": "A"}).fingerprint,
        subject.bind(("A",), {"tags": None}).fingerprint,
    }
    assert len(prints) == 1
    one = subject.bind(("A",), {"tags": {"x": 1, "y": 2}}).fingerprint
    other = subject.bind(("A",), {"tags": {"y": 2, "x": 1}}).fingerprint
    assert one == other
    assert one not in prints
    assert one.startswith("v1:")


def test_fingerprints_are_the_same_in_every_process() -> None:
    """No hash seed and no set order shows in a fingerprint."""
    program = (
        "from gonogo.canonical import canonical, fingerprint;"
        "print(fingerprint(canonical({'s': {'a', 'b', 'c', 'd'}, 'd': {3: 1, 20: 2}}).decode()))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    text = canonical({"d": {20: 2, 3: 1}, "s": {"d", "c", "b", "a"}}).decode()
    assert said == {fingerprint(text) + "\n"}


def all_kinds(a: int, /, b: int, *rest: int, c: int = 3, **more: float) -> Any:
    return a, b, rest, c, more


def test_every_kind_of_parameter_finds_its_place() -> None:
    """Positional-only, ``*args``, keyword-only and ``**kwargs`` come back where they belong."""
    subject = parameters(all_kinds)
    bound = subject.bind((1, 2, 3, 4), {"z": 1})
    assert subject.invoke(all_kinds, bound.values) == (1, 2, (3, 4), 3, {"z": 1.0})
    again = subject.load(bound.text)
    assert subject.invoke(all_kinds, again.values) == (1, 2, (3, 4), 3, {"z": 1.0})
    assert subject.invoke(all_kinds, subject.bind((1, 2), {"a": 9}).values)[4] == {"a": 9.0}


def test_a_mutable_default_is_not_shared() -> None:
    """What one call does to its default is not seen by the next."""

    def collect(into: list[int] = [1]) -> list[int]:  # noqa: B006 - the case under test
        into.append(2)
        return into

    subject = parameters(collect)
    for _ in range(2):
        assert subject.invoke(collect, subject.bind((), {}).values) == [1, 2]


def one_int(x: int) -> None: ...


def one_decimal(x: Decimal) -> None: ...


ring: list[Any] = []
ring.append(ring)


@pytest.mark.parametrize(
    ("fn", "value", "words"),
    [
        (one_int, "1", "Expected `int`, got `str`"),
        (one_int, 1.5, "Expected `int`, got `float`"),
        (one_int, True, "Expected `int`, got `bool`"),
        (one_int, None, "Expected `int`, got `null`"),
        (one_decimal, 1.1, "given a float"),
        (one_decimal, Decimal("NaN"), "NaN or infinity"),
        (one_decimal, Decimal("-Infinity"), "NaN or infinity"),
        (anything, math.nan, "NaN or infinity"),
        (anything, [{"deep": math.inf}], "NaN or infinity"),
        (anything, object(), "argument 'x' (object)"),
        (anything, lambda: 1, "argument 'x' (function)"),
        (anything, "\ud800", "surrogates"),
        (anything, {("a", "b"): 1}, "key"),
        (anything, {1: "a", "1": "b"}, "two keys"),
        (anything, {1, "a"}, "argument 'x' (set)"),
        (anything, ring, "argument 'x' (list)"),
        (anything, Secret("hunter2"), "argument 'x' (Secret)"),
    ],
)
def test_what_does_not_fit_is_refused(fn: Callable[..., Any], value: Any, words: str) -> None:
    """Ill-typed, not finite, or without a JSON form: refused, naming the action and the reason."""
    said = refusal(fn, value)
    assert said.startswith("action 'act'")
    assert words in said


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1, 2), {}, "too many positional"),
        ((1,), {"y": 2}, "has no parameter y; it takes"),
        ((1,), {"x": 2}, "multiple values for argument 'x'"),
    ],
)
def test_arguments_must_match_the_signature(
    args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    """Missing, extra and double arguments are refused, with the signature to compare."""
    said = refusal(one_int, *args, **kwargs)
    assert words in said
    assert "it takes (x: " in said


def test_too_much_is_refused_by_bytes() -> None:
    """The limit counts bytes of the canonical form."""
    subject = parameters(anything, max_bytes=20)
    assert len(subject.bind(("é" * 6,), {}).text.encode()) == 20
    with pytest.raises(ConfigurationError, match="22 bytes"):
        subject.bind(("é" * 7,), {})


def test_large_numbers_survive() -> None:
    """Whole numbers keep every digit."""
    assert parameters(one_int).bind((2**70,), {}).values == {"x": 2**70}


def not_resolvable(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the case


def not_an_expression(x: str) -> None: ...


not_an_expression.__annotations__["x"] = "1 +"


def mutable_default(x: bytearray = bytearray(b"x")) -> None:  # noqa: B008 - the case under test
    ...


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (not_resolvable, "cannot be resolved"),
        (not_an_expression, "cannot be resolved"),
        (functools.partial(one_int, 1), "Python function"),
        (dict.update, "parameters cannot be told"),
        (mutable_default, "default"),
    ],
)
def test_what_cannot_be_declared_is_said_at_once(fn: Callable[..., Any], words: str) -> None:
    """A function whose parameters cannot be checked is refused at its declaration."""
    with pytest.raises(ConfigurationError, match=words):
        parameters(fn)


def test_secrets_must_be_parameters() -> None:
    """A misspelt secret would be stored in clear."""
    with pytest.raises(ConfigurationError, match="ibann"):
        parameters(one_int, secrets=["ibann"])


def test_stored_arguments_that_no_longer_fit() -> None:
    """A parameter that changed its type since is a clear error."""
    with pytest.raises(ConfigurationError, match="no longer fit"):
        parameters(one_int).load('{"x":"text"}')


# tainted


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: v,
        lambda v: [v],
        lambda v: {"deep": [{"er": (v,)}]},
        Box,
        lambda v: Order(UUID7, [v]),
        Point,
    ],
    ids=["bare", "list", "deep", "attrs", "dataclass", "struct"],
)
@pytest.mark.parametrize(
    "value", [Unknown("pay", print), Simulated(1, "pay", print)], ids=["unknown", "simulated"]
)
def test_tainted_values_are_found(value: Any, wrap: Callable[[Any], Any]) -> None:
    """A value that a rehearsal made up is found wherever it is."""
    with pytest.raises(TaintedArgument, match=r"of pay|simulated"):
        parameters(anything).bind((wrap(value),), {})


# secrets

HIDDEN = "hunter2-hunter2"


def by_type(who: str, pin: Secret[str]) -> None: ...
def by_optional_type(who: str, pin: Secret[str] | None = None) -> None: ...
def by_inner_type(who: str, pin: list[Secret[str]]) -> None: ...
def by_name(who: str, password: str) -> None: ...
def by_declaration(who: str, iban: str) -> None: ...


@pytest.mark.parametrize(
    ("fn", "value", "declared"),
    [
        (by_type, Secret(HIDDEN), ()),
        (by_optional_type, Secret(HIDDEN), ()),
        (by_inner_type, [Secret(HIDDEN)], ()),
        (by_name, HIDDEN, ()),
        (by_declaration, HIDDEN, ("iban",)),
    ],
)
def test_secrets_are_given_and_never_kept(
    fn: Callable[..., Any], value: Any, declared: tuple[str, ...]
) -> None:
    """By type, by name, by declaration: the function gets it, text and repr do not show it."""
    subject = parameters(fn, secrets=declared)
    bound = subject.bind(("ann", value), {})
    assert list(bound.values.values()) == ["ann", value]
    assert bound.has_secrets
    assert "[secret]" in bound.text
    assert HIDDEN not in bound.text + repr(bound)
    assert subject.load(bound.text).values == {"who": "ann"}


def with_default(who: int, token: str = HIDDEN) -> None: ...


def test_no_error_shows_a_secret() -> None:
    """Not the value, not the default: neither in the message nor in the traceback."""
    for args in [("not a number",), (1, HIDDEN, 3), ("x", HIDDEN)]:
        try:
            parameters(with_default).bind(args, {})
        except ConfigurationError:
            assert HIDDEN not in traceback.format_exc()
        else:
            pytest.fail("it was bound")


def test_a_secret_among_further_keywords_is_refused() -> None:
    """What ``**kwargs`` takes is stored, so a name that looks secret is refused there."""

    def act(**more: str) -> None: ...

    assert "'password' looks like a secret" in refusal(act, password=HIDDEN)


def test_secret_texts_are_what_must_be_masked() -> None:
    """The texts of the secrets, longest first; what is too short to be told apart is left out."""

    def act(token: Secret[str], pin: str, who: str) -> None: ...

    bound = parameters(act, secrets=["pin"]).bind((Secret("abcdef"), "12", "ann"), {})
    assert bound.secret_texts() == ("YWJjZGVm", "abcdef")
    assert parameters(anything).bind(("x",), {}).secret_texts() == ()


def test_canonical_is_sorted_and_tight() -> None:
    """Keys in order, no spaces, time in UTC form as given."""
    value = {"b": 1, "a": {"d": datetime(2026, 1, 1, tzinfo=UTC), "c": None}}
    assert canonical(value) == b'{"a":{"c":null,"d":"2026-01-01T00:00:00Z"},"b":1}'


@pytest.mark.parametrize("spelled", [repr, json.dumps, quote_plus, lambda s: quote(s, "")])
def test_a_secret_is_known_however_it_is_spelled(spelled: Callable[[str], str]) -> None:
    """Errors quote, escape and encode what they show, and show what is inside of a container."""
    text = 'p\\a"s s/é'

    def act(token: dict[str, str], pin: bytes) -> None: ...

    bound = parameters(act, secrets=["pin"]).bind(({"a": text}, b"1234"), {})
    masked = spelled(text)
    for secret in bound.secret_texts():
        masked = masked.replace(secret, "")
    assert masked.strip("'\"") == ""
    assert "1234" in bound.secret_texts()


def test_a_call_without_its_secret_is_not_made() -> None:
    """The ledger has no secrets; a default in the place of one would be another call."""

    def act(who: str, token: str = "default") -> None: ...

    taken = parameters(act)
    loaded = taken.load(taken.bind(("ann", "hunter2"), {}).text)
    assert loaded.has_secrets
    with pytest.raises(Cancel, match="secret"):
        taken.fresh(loaded)
    plain = taken.load(taken.bind(("ann",), {}).text)
    assert taken.fresh(plain) == {"who": "ann"}
