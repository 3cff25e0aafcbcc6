"""Canonical JSON: one text for one value, in every process; what fingerprints are made of."""

from __future__ import annotations

import hashlib
import math
from decimal import Decimal
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(order="sorted")

encode = _ENCODER.encode
"""`canonical` without its looks for what JSON cannot hold."""


def canonical(value: Any) -> bytes:
    """The canonical JSON of ``value``: keys sorted, no spaces, whole numbers as keys allowed.

    Raises `TypeError`, `ValueError` (also for NaN and infinity), `OverflowError` or
    `RecursionError` when it has no JSON form.
    """
    try:
        text = encode(value)
    except TypeError:
        text = _ENCODER.encode(_text_keys(value))
    if may_be_infinite(text):
        _require_finite(value)
    return text


def may_be_infinite(text: bytes) -> bool:
    """Whether msgspec may have written NaN or infinity, as ``null`` or as a text, into ``text``.

    Any other text stands for no value but those whose canonical JSON it is.
    """
    shown = text.decode()  # looking into it costs a quarter of looking into bytes
    return "null" in shown or "NaN" in shown or "Infinity" in shown


def fingerprint(text: str) -> str:
    """``v1:`` and the SHA-256 of the canonical JSON, in hex."""
    return digest(text.encode())


def digest(text: bytes) -> str:
    """`fingerprint` of a text that is encoded already."""
    return "v1:" + hashlib.sha256(text).hexdigest()


def _text_keys(value: Any) -> Any:
    """``value`` ready to encode, with the whole numbers that are keys turned to text."""
    if isinstance(value, dict):
        named = {_text_key(key): _text_keys(item) for key, item in value.items()}
        if len(named) != len(value):
            raise TypeError("two keys of a dict would be the same text in JSON")
        return named
    if isinstance(value, (list, tuple)):
        return [_text_keys(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {name: _text_keys(getattr(value, name)) for name in value.__struct_fields__}
    return msgspec.Raw(_ENCODER.encode(value))


def _text_key(key: object) -> str:
    if isinstance(key, str):
        return key
    if type(key) is int:
        return str(key)
    raise TypeError(f"a key of a dict is {type(key).__name__}; JSON has text and whole numbers")


def _require_finite(value: Any) -> None:
    """Raise `ValueError` for NaN and infinity, also as `Decimal`: JSON would make them null."""
    waiting = [msgspec.to_builtins(value, builtin_types=(Decimal,))]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting += item
        elif isinstance(item, (float, Decimal)) and not math.isfinite(item):
            raise ValueError("it is or contains NaN or infinity, which JSON cannot hold")
