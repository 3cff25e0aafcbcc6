"""Rehearse → approve → apply: a plan is the exact rows that will run, and says so beforehand."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from msgspec import structs

from gonogo.decisions import decision, require_who_and_why
from gonogo.errors import ConfigurationError, Drifted, NotFound, PlanError
from gonogo.events import Event
from gonogo.forecasting import forecast, uses_of
from gonogo.handle import Handle
from gonogo.ids import new_id
from gonogo.jobs import SLACK, TURN, Jobs
from gonogo.overtaken import ENOUGH, noted, takers
from gonogo.pipeline import Pipeline
from gonogo.plan import TO_DO, Cancelled, Plan, digest_of
from gonogo.precedence import queued, require_hope
from gonogo.records import QUEUED, Call, PlanRecord, PlanState, State, advance
from gonogo.rehearsal import Rehearsal
from gonogo.simulated import Undetermined
from gonogo.store.port import Transaction

DAY = 86_400.0
NOT_SAID = "somebody unnamed"
"""Stands for who applied a plan where nobody was named: the approver need not have been it."""

_rehearsing: ContextVar[Rehearsal | None] = ContextVar("gonogo_rehearsal", default=None)


class Planner:
    """Makes, keeps, approves and applies the plans of one pipeline."""

    def __init__(
        self, pipeline: Pipeline, jobs: Jobs, *, wake: Callable[[], None], ledger: str
    ) -> None:
        self._pipeline = pipeline
        self._store = pipeline.store
        self._wake = wake
        self._ledger = ledger
        self._active: list[Rehearsal] = []
        self._mutex = threading.Lock()
        self.jobs = jobs

    def now(self) -> float:
        """Epoch seconds."""
        return self._pipeline.clock.now()

    def holder(self, draft: Call) -> Call | None:
        """The call that holds the draft's key now, unless its time is over."""
        assert draft.key is not None  # noqa: S101 - asked for keyed calls only
        key = draft.key
        holder = self._store.read(lambda tx: tx.calls.holder(draft.action, key))
        if holder is None or self._pipeline.keys.lapsed(holder, self.now()):
            return None
        return holder

    def require_hope(self, draft: Call) -> None:
        """Refuse a job that would wait for a call which is not there or ended badly."""
        self._store.read(lambda tx: require_hope(tx, draft))

    @property
    def current(self) -> Rehearsal | None:
        """The rehearsal of this planner that the calling code runs in."""
        rehearsal = _rehearsing.get()
        return rehearsal if rehearsal is not None and rehearsal.planner is self else None

    @property
    def active(self) -> bool:
        """Whether any rehearsal is on in this process."""
        return bool(self._active)

    def stray(self, action: str) -> None:
        """Note in every rehearsal that is on that a thread outside of it was refused.

        It may be the job's own, and then its calls are missing from the plan.
        """
        with self._mutex:
            active = list(self._active)
        for rehearsal in active:
            rehearsal.problem(
                f"{action} was called in a thread that is not part of the rehearsal, and refused: "
                "start the job's threads with gonogo.carry(fn)"
            )

    @contextmanager
    def rehearse(self, name: str, *, expires_in: float = DAY) -> Iterator[Plan]:
        """Record the irreversible and queued calls made in the block instead of performing them.

        Yields the plan, which is complete when the block ends. When the block has to guess at a
        result it stops there, and the plan is incomplete; any other exception leaves an incomplete
        plan too and goes on its way.
        """
        if not name.strip() or expires_in <= 0:
            raise ConfigurationError("a rehearsal needs a name and expires_in > 0 seconds")
        if _rehearsing.get() is not None:
            raise ConfigurationError(f"rehearsal {name!r} was begun inside another rehearsal")
        rehearsal = Rehearsal(self, new_id(self.now()))
        blank = _blank(rehearsal.plan_id, name, self.now(), expires_in)
        plan = Plan(blank, [], list, self._ledger, self.get)
        token = _rehearsing.set(rehearsal)
        with self._mutex:
            self._active.append(rehearsal)
        try:
            yield plan
        except Undetermined:  # which has reported itself
            rehearsal.problem("the job stopped there: what it does next is not in this plan")
        except BaseException as error:
            rehearsal.ended(error)
            raise
        finally:
            _rehearsing.reset(token)
            with self._mutex:
                self._active.remove(rehearsal)
            self._finish(plan, rehearsal)

    def _finish(self, plan: Plan, rehearsal: Rehearsal) -> None:
        rehearsal.over = True
        calls, uses = forecast(self._pipeline, rehearsal)
        problems = tuple(rehearsal.problems)
        plan.record = structs.replace(
            plan.record,
            state=PlanState.INCOMPLETE if problems else PlanState.READY,
            digest=digest_of(calls),
            size=len(calls),
            problems=problems,
        )
        plan.calls = calls
        plan._uses = lambda: uses

        def work(tx: Transaction) -> None:
            tx.plans.insert(plan.record)
            tx.calls.insert_many(calls)

        self._store.write(work)

    def get(self, plan_id: str) -> Plan:
        """The plan with its calls; `NotFound` when there is none of that id."""

        def work(tx: Transaction) -> tuple[PlanRecord, list[Call], dict[str, Call]]:
            record = tx.plans.get(plan_id)
            if record is None:
                raise _not_found(plan_id)
            return record, tx.calls.of_plan(plan_id), self._takers(tx, record, record.size)

        record, calls, taken = self._store.read(work)
        calls = [noted(call, taken.get(call.id)) for call in calls]
        uses = cache(lambda: uses_of(self._pipeline, calls))
        return Plan(record, calls, uses, self._ledger, self.get, overtaken=len(taken))

    def is_overtaken(self, plan: PlanRecord) -> bool:
        """Whether a plan cannot be applied any more, because other calls took keys of its calls."""
        return bool(self._store.read(lambda tx: self._takers(tx, plan, ENOUGH)))

    def _takers(self, tx: Transaction, plan: PlanRecord, limit: int) -> dict[str, Call]:
        now = self.now()
        return takers(tx, plan, lambda call: self._pipeline.keys.lapsed(call, now), limit)

    def record(self, plan_id: str) -> PlanRecord:
        """The plan without its calls; `NotFound` when there is none of that id."""
        record = self._store.read(lambda tx: tx.plans.get(plan_id))
        if record is None:
            raise _not_found(plan_id)
        return record

    def approve(self, plan_id: str, *, by: str, reason: str) -> PlanRecord:
        """A person's yes, bound to the plan's digest.

        Raises `PlanError` when the plan is incomplete, expired, changed, or not waiting for it.
        """
        require_who_and_why("approving a plan", by, reason)
        now = self.now()

        def work(tx: Transaction) -> PlanRecord:
            plan = self._expect(tx, plan_id, PlanState.READY, now)
            self._require_unchanged(plan, tx.calls.of_plan(plan_id))
            approved = structs.replace(
                plan,
                state=PlanState.APPROVED,
                approved_by=by,
                approved_at=now,
                approval_reason=reason,
            )
            self._change(tx, plan, approved)
            self._decide(tx, "approved", plan, by, reason, now)
            return approved

        return self._told("plan.approved", self._store.write(work), by=by)

    def apply(self, plan_id: str, *, by: str | None = None) -> list[Handle]:
        """Queue exactly the plan's calls that are to be done, in one transaction.

        The approval is consumed by it; a second apply is refused. Without ``by`` nobody is recorded
        as the one who applied it. Raises `PlanError` when the plan is not approved, expired or
        changed, and `Drifted` when a key was taken since.
        """
        now = self.now()

        def work(tx: Transaction) -> tuple[PlanRecord, list[str]]:
            plan = self._expect(tx, plan_id, PlanState.APPROVED, now)
            calls = tx.calls.of_plan(plan_id)
            self._require_unchanged(plan, calls)
            applied = structs.replace(plan, state=PlanState.APPLIED, applied_by=by, applied_at=now)
            self._change(tx, plan, applied)
            to_do = self._queue(tx, plan, calls, now)
            what = "1 call queued" if len(to_do) == 1 else f"{len(to_do)} calls queued"
            self._decide(tx, "applied", plan, by or NOT_SAID, what, now)
            return applied, to_do

        applied, to_do = self._store.write(work)
        self._told("plan.applied", applied, by=applied.applied_by, calls=len(to_do))
        self._wake()
        return [Handle(self.jobs, call_id, is_new=True) for call_id in to_do]

    def discard(self, plan_id: str, *, by: str, reason: str) -> PlanRecord:
        """Give the plan up; nothing of it will run. Raises `PlanError` when it was applied."""
        require_who_and_why("discarding a plan", by, reason)
        now = self.now()

        def work(tx: Transaction) -> PlanRecord:
            plan = tx.plans.get(plan_id)
            if plan is None:
                raise _not_found(plan_id)
            if plan.state in {PlanState.APPLIED, PlanState.DISCARDED}:
                error = PlanError(f"plan {plan_id} {_is(plan)} and cannot be discarded")
                if plan.state is PlanState.APPLIED:
                    error.remedy = f"gonogo cancel --plan {plan_id} --by WHO --reason WHY"
                raise error
            discarded = structs.replace(plan, state=PlanState.DISCARDED)
            self._change(tx, plan, discarded)
            for call in tx.calls.of_plan(plan_id):
                if call.state is State.PLANNED:
                    after = advance(call, State.DISCARDED, settled_at=now)
                    self._pipeline.conclude(tx, call, after, now)
            self._decide(tx, "discarded", plan, by, reason, now)
            return discarded

        return self._store.write(work)

    def cancel(self, plan_id: str, *, by: str, reason: str) -> Cancelled:
        """Cancel the calls of an applied plan of which nothing was sent yet; the others go on.

        A call that may have happened in an earlier attempt becomes unknown, as when it is cancelled
        alone. Where none is left to cancel, no decision is recorded. Where it was interrupted,
        cancel again: what is cancelled stays so.

        Raises:
            PlanError: when the plan was not applied.
            NotFound: when there is none of that id.
        """
        require_who_and_why("cancelling a plan", by, reason)
        now = self.now()

        def work(tx: Transaction) -> list[Call]:
            plan = tx.plans.get(plan_id)
            if plan is None:
                raise _not_found(plan_id)
            if plan.state is not PlanState.APPLIED:
                error = PlanError(
                    f"plan {plan_id} {_is(plan)}, not applied: nothing of it is queued. Discard it"
                )
                error.remedy = f"gonogo plan discard {plan_id} --by WHO --reason WHY"
                raise error
            calls = [call for call in tx.calls.of_plan(plan_id) if call.state in QUEUED]
            if calls:
                self._decide(tx, "cancelled", plan, by, reason, now)
            return calls

        before = [call.id for call in self._store.write(work)]
        self.jobs.cancel_all(before, by=by, reason=reason)
        after = self._store.read(lambda tx: tx.calls.of_plan(plan_id))
        ended = {call.id for call in after if call.state is State.CANCELLED}.intersection(before)
        left = Counter(c.state for c in after if c.id not in ended)
        left.pop(State.DISCARDED, None)
        return Cancelled(len(ended), dict(left))

    def _queue(self, tx: Transaction, plan: PlanRecord, calls: list[Call], now: float) -> list[str]:
        """Ids of the calls that are queued by it."""
        to_do: list[str] = []
        first = now - SLACK - plan.size * TURN  # all are due now, in the plan's order
        for call in calls:
            turn = first + (call.position or 0) * TURN
            if call.verdict not in TO_DO:
                tx.calls.replace(call, advance(call, State.DISCARDED, settled_at=now))
                continue
            self._require_free(tx, call, now)
            wanted = call.run_at if call.run_at > call.created_at else 0.0
            pending = advance(
                call,
                State.PENDING,
                held=call.key is not None,
                approved_by=plan.approved_by,
                deadline_at=self._deadline(call, now),
                run_at=max(wanted, turn),
            )
            after = queued(tx, pending)
            if not tx.calls.replace(call, after):
                raise PlanError(f"call {call.id} of plan {plan.id} changed; nothing was queued")
            to_do.append(call.id)
        return to_do

    def _deadline(self, call: Call, now: float) -> float | None:
        """A deadline counts from when the call could first run, which is now."""
        return None if call.deadline_at is None else now + (call.deadline_at - call.created_at)

    def _require_free(self, tx: Transaction, call: Call, now: float) -> None:
        if call.key is None:
            return
        owner = self._pipeline.keys.claim(tx, call, now)
        if owner is not call:
            raise Drifted(
                f"{call.action} ({call.key}) was new when the plan was made; meanwhile call "
                f"{owner.id} has its key and is {owner.state.value}. Nothing was queued: rehearse "
                "again",
                action=call.action,
                key=call.key,
                call_id=owner.id,
            )

    def _expect(self, tx: Transaction, plan_id: str, state: PlanState, now: float) -> PlanRecord:
        plan = tx.plans.get(plan_id)
        if plan is None:
            raise _not_found(plan_id)
        if plan.state is not state:
            why = "; ".join(plan.problems[:3]) or _REMEDIES.get(plan.state, "rehearse again")
            error = PlanError(f"plan {plan_id} {_is(plan)}, not {state.value}: {why}")
            error.remedy = _COMMANDS.get(plan.state, "gonogo plan list").format(plan_id)
            raise error
        if plan.expires_at <= now:
            raise PlanError(f"plan {plan_id} has expired: rehearse again, the world has moved on")
        return plan

    def _require_unchanged(self, plan: PlanRecord, calls: Sequence[Call]) -> None:
        if digest_of(calls) != plan.digest:
            raise PlanError(
                f"plan {plan.id} is not what was rehearsed: its digest differs. Rehearse again"
            )

    def _change(self, tx: Transaction, before: PlanRecord, after: PlanRecord) -> None:
        if not tx.plans.replace(before, after):
            raise PlanError(f"plan {before.id} changed meanwhile; look again")

    def _decide(
        self, tx: Transaction, what: str, plan: PlanRecord, by: str, reason: str, now: float
    ) -> None:
        tx.decisions.append(
            decision(f"plan {what}", plan.id, by=by, reason=reason, now=now, digest=plan.digest)
        )

    def _told(self, name: str, plan: PlanRecord, **detail: Any) -> PlanRecord:
        if self._pipeline.events:
            self._pipeline.events.emit(Event(name, self.now(), detail={"plan": plan.id, **detail}))
        return plan


def _not_found(plan_id: str) -> NotFound:
    return NotFound(f"there is no plan {plan_id!r} in this ledger")


def _blank(plan_id: str, name: str, now: float, expires_in: float) -> PlanRecord:
    return PlanRecord(
        id=plan_id,
        name=name,
        state=PlanState.INCOMPLETE,
        created_at=now,
        expires_at=now + expires_in,
        digest="",
        size=0,
        problems=("the rehearsal is still running",),
    )


_REMEDIES = {
    PlanState.READY: "approve it first",
    PlanState.APPROVED: "apply it",
    PlanState.APPLIED: "a plan is applied once; for more, rehearse again",
}

_COMMANDS = {
    PlanState.INCOMPLETE: "gonogo plan show {}",
    PlanState.READY: "gonogo approve {} --by WHO --reason WHY",
    PlanState.APPROVED: "gonogo apply {}",
    PlanState.APPLIED: "gonogo calls list --plan {}",
}


def _is(plan: PlanRecord) -> str:
    return f"is {plan.state.value}"
