"""What differs between two versions of a record."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec import Struct, structs

R = TypeVar("R", bound=Struct)


def changes(before: R, after: R) -> dict[str, Any]:
    """The fields in which ``after`` differs from ``before``, and their values there.

    A fenced replacement writes these alone, so that it takes back nothing that the fence does not
    cover, such as a lease that was renewed meanwhile.
    """
    sides = zip(
        before.__struct_fields__, structs.astuple(before), structs.astuple(after), strict=True
    )
    return {name: new for name, old, new in sides if new is not old and new != old}
