"""Rehearse → approve → apply: a plan is the exact rows that will run, and says so beforehand."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec
from msgspec import structs

from gonogo.action import Action
from gonogo.arguments import Bound, TaintedArgument
from gonogo.errors import (
    ConfigurationError,
    Drifted,
    DryRunBlocked,
    EffectRejected,
    KeyConflict,
    NotFound,
    PlanError,
)
from gonogo.events import Event
from gonogo.facts import read_facts
from gonogo.governor import Forecast
from gonogo.ids import new_id
from gonogo.jobs import Handle, JobOptions, Jobs, waits_for
from gonogo.pipeline import Pipeline
from gonogo.plan_text import render
from gonogo.records import (
    Call,
    Decision,
    PlanRecord,
    PlanState,
    State,
    advance,
)
from gonogo.secrets import describe
from gonogo.simulated import Simulated, Undetermined, Unknown
from gonogo.store.port import Transaction

TO_DO = frozenset({"new", "waits"})
"""Verdicts of calls that applying the plan will queue."""

DAY = 86_400.0
_MAX_PROBLEMS = 100

_rehearsing: ContextVar[Rehearsal | None] = ContextVar("gonogo_rehearsal", default=None)


class Plan:
    """A rehearsal's result: what would happen, what would not, and why.

    Attributes:
        record: the ledger's record: id, name, state, digest, problems, approval.
        calls: the calls in the order in which the job made them, each with a ``verdict``:

    =================  =================================================================
    ``new``            would be performed
    ``waits``          would be performed, but a limit has no room for it now
    ``done``           was performed before; its recorded result stands
    ``duplicate``      stands earlier in this plan
    ``in_doubt``       an earlier call with its key may or may not have happened
    ``in_flight``      an earlier call with its key is queued or running
    ``rejected``       the other side refused it for good before
    ``conflict``       its key was used with other arguments
    ``denied``         a limit can never admit it
    ``undetermined``   its arguments depend on a result that does not exist yet
    =================  =================================================================
    """

    def __init__(self, record: PlanRecord, calls: Sequence[Call], costs: Sequence[Costs]) -> None:
        self.record = record
        self.calls = list(calls)
        self._costs = list(costs)

    @property
    def id(self) -> str:
        """The plan's id."""
        return self.record.id

    @property
    def digest(self) -> str:
        """Covers every call in order; an approval binds it."""
        return self.record.digest

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it is incomplete; empty when it can be approved."""
        return self.record.problems

    def verdicts(self) -> dict[str, int]:
        """How many calls there are of each verdict."""
        return dict(Counter(call.verdict or "new" for call in self.calls))

    def totals(self) -> dict[str, dict[str, int]]:
        """Of the calls that would be performed: action → ``calls`` and units of each limit row."""
        totals: dict[str, dict[str, int]] = {}
        for call, costs in zip(self.calls, self._costs, strict=True):
            if call.verdict in TO_DO:
                sums = totals.setdefault(call.action, {"calls": 0})
                sums["calls"] += 1
                for row, cost in costs.items():
                    sums[row] = sums.get(row, 0) + cost
        return totals

    def __str__(self) -> str:
        return render(self.record, self.calls, self.verdicts(), self.totals())

    def __repr__(self) -> str:
        return f"<plan {self.record.name!r} {self.id}: {self.record.state.value}>"


Costs = dict[str, int]


class Rehearsal:
    """The recording of one rehearsal: made by `Planner.rehearse`, filled by the router."""

    def __init__(self, planner: Planner, plan_id: str) -> None:
        self.planner = planner
        self.plan_id = plan_id
        self.calls: list[Call] = []
        self.problems: list[str] = []
        self.over = False
        self._by_key: dict[tuple[str, str], Call] = {}
        self._mutex = threading.Lock()

    def problem(self, text: str) -> None:
        """Note why the plan cannot be complete."""
        with self._mutex:
            if text not in self.problems and len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(text)

    def direct(self, action: Action[Any, Any], bound: Bound) -> tuple[Any, Call, bool]:
        """Record a direct call: what the job goes on with, the call, whether it is a replay."""
        call, known = self._record(action, bound, JobOptions())
        if known is not None and known.state is State.SUCCEEDED and known.result is not None:
            return action.decode_result(known.result), known, True
        if call.verdict == "rejected" and known is not None:
            raise EffectRejected(
                f"{call.action} ({call.key}) was refused for good in call {known.id}: {known.note}",
                action=call.action,
                key=call.key,
                call_id=known.id,
            )
        return self._simulated(action, bound, call), call, False

    def queued(self, action: Action[Any, Any], bound: Bound, options: JobOptions) -> Handle:
        """Record a job; the handle is that of the call which will carry it out."""
        call, known = self._record(action, bound, options)
        target = known or call
        return Handle(self.planner.jobs, target.id, is_new=known is None)

    def tainted(self, action: Action[Any, Any], error: TaintedArgument) -> Call:
        """Record a call whose arguments nobody can know yet."""
        now = self.planner.now()
        call = Call(
            id=new_id(now),
            action=action.name,
            state=State.PLANNED,
            created_at=now,
            verdict="undetermined",
            note=f"{error}, which does not exist before it ran",
        )
        self.problem(f"{action.name}: {error}, so its arguments are not known before the job runs")
        return self._append(call)

    def unknown(self, call: Call) -> Unknown:
        """The stand-in for the result of a recorded call."""
        return Unknown(f"{call.action} ({call.key or call.id})", self.problem)

    def _record(
        self, action: Action[Any, Any], bound: Bound, options: JobOptions
    ) -> tuple[Call, Call | None]:
        """The recorded call, and the one that stands for it already, if any."""
        if bound.has_secrets:
            self.problem(f"{action.name}: a secret argument cannot be kept in a plan")
            bound = structs.replace(bound, has_secrets=False)
        draft = self.planner.jobs.draft(action, bound, options)
        verdict, known = self._judge(draft)
        call = structs.replace(
            draft,
            state=State.PLANNED,
            held=False,
            plan_id=self.plan_id,
            verdict=verdict,
            facts=self._facts(action, bound, draft) if verdict == "new" else None,
            note=_WHY.get(verdict, "").format(known.id if known else "") or None,
        )
        call = self._append(call)
        if verdict == "conflict" and known is not None:
            raise KeyConflict(
                f"{call.action}: key {call.key!r} was used with different arguments by call "
                f"{known.id}; if this is another effect, give it another key",
                action=call.action,
                key=call.key,
                call_id=known.id,
            )
        return call, known

    def _judge(self, draft: Call) -> tuple[str, Call | None]:
        if draft.key is None:
            return "new", None
        with self._mutex:
            earlier = self._by_key.setdefault((draft.action, draft.key), draft)
        if earlier is not draft:
            same = earlier.fingerprint == draft.fingerprint
            return "duplicate" if same else "conflict", earlier
        holder = self.planner.holder(draft)
        if holder is None:
            return "new", None
        with self._mutex:
            self._by_key[draft.action, draft.key] = holder
        if holder.fingerprint != draft.fingerprint:
            return "conflict", holder
        return _VERDICTS.get(holder.state, "in_flight"), holder

    def _facts(self, action: Action[Any, Any], bound: Bound, draft: Call) -> str | None:
        if action.reader is None:
            return None
        try:
            return read_facts(action, bound.values, draft.key)
        except Drifted as error:
            self.problem(str(error))
            return None

    def _append(self, call: Call) -> Call:
        with self._mutex:
            if self.over:
                raise DryRunBlocked(
                    f"{call.action} was not performed: this thread belongs to a rehearsal that is "
                    "over; wait for the job's threads before the rehearsal ends",
                    action=call.action,
                    key=call.key,
                )
            placed = structs.replace(call, plan_id=self.plan_id, position=len(self.calls))
            self.calls.append(placed)
        return placed

    def _simulated(self, action: Action[Any, Any], bound: Bound, call: Call) -> Any:
        if action.simulator is None:
            return self.unknown(call)
        try:
            value = action.parameters.invoke(action.simulator, bound.values)
        except Exception as error:  # noqa: BLE001 - a broken simulator only leaves a gap in the plan
            self.problem(f"{action.name}: its simulator failed with {describe(error)}")
            return self.unknown(call)
        return Simulated(value, f"{call.action} ({call.key or call.id})", self.problem)


class Planner:
    """Makes, keeps, approves and applies the plans of one pipeline."""

    def __init__(self, pipeline: Pipeline, jobs: Jobs, *, wake: Callable[[], None]) -> None:
        self._pipeline = pipeline
        self._store = pipeline.store
        self._wake = wake
        self._active = 0
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

    @property
    def current(self) -> Rehearsal | None:
        """The rehearsal of this planner that the calling code runs in."""
        rehearsal = _rehearsing.get()
        return rehearsal if rehearsal is not None and rehearsal.planner is self else None

    @property
    def active(self) -> bool:
        """Whether any rehearsal is on in this process."""
        return self._active > 0

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
        plan = Plan(_blank(rehearsal.plan_id, name, self.now(), expires_in), [], [])
        token = _rehearsing.set(rehearsal)
        with self._mutex:
            self._active += 1
        try:
            yield plan
        except Undetermined as stop:
            rehearsal.problem(f"it stopped at an unknown result: {stop}")
        except BaseException as error:
            rehearsal.problem(f"it ended with {describe(error)}")
            raise
        finally:
            _rehearsing.reset(token)
            with self._mutex:
                self._active -= 1
            self._finish(plan, rehearsal)

    def _finish(self, plan: Plan, rehearsal: Rehearsal) -> None:
        rehearsal.over = True
        costs = [self._costs(call) for call in rehearsal.calls]
        calls = self._forecast(rehearsal)
        problems = tuple(rehearsal.problems)
        plan.record = structs.replace(
            plan.record,
            state=PlanState.INCOMPLETE if problems else PlanState.READY,
            digest=digest_of(calls),
            size=len(calls),
            problems=problems,
        )
        plan.calls = calls
        plan._costs = costs

        def work(tx: Transaction) -> None:
            tx.plans.insert(plan.record)
            tx.calls.insert_many(calls)

        self._store.write(work)

    def _costs(self, call: Call) -> Costs:
        action = self._pipeline.actions.get(call.action)
        if action is None or call.verdict == "undetermined":
            return {}
        charges = action.charges(action.parameters.load(call.args).values, self.now())
        return {c.row: c.cost for c in charges if c.row != call.action}

    def _forecast(self, rehearsal: Rehearsal) -> list[Call]:
        """Say of the new calls which limit would hold them back, taking them in order."""
        now = self.now()
        todo = [call for call in rehearsal.calls if call.verdict == "new"]
        groups = []
        for call in todo:
            action = self._pipeline.actions[call.action]
            declared = action.charges(action.parameters.load(call.args).values, now)
            groups.append(self._pipeline.governor.charges(action.name, declared, now))
        denials: dict[str, Forecast] = {}
        found = self._store.read(lambda tx: self._pipeline.governor.forecast(tx, groups, now))
        for denial in found:
            denials.setdefault(todo[denial.index].id, denial)
        return [
            self._denied(rehearsal, call, denials[call.id]) if call.id in denials else call
            for call in rehearsal.calls
        ]

    def _denied(self, rehearsal: Rehearsal, call: Call, denial: Forecast) -> Call:
        room = f"limit {denial.row!r}: {denial.used} of {denial.max} taken, {denial.cost} wanted"
        if denial.never:
            rehearsal.problem(f"{call.action} ({call.key or call.id}) can never pass {room}")
            return structs.replace(call, verdict="denied", note=f"never passes {room}")
        return structs.replace(call, verdict="waits", note=f"waits for {room}")

    def get(self, plan_id: str) -> Plan:
        """The plan with its calls; `NotFound` when there is none of that id."""

        def work(tx: Transaction) -> tuple[PlanRecord | None, list[Call]]:
            return tx.plans.get(plan_id), tx.calls.of_plan(plan_id)

        record, calls = self._store.read(work)
        if record is None:
            raise NotFound(f"there is no plan {plan_id!r} in this ledger")
        return Plan(record, calls, [self._costs(call) for call in calls])

    def approve(self, plan_id: str, *, by: str, reason: str) -> PlanRecord:
        """A person's yes, bound to the plan's digest.

        Raises `PlanError` when the plan is incomplete, expired, changed, or not waiting for it.
        """
        _require_who_and_why("approving", by, reason)
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

        The approval is consumed by it; a second apply is refused. Raises `PlanError` when the plan
        is not approved, expired or changed, and `Drifted` when a key was taken since.
        """
        now = self.now()

        def work(tx: Transaction) -> tuple[PlanRecord, list[Call]]:
            plan = self._expect(tx, plan_id, PlanState.APPROVED, now)
            calls = tx.calls.of_plan(plan_id)
            self._require_unchanged(plan, calls)
            actor = by or plan.approved_by or ""
            applied = structs.replace(
                plan, state=PlanState.APPLIED, applied_by=actor, applied_at=now
            )
            self._change(tx, plan, applied)
            queued = self._queue(tx, plan, calls, now)
            self._decide(tx, "applied", plan, actor, f"{len(queued)} calls queued", now)
            return applied, queued

        applied, queued = self._store.write(work)
        self._told("plan.applied", applied, by=applied.applied_by, calls=len(queued))
        self._wake()
        return [Handle(self.jobs, call.id, is_new=True) for call in queued]

    def discard(self, plan_id: str, *, by: str, reason: str) -> PlanRecord:
        """Give the plan up; nothing of it will run. Raises `PlanError` when it was applied."""
        _require_who_and_why("discarding", by, reason)
        now = self.now()

        def work(tx: Transaction) -> PlanRecord:
            plan = tx.plans.get(plan_id)
            if plan is None:
                raise NotFound(f"there is no plan {plan_id!r} in this ledger")
            if plan.state in {PlanState.APPLIED, PlanState.DISCARDED}:
                raise PlanError(f"plan {plan_id} {_is(plan)} and cannot be discarded")
            discarded = structs.replace(plan, state=PlanState.DISCARDED)
            self._change(tx, plan, discarded)
            for call in tx.calls.of_plan(plan_id):
                if call.state is State.PLANNED:
                    tx.calls.replace(call, advance(call, State.DISCARDED, settled_at=now))
            self._decide(tx, "discarded", plan, by, reason, now)
            return discarded

        return self._store.write(work)

    def _queue(
        self, tx: Transaction, plan: PlanRecord, calls: list[Call], now: float
    ) -> list[Call]:
        queued: dict[str, Call] = {}
        for call in calls:
            turn = now - (plan.size - (call.position or 0)) * 1e-6  # due now, in the plan's order
            if call.verdict not in TO_DO:
                tx.calls.replace(call, advance(call, State.DISCARDED, settled_at=now))
                continue
            self._require_free(tx, call, now)
            changes: dict[str, Any] = {"run_at": max(call.run_at, turn), "note": None}
            if call.after is not None:
                first = queued.get(call.after) or tx.calls.get(call.after)
                if first is None:
                    raise PlanError(f"call {call.id} waits for {call.after}, which is gone")
                changes.update(waits_for(first, call, turn))
            after = advance(
                call,
                State.PENDING,
                held=call.key is not None,
                approved_by=plan.approved_by,
                deadline_at=self._deadline(call, now),
                **changes,
            )
            if not tx.calls.replace(call, after):
                raise PlanError(f"call {call.id} of plan {plan.id} changed; nothing was queued")
            queued[after.id] = after
        return list(queued.values())

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
            raise NotFound(f"there is no plan {plan_id!r} in this ledger")
        if plan.state is not state:
            why = f": {'; '.join(plan.problems[:3])}" if plan.problems else ""
            raise PlanError(f"plan {plan_id} {_is(plan)}, not {state.value}{why}")
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
            Decision(
                id=new_id(now),
                at=now,
                what=f"plan {what}",
                subject=plan.id,
                actor=by,
                reason=reason,
                detail={"digest": plan.digest},
            )
        )

    def _told(self, name: str, plan: PlanRecord, **detail: Any) -> PlanRecord:
        if self._pipeline.events:
            self._pipeline.events.emit(Event(name, self.now(), detail={"plan": plan.id, **detail}))
        return plan


def digest_of(calls: Sequence[Call]) -> str:
    """``v1:`` and the SHA-256 over every call in order: what it does, and on which grounds."""
    digest = hashlib.sha256()
    for c in calls:
        line = [c.action, c.key, c.fingerprint, c.args, c.facts, c.verdict, c.after, c.queue]
        digest.update(msgspec.json.encode(line) + b"\n")
    return "v1:" + digest.hexdigest()


_VERDICTS = {
    State.SUCCEEDED: "done",
    State.FAILED: "rejected",
    State.UNKNOWN: "in_doubt",
}

_WHY = {
    "done": "performed before, in call {}",
    "duplicate": "stands earlier in this plan, as call {}",
    "in_doubt": "call {} with its key may or may not have happened; settle that first",
    "in_flight": "call {} with its key is queued or running",
    "rejected": "refused for good before, in call {}",
    "conflict": "its key was used with other arguments by call {}",
}


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


def _is(plan: PlanRecord) -> str:
    return f"is {plan.state.value}"


def _require_who_and_why(doing: str, by: str, reason: str) -> None:
    if not by.strip() or not reason.strip():
        raise ConfigurationError(f"{doing} a plan needs by= (who) and reason= (why)")
