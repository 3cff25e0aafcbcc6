"""The course of a direct call, as a conversation with whoever can perform, wait and be stopped."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from gonogo.action import Action
from gonogo.answers import failure_of, result_of
from gonogo.arguments import Bound
from gonogo.errors import InFlight, OutcomeUnknown, RateLimited, Refused, StoreError
from gonogo.performed import Performed
from gonogo.records import NEVER, Call, State
from gonogo.settlement import DIRECT_GRACE, withdrawn
from gonogo.signals import Cancel

if TYPE_CHECKING:
    from gonogo.pipeline import Pipeline

OPEN_ENDED = 3600.0
"""Lease in seconds of a direct call that declares no time-out."""

_POLL = 0.05
_PENDING = State.PENDING
_ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.UNKNOWN, State.CANCELLED})


class Receipt(Struct, frozen=True, kw_only=True):
    """What a direct call got: the value, which call it was, and whether it was performed now.

    ``replayed`` is true when the effect happened in an earlier call with the same key.
    """

    value: Any
    call_id: str
    replayed: bool = False
    attempts: int = 1


class Perform(Struct, frozen=True):
    """A step: perform this dispatched call and send what it did."""

    call: Call


class Sleep(Struct, frozen=True):
    """A step: wait this many seconds in the caller."""

    seconds: float


Course = Generator[Perform | Sleep, Performed | None, Receipt]


class Conversation:
    """One direct call: asks for steps, and knows nothing of threads, loops or waiting.

    An exception thrown in at a step (the caller was interrupted or cancelled there) withdraws the
    call: it was not performed and will not be.
    """

    def __init__(self, pipeline: Pipeline, action: Action[Any, Any], bound: Bound) -> None:
        policy = action.policy
        self._pipeline = pipeline
        self._clock = pipeline.clock
        self._action = action
        self._bound = bound
        self._lease = OPEN_ENDED if policy.timeout is None else policy.timeout + DIRECT_GRACE
        self._began = self._clock.monotonic()

    def run(self) -> Course:
        """Admit, perform, settle; retry while the policy says so; or answer from the ledger."""
        call = self._pipeline.draft(self._action, self._bound)
        while True:
            try:
                admitted = self._pipeline.admit(
                    self._action, self._bound, call, lease=self._lease, group="call"
                )
            except RateLimited as refusal:
                pause = self._pause(refusal)
                if pause is None:
                    self._withdraw(call, f"refused before it could run again: {refusal}")
                    raise
                yield from self._sleep(call, pause)
                continue
            except Refused as refusal:
                self._withdraw(call, f"refused before it could run again: {refusal}")
                raise
            if admitted.id != call.id:
                ended = yield from self._known(admitted)
                if ended.held:
                    return self._replay(ended)
                continue  # its key came free meanwhile
            try:
                performed = yield Perform(admitted)
            except GeneratorExit:
                raise
            except BaseException:
                self._stopped(admitted)
                raise
            assert performed is not None  # noqa: S101 - both drivers answer Perform
            call = self._settle(admitted, performed)
            if call.state is not _PENDING or call.epoch != admitted.epoch:
                return self._answer(call, performed)
            yield from self._sleep(call, call.run_at - self._clock.now())

    def _stopped(self, admitted: Call) -> None:
        """Settle a call whose caller was stopped before it began."""
        cancel = Cancel("its caller was stopped before it began")
        self._settle(admitted, Performed(ended_at=self._clock.now(), error=cancel))

    def _sleep(self, call: Call, seconds: float) -> Generator[Sleep, Performed | None, None]:
        try:
            yield Sleep(max(0.0, seconds))
        except GeneratorExit:
            raise
        except BaseException as error:
            self._withdraw(call, f"its caller stopped waiting: {type(error).__name__}")
            raise

    def _settle(self, call: Call, performed: Performed) -> Call:
        try:
            return self._pipeline.settle(self._action, call, performed)
        except OutcomeUnknown as unknown:
            error = performed.error
            if error is None or isinstance(error, Exception):
                raise
            error.add_note(f"gonogo: {unknown}")
            raise error from None  # a request to stop is obeyed, whatever else went wrong

    def _pause(self, refusal: RateLimited) -> float | None:
        """Seconds to wait for room, when the limit that has none lets callers wait."""
        waits = any(x.wait for x in self._action.policy.limits if x.name == refusal.limit)
        pause = refusal.retry_after
        return pause if waits and pause is not None and self._has_time(pause) else None

    def _has_time(self, pause: float) -> bool:
        policy = self._action.policy
        patience = policy.deadline or policy.timeout or OPEN_ENDED
        return self._clock.monotonic() + pause <= self._began + patience

    def _withdraw(self, call: Call, note: str) -> None:
        """End a call that was to run again; its first attempt is refused without a trace."""
        if call.epoch == 0:
            return
        now = self._clock.now()
        after = withdrawn(self._action, call, State.FAILED, now, note)
        try:
            self._pipeline.store.write(
                lambda tx: self._pipeline.conclude(tx, call, after, now), durable=False
            )
        except StoreError:  # found again when its lease ends; the reason matters more
            pass

    def _known(self, holder: Call) -> Generator[Sleep, Performed | None, Call]:
        """Bring the call that holds our key to an end, or wait for it, as far as that is allowed.

        Returns it ended, or with ``held`` false when its key came free.
        """
        recovery = self._pipeline.recovery
        while True:
            if holder.state is State.UNKNOWN and self._action.verifier is not None:
                holder = recovery.verify(self._action, holder)
            elif holder.lease_until is not None and holder.lease_until <= self._clock.now():
                holder = recovery.recover(holder)
            if holder.state in _ENDED or not holder.held:
                return holder
            moves = not holder.waits and holder.run_at < NEVER
            waits = self._action.policy.in_flight == "wait" and moves
            if not waits or not self._has_time(_POLL):
                raise InFlight(
                    f"{holder.action}: key {holder.key!r} is in use by call {holder.id}, which is "
                    f"{holder.state.value}; ask again later, or look at it with explain",
                    action=holder.action,
                    key=holder.key,
                    call_id=holder.id,
                )
            yield Sleep(_POLL)
            holder = self._pipeline.get(holder.id) or structs.replace(holder, held=False)

    def _replay(self, call: Call) -> Receipt:
        """The recorded answer of an earlier call with the same key."""
        self._pipeline.tell("call.replayed", call, state=call.state.value)
        if call.state is not State.SUCCEEDED:
            raise failure_of(call)
        value = result_of(self._action, call)
        return Receipt(value=value, call_id=call.id, replayed=True, attempts=call.attempt)

    def _answer(self, call: Call, performed: Performed) -> Receipt:
        """What the caller gets after settling; errors say whether the effect happened."""
        error = performed.error
        if error is not None and not isinstance(error, Exception):
            error.add_note(f"gonogo: {call.name} is {call.state.value}")
            raise error
        if error is None:
            return Receipt(value=performed.value, call_id=call.id, attempts=call.attempt)
        if call.state is State.SUCCEEDED:  # proven by evidence, while this caller heard an error
            return self._replay(call)
        raise failure_of(call) from performed.cause
