"""The first step: every guard, and one commit, before the first byte of the effect leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from gonogo.action import Action
from gonogo.arguments import Bound
from gonogo.call_events import CallEvents
from gonogo.clock import Clock
from gonogo.dry_run import DryRunLock
from gonogo.durations import spell_time
from gonogo.errors import (
    ConfigurationError,
    GonogoError,
    Halted,
    InFlight,
    NotApproved,
    RateLimited,
    Refused,
)
from gonogo.facts import read_facts, require_same
from gonogo.governor import GovernorEnforcer
from gonogo.halts import check_halt
from gonogo.idempotency import IdempotencyManager
from gonogo.ledger_keys import holder_of
from gonogo.owner import Owner
from gonogo.pauses import check_pause
from gonogo.readiness import SandboxReadinessChecker
from gonogo.records import Call, Charge, Reservation, State, numbers
from gonogo.settlement import in_doubt
from gonogo.store.fates import Piece
from gonogo.store.port import Store, Transaction
from gonogo.writing import Writing

_DISPATCHED = State.DISPATCHED
Takes = tuple[tuple[tuple[str, int], ...], Sequence[Charge]]
"""The slots a call fills, each with the number allowed at once, and what it uses of its limits."""


class Admission:
    """Readiness, precondition, halt, lock, approval, key, slots, limits; then ``dispatched``."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        lock: DryRunLock,
        keys: IdempotencyManager,
        governor: GovernorEnforcer,
        readiness: SandboxReadinessChecker,
        call_events: CallEvents,
        owner: Owner,
    ) -> None:
        self._store = store
        self._clock = clock
        self._lock = lock
        self._keys = keys
        self._governor = governor
        self._readiness = readiness
        self._call_events = call_events
        self._owner = owner

    def admitting(
        self, action: Action[Any, Any], bound: Bound, call: Call, *, lease: float, group: str
    ) -> Writing[Call]:
        """See `Pipeline.admitting`."""
        try:
            if action.policy.irreversible:
                self._readiness.require(group, action.name, call.key)
            if action.reader is None:
                admitted = (yield self._piece(action, bound, call, lease, facts=True)) or call
            else:
                admitted = yield from self._pass(action, bound, call, lease)
        except Refused as refusal:
            refusal.action = refusal.action or call.action
            refusal.key = refusal.key or call.key
            if isinstance(refusal, RateLimited):
                self._governor.note_denial(refusal, self._clock.now())
            if isinstance(refusal, RateLimited | Halted):
                _name(refusal, call)
            self._call_events.refused(call, refusal)
            raise
        except ConfigurationError as error:
            _name(error, call)
            raise
        if admitted.id == call.id:
            self._call_events.admitted(admitted)
        return admitted

    def _pass(
        self, action: Action[Any, Any], bound: Bound, call: Call, lease: float
    ) -> Writing[Call]:
        """Read the precondition first, which is user code, outside of the transaction.

        Of a call whose key is taken it is not read: what was true before the effect need not be
        true after it, and the recorded answer stands.
        """
        admitted: Call | None = None
        if call.epoch == 0 and self._is_taken(call):
            admitted = yield self._piece(action, bound, call, lease, facts=False)
            if admitted is not None:
                return admitted
        require_same(call, read_facts(action, bound.values, call.key))
        admitted = yield self._piece(action, bound, call, lease, facts=True)
        return admitted or call

    def _is_taken(self, call: Call) -> bool:
        if (key := call.key) is None:
            return False
        holder = self._store.read(lambda tx: tx.calls.holder(call.action, key))
        return holder is not None and not self._keys.lapsed(holder, self._clock.now())

    def _piece(
        self, action: Action[Any, Any], bound: Bound, call: Call, lease: float, *, facts: bool
    ) -> Piece:
        """The transaction. It gives ``None`` when ``facts`` are to be read: the key came free.

        What the call takes is asked for before it, because users' functions may answer, and no
        user's code runs inside a transaction; a failure of theirs counts where it is needed.
        """
        takes: Takes = ((), ())
        broken: Exception | None = None
        try:
            takes = action.slots(bound.values), action.charges(bound.values, self._clock.now)
        except Exception as error:  # noqa: BLE001 - raised where nothing else refuses first
            broken = error

        def work(tx: Transaction) -> Call | None:
            now = self._clock.now()
            self._guard(tx, action, call, now)
            if call.epoch == 0:
                owner = self._keys.claim(tx, call, now)
                if owner is not call:
                    return owner
                if not facts:
                    return None
            if broken is not None:
                raise broken
            begun = self._dispatch(tx, call, takes, now, lease)
            if call.epoch == 0:
                tx.calls.insert(begun)
            elif not tx.calls.replace(call, begun):
                raise InFlight(
                    f"{call.action}: call {call.id} was taken over by somebody else",
                    action=call.action,
                    key=call.key,
                    call_id=call.id,
                )
            return begun

        return work, True

    def _guard(self, tx: Transaction, action: Action[Any, Any], call: Call, now: float) -> None:
        controls = tx.controls.all()
        stopped = not action.stops.isdisjoint(controls)
        if stopped:
            check_halt(controls, action.name, now)
        if call.queue is not None:
            check_pause(controls, call.queue, now)
        if action.policy.irreversible:
            if stopped:
                self._readiness.require_not_held(controls, action.name, call.key)
            if call.approved_by is None and self._lock.locked(controls, now):
                alone = action.policy.needs_approval
                holder = holder_of(tx, call)
                raise self._lock.blocked(action.name, call.key, needs_approval=alone, holder=holder)
        if action.policy.needs_approval and call.approved_by is None:
            raise NotApproved(
                f"{call.name} needs a person's approval: enqueue it and "
                "approve the call, or rehearse and approve the plan",
                action=call.action,
                key=call.key,
                call_id=call.id,
            )

    def _dispatch(
        self, tx: Transaction, call: Call, takes: Takes, now: float, lease: float
    ) -> Call:
        slots, declared = takes
        if call.reservations:  # kept while it waited for a retry; counted anew where it runs
            self._governor.release(tx, call.reservations)
        if slots:
            self._take_slots(tx, call, slots, now)
        charges = self._governor.charges(call.action, declared, now)
        reservations: tuple[Reservation, ...] = ()
        if charges:
            reservations = self._governor.reserve(tx, charges, now, self._clock.now)
            now = self._clock.now()  # it may have waited for others
        epoch, attempt = numbers(call)
        return structs.replace(
            call,
            state=_DISPATCHED,
            epoch=epoch,
            attempt=attempt,
            owner=self._owner.name,
            dispatched_at=now,
            settled_at=None,
            outcome=call.outcome if in_doubt(call) else None,
            lease_until=now + lease,
            reservations=reservations,
            slots=tuple([name for name, _ in slots]) if slots else (),
            note=None,
        )

    def _take_slots(
        self, tx: Transaction, call: Call, slots: tuple[tuple[str, int], ...], now: float
    ) -> None:
        for name, most in sorted(slots):  # in one order, so that nobody waits in a circle
            filled = tx.calls.in_slot(name)
            if filled >= most:
                refusal = RateLimited(
                    f"Rate limit exceeded: {filled} of {most} calls of {name!r} ran at "
                    f"{spell_time(now)}; {call.name} was not performed",
                    action=call.action,
                    key=call.key,
                    retry_after=1.0,
                )
                refusal.row = name
                raise refusal


def _name(error: GonogoError, call: Call) -> None:
    """Say which direct call it was: what refused it knows of no key. A job has it as its note."""
    error.action, error.key = error.action or call.action, error.key or call.key
    if call.queue is None and call.name not in str(error):
        error.args = (f"{call.name} was not performed: {error}",)
