"""What differs between two versions of a record."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec import Struct

R = TypeVar("R", bound=Struct)


def changes(before: R, after: R) -> dict[str, Any]:
    """The fields in which ``after`` differs from ``before``, and their values there.

    A fenced replacement writes these alone, so that it takes back nothing that the fence does not
    cover, such as a lease that was renewed meanwhile.
    """
    changed = {}
    for name in before.__struct_fields__:
        value = getattr(after, name)
        old = getattr(before, name)
        if value is not old and value != old:
            changed[name] = value
    return changed
