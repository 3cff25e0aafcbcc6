"""What annotations say: whose values run code of the user's when they are made."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest

from gonogo.hints import runs_code


class Colour(enum.StrEnum):
    RED = "red"


class Lenient(enum.Enum):
    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.RED


class Row(TypedDict):
    colour: Colour


@dataclasses.dataclass(frozen=True)
class Address:
    street: str
    next_door: Address | None = None


@dataclasses.dataclass
class Checked:
    street: str

    def __post_init__(self) -> None:
        """Code of the user's."""


class Item(msgspec.Struct):
    row: Row


class Shop(msgspec.Struct):
    address: Checked


class Odd:
    pass


@pytest.mark.parametrize(
    "hint",
    [
        *(int, str | None, list[dict[str, Decimal]], tuple[int, ...], Any, datetime),
        *(Literal["a", 1], Annotated[int, msgspec.Meta(gt=0)], Sequence[str], Mapping[str, int]),
        *(Colour, Row, Address, list[Address], Item),
    ],
    ids=str,
)
def test_plain_types_run_no_code(hint: Any) -> None:
    """They are made by the decoder alone, whatever is within them."""
    assert not runs_code(hint)


@pytest.mark.parametrize(
    "hint",
    [Lenient, Checked, list[Checked], Checked | None, dict[str, Shop], Shop, Odd, "Nowhere"],
    ids=str,
)
def test_others_may_run_code(hint: Any) -> None:
    """Something within them is made by code that is not ours, or nobody knows."""
    assert runs_code(hint)
