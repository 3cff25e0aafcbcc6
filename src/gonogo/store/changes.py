"""What differs between two versions of a record."""

from __future__ import annotations

from itertools import compress
from operator import is_not
from typing import Any, TypeVar

from msgspec import Struct, structs

R = TypeVar("R", bound=Struct)


def changes(before: R, after: R) -> dict[str, Any]:
    """The fields in which ``after`` differs from ``before``, and their values there.

    A fenced replacement writes these alone, so that it takes back nothing that the fence does not
    cover, such as a lease that was renewed meanwhile.
    """
    old, new = structs.astuple(before), structs.astuple(after)
    sides = zip(before.__struct_fields__, old, new, strict=True)
    moved = compress(sides, map(is_not, old, new))  # the few that may differ, without a loop
    return {name: value for name, was, value in moved if value != was}
