"""Pieces of work that may share a commit, each with a fate of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from msgspec import Struct

if TYPE_CHECKING:
    from gonogo.store.port import Transaction

T = TypeVar("T")
Piece = tuple[Callable[["Transaction"], Any], bool]
"""A piece of work, and whether its commit is to be durable."""


class Write(Protocol):
    """What runs work in a write transaction and commits it; see `Store.write`."""

    def __call__(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """The result of ``work``, after the commit."""
        ...


class Fate(Struct, frozen=True):
    """What came of a piece of work: its result, or the error that took back what it wrote."""

    result: Any = None
    error: BaseException | None = None

    def get(self) -> Any:
        """The result; raises the error where there is one."""
        if self.error is not None:
            raise self.error
        return self.result


def one_by_one(write: Write, pieces: Sequence[Piece]) -> list[Fate]:
    """Each piece in a commit of its own, for stores that gain nothing by sharing one."""
    return [_fate(write, work, durable) for work, durable in pieces]


def _fate(write: Write, work: Callable[[Transaction], Any], durable: bool) -> Fate:
    try:
        return Fate(write(work, durable=durable))
    except Exception as error:  # noqa: BLE001 - it reaches whoever asks for the result
        return Fate(error=error)
