"""What the annotations of an action say about its arguments."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union
from uuid import UUID

from msgspec import Struct

from gonogo.secrets import Secret

_PLAIN = {
    *(str, int, bool, float, bytes, bytearray, None, type(None), Any, Decimal, UUID),
    *(datetime, date, time, timedelta),
    *(list, dict, tuple, set, frozenset, Union, UnionType, Annotated, Literal),
    *(Sequence, Collection, Mapping),
}
"""Types that are made without running code of the user's, if those within them are."""


def is_secret(hint: Any) -> bool:
    """Whether a value of this type is, or may contain, a `Secret`."""
    return hint is Secret or any(
        is_secret(part) for part in (typing.get_origin(hint), *typing.get_args(hint)) if part
    )


def is_decimal(hint: Any) -> bool:
    """Whether a value of this type is a number that may be more exact than a float."""
    return hint is Decimal or (
        Decimal in (parts := typing.get_args(hint)) and float not in parts and hint is not dict
    )


def runs_code(hint: Any, within: frozenset[Any] = frozenset()) -> bool:
    """Whether to make a value of this type may run code of the user's, such as a ``__post_init__``.

    Args:
        within: the types around it, of which it is told by itself.
    """
    kind = typing.get_origin(hint) or hint
    if kind in _PLAIN:
        parts = () if kind is Literal else typing.get_args(hint)
        parts = parts[:1] if kind is Annotated else parts
        return any(runs_code(part, within) for part in parts if part is not ...)
    if kind in within:
        return False
    if not isinstance(kind, type):
        return True
    if issubclass(kind, Enum):
        return any("_missing_" in vars(above) for above in kind.__mro__ if above is not Enum)
    plain = typing.is_typeddict(kind) or issubclass(kind, Struct)
    plain = plain or (is_dataclass(kind) and kind.__new__ is object.__new__)
    if not plain or hasattr(kind, "__post_init__"):
        return True
    try:
        fields = typing.get_type_hints(kind).values()
    except (NameError, TypeError):  # not known here
        return True
    return any(runs_code(field, within | {kind}) for field in fields)
