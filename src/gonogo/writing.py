"""Work that asks for its commits, so that several may share one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from gonogo.store.fates import Fate, Piece
from gonogo.store.port import Store

T = TypeVar("T")

Writing = Generator[Piece, Any, T]
"""Yields each piece of work that is to be committed; gets its result, or its error thrown in."""


def alone(store: Store, writing: Writing[T]) -> T:
    """Carry it out with a commit for each piece; returns its result and raises its error."""
    return _go_on(store, writing, Fate())


def together(store: Store, writings: Sequence[Writing[Any]]) -> list[Fate]:
    """Carry all of them out with their first pieces in one commit; what came of each.

    A piece that fails takes nothing of the others back. Pieces after the first have commits of
    their own. An interrupt ends those that are not over.
    """
    fates = [Fate()] * len(writings)
    pieces: dict[int, Piece] = {}
    try:
        for number, writing in enumerate(writings):
            try:
                pieces[number] = next(writing)
            except StopIteration as stop:
                fates[number] = Fate(stop.value)
            except Exception as error:  # noqa: BLE001 - it reaches whoever asks for the result
                fates[number] = Fate(error=error)
        committed = store.write_all(list(pieces.values())) if pieces else []
        for number, fate in zip(pieces, committed, strict=True):
            try:
                fates[number] = Fate(_go_on(store, writings[number], fate))
            except Exception as error:  # noqa: BLE001 - same
                fates[number] = Fate(error=error)
    except BaseException:
        for writing in writings:
            writing.close()
        raise
    return fates


def _go_on(store: Store, writing: Writing[T], fate: Fate) -> T:
    """Tell it what came of its last piece, and carry out the rest."""
    try:
        while True:
            if fate.error is None:
                work, durable = writing.send(fate.result)
            else:
                work, durable = writing.throw(fate.error)
            try:
                fate = Fate(store.write(work, durable=durable))
            except BaseException as error:  # noqa: BLE001 - it is the writing's to answer
                fate = Fate(error=error)
    except StopIteration as stop:
        result: T = stop.value
        return result
