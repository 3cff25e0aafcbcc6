"""Component 6: idempotency. One key, one effect; the answer is remembered and replayed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import structs

from gonogo.bell import Bell
from gonogo.canonical import canonical, digest, encode, may_be_infinite
from gonogo.clock import Clock, SystemClock
from gonogo.errors import (
    ConfigurationError,
    EffectRejected,
    InFlight,
    KeyConflict,
    OutcomeUnknown,
    ResultUnavailable,
    StoreError,
)
from gonogo.ids import new_id
from gonogo.outcomes import classify, require_over
from gonogo.records import TERMINAL, Call, CallFilter, Fault, Outcome, State, advance, move
from gonogo.secrets import describe
from gonogo.store.memory import MemoryStore
from gonogo.store.port import Store, Transaction

_SWEPT = 8
_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)
SCOPE = "idempotent"
"""The action name under which `IdempotencyManager.process_idempotent` keeps its keys."""


class IdempotencyManager:
    """Runs the work behind a key at most once, also under concurrent callers.

    Args:
        ttl_seconds: how long the answer of `process_idempotent` is replayed; after that the key is
            free. ``None`` is for ever. Unknown outcomes never expire.
        in_flight: what a second caller gets while the first still runs: ``"raise"`` (`InFlight`)
            or ``"wait"`` for the first one's answer, at most ``wait_seconds``.
        lease_seconds: after this long a caller that went silent counts as dead and its key as
            unknown.
    """

    def __init__(
        self,
        ttl_seconds: float | None = 3600,
        *,
        in_flight: str = "wait",
        wait_seconds: float = 60.0,
        lease_seconds: float = 3600.0,
        store: Store | None = None,
        clock: Clock | None = None,
    ) -> None:
        if ttl_seconds is not None and ttl_seconds <= 0:
            raise ConfigurationError(f"ttl_seconds={ttl_seconds}: give more than 0, or None")
        if in_flight not in {"raise", "wait"}:
            raise ConfigurationError(f"in_flight={in_flight!r}: say 'raise' or 'wait'")
        self._ttl = ttl_seconds
        self._in_flight = in_flight
        self._wait = wait_seconds
        self._lease = lease_seconds
        self._store: Store = store if store is not None else MemoryStore()
        self._clock = clock or SystemClock()
        self._settled = Bell()
        self._answers: dict[str, _Answer] = {}  # by key, where no JSON is kept

    # The pipeline's part: used inside its own transaction.

    def claim(self, tx: Transaction, draft: Call, now: float) -> Call:
        """The call that owns the draft's key: ``draft`` itself when the key is free.

        A key whose time is over is given back first. Raises `KeyConflict` when the key belongs to
        a call with other arguments.
        """
        if draft.key is None:
            return draft
        holder = tx.calls.holder(draft.action, draft.key)
        if holder is None:
            return draft
        if self.lapsed(holder, now):
            tx.calls.replace(holder, structs.replace(holder, held=False))
            return draft
        if holder.fingerprint != draft.fingerprint:
            raise KeyConflict(
                f"{draft.action}: key {draft.key!r} was used with different arguments by call "
                f"{holder.id} ({holder.state.value}). If this is another effect give it another "
                "key; if it is the same, send the same arguments",
                action=draft.action,
                key=draft.key,
                call_id=holder.id,
            )
        return holder

    @staticmethod
    def lapsed(call: Call, now: float) -> bool:
        """Whether the call's key may be given back: it is settled and its time is over."""
        return call.state in TERMINAL and call.expires_at is not None and call.expires_at <= now

    def release_lapsed(self, now: float, limit: int = 500) -> int:
        """Give back the keys whose time is over; the rows stay as tombstones. Returns how many."""

        def work(tx: Transaction) -> int:
            return sum(
                tx.calls.replace(call, structs.replace(call, held=False))
                for call in tx.calls.lapsed(now, limit)
            )

        return self._store.write(work, durable=False)

    # The component alone.

    def process_idempotent(
        self, key: str, fn: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Call ``fn`` once for ``key`` and give every caller its result.

        On a ledger the result must have a JSON form. Raises `InFlight` (see ``in_flight``),
        `KeyConflict` when the key came with other arguments before, `EffectRejected` when the
        first call was rejected, and `OutcomeUnknown` when it failed without proof that nothing
        happened: then nobody runs it again until `forget` says so. An error that proves nothing
        happened frees the key. The first caller gets its own exception. A coroutine or a generator
        in place of a result is one (`TypeError`), because nobody would hear how it ended.
        """
        answer = self._answers.get(key) if type(key) is str else None
        if answer is not None:
            try:
                known = answer.write((args, kwargs)) == answer.text
            except _UNWRITABLE:
                known = answer.text is None
            if known and self._clock.now() < answer.until:
                return answer.value
        text = _text(args, kwargs)
        call = self._own_or_wait(key, "" if text is None else digest(text))
        if call.state is not State.DISPATCHED:
            return self._replay(call)
        try:
            value = fn(*args, **kwargs)
            require_over(value)
        except BaseException as error:
            try:
                self._settle(call, self._failed(call, error))
            except StoreError as unwritten:  # unknown when its lease ends; the error matters more
                error.add_note(f"gonogo: key {key!r}: its outcome was not written: {unwritten}")
            raise
        try:
            self._succeed(call, value, text)
        except StoreError as unwritten:
            raise OutcomeUnknown(
                f"key {key!r} ran, but its outcome could not be written: {unwritten}. It counts "
                "as unknown when its lease ends",
                key=key,
                call_id=call.id,
            ) from unwritten
        return value

    def is_duplicate(self, key: str) -> bool:
        """Whether the work behind ``key`` has run, is running, or may have run."""
        call = self._find(key)
        return call is not None and not self.lapsed(call, self._clock.now())

    def get_cached_result(self, key: str) -> Any:
        """The remembered result; ``None`` when there is none (yet, or any more)."""
        call = self._find(key)
        if call is None or call.state is not State.SUCCEEDED or not self.is_duplicate(key):
            return None
        return self._value(call)

    def clear_expired(self) -> int:
        """Forget the keys whose time is over; returns how many there were."""
        freed = self.release_lapsed(self._clock.now(), 1_000_000)
        held = {call.key for call in self._held()}
        for key in [key for key in list(self._answers) if key not in held]:
            self._answers.pop(key, None)
        return freed

    def forget(self, key: str, *, reason: str) -> bool:
        """A person's word that the unknown work behind ``key`` did not happen; frees the key."""

        def work(tx: Transaction) -> bool:
            call = tx.calls.holder(SCOPE, key)
            if call is None or call.state is not State.UNKNOWN:
                return False
            after = advance(call, State.FAILED, held=False, note=reason)
            return tx.calls.replace(call, after)

        return self._store.write(work)

    @property
    def seen_operations(self) -> dict[str, str]:
        """Keys that are remembered now → state of their call. Newest first."""
        return {call.key: call.state.value for call in self._held() if call.key is not None}

    def _own_or_wait(self, key: str, fingerprint: str) -> Call:
        if type(key) is not str or not key:
            raise ConfigurationError(
                f"the idempotency key {key!r} must be a text that is not empty"
            )
        give_up = self._clock.monotonic() + self._wait
        while True:
            call, mine = self._store.write(lambda tx: self._take(tx, key, fingerprint))
            if mine or call.state is not State.DISPATCHED:
                return call
            if self._in_flight == "raise" or self._clock.monotonic() >= give_up:
                raise InFlight(
                    f"key {key!r} is being processed right now; ask again later",
                    key=key,
                    call_id=call.id,
                )
            self._settled.wait(0.02)

    def _take(self, tx: Transaction, key: str, fingerprint: str) -> tuple[Call, bool]:
        now = self._clock.now()
        if not self._store.shared:  # a ledger is swept by its workers
            self._sweep(tx, now)
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
        owner = self.claim(tx, draft, now)
        if owner is draft:
            tx.calls.insert(draft)
            return draft, True
        if owner.state is State.DISPATCHED and (owner.lease_until or 0.0) <= now:
            after = advance(owner, State.UNKNOWN, lease_until=None, note="its caller went silent")
            tx.calls.replace(owner, after)
            return after, False
        return owner, False

    def _sweep(self, tx: Transaction, now: float) -> None:
        """Forget a few keys whose time is over, so that memory follows what is alive."""
        for call in tx.calls.lapsed(now, _SWEPT):
            tx.calls.replace(call, structs.replace(call, held=False))
            self._answers.pop(call.key or "", None)

    def _replay(self, call: Call) -> Any:
        if call.state is State.SUCCEEDED:
            return self._value(call)
        if call.state is State.FAILED:
            raise EffectRejected(
                f"key {call.key!r} was rejected before: {call.note}", key=call.key, call_id=call.id
            )
        raise OutcomeUnknown(
            f"key {call.key!r} ran before and its outcome is unknown ({call.note}); find out, then "
            "forget(key, reason=...) if it did not happen",
            key=call.key,
            call_id=call.id,
        )

    def _value(self, call: Call) -> Any:
        answer = self._answers.get(call.key or "")
        if answer is not None and answer.call_id == call.id:
            return answer.value
        if call.result is None:
            raise ResultUnavailable(
                f"key {call.key!r} succeeded, but its result was not kept: {call.note}",
                key=call.key,
                call_id=call.id,
            )
        return msgspec.json.decode(call.result)

    def _succeed(self, call: Call, value: Any, text: bytes | None) -> None:
        answer = _Answer(call.id, value, text)
        if not self._store.shared and call.key is not None:
            self._answers[call.key] = answer  # before the others can know that it is there
        settled = self._succeeded(call, value)
        if self._settle(call, settled):  # else it counts as unknown by now
            answer.until = math.inf if settled.expires_at is None else settled.expires_at

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

    def _settle(self, before: Call, after: Call) -> bool:
        written = self._store.write(lambda tx: tx.calls.replace(before, after), durable=False)
        self._settled.ring()
        return written

    def _find(self, key: str) -> Call | None:
        return self._store.read(lambda tx: tx.calls.holder(SCOPE, key))

    def _held(self) -> list[Call]:
        wanted = CallFilter(action=SCOPE, limit=1_000_000)
        return [call for call in self._store.read(lambda tx: tx.calls.find(wanted)) if call.held]


class _Answer:
    """What a call gave, for this process: the value itself, and the text of its arguments.

    ``write`` is how arguments are written to be compared: plainly where no others could
    be written the same, else canonically. ``text`` is ``None`` when they have no JSON form.

    ``until`` (epoch seconds) is until when it may be given without asking the ledger: not before
    it is settled there, and not after it lapsed. Nothing else can happen to a call that succeeded.
    """

    __slots__ = ("call_id", "text", "until", "value", "write")

    def __init__(self, call_id: str, value: Any, text: bytes | None) -> None:
        self.call_id = call_id
        self.value = value
        self.text = text
        self.write = canonical if text is None or may_be_infinite(text) else encode
        self.until = -math.inf


def _text(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
    """Arguments as canonical JSON; those that have none are told apart by their key alone."""
    try:
        return canonical((args, kwargs))
    except _UNWRITABLE:
        return None
