"""What a value holds, be it a container or a record of any kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct


def parts(value: object) -> Mapping[Any, Any] | Iterable[Any] | None:
    """What a container, dataclass, struct or attrs object holds; ``None`` for anything else."""
    if isinstance(value, (dict, list, tuple, set, frozenset, Mapping)):
        return value
    if isinstance(value, Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    kind = type(value)
    names = [*getattr(kind, "__dataclass_fields__", ())]
    names += [field.name for field in getattr(kind, "__attrs_attrs__", ())]
    return {name: getattr(value, name, None) for name in names} if names else None


def items(value: object) -> Iterable[Any]:
    """The values among its `parts`; none for what is no container."""
    held = parts(value)
    if held is None:
        return ()
    return held.values() if isinstance(held, Mapping) else held
