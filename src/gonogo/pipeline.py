"""Every call passes three steps: admit → perform → settle.

`Pipeline.admit` and `Pipeline.settle` are one transaction each and know nothing of threads, loops
or waiting. A direct call is a `Conversation`, written once; `call` and `acall` only differ in how
they carry out the steps it asks for. Workers use the same two functions around calls they claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gonogo.action import Action
from gonogo.admission import Admission
from gonogo.alerts import AlertSystem
from gonogo.arguments import Bound
from gonogo.bell import Bell
from gonogo.call_events import CallEvents
from gonogo.clock import Clock
from gonogo.conversation import Conversation, Course, Perform, Receipt, Sleep
from gonogo.dry_run import DryRunLock
from gonogo.events import EventBus
from gonogo.governor import GovernorEnforcer
from gonogo.idempotency import IdempotencyManager
from gonogo.ids import new_id
from gonogo.logs import StructuredLogger, get_correlation_id
from gonogo.owner import Owner
from gonogo.perform import Performer
from gonogo.performed import Performed
from gonogo.readiness import SandboxReadinessChecker
from gonogo.records import Call, State
from gonogo.settling import Settling
from gonogo.store.port import Store, Transaction
from gonogo.writing import Writing, alone

if TYPE_CHECKING:
    from gonogo.recovery import Recovery

__all__ = ["Pipeline", "Receipt"]

_PENDING = State.PENDING


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
        owner: Owner,
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
        self.owner = owner
        self.actions: dict[str, Action[Any, Any]] = {}
        self.settled = Bell()
        self.performer = Performer(clock, logger)
        call_events = CallEvents(events, clock)
        self.tell = call_events.tell
        self._admission = Admission(
            store=store,
            clock=clock,
            lock=lock,
            keys=keys,
            governor=governor,
            readiness=readiness,
            call_events=call_events,
            owner=owner,
        )
        self._settling = Settling(
            store=store,
            lock=lock,
            governor=governor,
            alerts=alerts,
            call_events=call_events,
            random=random,
            settled=self.settled,
        )

    # the three steps

    def admit(
        self, action: Action[Any, Any], bound: Bound, call: Call, *, lease: float, group: str
    ) -> Call:
        """Pass every guard and commit ``dispatched``, before the first byte of the effect leaves.

        ``call`` is a draft (epoch 0), a direct call that waits for its retry (pending), or one a
        worker claimed. Returns it dispatched, or another call that holds its key.

        Raises the guard's `Refused` (nothing is claimed, nothing is used up) or `StoreError`.
        """
        return alone(self.store, self.admitting(action, bound, call, lease=lease, group=group))

    def admitting(
        self, action: Action[Any, Any], bound: Bound, call: Call, *, lease: float, group: str
    ) -> Writing[Call]:
        """`admit`, for whoever lets it share a commit."""
        return self._admission.admitting(action, bound, call, lease=lease, group=group)

    def perform(self, action: Action[Any, Any], call: Call, bound: Bound) -> Performed:
        """Run the action's code once, in this thread; never raises."""
        return self.performer.run(action, call, bound)

    def settle(self, action: Action[Any, Any], call: Call, performed: Performed) -> Call:
        """Write what an attempt did, fenced by ``(id, epoch, state)``. Returns the call as it is.

        When the fence is lost (the lease ran out meanwhile) the result is kept as evidence.
        Raises `OutcomeUnknown` when the ledger cannot be written: the attempt is over, and when
        the lease ends the call will be found and counted as unknown.
        """
        return alone(self.store, self.settling(action, call, performed))

    def settling(self, action: Action[Any, Any], call: Call, performed: Performed) -> Writing[Call]:
        """`settle`, for whoever lets it share a commit."""
        return self._settling.settling(action, call, performed)

    def conclude(self, tx: Transaction, before: Call, after: Call, now: float) -> bool:
        """Write a call's new state and all that follows from it; false when it changed meanwhile.

        Units that ``after`` no longer holds are given back; calls that wait for it are freed or
        cancelled.
        """
        return self._settling.conclude(tx, before, after, now)

    # the calls

    def draft(self, action: Action[Any, Any], bound: Bound) -> Call:
        """A direct call that is not in the ledger yet: pending, and due now.

        What it is not told here it has by default: a call of anything with more than fifteen
        keywords takes Python three times as long.
        """
        now = self.clock.now()
        policy = action.policy
        key = action.key_of(bound.values)
        return Call(
            id=new_id(now),
            action=action.name,
            state=_PENDING,
            created_at=now,
            key=key,
            held=key is not None,
            fingerprint=bound.fingerprint,
            args=bound.text,
            max_attempts=policy.retry.max_retries + 1,
            priority=policy.priority,
            run_at=now,
            deadline_at=None if policy.deadline is None else now + policy.deadline,
            correlation_id=get_correlation_id(),
            repeatable=policy.repeatable,
        )

    def get(self, call_id: str) -> Call | None:
        """The call as the ledger has it now."""
        return self.store.read(lambda tx: tx.calls.get(call_id))

    # direct calls

    def call(self, action: Action[Any, Any], bound: Bound) -> Receipt:
        """Carry out a direct call in this thread."""
        course = Conversation(self, action, bound).run()
        try:
            step = next(course)
            while True:
                if isinstance(step, Perform):
                    step = course.send(self.perform(action, step.call, bound))
                else:
                    step = self._slept(course, step)
        except StopIteration as stop:
            receipt: Receipt = stop.value
            return receipt

    def _slept(self, course: Course, step: Sleep) -> Perform | Sleep:
        try:
            self.clock.sleep(step.seconds)
        except BaseException as error:  # noqa: BLE001 - the conversation raises it again
            return course.throw(error)
        return next(course)

    async def acall(self, action: Action[Any, Any], bound: Bound) -> Receipt:
        """Carry out a direct call in the running loop; a plain function gets a helper thread."""
        if not action.is_async:
            import asyncio  # noqa: PLC0415 - only async callers pay for it

            return await asyncio.to_thread(self.call, action, bound)
        from gonogo.awaiting import carry_out  # noqa: PLC0415 - same

        return await carry_out(self, action, bound)
