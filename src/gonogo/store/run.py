"""Statements on a driver's own connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from gonogo.store.texts import Statements, Text


class Cursor(Protocol):
    """What is used of a driver's cursor."""

    @property
    def rowcount(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Run:
    """Runs statements on one raw connection; the driver's errors become the store's.

    Attributes:
        news: where a worker elsewhere may take a job that was written: in these queues it is due,
            and ``None`` stands for one that falls due later.
        kept: what was read and still holds, by what it is about; whoever changes it in the ledger
            changes it here or takes it out. ``None`` where nothing can be kept.

    Args:
        execute: the connection's own ``execute(text, parameters)``.
        translate: the error of the store for an error of the driver.
        execute_many: its ``executemany``, where that is faster than one after the other.
        failures: the driver's root of errors.
        locks: whether what is read stays locked until the end, where several can write at once.
        keeps: whether the connection empties ``kept`` when a transaction is taken back, and at the
            beginning of one when somebody else has written since the last.
    """

    __slots__ = (
        "_execute",
        "_execute_many",
        "_failures",
        "_translate",
        "kept",
        "locks",
        "news",
        "texts",
    )

    def __init__(
        self,
        texts: Statements,
        execute: Callable[[str, Any], Any],
        failures: type[Exception],
        translate: Callable[[Exception], Exception],
        *,
        execute_many: Callable[[str, Iterable[Any]], Any] | None = None,
        locks: bool = False,
        keeps: bool = False,
    ) -> None:
        self.locks = locks
        self.news: set[str | None] = set()
        self.kept: dict[str, Any] | None = {} if keeps else None
        self.texts = texts
        self._execute = execute
        self._execute_many = execute_many
        self._failures = failures
        self._translate = translate

    def __call__(self, text: Text, parameters: Mapping[str, Any]) -> Cursor:
        placed = text.placed
        try:
            cursor: Cursor = self._execute(text, placed(parameters) if placed else parameters)
        except self._failures as error:
            raise self._translate(error) from error
        return cursor

    def many(self, text: Text, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run it with each of ``rows``; what it answers is not read."""
        if self._execute_many is None:
            for row in rows:
                self(text, row)
            return
        placed = text.placed
        try:
            self._execute_many(text, map(placed, rows) if placed else rows)
        except self._failures as error:
            raise self._translate(error) from error
