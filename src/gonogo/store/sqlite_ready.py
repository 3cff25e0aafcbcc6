"""What comes compiled with the package, so that a SQLite ledger needs no SQLAlchemy.

`sqlite_ready.json` is made from `schema` and `statements` by ``make statements``.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import msgspec
from msgspec import Struct

from gonogo.store.texts import Compiled

_LIST = "IN (?)"
FILE = os.path.splitext(__file__)[0] + ".json"  # noqa: PTH122 - pathlib is slow to import


class Entry(Struct, frozen=True, array_like=True):
    """One text, and what is asked for to get it; see `gonogo.store.texts.Statements`."""

    verb: str
    what: str
    shape: tuple[bool | int | tuple[str, ...], ...]
    columns: tuple[str, ...] | None
    text: str
    parameters: tuple[str, ...] | None

    @property
    def asked(self) -> tuple[Any, ...]:
        """What is asked for."""
        return self.verb, self.what, self.shape, self.columns


class Ready(Struct, frozen=True):
    """Everything that is compiled.

    Attributes:
        tables: how each table is made, by its name.
        indexes: how they are made.
        texts: of the statements, in the shapes that are usual.
    """

    tables: dict[str, str]
    indexes: tuple[str, ...]
    texts: tuple[Entry, ...]


def ready() -> Ready:
    """What is compiled, read anew."""
    with open(FILE, "rb") as file:  # noqa: PTH123 - pathlib is slow to import
        return msgspec.json.decode(file.read(), type=Ready)


def text_of(
    verb: str, what: Any, shape: tuple[Any, ...], columns: tuple[str, ...] | None
) -> Compiled | None:
    """The text that is asked for, where it is here or follows from one that is."""
    known = _texts()
    if (found := known.get((verb, what, shape, columns))) is not None:
        return found
    if verb in _SHORTENED and columns is not None:
        whole = known.get((verb, what, shape, None))
        return None if whole is None else _SHORTENED[verb](whole, columns)
    if shape and type(shape[0]) is int and shape[0] > 1:
        single = known.get((verb, what, (1, *shape[1:]), None))
        return None if single is None else _listing(single, shape[0])
    return None


@functools.cache
def _texts() -> dict[tuple[Any, ...], Compiled]:
    return {entry.asked: (entry.text, entry.parameters) for entry in ready().texts}


def _setting(whole: Compiled, columns: tuple[str, ...]) -> Compiled | None:
    """An update of ``columns`` from the one of all of them."""
    text, parameters = whole
    verb, _, rest = text.partition(" SET ")
    settings, _, condition = rest.partition(" WHERE ")
    assigned = settings.split(", ")
    chosen = [(n, a) for n, a in zip(parameters or (), assigned, strict=False) if n in columns]
    if len(chosen) != len(columns):
        return None
    fence = (parameters or ())[len(assigned) :]
    wanted = ", ".join(assignment for _, assignment in chosen)
    return f"{verb} SET {wanted} WHERE {condition}", (*(name for name, _ in chosen), *fence)


def _inserting(whole: Compiled, columns: tuple[str, ...]) -> Compiled | None:
    """An insert of ``columns`` from the one of all of them."""
    text, parameters = whole
    verb, _, rest = text.partition(" (")
    named = rest.partition(")")[0].split(", ")
    chosen = [(n, c) for n, c in zip(parameters or (), named, strict=True) if n in columns]
    if len(chosen) != len(columns):
        return None
    wanted = ", ".join(column for _, column in chosen)
    marks = ", ".join("?" * len(chosen))
    return f"{verb} ({wanted}) VALUES ({marks})", tuple(name for name, _ in chosen)


_SHORTENED = {"insert": _inserting, "update": _setting}


def _listing(single: Compiled, size: int) -> Compiled | None:
    """A statement about a list of ``size`` from the one about a list of one."""
    text, parameters = single
    listed = [name for name in parameters or () if name.endswith("_0")]
    if text.count(_LIST) != 1 or len(listed) != 1:
        return None
    prefix = listed[0].removesuffix("_0")
    place = (parameters or ()).index(listed[0])
    several = (f"{prefix}_{number}" for number in range(size))
    placed = *(parameters or ())[:place], *several, *(parameters or ())[place + 1 :]
    return text.replace(_LIST, f"IN ({', '.join('?' * size)})"), placed
