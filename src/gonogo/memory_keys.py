"""The keys of a manager without a ledger: each in short, with its result as it is."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import deque
from typing import Any

from msgspec import Struct

from gonogo.clock import Clock
from gonogo.keys import NOT_YET, SCOPE, SILENT, SWEPT, Write, conflict
from gonogo.locks import let_go
from gonogo.outcomes import classify
from gonogo.records import Outcome, State
from gonogo.secrets import describe

_RUNS, _SUCCEEDED = State.DISPATCHED, State.SUCCEEDED


class Failure(Struct, frozen=True, eq=False):
    """What is known of work that did not succeed; for its fields see `Holder`."""

    state: State
    note: str
    expires_at: float = math.inf


class Claim(Struct, eq=False):
    """A key that is taken, and what became of the work that took it; see `Answer` and `Holder`.

    It ends once, in its place, under the lock of its keys and by one last assignment: of
    ``failure``, or of ``until`` when ``value`` is there. Who has no lock looks at these first.
    """

    text: bytes | None
    write: Write
    key: str
    began: float
    value: Any = None
    until: float = NOT_YET
    failure: Failure | None = None

    @property
    def state(self) -> State:
        if self.failure is not None:
            return self.failure.state
        return _RUNS if self.until == NOT_YET else _SUCCEEDED

    @property
    def expires_at(self) -> float:
        if self.failure is not None:
            return self.failure.expires_at
        return math.inf if self.until == NOT_YET else self.until

    @property
    def note(self) -> str | None:
        return None if self.failure is None else self.failure.note

    @property
    def id(self) -> str:
        """As `gonogo.ids.new_id`, but from its key, so that it need not be kept."""
        name = hashlib.sha256(f"{self.began} {self.key}".encode("utf-8", "replace")).digest()
        return (int(self.began * 1000).to_bytes(6, "big") + name[:10]).hex()


class MemoryKeys:
    """Claims by key.

    Whoever comes first puts one where none is, which is one step of the interpreter. What is there
    ends and is removed under the lock.

    Args:
        ttl: seconds an answer lives; ``None`` for ever.
        lease: seconds after which work that goes on counts as unknown.
    """

    def __init__(self, clock: Clock, ttl: float | None, lease: float) -> None:
        self._clock = clock
        self._ttl = math.inf if ttl is None else ttl
        self._lease = lease
        self._lock = threading.RLock()  # so that who is interrupted can tell whether it has it
        self._claims: dict[str, Claim] = {}
        self._ending: deque[Claim] = deque()  # the first to expire first: all live equally long
        self._sweep_at = NOT_YET  # before this none of them expires

    @property
    def answers(self) -> dict[str, Claim]:
        return self._claims

    def take(self, key: str, text: bytes | None, write: Write) -> tuple[Claim, bool]:
        now = self._clock.now()
        mine = Claim(text, write, key, now)
        while (holder := self._claims.setdefault(key, mine)) is not mine:
            if holder.expires_at > now:
                self._meet(holder, text, now)
                return holder, False
            self._drop(holder, holder.state)  # not replaced in its place: the new one comes last
        return mine, True

    def succeed(self, mine: Claim, value: Any, text: bytes | None, write: Write) -> None:
        now = self._clock.now()
        try:  # a ``with`` would be as safe and takes twice as long
            self._lock.acquire()
            if mine.failure is None:
                mine.value = value
                mine.until = now + self._ttl  # last: now it can be given
                self._ending.append(mine)
            if self._sweep_at <= now:
                self._release(now, SWEPT)
            self._lock.release()
        except BaseException:
            let_go(self._lock)
            raise

    def fail(self, mine: Claim, error: BaseException) -> None:
        outcome, note, now = classify(error), describe(error), self._clock.now()
        if outcome is Outcome.UNKNOWN:
            self._end(mine, Failure(State.UNKNOWN, note), now)
        elif outcome is Outcome.REJECTED:
            self._end(mine, Failure(State.FAILED, note, now + self._ttl), now)
        else:
            self._drop(mine, _RUNS)

    def value_of(self, holder: Claim) -> Any:
        return holder.value

    def find(self, key: str) -> Claim | None:
        return self._claims.get(key)

    def held(self) -> list[Claim]:
        return list(self._claims.values())[::-1]

    def forget(self, key: str, reason: str) -> bool:
        holder = self._claims.get(key)
        return holder is not None and self._drop(holder, State.UNKNOWN)

    def release_lapsed(self, now: float, limit: int) -> int:
        with self._lock:
            return self._release(now, limit)

    def _meet(self, holder: Claim, text: bytes | None, now: float) -> None:
        """Refuse arguments other than its own; count it as unknown once its lease is over."""
        if holder.text != text:
            raise conflict(SCOPE, holder.key, holder)
        if holder.began + self._lease <= now and holder.state is _RUNS:
            self._end(holder, Failure(State.UNKNOWN, SILENT), now)

    def _end(self, claim: Claim, failure: Failure, now: float) -> None:
        """Note how its work failed, unless it has ended."""
        with self._lock:
            if claim.state is _RUNS:
                claim.failure = failure
                if failure.state is State.FAILED:
                    self._ending.append(claim)
            if self._sweep_at <= now:
                self._release(now, SWEPT)

    def _drop(self, claim: Claim, state: State) -> bool:
        """Free its key, if it has it and is in ``state``; whether it was."""
        with self._lock:
            held = claim.state is state and self._claims.get(claim.key) is claim
            if held:
                del self._claims[claim.key]
            return held

    def _release(self, now: float, limit: int) -> int:
        released = 0
        while released < limit and self._ending and self._ending[0].expires_at <= now:
            claim = self._ending.popleft()
            if self._claims.get(claim.key) is claim:
                del self._claims[claim.key]
                released += 1
        self._sweep_at = self._ending[0].expires_at if self._ending else NOT_YET
        return released
