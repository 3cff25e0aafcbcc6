"""Texts of statements as the drivers take them, each made once.

What is asked for has a name and a shape. The usual ones of SQLite are compiled beforehand and come
with the package (`sqlite_ready`); any other is built and compiled when it is first asked for, with
SQLAlchemy, whose import takes longer than all else that a ledger does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from sqlalchemy import Table

_MANY = 1000
"""How many shapes of statements are kept; there are a few dozen in practice."""
Compiled = tuple[str, Sequence[str] | None]
"""A text, and the names of its parameters where the driver takes them by place."""


class Text(str):
    """A statement as a driver takes it.

    Attributes:
        placed: puts parameters in the order of the text; ``None`` where the driver takes names.
    """

    placed: Callable[[Mapping[str, Any]], Sequence[Any]] | None = None


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """Where the text of a statement is from; see `Statements` for what can be asked for."""

    def __call__(
        self, verb: str, what: Any, shape: tuple[Any, ...], columns: tuple[str, ...] | None
    ) -> T_co: ...


Compiler = Source[Compiled]


class Names:
    """Stands for a module of statements or tables, each of which is its own name here.

    The module, and SQLAlchemy with it, is imported for a text that is not ready.
    """

    def __getattr__(self, name: str) -> str:
        setattr(self, name, name)
        return name


class Statements:
    """Texts of statements for one dialect.

    Parameters are always given by name, also where the driver wants them by place, which binds
    them twice as fast. A statement whose text depends on its use (the number of queues, the
    columns that change) has a text for each of its shapes. Statements are told by the function of
    `gonogo.store.statements` that builds them, tables as in `gonogo.store.schema`; or by its name.

    Args:
        compiler: asked for once, when a text is not ready.
        ready: knows the texts that are compiled already.
    """

    def __init__(
        self,
        compiler: Callable[[], Compiler],
        ready: Source[Compiled | None] = lambda *_: None,
    ) -> None:
        self._compiler = functools.cache(compiler)
        self._ready = ready
        self._texts: dict[tuple[Any, ...], Text] = {}

    def text(self, build: Callable[..., Any], *shape: Any) -> Text:
        """The text of ``build(*shape)``."""
        return self._texts.get((build, *shape)) or self._keep((build, *shape), "text", build, shape)

    def insert(self, table: Table, columns: tuple[str, ...]) -> Text:
        """Insert one row of ``columns``."""
        key = ("insert", table, columns)
        return self._texts.get(key) or self._keep(key, "insert", table, (), columns)

    def insert_missing(self, table: Table, columns: tuple[str, ...]) -> Text:
        """Insert one row of ``columns``, unless there is one with the same primary key."""
        text = self._texts.get(("missing", table))
        return text or self._keep(("missing", table), "missing", table, (), columns)

    def upsert(self, table: Table, columns: tuple[str, ...]) -> Text:
        """Insert one row of ``columns``, or change the one with the same primary key."""
        text = self._texts.get(("upsert", table))
        return text or self._keep(("upsert", table), "upsert", table, (), columns)

    def update(self, build: Callable[[], Any], columns: tuple[str, ...]) -> Text:
        """The update ``build()``, setting ``columns``."""
        text = self._texts.get((build, columns))
        return text or self._keep((build, columns), "update", build, (), columns)

    def _keep(
        self,
        key: tuple[Any, ...],
        verb: str,
        what: Any,
        shape: tuple[Any, ...],
        columns: tuple[str, ...] | None = None,
    ) -> Text:
        asked = (verb, what, shape, columns)
        words, parameters = self._ready(*asked) or self._compiler()(*asked)
        if len(self._texts) >= _MANY:
            self._texts.clear()
        text = Text(words)
        if parameters is not None:
            text.placed = _placed(parameters)
        self._texts[key] = text
        return text


def _placed(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    if len(names) < 2:  # of one name itemgetter would give the bare value
        return lambda given: [given[name] for name in names]
    return itemgetter(*names)


def names(prefix: str, values: Iterable[Any]) -> dict[str, Any]:
    """Values as the parameters of a list of so many."""
    return {f"{prefix}_{number}": value for number, value in enumerate(values)}


def evened(values: Sequence[T]) -> Sequence[T]:
    """The same values, the last one repeated up to a power of two, for a few sizes instead of many.

    Each size is a statement of its own, and to compile one takes longer than to run it.
    """
    size = 1 << (len(values) - 1).bit_length()
    return [*values, *[values[-1]] * (size - len(values))]
