"""Secrets: a wrapper that does not print, and the redactor that everything shown goes through."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from traceback import format_exception
from typing import Any, Generic, TypeVar
from uuid import UUID

from msgspec import Struct

from gonogo.errors import ConfigurationError

T = TypeVar("T")

MASK = "[secret]"
_MAX_KNOWN = 4096
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


_KEY = re.compile(
    r"passw(?:or)?d|passwd|passphrase|secret|token|authorization|api[-_]?key|access[-_]?key"
    r"|private[-_]?key|cookie|credential|session[-_]?id|\bcvv|\bcvc|card[-_]?number|signature",
    re.IGNORECASE,
)
_COUNTS = re.compile(
    r"(?:max|min|total|num|n|prompt|completion|input|output)_tokens|tokens?_(?:count|limit|used)",
    re.IGNORECASE,
)
# Each keeps what names the secret (group 1) and masks what follows.
_IN_TEXT = (
    re.compile(r"(\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{6,}", re.IGNORECASE),
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
    re.compile(r"()\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),
    re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://[^\s:/@]{0,200}:)[^\s/@]+(?=@)", re.IGNORECASE),
    re.compile(
        r"""(\b[\w-]{0,40}(?:passw(?:or)?d|secret|token|api[-_]?key)[\w-]{0,40}["']?\s?[=:]\s?["']?)"""
        r"""(?!\[secret\])[^\s&"',;]+""",
        re.IGNORECASE,
    ),
    re.compile(r"()\b(?:sk|rk)_live_\w{8,}|()\bgh[pousr]_\w{20,}|()\bAKIA[0-9A-Z]{16}\b"),
)
# What a text (in lower case) must contain for one of the above to be in it: cheaper to look for.
_HINTS = (
    *("bearer", "basic", "begin", "eyj", "://", "passw", "secret", "token", "key", "akia"),
    *("_live_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
)
_DIGITS = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,}(?!\w|\.\d)")
_IBAN_HEAD = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){0,7}[ -]?\Z")


def redact_text(text: str, limit: int = 8192) -> str:
    """``text`` with the secrets that can be told by their form masked, cut to ``limit``.

    Known forms: bearer and basic credentials, private keys, JSON web tokens, passwords in URLs,
    ``password=…``, keys of some large providers, and payment card numbers (13–19 digits that pass
    the Luhn test, ISO/IEC 7812-1 annex B, and are not the tail of a valid IBAN, ISO 13616).
    """
    cut = len(text) > limit
    if cut:
        text = text[: limit + 64]
    if _may_hold_secret(text):
        for pattern in _IN_TEXT:
            text = pattern.sub(lambda m: (m.group(1) or "") + MASK, text)
    if len(text) >= 13 and _DIGITS.search(text):
        text = _DIGITS.sub(_mask_cards, text)
    return text[:limit] + "…" if cut else text


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
    elif (parts := _parts(secret)) is not None and depth:
        for part in parts.values() if isinstance(parts, Mapping) else parts:
            yield from spellings(part, depth - 1)
    elif secret is not None and not isinstance(secret, bool):
        yield str(secret)


def _may_hold_secret(text: str) -> bool:
    if not (":" in text or "=" in text or " " in text or "_" in text or len(text) >= 16):
        return False
    lowered = text.lower()
    for hint in _HINTS:  # noqa: SIM110  twice as fast as any() over a generator
        if hint in lowered:
            return True
    return False


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


def _mask_cards(match: re.Match[str]) -> str:
    """A run of digits in groups, with the groups that make up a card number masked."""
    groups = re.findall(r"\d+|[ -]", match.group())  # digits, separator, digits, …
    place = max(0, 2 * _groups_of_iban(match, groups[::2]) - 1)
    shown = groups[:place]
    while place < len(groups):
        length = _groups_of_card(groups[place::2])
        shown.append(MASK if length else groups[place])
        place += 2 * length - 1 if length else 1
    return "".join(shown)


def _groups_of_card(groups: list[str]) -> int:
    """How many of the leading ``groups`` are one card number; 0 when they begin with none.

    First digits 2–6 are those of payment cards (ISO/IEC 7812-1); milliseconds begin with 1.
    """
    number, found = "", 0
    for count, group in enumerate(groups[:19], start=1):
        number += group
        if len(number) > 19:
            break
        if len(number) >= 13 and number[0] in "23456" and _luhn(number):
            found = count
    return found


def _groups_of_iban(match: re.Match[str], groups: list[str]) -> int:
    """How many of ``groups`` are the tail of a valid IBAN that begins before them."""
    head = _IBAN_HEAD.search(match.string, max(0, match.start() - 40), match.start())
    if head is None:
        return 0
    number, found = re.sub(r"[ -]", "", head.group()), 0
    for count, group in enumerate(groups[:9], start=1):
        number += group
        if len(number) <= 34 and _iban(number):
            found = count
    return found


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _iban(text: str) -> bool:
    """The check of ISO 7064 MOD 97-10 over the rearranged number."""
    turned = text[4:] + text[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


class Redactor:
    """Turns any value into plain, bounded JSON material without secrets. Never raises.

    What is masked: values of type `Secret`; values under a key whose name looks secret; values at
    one of ``paths``; and whatever `redact_text` knows by its form.

    Args:
        paths: dotted key paths. ``*`` is any one key, ``**`` any number of them:
            ``"card.number"``, ``"*.iban"``, ``"**.iban"``. Items of a list have the list's path.
        patterns: further regular expressions on key names.
        max_depth, max_items, max_text: how deep, how many values in all, how many characters.
    """

    def __init__(
        self,
        paths: Iterable[str] = (),
        patterns: Iterable[str] = (),
        *,
        max_depth: int = 8,
        max_items: int = 1000,
        max_text: int = 8192,
    ) -> None:
        self._paths = _compile_paths(paths)
        try:
            self._names = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
        except re.error as error:
            raise ConfigurationError(
                f"redaction pattern is not a valid expression: {error}"
            ) from None
        self._known: dict[str, bool] = {}  # is_secret() by key
        self._hidden: dict[str, bool] = {}  # hides() by key at the top
        self._max_depth = max_depth
        self._max_items = max_items
        self._max_text = max_text

    def is_secret(self, key: str) -> bool:
        """Whether a key of this name holds a secret, wherever it is."""
        known = self._known.get(key)
        if known is None:
            known = bool(_KEY.search(key)) and not _COUNTS.search(key)
            known = known or any(name.search(key) for name in self._names)
            if len(self._known) < _MAX_KNOWN:
                self._known[key] = known
        return known

    def redact(self, value: object, path: str = "") -> Any:
        """A plain copy of ``value`` (which sits at ``path``) that is safe to show."""
        kind = type(value)
        if kind is str:
            return redact_text(value, self._max_text)  # type: ignore[arg-type]  # its type was just looked at
        if value is None or kind is bool:
            return value
        if kind is int and -(10**12) < value < 10**12:  # type: ignore[operator]  # same
            return value
        return _Walk(self).visit(value, path, 0)

    def fields(
        self, fields: Mapping[str, object], into: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A plain copy of a mapping of names to values that is safe to show."""
        shown: dict[str, Any] = {} if into is None else into
        for key, value in fields.items():
            hidden = self._hidden.get(key)
            if hidden is None:
                hidden = self.hides(key, key)
                if len(self._hidden) < _MAX_KNOWN:
                    self._hidden[key] = hidden
            shown[key] = MASK if hidden else self.redact(value, key)
        return shown

    def hides(self, key: str, path: str) -> bool:
        """Whether the value of ``key`` at ``path`` is masked whatever it is."""
        if self.is_secret(key):
            return True
        return self._paths is not None and self._paths.fullmatch(path) is not None


class _Walk:
    """One walk through a value: its ancestors (for rings) and how many values are left."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._above: set[int] = set()
        self._left = redactor._max_items

    def visit(self, value: object, path: str, depth: int) -> Any:
        self._left -= 1
        try:
            return self._plain(value, path, depth)
        except Exception:  # noqa: BLE001  a hostile object is shown by its type alone
            return f"<unprintable {type(value).__name__}>"

    def _plain(self, value: object, path: str, depth: int) -> Any:
        if isinstance(value, Secret):
            return MASK
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self._plain(value.value, path, depth)
        for kinds, show in _SHOWN:
            if isinstance(value, kinds):
                return show(value)
        if isinstance(value, str):
            return redact_text(str(value), self._redactor._max_text)
        parts = _parts(value)
        if parts is None:
            return redact_text(repr(value), 500)
        if id(value) in self._above:
            return "<ring>"
        if depth >= self._redactor._max_depth:
            return "<too deep>"
        self._above.add(id(value))
        try:
            return (
                self._mapping(parts, path, depth)
                if isinstance(parts, Mapping)
                else self._list(parts, path, depth)
            )
        finally:
            self._above.discard(id(value))

    def _mapping(self, parts: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for key, value in parts.items():
            if self._left <= 0:
                shown["…"] = f"{len(parts) - len(shown)} more"
                break
            name = key if isinstance(key, str) else redact_text(str(key), 100)
            below = f"{path}.{name}" if path else name
            if self._redactor.hides(name, below):
                shown[name] = MASK
            else:
                shown[name] = self.visit(value, below, depth + 1)
        return shown

    def _list(self, parts: Iterable[Any], path: str, depth: int) -> list[Any]:
        shown: list[Any] = []
        for value in parts:
            if self._left <= 0:
                shown.append("…")
                break
            shown.append(self.visit(value, path, depth + 1))
        return shown


def _parts(value: object) -> Mapping[Any, Any] | Iterable[Any] | None:
    """What a container holds; ``None`` for anything that is none."""
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return value
    if isinstance(value, Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    kind = type(value)
    names = [*getattr(kind, "__dataclass_fields__", ())]
    names += [field.name for field in getattr(kind, "__attrs_attrs__", ())]
    return {name: getattr(value, name, None) for name in names} if names else None


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(value)
    number = int(value)
    if 10**12 <= number < 10**19:
        text = redact_text(str(number))
        return number if text != MASK else MASK
    return number if abs(number) < 2**63 else str(number)


_SHOWN: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((int, float), _number),
    ((datetime, date, time), lambda value: value.isoformat()),
    ((Decimal, UUID), str),
    ((bytes, bytearray, memoryview), lambda value: f"<{len(value)} bytes>"),
    ((BaseException,), show_error),
)


def _compile_paths(paths: Iterable[str]) -> re.Pattern[str] | None:
    if isinstance(paths, str):
        raise ConfigurationError(f"secrets must be a list of key paths, not the text {paths!r}")
    shapes = []
    for path in paths:
        if "" in str(path).split("."):
            raise ConfigurationError(f"secret {path!r} is not a key path such as 'card.number'")
        shape = ""
        for segment in path.split("."):
            if segment == "**":
                shape += r"(?:[^.]+\.)*"
            else:
                shape += (r"[^.]+" if segment == "*" else re.escape(segment)) + r"\."
        shapes.append(shape.removesuffix(r"\."))
    return re.compile("|".join(shapes), re.IGNORECASE) if shapes else None
