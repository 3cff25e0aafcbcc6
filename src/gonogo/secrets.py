"""Secrets: a wrapper that does not print, and texts and errors shown without them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import compress, product
from traceback import format_exception
from typing import Any, Generic, NamedTuple, TypeVar

from gonogo.card_numbers import LEAST, mask_cards, may_hold_card
from gonogo.containers import items, parts

T = TypeVar("T")

MASK = "[secret]"
_TELLING = 3
"""Characters from which on a secret can be told from the text around it."""


class Secret(Generic[T]):
    """A value that must not be seen: every way of printing it gives ``[secret]``.

    Two secrets are equal when their values are. It cannot be pickled; as JSON it is the mask.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret[T]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret[T]:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is not pickled; reveal() it where it is needed")


class _Form(NamedTuple):
    """How a secret looks: what names it (group 1) is kept, what follows is masked.

    A text has none of this form unless it contains one of ``marks``, where there are any, and its
    gist one of ``hints``: cheaper to look for.
    """

    marks: tuple[str, ...]
    hints: tuple[str, ...]
    pattern: re.Pattern[str]

    def mask(self, text: str) -> str:
        return self.pattern.sub(lambda match: (match.group(1) or "") + MASK, text)


_FORMS = (
    _Form(
        (),
        ("bearer", "basic"),
        re.compile(r"(\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{6,}", re.IGNORECASE),
    ),
    _Form(
        ("-----",),
        ("begin",),
        re.compile(
            r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL
        ),
    ),
    _Form(("J",), ("eyj",), re.compile(r"()\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")),
    _Form(("@",), ("://",), re.compile(r"(://[^\s:/@]{0,200}:)[^\s/@]+(?=@)")),
    _Form(
        (":", "="),
        ("passw", "secret", "token", "apikey"),
        re.compile(
            r"""(\b[\w-]{0,40}(?:passw(?:or)?d|secret|token|api[-_]?key)[\w-]{0,40}["']?\s?[=:]\s?["']?)"""
            r"""(?!\[secret\])[^\s&"',;]+""",
            re.IGNORECASE,
        ),
    ),
    _Form(("K",), ("akia",), re.compile(r"()\bAKIA[0-9A-Z]{16}\b")),
    _Form(
        ("_",),
        ("klive", "ghp", "gho", "ghu", "ghs", "ghr"),
        re.compile(r"()\b(?:sk|rk)_live_\w{8,}|()\bgh[pousr]_\w{20,}"),
    ),
)
SHORTEST = 12
"""Characters that each of these and a card number take at least, but those with ``=`` or ``:``."""

_MARKS = (":", "=", "@", "_", "J", "K", "-----")
_MARKED = {
    there: tuple(
        form for form in _FORMS if not form.marks or {*form.marks} & {*compress(_MARKS, there)}
    )
    for there in product((False, True), repeat=len(_MARKS))
}
"""The forms that a text can have, by which marks are there."""

_GAPS = b" -_"
_GIST = bytes(
    ord("0") if byte > 127 or chr(byte).isdigit() else ord(chr(byte).lower()) for byte in range(256)
)
_DIGITS = "0" * LEAST
_SAME = {"\u0130": "i", "\u0131": "i", "\u017f": "s", "\u212a": "k"}
"""The letters that an expression which ignores case takes for those of ASCII."""


def redact_text(text: str, limit: int = 8192) -> str:
    """``text`` with the secrets that can be told by their form masked, cut to ``limit``.

    Known forms: bearer and basic credentials, private keys, JSON web tokens, passwords in URLs,
    ``password=…``, keys of some large providers, and payment card numbers (13–19 digits that pass
    the Luhn test, ISO/IEC 7812-1 annex B, and are not the tail of a valid IBAN, ISO 13616).
    """
    if len(text) < SHORTEST and len(text) <= limit and "=" not in text and ":" not in text:
        return text
    cut = len(text) > limit
    if cut:
        text = text[: limit + 64]
    gist = _gist(text)
    for form in _hinted(text, gist):
        text = form.mask(text)
    if _DIGITS in gist:
        text = mask_cards(text, MASK)
    return text[:limit] + "…" if cut else text


def may_hold_secret(text: str) -> bool:
    """Whether `redact_text` could mask anything in it; if not, then in no part of it either."""
    gist = _gist(text)
    for form in _hinted(text, gist):
        if form.pattern.search(text):
            return True
    return _DIGITS in gist and may_hold_card(text)


def writable(text: str) -> str:
    """``text`` as UTF-8 can hold it: lone surrogates, as in undecodable file names, are spelled."""
    return text.encode(errors="backslashreplace").decode()


def spellings(secret: object, depth: int = 4) -> Iterator[str]:
    """The texts as which a secret, or what is inside it, may come back: in errors, URLs, JSON."""
    import json  # noqa: PLC0415 - only failures with secrets pay
    from base64 import b64encode  # noqa: PLC0415 - same
    from urllib.parse import quote, quote_plus  # noqa: PLC0415 - same

    if isinstance(secret, Secret):
        yield from spellings(secret.reveal(), depth)
    elif isinstance(secret, (bytes, bytearray)):
        yield from spellings(bytes(secret).decode(errors="replace"), depth)
        yield repr(bytes(secret))[2:-1]
    elif isinstance(secret, str):
        if len(secret) < _TELLING:
            return
        yield from (
            secret,
            repr(secret)[1:-1],
            quote(secret),
            quote(secret, ""),
            quote_plus(secret),
        )
        yield from (json.dumps(secret)[1:-1], b64encode(secret.encode(errors="replace")).decode())
    elif depth and parts(secret) is not None:
        for part in items(secret):
            yield from spellings(part, depth - 1)
    elif secret is not None and not isinstance(secret, bool):
        yield str(secret)


def _gist(text: str) -> str:
    """What to look for hints in: small letters, no gaps, each digit and each stranger a ``0``."""
    if not text.isascii():
        for letter, plain in _SAME.items():
            text = text.replace(letter, plain)
    return text.encode(errors="replace").translate(_GIST, _GAPS).decode()


def _hinted(text: str, gist: str) -> Iterator[_Form]:
    """The forms that are worth a close look."""
    there = (
        ":" in text,
        "=" in text,
        "@" in text,
        "_" in text,
        "J" in text,
        "K" in text,
        "-----" in text,
    )
    for form in _MARKED[there]:
        for hint in form.hints:
            if hint in gist:
                yield form
                break


def describe(error: BaseException, limit: int = 500) -> str:
    """``Type: message`` of an error, redacted and cut."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  an error whose own __str__ fails is still named
        message = "(no message)"
    shown = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return writable(redact_text(shown, limit))


def show_error(error: BaseException) -> dict[str, str]:
    """Type, message and traceback (the last 30 frames) of an error; never locals of its frames."""
    try:
        lines = format_exception(type(error), error, error.__traceback__, limit=-30)
        trace = redact_text("".join(lines)[-16_384:], 16_384)
    except Exception:  # noqa: BLE001  an error that cannot be printed is still named
        trace = ""
    return {"type": type(error).__qualname__, "message": describe(error), "traceback": trace}
