"""Component 6: idempotency. One key, one effect; the answer is remembered and replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gonogo.bell import Bell
from gonogo.canonical import canonical, encode
from gonogo.clock import Clock, SystemClock
from gonogo.errors import (
    ConfigurationError,
    EffectRejected,
    InFlight,
    OutcomeUnknown,
    StoreError,
)
from gonogo.keys import Holder, Keys, Write, lapsed
from gonogo.ledger_keys import LedgerKeys, claim
from gonogo.outcomes import OVER, require_over
from gonogo.records import State
from gonogo.store.port import Store

_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)
_MANY = 1_000_000
_RUNS = State.DISPATCHED


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
        self._in_flight = in_flight
        self._wait = wait_seconds
        self._clock = clock or SystemClock()
        self._settled = Bell()
        self._keys: Keys[Any] = _keys(store, self._clock, ttl_seconds, lease_seconds)
        self._answers = self._keys.answers

    # The pipeline's part: used inside its own transaction.

    claim = staticmethod(claim)
    lapsed = staticmethod(lapsed)

    def release_lapsed(self, now: float, limit: int = 500) -> int:
        """Give back the keys whose time is over; returns how many."""
        return self._keys.release_lapsed(now, limit)

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
        if type(key) is not str or not key:
            raise ConfigurationError(
                f"the idempotency key {key!r} must be a text that is not empty"
            )
        given = {"": (args, kwargs)} if kwargs else args  # a list or not: never written alike
        answer = self._answers.get(key)
        if answer is not None:
            try:
                known = answer.write(given) == answer.text
            except _UNWRITABLE:
                known = answer.text is None
            if known and self._clock.now() < answer.until:
                return answer.value
        text: bytes | None
        write: Write = encode
        try:
            text = encoded = encode(given)
            shown = encoded.decode()
            # as `may_be_infinite` asks, without the call
            if "null" in shown or "NaN" in shown or "Infinity" in shown:
                text, write = _closely(given)
        except _UNWRITABLE:
            text, write = _closely(given)
        holder, mine = self._keys.take(key, text, write)
        if not mine:
            holder, mine = self._wait_for(key, text, write, holder)
            if not mine:
                return self._replay(holder)
        try:
            value = fn(*args, **kwargs) if kwargs else fn(*args)
            if type(value) not in OVER:
                require_over(value)
        except BaseException as error:
            self._fail(holder, error)
            raise
        try:
            self._keys.succeed(holder, value, text, write)
        except StoreError as unwritten:
            raise OutcomeUnknown(
                f"key {key!r} ran, but its outcome could not be written: {unwritten}. It counts "
                "as unknown when its lease ends",
                key=key,
                call_id=holder.id,
            ) from unwritten
        if self._settled.waiting:
            self._settled.ring()
        return value

    def is_duplicate(self, key: str) -> bool:
        """Whether the work behind ``key`` has run, is running, or may have run."""
        holder = self._keys.find(key)
        return holder is not None and not lapsed(holder, self._clock.now())

    def get_cached_result(self, key: str) -> Any:
        """The remembered result; ``None`` when there is none (yet, or any more)."""
        holder = self._keys.find(key)
        if holder is None or holder.state is not State.SUCCEEDED:
            return None
        return None if lapsed(holder, self._clock.now()) else self._keys.value_of(holder)

    def clear_expired(self) -> int:
        """Forget the keys whose time is over; returns how many there were."""
        return self.release_lapsed(self._clock.now(), _MANY)

    def forget(self, key: str, *, reason: str) -> bool:
        """A person's word that the unknown work behind ``key`` did not happen; frees the key."""
        return self._keys.forget(key, reason)

    @property
    def seen_operations(self) -> dict[str, str]:
        """Keys that are remembered now → state of their call. Newest first."""
        return {one.key: one.state.value for one in self._keys.held() if one.key is not None}

    def _wait_for(
        self, key: str, text: bytes | None, write: Write, holder: Holder
    ) -> tuple[Holder, bool]:
        """`Keys.take` once the work of ``holder`` is over, if it runs; `InFlight` if that lasts."""
        give_up = self._clock.monotonic() + self._wait
        mine = False
        while not mine and holder.state is _RUNS:
            if self._in_flight == "raise" or self._clock.monotonic() >= give_up:
                raise InFlight(
                    f"key {key!r} is being processed right now; ask again later",
                    key=key,
                    call_id=holder.id,
                )
            self._settled.wait(0.02)
            holder, mine = self._keys.take(key, text, write)
        return holder, mine

    def _fail(self, holder: Holder, error: BaseException) -> None:
        try:
            self._keys.fail(holder, error)
        except StoreError as unwritten:  # unknown when its lease ends; the error matters more
            error.add_note(f"gonogo: key {holder.key!r}: its outcome was not written: {unwritten}")
        self._settled.ring()

    def _replay(self, holder: Holder) -> Any:
        if holder.state is State.SUCCEEDED:
            return self._keys.value_of(holder)
        if holder.state is State.FAILED:
            raise EffectRejected(
                f"key {holder.key!r} was rejected before: {holder.note}",
                key=holder.key,
                call_id=holder.id,
            )
        raise OutcomeUnknown(
            f"key {holder.key!r} ran before and its outcome is unknown ({holder.note}); find out, "
            "then forget(key, reason=...) if it did not happen",
            key=holder.key,
            call_id=holder.id,
        )


def _keys(store: Store | None, clock: Clock, ttl: float | None, lease: float) -> Keys[Any]:
    if store is not None:
        return LedgerKeys(store, clock, ttl, lease)
    from gonogo.memory_keys import MemoryKeys  # noqa: PLC0415 - a sandbox has a ledger

    return MemoryKeys(clock, ttl, lease)


def _closely(given: object) -> tuple[bytes | None, Write]:
    """Arguments that cannot be written plainly, and how to write others to compare them.

    Those that have no JSON form are told apart by their key alone.
    """
    try:
        return canonical(given), canonical
    except _UNWRITABLE:
        return None, canonical
