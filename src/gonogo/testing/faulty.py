"""A ledger that fails on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from msgspec import Struct, structs

from gonogo.errors import StoreUnavailable
from gonogo.records import Call, State
from gonogo.store.fates import Fate, Piece, one_by_one
from gonogo.store.memory import MemoryStore
from gonogo.store.port import Listening, Store, Transaction, Wake

T = TypeVar("T")
Move = tuple[State | None, State]


class Write(Struct, frozen=True, kw_only=True):
    """One write, as it is about to be committed.

    Attributes:
        number: of this store's writes, from 1.
        durable: whether it was asked to survive power loss.
        moves: each call it writes, as ``(state before, state after)``; ``None`` before a new one.
    """

    number: int
    durable: bool
    moves: tuple[Move, ...] = ()

    def moves_to(self, *states: State | str) -> bool:
        """Whether it brings a call to one of ``states`` from another one."""
        wanted = {State(state) for state in states}
        return any(after in wanted and before is not after for before, after in self.moves)


def _nothing(write: Write) -> None:
    """What the hooks do until they are told otherwise."""


class FaultyStore:
    """A store that fails when it is told to, around any other one; in memory unless given.

    A write fails in one of two ways. Before the commit: nothing is written, as when the disk is
    full. After it: all is written and the caller hears an error, as when the connection breaks
    before the acknowledgement. Either way the error is `StoreUnavailable`.

    Attributes:
        down: while true every read and write fails, and nothing is written.
        before_write, after_write: called with the `Write` before every write and after every
            commit, its moves known only then; block there to delay it or to let it hang.
        writes: how many writes were asked for.
        failures: how many of them were made to fail.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store if store is not None else MemoryStore()
        self._next: list[bool] = []
        self._rules: list[tuple[Callable[[Write], bool], bool]] = []
        self.down = False
        self.before_write: Callable[[Write], object] = _nothing
        self.after_write: Callable[[Write], object] = _nothing
        self.writes = 0
        self.failures = 0

    def fail_next(self, times: int = 1, *, after_commit: bool = False) -> None:
        """Let the next ``times`` writes fail."""
        self._next.extend([after_commit] * times)

    def fail_when(
        self, predicate: Callable[[Write], bool], *, after_commit: bool = False
    ) -> Callable[[], None]:
        """Let every write fail that ``predicate`` says yes to. Returns how to end it."""
        rule = (predicate, after_commit)
        self._rules.append(rule)

        def end() -> None:
            if rule in self._rules:
                self._rules.remove(rule)

        return end

    def heal(self) -> None:
        """Fail no more."""
        self.down = False
        self._next.clear()
        self._rules.clear()

    @property
    def shared(self) -> bool:
        """As the store inside says."""
        return self._store.shared

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """See `Store.write`."""
        self.writes += 1
        asked = Write(number=self.writes, durable=durable)
        self.before_write(asked)
        told = self._next.pop(0) if self._next else None
        if self.down or told is False:
            self._fail("the ledger is out of reach, as the test wanted; nothing was written")
        written = [asked]

        def watched(tx: Transaction) -> T:
            moves: list[Move] = []
            result = work(cast("Transaction", _Watched(tx, moves)))
            written[0] = structs.replace(asked, moves=tuple(moves))
            if self._says(written[0], after_commit=False):
                self._fail("the commit failed, as the test wanted; nothing was written")
            return result

        result = self._store.write(watched, durable=durable)
        self.after_write(written[0])
        if told or self._says(written[0], after_commit=True):
            self._fail("the commit's acknowledgement was lost, as the test wanted")
        return result

    def _says(self, write: Write, *, after_commit: bool) -> bool:
        """Whether a rule wants ``write`` to fail then."""
        return any(rule(write) for rule, after in list(self._rules) if after is after_commit)

    def read(self, work: Callable[[Transaction], T]) -> T:
        """See `Store.read`."""
        if self.down:
            raise StoreUnavailable("the ledger is out of reach, as the test wanted")
        return self._store.read(work)

    def write_all(self, pieces: Sequence[Piece]) -> list[Fate]:
        """See `Store.write_all`; each is a write of its own, and may fail."""
        return one_by_one(self.write, pieces)

    def join(
        self, session: object, work: Callable[[Transaction], T], then: Callable[[], None]
    ) -> T:
        """See `Store.join`; the commit is the user's, so it does not count among the writes."""
        if self.down:
            raise StoreUnavailable("the ledger is out of reach, as the test wanted")
        return self._store.join(session, work, then)

    def time(self) -> float | None:
        """See `Store.time`."""
        return self._store.time()

    def listen(self, wake: Wake) -> Listening:
        """See `Store.listen`."""
        return self._store.listen(wake)

    def close(self) -> None:
        """See `Store.close`."""
        self._store.close()

    def _fail(self, why: str) -> None:
        self.failures += 1
        raise StoreUnavailable(why)


class _Watched:
    """A transaction whose calls are watched."""

    def __init__(self, tx: Transaction, moves: list[Move]) -> None:
        self._tx = tx
        self.calls = _WatchedCalls(tx.calls, moves)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)


class _WatchedCalls:
    def __init__(self, calls: Any, moves: list[Move]) -> None:
        self._calls = calls
        self._moves = moves

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    def insert(self, call: Call) -> None:
        self._calls.insert(call)
        self._moves.append((None, call.state))

    def insert_many(self, calls: Sequence[Call]) -> None:
        self._calls.insert_many(calls)
        self._moves.extend((None, call.state) for call in calls)

    def replace(self, before: Call, after: Call) -> bool:
        won: bool = self._calls.replace(before, after)
        if won:
            self._moves.append((before.state, after.state))
        return won

    def claim(self, **wanted: Any) -> list[Call]:
        claimed: list[Call] = self._calls.claim(**wanted)
        self._moves.extend((State.PENDING, call.state) for call in claimed)
        return claimed
