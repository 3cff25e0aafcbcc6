"""The keys of a manager on a ledger: each is held by a call there, for every process to see."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import Struct, structs

from gonogo.canonical import canonical, digest
from gonogo.clock import Clock
from gonogo.differences import difference
from gonogo.errors import ResultUnavailable
from gonogo.ids import new_id
from gonogo.keys import NOT_YET, SCOPE, SILENT, SWEPT, Write, conflict, lapsed, paired
from gonogo.outcomes import classify
from gonogo.records import Call, CallFilter, Fault, Outcome, State, advance, move
from gonogo.secrets import describe
from gonogo.store.port import Store, Transaction


def holder_of(tx: Transaction, call: Call) -> Call | None:
    """The call that holds the key of ``call`` now, if it has one and anybody does."""
    return None if call.key is None else tx.calls.holder(call.action, call.key)


def claim(tx: Transaction, draft: Call, now: float) -> Call:
    """The call that owns the draft's key: ``draft`` itself when the key is free.

    A key whose time is over is given back first. Raises `KeyConflict` when the key belongs to
    a call with other arguments.
    """
    if draft.key is None:
        return draft
    holder = tx.calls.holder(draft.action, draft.key)
    if holder is None:
        return draft
    if lapsed(holder, now):
        tx.calls.replace(holder, structs.replace(holder, held=False))
        return draft
    if holder.fingerprint != draft.fingerprint:
        differs = "" if draft.action == SCOPE else difference(draft, holder)
        raise conflict(draft.action, draft.key, holder, differs)
    return holder


class LedgerKeys:
    """Keys held by calls of the action `SCOPE`.

    A ledger that no other process sees keeps no JSON: the results are here, as they are.

    Args:
        ttl: seconds an answer lives; ``None`` for ever.
        lease: seconds after which a caller that went silent counts as dead.
    """

    def __init__(self, store: Store, clock: Clock, ttl: float | None, lease: float) -> None:
        self._store = store
        self._clock = clock
        self._ttl = ttl
        self._lease = lease
        self._answers: dict[str, Given] = {}

    @property
    def answers(self) -> dict[str, Given]:
        return self._answers

    def take(self, key: str, text: bytes | None, write: Write) -> tuple[Call, bool]:
        fingerprint = "" if text is None else digest(paired(text))
        return self._store.write(lambda tx: self._take(tx, key, fingerprint))

    def succeed(self, mine: Call, value: Any, text: bytes | None, write: Write) -> None:
        settled = self._succeeded(mine, value)
        given = Given(mine.id, text, write, value)

        def work(tx: Transaction) -> bool:
            written = tx.calls.replace(mine, settled)
            if written and not self._store.shared and mine.key is not None:
                self._answers[mine.key] = given  # before the others can know that it is there
            return written

        if self._store.write(work, durable=False):  # else it counts as unknown by now
            given.until = math.inf if settled.expires_at is None else settled.expires_at

    def fail(self, mine: Call, error: BaseException) -> None:
        failed = self._failed(mine, error)
        self._store.write(lambda tx: tx.calls.replace(mine, failed), durable=False)

    def value_of(self, holder: Call) -> Any:
        answer = self._answers.get(holder.key or "")
        if answer is not None and answer.call_id == holder.id:
            return answer.value
        if holder.result is None:
            raise ResultUnavailable(
                f"key {holder.key!r} succeeded, but its result was not kept: {holder.note}",
                key=holder.key,
                call_id=holder.id,
            )
        return msgspec.json.decode(holder.result)

    def find(self, key: str) -> Call | None:
        return self._store.read(lambda tx: tx.calls.holder(SCOPE, key))

    def held(self) -> list[Call]:
        wanted = CallFilter(action=SCOPE, limit=1_000_000)
        return [call for call in self._store.read(lambda tx: tx.calls.find(wanted)) if call.held]

    def forget(self, key: str, reason: str) -> bool:
        def work(tx: Transaction) -> bool:
            call = tx.calls.holder(SCOPE, key)
            if call is None or call.state is not State.UNKNOWN:
                return False
            after = advance(call, State.FAILED, held=False, note=reason)
            return tx.calls.replace(call, after)

        return self._store.write(work)

    def release_lapsed(self, now: float, limit: int) -> int:
        """Give back keys of any action whose time is over; the rows stay as tombstones."""
        return self._store.write(lambda tx: self._release(tx, now, limit), durable=False)

    def _take(self, tx: Transaction, key: str, fingerprint: str) -> tuple[Call, bool]:
        now = self._clock.now()
        if not self._store.shared:  # a ledger is swept by its workers
            self._release(tx, now, SWEPT)
        draft = Call(
            id=new_id(now),
            action=SCOPE,
            state=State.DISPATCHED,
            created_at=now,
            key=key,
            held=True,
            fingerprint=fingerprint,
            epoch=1,
            attempt=1,
            dispatched_at=now,
            lease_until=now + self._lease,
        )
        owner = claim(tx, draft, now)
        if owner is draft:
            tx.calls.insert(draft)
            return draft, True
        if owner.state is State.DISPATCHED and (owner.lease_until or 0.0) <= now:
            after = advance(owner, State.UNKNOWN, lease_until=None, note=SILENT)
            tx.calls.replace(owner, after)
            return after, False
        return owner, False

    def _release(self, tx: Transaction, now: float, limit: int) -> int:
        released = 0
        for call in tx.calls.lapsed(now, limit):
            released += tx.calls.replace(call, structs.replace(call, held=False))
            if call.action == SCOPE:
                self._answers.pop(call.key or "", None)
        return released

    def _succeeded(self, call: Call, value: Any) -> Call:
        result, note = None, None
        if self._store.shared:
            try:
                result = canonical(value).decode()
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                note = f"the result has no JSON form: {error}"
        now = self._clock.now()
        return structs.replace(
            call,
            state=move(call, State.SUCCEEDED),
            outcome=Outcome.SUCCEEDED,
            result=result,
            note=note,
            lease_until=None,
            settled_at=now,
            expires_at=None if self._ttl is None else now + self._ttl,
        )

    def _failed(self, call: Call, error: BaseException) -> Call:
        outcome = classify(error)
        state = State.UNKNOWN if outcome is Outcome.UNKNOWN else State.FAILED
        now = self._clock.now()
        keeps = outcome is Outcome.REJECTED and self._ttl is not None
        return advance(
            call,
            state,
            outcome=outcome,
            held=outcome is not Outcome.NOT_APPLIED,
            fault=Fault(type(error).__name__, describe(error)),
            note=describe(error),
            lease_until=None,
            settled_at=now,
            expires_at=now + (self._ttl or 0.0) if keeps else None,
        )


class Given(Struct, eq=False):
    """What the call ``call_id`` gave; see `Answer`."""

    call_id: str
    text: bytes | None
    write: Write
    value: Any
    until: float = NOT_YET
