"""The keys of a manager without a ledger: each in short, with its result as it is."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import deque
from typing import Any

from msgspec import Struct, structs

from gonogo.clock import Clock
from gonogo.keys import NOT_YET, SCOPE, SILENT, SWEPT, Write, conflict
from gonogo.outcomes import classify
from gonogo.records import Outcome, State
from gonogo.secrets import describe

_RUNS, _SUCCEEDED = State.DISPATCHED, State.SUCCEEDED


class Claim(Struct, frozen=True, eq=False):
    """A key that is taken, and what became of the work that took it; see `Answer` and `Holder`."""

    text: bytes | None
    write: Write
    value: Any
    until: float
    key: str
    began: float
    state: State = _RUNS
    expires_at: float = math.inf
    note: str | None = None

    @property
    def id(self) -> str:
        """As `gonogo.ids.new_id`, but from its key, so that it need not be kept."""
        name = hashlib.sha256(f"{self.began} {self.key}".encode("utf-8", "replace")).digest()
        return (int(self.began * 1000).to_bytes(6, "big") + name[:10]).hex()


class MemoryKeys:
    """Claims by key.

    Whoever comes first puts one where none is, which is one step of the interpreter. What is there
    is replaced and removed under the lock.

    Args:
        ttl: seconds an answer lives; ``None`` for ever.
        lease: seconds after which work that goes on counts as unknown.
    """

    def __init__(self, clock: Clock, ttl: float | None, lease: float) -> None:
        self._clock = clock
        self._ttl = math.inf if ttl is None else ttl
        self._lease = lease
        self._lock = threading.Lock()
        self._claims: dict[str, Claim] = {}
        self._ending: deque[Claim] = deque()  # the first to expire first: all live equally long

    @property
    def answers(self) -> dict[str, Claim]:
        return self._claims

    def take(self, key: str, text: bytes | None, write: Write) -> tuple[Claim, bool]:
        now = self._clock.now()
        mine = Claim(text, write, None, NOT_YET, key, now)
        while (holder := self._claims.setdefault(key, mine)) is not mine:
            if holder.expires_at <= now:
                self._drop(holder)  # not replaced in its place: the new one comes last
                continue
            if holder.text != text:
                raise conflict(SCOPE, key, holder)
            if holder.state is not _RUNS or holder.began + self._lease > now:
                return holder, False
            self._put(holder, _unknown(holder, SILENT), now)
        return mine, True

    def succeed(self, mine: Claim, value: Any, text: bytes | None, write: Write) -> None:
        now = self._clock.now()
        ends = now + self._ttl
        self._put(
            mine, Claim(text, write, value, ends, mine.key, mine.began, _SUCCEEDED, ends), now
        )

    def fail(self, mine: Claim, error: BaseException) -> None:
        outcome, note, now = classify(error), describe(error), self._clock.now()
        if outcome is Outcome.UNKNOWN:
            self._put(mine, _unknown(mine, note), now)
        elif outcome is Outcome.REJECTED:
            ends = now + self._ttl
            rejected = structs.replace(mine, state=State.FAILED, note=note, expires_at=ends)
            self._put(mine, rejected, now)
        else:
            self._drop(mine)

    def value_of(self, holder: Claim) -> Any:
        return holder.value

    def find(self, key: str) -> Claim | None:
        return self._claims.get(key)

    def held(self) -> list[Claim]:
        return list(self._claims.values())[::-1]

    def forget(self, key: str, reason: str) -> bool:
        holder = self._claims.get(key)
        return holder is not None and holder.state is State.UNKNOWN and self._drop(holder)

    def release_lapsed(self, now: float, limit: int) -> int:
        with self._lock:
            return self._release(now, limit)

    def _put(self, before: Claim, after: Claim, now: float) -> None:
        """Let ``after`` take the place of ``before``, unless that has lost it."""
        with self._lock:
            if self._claims.get(before.key) is before:
                if after.expires_at != math.inf:
                    self._ending.append(after)
                self._claims[before.key] = after
            if self._ending and self._ending[0].expires_at <= now:
                self._release(now, SWEPT)

    def _drop(self, claim: Claim) -> bool:
        """Free its key, unless it has lost it; whether it had it."""
        with self._lock:
            had = self._claims.get(claim.key) is claim
            if had:
                del self._claims[claim.key]
            return had

    def _release(self, now: float, limit: int) -> int:
        released = 0
        while released < limit and self._ending and self._ending[0].expires_at <= now:
            claim = self._ending.popleft()
            if self._claims.get(claim.key) is claim:
                del self._claims[claim.key]
                released += 1
        return released


def _unknown(claim: Claim, note: str) -> Claim:
    return structs.replace(claim, state=State.UNKNOWN, note=note)
