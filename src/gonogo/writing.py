"""Work that asks for its commits, so that several may share one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from gonogo.errors import StoreError
from gonogo.store.fates import Fate, Piece
from gonogo.store.port import Store, Transaction

T = TypeVar("T")
R = TypeVar("R")

Writing = Generator[Piece, Any, T]
"""Yields each piece of work that is to be committed; gets its result, or its error thrown in."""


def alone(
    store: Store, writing: Writing[T], result: Any = None, error: BaseException | None = None
) -> T:
    """Carry it out with a commit for each piece; returns its result and raises its error.

    One that has begun is told first what came of its last piece: its ``result`` or its ``error``.
    """
    try:
        while True:
            if error is None:
                work, durable = writing.send(result)
            else:
                work, durable = writing.throw(error)
            try:
                result, error = store.write(work, durable=durable), None
            except BaseException as failed:  # noqa: BLE001 - it is the writing's to answer
                error = failed
    except StopIteration as stop:
        answer: T = stop.value
        return answer


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
                fates[number] = Fate(alone(store, writings[number], fate.result, fate.error))
            except Exception as error:  # noqa: BLE001 - same
                fates[number] = Fate(error=error)
    except BaseException:
        for writing in writings:
            writing.close()
        raise
    return fates


def at_once(
    store: Store, first: Writing[T], follow: Callable[[T], Writing[R] | None]
) -> tuple[T, R | None]:
    """Carry out ``first``, of one piece, and what follows from its result, in one commit.

    ``None`` for the second where nothing follows. So it is where what follows fails, or asks for
    more than a piece: all of it is taken back, and only ``first`` is carried out.
    """
    work, durable = next(first)
    follows = False

    def both(tx: Transaction) -> tuple[T, Writing[R] | None, Any]:
        nonlocal follows
        result = work(tx)
        second = follow(result)
        follows = second is not None
        try:
            return result, second, None if second is None else next(second)[0](tx)
        except BaseException:
            if second is not None:
                second.close()
            raise

    try:
        result, second, answer = store.write(both, durable=True)
    except Exception as error:
        if isinstance(error, StoreError) and not follows:
            raise
        # what follows may be what is refused: it comes again where that is carried out alone
        return alone(store, first, store.write(work, durable=durable)), None
    alone(store, first, result)
    return result, None if second is None else alone(store, second, answer)
