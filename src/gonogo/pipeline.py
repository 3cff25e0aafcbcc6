"""Every call passes three steps: admit → perform → settle.

`Pipeline.admit` and `Pipeline.settle` are one transaction each and know nothing of threads, loops
or waiting. `Pipeline.conversation` is the course of a direct call, written once as a generator;
`call` and `acall` only differ in how they carry out the steps it asks for. Workers use the same
`admit` and `settle` around calls they claimed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct, structs

from gonogo.action import Action
from gonogo.alerts import AlertSystem
from gonogo.arguments import Bound
from gonogo.clock import Clock
from gonogo.dry_run import DryRunLock
from gonogo.endings import ended, given_back
from gonogo.errors import (
    Drifted,
    EffectFailed,
    EffectRejected,
    InFlight,
    NotApproved,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ResultUnavailable,
    StoreError,
)
from gonogo.events import Event, EventBus
from gonogo.facts import read_facts, require_same
from gonogo.governor import GovernorEnforcer, check_halt
from gonogo.idempotency import IdempotencyManager
from gonogo.ids import new_id
from gonogo.logs import StructuredLogger, get_correlation_id
from gonogo.perform import Performer
from gonogo.readiness import SandboxReadinessChecker
from gonogo.records import NEVER, Alert, Call, Outcome, Severity, State, advance
from gonogo.settlement import DIRECT_GRACE, Performed, Settlement, judge
from gonogo.signals import Cancel
from gonogo.store.port import Store, Transaction

if TYPE_CHECKING:
    from gonogo.recovery import Recovery

T = TypeVar("T")

OPEN_ENDED = 3600.0
"""Lease in seconds of a direct call that declares no time-out."""

_POLL = 0.05


class Receipt(Struct, frozen=True, kw_only=True):
    """What a direct call got: the value, which call it was, and whether it was performed now.

    ``replayed`` is true when the effect happened in an earlier call with the same key.
    """

    value: Any
    call_id: str
    replayed: bool = False
    attempts: int = 1


class Perform(Struct, frozen=True):
    """A step of the conversation: perform this dispatched call."""

    call: Call


class Sleep(Struct, frozen=True):
    """A step of the conversation: wait this many seconds in the caller."""

    seconds: float


Conversation = Generator[Perform | Sleep, Performed | None, Receipt]


class Pipeline:
    """The three steps over one store, with the components that guard them."""

    recovery: Recovery

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        lock: DryRunLock,
        keys: IdempotencyManager,
        governor: GovernorEnforcer,
        readiness: SandboxReadinessChecker,
        alerts: AlertSystem,
        logger: StructuredLogger,
        events: EventBus,
        random: Callable[[], float],
        owner: str,
    ) -> None:
        self.store = store
        self.clock = clock
        self.lock = lock
        self.keys = keys
        self.governor = governor
        self.readiness = readiness
        self.alerts = alerts
        self.logger = logger
        self.events = events
        self.random = random
        self.owner = owner
        self.performer = Performer(clock, logger)
        self.actions: dict[str, Action[Any, Any]] = {}
        self.settled = threading.Condition()

    # admit

    def draft(
        self, action: Action[Any, Any], bound: Bound, *, queue: str | None, state: State
    ) -> Call:
        """A call that is not in the ledger yet."""
        now = self.clock.now()
        policy = action.policy
        key = action.key_of(bound.values)
        return Call(
            id=new_id(now),
            action=action.name,
            state=state,
            created_at=now,
            key=key,
            held=key is not None,
            fingerprint=bound.fingerprint,
            args=bound.text,
            max_attempts=policy.retry.max_retries + 1,
            queue=queue,
            priority=policy.priority,
            run_at=now,
            deadline_at=None if policy.deadline is None else now + policy.deadline,
            correlation_id=get_correlation_id() or new_id(now),
            repeatable=policy.repeatable,
        )

    def admit(
        self, action: Action[Any, Any], bound: Bound, call: Call, *, lease: float, group: str
    ) -> Call:
        """Pass every guard and commit ``dispatched``, before the first byte of the effect leaves.

        ``call`` is a draft (epoch 0), a direct call that waits for its retry (pending), or one a
        worker claimed. Returns it dispatched, or another call that holds its key.

        Raises the guard's `Refused` (nothing is claimed, nothing is used up) or `StoreError`.
        """
        if action.policy.irreversible:
            self.readiness.require(group, action.name, call.key)
        self._check_facts(action, bound, call)

        def work(tx: Transaction) -> Call:
            now = self.clock.now()
            self._guard(tx, action, call, now)
            if call.epoch == 0:
                owner = self.keys.claim(tx, call, now)
                if owner is not call:
                    return owner
            dispatched = self._dispatch(tx, action, bound, call, now, lease)
            if call.epoch == 0:
                tx.calls.insert(dispatched)
            elif not tx.calls.replace(call, dispatched):
                raise InFlight(
                    f"{call.action}: call {call.id} was taken over by somebody else",
                    action=call.action,
                    key=call.key,
                    call_id=call.id,
                )
            return dispatched

        try:
            admitted = self.store.write(work)
        except Refused as refusal:
            self._refused(call, refusal)
            raise
        if admitted.id == call.id:
            self.tell("call.admitted", admitted, attempt=admitted.attempt)
        return admitted

    def _guard(self, tx: Transaction, action: Action[Any, Any], call: Call, now: float) -> None:
        controls = tx.controls.all()
        check_halt(controls, action.name, now)
        if action.policy.irreversible:
            self.readiness.require_not_held(controls, action.name, call.key)
            if call.approved_by is None:
                self.lock.check(controls, now, action=action.name, key=call.key)
        if action.policy.needs_approval and call.approved_by is None:
            raise NotApproved(
                f"{call.action} ({call.key or call.id}) needs a person's approval: enqueue it and "
                "approve the call, or rehearse and approve the plan",
                action=call.action,
                key=call.key,
                call_id=call.id,
            )

    def _dispatch(
        self,
        tx: Transaction,
        action: Action[Any, Any],
        bound: Bound,
        call: Call,
        now: float,
        lease: float,
    ) -> Call:
        if call.reservations:  # kept while it waited for a retry; counted anew where it runs
            self.governor.release(tx, call.reservations)
        slots = action.slots(bound.values)
        self._take_slots(tx, call, slots)
        charges = self.governor.charges(action.name, action.charges(bound.values, now), now)
        reservations = self.governor.reserve(tx, charges, now) if charges else ()
        claimed = call
        if call.state is not State.CLAIMED:
            claimed = structs.replace(
                call, state=State.CLAIMED, epoch=call.epoch + 1, attempt=call.attempt + 1
            )
        return advance(
            claimed,
            State.DISPATCHED,
            owner=self.owner,
            dispatched_at=now,
            lease_until=now + lease,
            reservations=reservations,
            slots=tuple(name for name, _ in slots),
            note=None,
        )

    def _take_slots(self, tx: Transaction, call: Call, slots: tuple[tuple[str, int], ...]) -> None:
        for name, most in slots:
            filled = tx.calls.in_slot(name)
            if filled >= most:
                raise RateLimited(
                    f"Rate limit exceeded: {filled} of {most} calls of {name!r} run at this "
                    f"moment; {call.action} ({call.key or call.id}) was not performed",
                    action=call.action,
                    key=call.key,
                    retry_after=1.0,
                )

    def _check_facts(self, action: Action[Any, Any], bound: Bound, call: Call) -> None:
        if action.reader is not None:
            try:
                require_same(call, read_facts(action, bound.values, call.key))
            except Drifted as refusal:
                self._refused(call, refusal)
                raise

    def _refused(self, call: Call, refusal: Refused) -> None:
        self.tell(
            "call.refused",
            call,
            error=type(refusal).__name__,
            reason=str(refusal),
            retry_after=refusal.retry_after,
        )

    # settle

    def settle(self, action: Action[Any, Any], call: Call, performed: Performed) -> Call:
        """Write what an attempt did, fenced by ``(id, epoch, state)``. Returns the call as it is.

        When the fence is lost (the lease ran out meanwhile) the result is kept as evidence.
        Raises `OutcomeUnknown` when the ledger cannot be written: the attempt is over, and when
        the lease ends the call will be found and counted as unknown.
        """
        settlement = judge(action, call, performed, self.random())
        try:
            settled = self._write_settled(call, settlement, performed)
        except StoreError as error:
            raise OutcomeUnknown(
                f"{call.action} ({call.key or call.id}) ran, but its outcome could not be written: "
                f"{error}. The ledger will call it unknown when its lease ends",
                action=call.action,
                key=call.key,
                call_id=call.id,
            ) from (performed.error or error)
        with self.settled:
            self.settled.notify_all()
        return settled

    def _write_settled(self, call: Call, settlement: Settlement, performed: Performed) -> Call:
        def work(tx: Transaction) -> tuple[Call, Alert | None, bool]:
            now = performed.ended_at
            after = settlement.after
            if performed.error is None and performed.spent:
                kept = self.governor.settle(tx, call.reservations, performed.spent)
                after = structs.replace(after, reservations=kept)
            if not tx.calls.replace(call, after):
                return self._late(tx, call, settlement, now)
            if settlement.attempt is not None:
                tx.attempts.append(settlement.attempt)
            if settlement.refund:
                self.governor.release(tx, call.reservations)
            self.follow(tx, after, now)
            return after, self._fire(tx, call, settlement, now), False

        settled, alert, late = self.store.write(work, durable=False)
        if alert is not None:
            self.alerts.publish(alert)
        self._tell_settled(settled, settlement, late=late)
        return settled

    def _late(
        self, tx: Transaction, call: Call, settlement: Settlement, now: float
    ) -> tuple[Call, Alert | None, bool]:
        """The claim was lost. A known outcome of the attempt in doubt is evidence about it."""
        stands = tx.calls.get(call.id) or call
        if settlement.attempt is not None:
            tx.attempts.append(
                structs.replace(settlement.attempt, note="came late; kept as evidence")
            )
        known = settlement.after.outcome in {Outcome.SUCCEEDED, Outcome.REJECTED}
        same = stands.state is State.UNKNOWN and stands.attempt == call.attempt
        severity = Severity.WARNING
        if known and same:
            stands = self._adopt(tx, stands, settlement, now)
        elif known and stands.state not in {State.SUCCEEDED, settlement.after.state}:
            severity = Severity.CRITICAL
        context = {"call": call.id, "key": call.key, "outcome": str(settlement.after.outcome)}
        reason = "a result came after the claim was lost"
        return stands, self.alerts.fire(tx, call.action, reason, severity, context, now), True

    def _adopt(self, tx: Transaction, stands: Call, settlement: Settlement, now: float) -> Call:
        after = settlement.after
        adopted = advance(
            stands,
            after.state,
            outcome=after.outcome,
            result=after.result,
            fault=after.fault,
            held=after.held,
            settled_at=now,
            expires_at=after.expires_at,
            note="settled by its own late result",
            reservations=() if settlement.refund else stands.reservations,
        )
        if tx.calls.replace(stands, adopted):
            if settlement.refund:
                self.governor.release(tx, stands.reservations)
            self.follow(tx, adopted, now)
            return adopted
        return stands

    def follow(self, tx: Transaction, call: Call, now: float) -> None:
        """Free or cancel the calls that wait for this one."""
        if call.state is State.SUCCEEDED:
            for waiting in tx.calls.waiting_on(call.id):
                due = waiting.run_at - NEVER
                tx.calls.replace(waiting, structs.replace(waiting, run_at=due, note=None))
        elif call.state in {State.FAILED, State.CANCELLED, State.DISCARDED}:
            for waiting in tx.calls.waiting_on(call.id):
                cancelled = advance(
                    waiting,
                    State.CANCELLED,
                    held=False,
                    settled_at=now,
                    note=f"the call it waited for ended as {call.state.value}: {call.id}",
                )
                if tx.calls.replace(waiting, cancelled):
                    self.follow(tx, cancelled, now)

    def _fire(
        self, tx: Transaction, call: Call, settlement: Settlement, now: float
    ) -> Alert | None:
        if (notice := settlement.notice) is None:
            return None
        return self.alerts.fire(
            tx, call.action, notice.reason, notice.severity, notice.context, now
        )

    def _tell_settled(self, settled: Call, settlement: Settlement, *, late: bool) -> None:
        if settled.state is State.SUCCEEDED and not late:
            self.lock.note_executed(settled.action)
        if not self.events:
            return
        if late:
            outcome = str(settlement.after.outcome)
            self.tell("call.late_result", settled, outcome=outcome, epoch=settlement.after.epoch)
        elif settled.state is State.PENDING:
            detail = {"attempt": settled.attempt, "run_at": settled.run_at}
            self.tell("call.retry_scheduled", settled, **detail)
        else:
            began = settled.dispatched_at or settled.created_at
            self.tell(
                "call.settled",
                settled,
                outcome=str(settled.outcome),
                state=settled.state.value,
                attempt=settled.attempt,
                duration=round((settled.settled_at or began) - began, 6),
            )

    def tell(self, name: str, call: Call, **detail: Any) -> None:
        """Emit an event about ``call`` when somebody listens."""
        if self.events:
            now = self.clock.now()
            event = Event(name, now, call.id, call.action, call.key, call.correlation_id, detail)
            self.events.emit(event)

    # the course of a direct call, and the two that carry it out

    def conversation(self, action: Action[Any, Any], bound: Bound) -> Conversation:
        """Admit, perform, settle; retry while the policy says so; or answer from the ledger."""
        policy = action.policy
        call = self.draft(action, bound, queue=None, state=State.PENDING)
        lease = DIRECT_GRACE + policy.timeout if policy.timeout is not None else OPEN_ENDED
        give_up = self.clock.monotonic() + (policy.deadline or policy.timeout or OPEN_ENDED)
        while True:
            try:
                admitted = self.admit(action, bound, call, lease=lease, group="call")
            except RateLimited as refusal:
                pause = self._pause(action, refusal)
                if pause is None or not self._time(give_up, pause):
                    self._abandon(call, refusal)
                    raise
                yield Sleep(pause)
                continue
            except Refused as refusal:
                self._abandon(call, refusal)
                raise
            if admitted.id != call.id:
                admitted = yield from self._known(action, admitted, give_up)
                if not admitted.held:
                    continue  # its key came free meanwhile
                return self._replay(action, admitted)
            performed = yield Perform(admitted)
            assert performed is not None  # noqa: S101 - both drivers answer Perform
            call = self.settle(action, admitted, performed)
            if call.state is not State.PENDING:
                return self._answer(call, performed)
            yield Sleep(call.run_at - self.clock.now())

    def _pause(self, action: Action[Any, Any], refusal: RateLimited) -> float | None:
        """Seconds to wait for room, when the limit that has none lets callers wait."""
        waits = any(x.wait for x in action.policy.limits if x.name == refusal.limit)
        return refusal.retry_after if waits else None

    def _time(self, give_up: float, pause: float) -> bool:
        return self.clock.monotonic() + pause <= give_up

    def _abandon(self, call: Call, refusal: Refused) -> None:
        """A direct call that was refused on a later attempt ends; it is proven not applied."""
        if call.epoch == 0:
            return

        def work(tx: Transaction) -> None:
            now = self.clock.now()
            note = f"refused before it could run again: {refusal}"
            after = ended(call, State.FAILED, now, note)
            if tx.calls.replace(call, after):
                self.governor.release(tx, given_back(call, after))
                self.follow(tx, after, now)

        self.store.write(work, durable=False)

    def _known(
        self, action: Action[Any, Any], holder: Call, give_up: float
    ) -> Generator[Sleep, None, Call]:
        """Bring the call that holds our key to an end, or wait for it, as far as that is allowed.

        Returns it ended, or with ``held`` false when its key came free.
        """
        while True:
            now = self.clock.now()
            if holder.state is State.UNKNOWN and action.verifier is not None:
                holder = self.recovery.verify(action, holder)
            elif holder.lease_until is not None and holder.lease_until <= now:
                holder = self.recovery.recover(holder)
            if holder.state in _ENDED or not holder.held:
                return holder
            waits = action.policy.in_flight == "wait" and holder.run_at < NEVER
            if not waits or not self._time(give_up, _POLL):
                raise InFlight(
                    f"{holder.action}: key {holder.key!r} is in use by call {holder.id}, which is "
                    f"{holder.state.value}; ask again later, or look at it with explain",
                    action=holder.action,
                    key=holder.key,
                    call_id=holder.id,
                )
            yield Sleep(_POLL)
            holder = self.get(holder.id) or structs.replace(holder, held=False)

    def get(self, call_id: str) -> Call | None:
        """The call as the ledger has it now."""
        return self.store.read(lambda tx: tx.calls.get(call_id))

    def _replay(self, action: Action[Any, Any], call: Call) -> Receipt:
        """The recorded answer of an earlier call with the same key."""
        self.tell("call.replayed", call, state=call.state.value)
        about: dict[str, Any] = {"action": call.action, "key": call.key, "call_id": call.id}
        if call.state is State.SUCCEEDED:
            if call.result is None:
                raise ResultUnavailable(
                    f"{call.action} ({call.key}) happened in call {call.id}, but its result was "
                    f"not kept ({call.note})",
                    **about,
                )
            value = action.decode_result(call.result)
            return Receipt(value=value, call_id=call.id, replayed=True, attempts=call.attempt)
        if call.state is State.UNKNOWN:
            raise _unknown(call)
        raise EffectRejected(
            f"{call.action} ({call.key}) was refused for good in call {call.id}: {call.note}",
            **about,
        )

    def _answer(self, call: Call, performed: Performed) -> Receipt:
        """What the caller gets after settling; errors say whether the effect happened."""
        error = performed.error
        if error is not None and not isinstance(error, Exception):
            error.add_note(f"gonogo: {call.action} ({call.key or call.id}) is {call.state.value}")
            raise error
        if call.state is State.SUCCEEDED:
            return Receipt(value=performed.value, call_id=call.id, attempts=call.attempt)
        if call.state is State.UNKNOWN:
            raise _unknown(call) from error
        kind = EffectRejected if call.outcome is Outcome.REJECTED else EffectFailed
        failed = kind(
            f"{call.action} ({call.key or call.id}) {call.note}; call {call.id}",
            action=call.action,
            key=call.key,
            call_id=call.id,
        )
        if call.outcome is Outcome.UNKNOWN:
            failed.happened = "maybe"
        raise failed from error

    def call(self, action: Action[Any, Any], bound: Bound) -> Receipt:
        """Carry out a direct call in this thread."""
        steps = self.conversation(action, bound)
        answer: Performed | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                receipt: Receipt = stop.value
                return receipt
            answer = None
            if isinstance(step, Perform):
                answer = self.performer.run(action, step.call, bound)
            else:
                self._sleep(step.seconds)

    async def acall(self, action: Action[Any, Any], bound: Bound) -> Receipt:
        """Carry out a direct call in the running loop; a plain function gets a helper thread."""
        if not action.is_async:
            import asyncio  # noqa: PLC0415 - only async callers pay for it

            return await asyncio.to_thread(self.call, action, bound)
        steps = self.conversation(action, bound)
        answer: Performed | None = None
        while True:
            cancelled = answer is not None and not isinstance(answer.error, (Exception, type(None)))
            step = await self._next(steps, answer, here=cancelled)
            answer = None
            if isinstance(step, Receipt):
                return step
            if isinstance(step, Perform):
                answer = await self.performer.arun(action, step.call, bound)
            else:
                await self.clock.asleep(step.seconds)

    async def _next(
        self, steps: Conversation, answer: Performed | None, *, here: bool
    ) -> Perform | Sleep | Receipt:
        """The next step. Its transactions run in a helper thread when the ledger is a database.

        A cancelled task settles in this thread: it must not wait, for it may be cancelled again.
        """

        def send() -> Perform | Sleep | Receipt:
            try:
                return steps.send(answer)
            except StopIteration as stop:
                receipt: Receipt = stop.value
                return receipt

        if here or not self.store.shared:
            return send()
        return await self._in_thread(send)

    async def _in_thread(self, send: Callable[[], T]) -> T:
        """Run a step in a helper thread; when the task is cancelled meanwhile, see it to its end.

        A call that was admitted by then and will not be performed did not happen: it is settled
        as cancelled instead of being left in doubt.
        """
        import asyncio  # noqa: PLC0415 - only async callers pay for it

        done = threading.Event()
        steps: list[T] = []

        def run() -> T:
            try:
                steps.append(send())
                return steps[0]
            finally:
                done.set()

        try:
            return await asyncio.shield(asyncio.to_thread(run))
        except asyncio.CancelledError:
            done.wait(30)
            if steps and isinstance(step := steps[0], Perform):
                withdrawn = Performed(ended_at=self.clock.now(), error=Cancel("caller cancelled"))
                self.settle(self.actions[step.call.action], step.call, withdrawn)
            raise

    def _sleep(self, seconds: float) -> None:
        self.clock.sleep(max(0.0, seconds))


_ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.UNKNOWN})


def _unknown(call: Call) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{call.action} ({call.key or call.id}) may or may not have happened ({call.note}). It is "
        f"not run again by itself: find out, then resolve call {call.id}",
        action=call.action,
        key=call.key,
        call_id=call.id,
    )
