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


def followed(
    first: Writing[T], follow: Callable[[T], Writing[R] | None]
) -> Writing[tuple[T, R | None]]:
    """``first`` and what follows from its result, of one piece each, in one commit.

    ``None`` for the second where nothing follows. So it is where what follows fails: all of it is
    taken back, and only ``first`` is carried out.
    """
    work, durable = next(first)
    second: Writing[R] | None = None

    def both(tx: Transaction) -> tuple[T, Any]:
        nonlocal second
        _close(second)  # of a round that was taken back
        second = None
        result = work(tx)
        second = follow(result)
        return result, None if second is None else next(second)[0](tx)

    try:
        result, answer = yield both, True
    except BaseException as error:
        _close(second)
        if not isinstance(error, Exception) or (isinstance(error, StoreError) and second is None):
            raise
        # what follows may be what is refused: it comes again where that is carried out alone
        return _end(first, (yield work, durable)), None
    return _end(first, result), None if second is None else _end(second, answer)


def as_one(writings: Sequence[Writing[T]]) -> Writing[list[T]]:
    """All of them, of one piece each, as one piece: what takes one of them back takes all back."""
    try:
        pieces = [next(writing) for writing in writings]

        def work(tx: Transaction) -> list[Any]:
            return [piece(tx) for piece, _ in pieces]

        answers = yield work, any(durable for _, durable in pieces)
    except BaseException:
        for writing in writings:
            writing.close()
        raise
    return [_end(*told) for told in zip(writings, answers, strict=True)]


def _close(writing: Writing[Any] | None) -> None:
    """End it now: left to the garbage collector, it would do so at any moment, in any thread."""
    if writing is not None:
        writing.close()


def _end(writing: Writing[T], answer: Any) -> T:
    """Tell it what came of its last piece; its result."""
    try:
        writing.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    writing.close()
    raise RuntimeError("it asked for more than a piece")
