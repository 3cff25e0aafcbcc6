"""The redactor that everything shown goes through: plain, bounded material without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from gonogo.containers import parts
from gonogo.errors import ConfigurationError
from gonogo.secrets import MASK, SHORTEST, Secret, may_hold_secret, redact_text, show_error

_MAX_KNOWN = 4096
_LEAST, _MOST = -(2**30), 2**30
"""Whole numbers between these have too few digits to be a payment card's, and are compared fast."""

_KEY = re.compile(
    r"passw(?:or)?d|passwd|passphrase|secret|token|authorization|api[-_]?key|access[-_]?key"
    r"|private[-_]?key|cookie|credential|session[-_]?id|\bcvv|\bcvc|card[-_]?number|signature",
    re.IGNORECASE,
)
_COUNTS = re.compile(
    r"(?:max|min|total|num|n|prompt|completion|input|output)_tokens|tokens?_(?:count|limit|used)",
    re.IGNORECASE,
)


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
        self._short = min(SHORTEST, max_text)

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
        if kind is int and _LEAST < value < _MOST:  # type: ignore[operator]  # its type was just looked at
            return value
        if value is None or kind is bool:
            return value
        if kind is str:
            return redact_text(value, self._max_text)  # type: ignore[arg-type]  # same
        return _Walk(self).visit(value, path, 0)

    def fields(self, fields: Mapping[str, object]) -> dict[str, Any]:
        """A plain copy of a mapping of names to values that is safe to show."""
        shown = dict(fields)
        self.cover(shown)
        return shown

    def cover(self, fields: dict[str, Any]) -> None:
        """Make a mapping of names to values plain and safe to show, in its place."""
        known, short = self._hidden, self._short
        texts: dict[str, str] = {}
        for key, value in fields.items():
            try:
                hidden = known[key]
            except KeyError:
                hidden = self._learn(key)
            if hidden:
                fields[key] = MASK
            elif type(value) is str:  # most are
                if len(value) >= short or "=" in value or ":" in value:
                    texts[key] = value  # to be looked at with the others
            elif type(value) is not int or value >= _MOST or value <= _LEAST:
                fields[key] = self.redact(value, key)
        if texts:
            together = "\n".join(texts.values())
            if len(together) > self._max_text or may_hold_secret(together):
                for key, text in texts.items():
                    fields[key] = redact_text(text, self._max_text)

    def _learn(self, key: str) -> bool:
        hidden = self.hides(key, key)
        if len(self._hidden) < _MAX_KNOWN:
            self._hidden[key] = hidden
        return hidden

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
        held = parts(value)
        if held is None:
            return redact_text(repr(value), 500)
        if id(value) in self._above:
            return "<ring>"
        if depth >= self._redactor._max_depth:
            return "<too deep>"
        self._above.add(id(value))
        try:
            return (
                self._mapping(held, path, depth)
                if isinstance(held, Mapping)
                else self._list(held, path, depth)
            )
        finally:
            self._above.discard(id(value))

    def _mapping(self, held: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for key, value in held.items():
            if self._left <= 0:
                shown["…"] = f"{len(held) - len(shown)} more"
                break
            name = key if isinstance(key, str) else redact_text(str(key), 100)
            below = f"{path}.{name}" if path else name
            if self._redactor.hides(name, below):
                shown[name] = MASK
            else:
                shown[name] = self.visit(value, below, depth + 1)
        return shown

    def _list(self, held: Iterable[Any], path: str, depth: int) -> list[Any]:
        shown: list[Any] = []
        for value in held:
            if self._left <= 0:
                shown.append("…")
                break
            shown.append(self.visit(value, path, depth + 1))
        return shown


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(value)
    number = int(value)
    if _MOST <= number < 10**19:
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


SHORT = Redactor(max_depth=3, max_items=30, max_text=60)
"""For sentences: a few values, small ones."""
