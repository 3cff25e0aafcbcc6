"""Durable jobs: enqueue, the handle, approval and cancellation of single calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import structs

from gonogo.action import Action
from gonogo.answers import about, failure_of, result_of
from gonogo.arguments import Bound
from gonogo.batches import in_row, shown_bound
from gonogo.decisions import decision, require_who_and_why
from gonogo.differences import difference
from gonogo.errors import ConfigurationError, InFlight, KeyConflict, NotFound, Refused
from gonogo.explain import Workers, cancelled_by, concerns, explain
from gonogo.facts import read_facts
from gonogo.handle import Handle, JobOptions
from gonogo.history import attempts_of
from gonogo.ledger_keys import holder_of
from gonogo.precedence import queued
from gonogo.records import QUEUED, TERMINAL, Call, State, advance
from gonogo.settlement import withdrawn
from gonogo.shortage import shortage_of
from gonogo.stops import stop_of, thrown
from gonogo.store.port import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from gonogo.pipeline import Pipeline

TURN = 4e-6
"""Seconds between the due times of calls that are queued together: they keep their order."""

SLACK = 0.02
"""Seconds by which the clocks of a ledger's processes may differ: what is due now is so by all."""

AT_ONCE = 500
"""Calls cancelled in one transaction, so that nobody waits long for it."""

_POLL = 0.1


class Jobs:
    """The queue of one pipeline, as its users see it."""

    def __init__(self, pipeline: Pipeline, *, wake: Callable[[], None], lease: float) -> None:
        self._pipeline = pipeline
        self._lease = lease
        self._wake = wake

    def enqueue(
        self, action: Action[Any, Any], rows: Iterable[Bound], options: JobOptions
    ) -> list[Handle]:
        """Make one job a row, all or none, in one transaction or in the user's own.

        A row whose key is known gets a handle to that call instead. Raises `KeyConflict` when the
        key is known with other arguments, in the ledger or in the batch, `DryRunBlocked` when the
        sandbox is locked and the action irreversible, `ConfigurationError` for a secret argument
        (it cannot wait in a ledger).
        """
        work = self.prepare(action, rows, options)
        if options.session is not None:
            return self._pipeline.store.join(options.session, work, self._wake)
        handles = self._pipeline.store.write(work)
        self._wake()
        return handles

    def prepare(
        self, action: Action[Any, Any], rows: Iterable[Bound], options: JobOptions
    ) -> Callable[[Transaction], list[Handle]]:
        """What `enqueue` does inside a transaction; users' own code has run when this returns.

        The jobs are due one after the other: all of them now, or the first when it was wanted.
        """
        bounds = list(rows)
        first, slack = (1 - len(bounds), SLACK) if options.run_at is None else (0, 0.0)
        drafts: list[Call] = []
        try:
            for turn, bound in enumerate(bounds, first):
                drafts.append(self._draft(action, bound, options, turn * TURN - slack))
        except (ConfigurationError, Refused) as error:
            at = len(drafts)
            in_row(error, at + 1, len(bounds), shown_bound(bounds[at]))
            raise

        def work(tx: Transaction) -> list[Handle]:
            if not drafts:
                return []
            now = self._pipeline.clock.now()
            if action.policy.irreversible and not action.policy.needs_approval:
                lock, first_of = self._pipeline.lock, drafts[0]
                if lock.locked(tx.controls.all(), now):
                    raise lock.blocked(action.name, first_of.key, holder=holder_of(tx, first_of))
            fresh: list[Call] = []
            known: dict[str, Call] = {}
            lanes: dict[str | None, Call] = {}
            handles = []
            for row, draft in enumerate(drafts):
                try:
                    owner = self._owner(tx, draft, known, now)
                except KeyConflict as error:
                    in_row(error, row + 1, len(drafts), shown_bound(bounds[row]))
                    raise
                if owner is draft:
                    if draft.state is State.PENDING:
                        owner = queued(tx, draft, ahead=lanes.get(draft.lane))
                        lanes[draft.lane] = owner
                    fresh.append(owner)
                handles.append(Handle(self, owner.id, is_new=owner.id == draft.id))
            tx.calls.insert_many(fresh)
            return handles

        return work

    def _draft(
        self, action: Action[Any, Any], bound: Bound, options: JobOptions, shift: float
    ) -> Call:
        """The call to enqueue; one that a person is to approve says on which facts."""
        draft = self.draft(action, bound, options, shift)
        if action.policy.needs_approval and action.reader is not None:
            facts = read_facts(action, bound.values, draft.key)
            return structs.replace(draft, facts=facts)
        return draft

    def draft(
        self, action: Action[Any, Any], bound: Bound, options: JobOptions, shift: float = 0.0
    ) -> Call:
        """The call that enqueueing would make; it is due ``shift`` seconds later than is said."""
        if bound.has_secrets:
            raise ConfigurationError(
                f"action {action.name!r}: a secret argument cannot wait in the ledger, where "
                "secrets are never stored. Let the action fetch it (from the environment, a vault) "
                "when it runs, or call it directly",
                action=action.name,
            )
        planned = action.policy.needs_approval
        direct = self._pipeline.draft(action, bound)
        return structs.replace(
            direct,
            queue=options.queue or action.policy.queue,
            state=State.PLANNED if planned else State.PENDING,
            run_at=(direct.run_at if options.run_at is None else options.run_at) + shift,
            priority=direct.priority if options.priority is None else options.priority,
            after=options.after,
            lane=action.lane_of(bound.values),
            note="waits for a person's approval" if planned else None,
        )

    def _owner(self, tx: Transaction, draft: Call, known: dict[str, Call], now: float) -> Call:
        """Who owns the key: the draft, a call in the ledger, or an earlier row of this batch."""
        if draft.key is None:
            return draft
        earlier = known.get(draft.key)
        if earlier is not None and earlier.fingerprint == draft.fingerprint:
            return earlier
        owner = self._pipeline.keys.claim(tx, draft, now)
        if earlier is not None:
            raise KeyConflict(
                f"{draft.action}: key {draft.key!r} stands in this batch twice with different "
                f"arguments ({difference(draft, earlier)})",
                action=draft.action,
                key=draft.key,
            )
        known[draft.key] = owner
        return owner

    def approve(self, call_id: str, *, by: str, reason: str) -> Call:
        """A person's yes to one call that needs it: planned → pending.

        Raises `ConfigurationError` without who and why, `Refused` when it is not waiting.
        """
        require_who_and_why("approving a call", by, reason)
        now = self._pipeline.clock.now()
        call = self.get(call_id)
        if call.state is not State.PLANNED or call.plan_id is not None:
            raise Refused(
                f"call {call_id} is {call.state.value}: it does not wait for an approval of its own"
                + (f"; approve its plan {call.plan_id}" if call.plan_id else ""),
                action=call.action,
                key=call.key,
                call_id=call_id,
            )

        def work(tx: Transaction) -> Call:
            run_at = max(call.run_at, now)
            approved = advance(call, State.PENDING, approved_by=by, run_at=run_at)
            after = queued(tx, approved)
            if not tx.calls.replace(call, after):
                raise InFlight(f"call {call_id} changed meanwhile; look again", call_id=call_id)
            tx.decisions.append(decision("approved", call_id, by=by, reason=reason, now=now))
            return after

        approved = self._pipeline.store.write(work)
        self._wake()
        return approved

    def cancel(self, call_id: str, *, by: str, reason: str) -> bool:
        """Cancel a call of which nothing was sent yet; false when it is too late.

        Raises `Refused` for a call of a plan that was not applied: a plan is all or nothing.
        """
        require_who_and_why("cancelling a call", by, reason)
        call = self.get(call_id)
        now = self._pipeline.clock.now()

        def work(tx: Transaction) -> Call | None:
            current = tx.calls.get(call_id) or call
            if current.state is State.PLANNED and current.plan_id is not None:
                raise _is_of_plan(current)
            if (after := self._withdraw(tx, current, by, reason, now)) is not None:
                tx.decisions.append(decision("cancelled", call_id, by=by, reason=reason, now=now))
            return after

        after = self._pipeline.store.write(work)
        self._tell_withdrawn([after] if after else [], reason)
        return after is not None

    def cancel_all(self, call_ids: Sequence[str], *, by: str, reason: str) -> None:
        """Cancel those of which nothing was sent yet, a few in a transaction.

        Whoever asks for it records who decided it and why; here it is recorded only of those that
        are in doubt by it, whose notes will tell of what is found out.
        """
        for begin in range(0, len(call_ids), AT_ONCE):
            some, now = call_ids[begin : begin + AT_ONCE], self._pipeline.clock.now()

            def work(
                tx: Transaction, some: Sequence[str] = some, now: float = now
            ) -> list[Call | None]:
                found = (tx.calls.get(call_id) for call_id in some)
                ends = [call and self._withdraw(tx, call, by, reason, now) for call in found]
                for end in ends:
                    if end is not None and end.state is State.UNKNOWN:
                        made = decision("cancelled", end.id, by=by, reason=reason, now=now)
                        tx.decisions.append(made)
                return ends

            ends = self._pipeline.store.write(work)
            self._tell_withdrawn([call for call in ends if call is not None], reason)

    def _withdraw(
        self, tx: Transaction, call: Call, by: str, reason: str, now: float
    ) -> Call | None:
        """The call as it ends; ``None`` where something of it was sent, or it has ended."""
        if call.state not in QUEUED and call.state is not State.PLANNED:
            return None
        end = State.DISCARDED if call.state is State.PLANNED else State.CANCELLED
        action = self._pipeline.actions.get(call.action)
        after = withdrawn(action, call, end, now, cancelled_by(by, reason))
        return after if self._pipeline.conclude(tx, call, after, now) else None

    def _tell_withdrawn(self, ends: Iterable[Call], reason: str) -> None:
        for after in ends:
            self._pipeline.tell("call.withdrawn", after, state=after.state.value, reason=reason)
        self._pipeline.settled.ring()

    def get(self, call_id: str) -> Call:
        """The call; `NotFound` when there is none of that id."""
        call = self._pipeline.get(call_id)
        if call is None:
            raise no_call(call_id)
        return call

    def result(self, call_id: str, timeout: float | None) -> Any:
        """See `Handle.result`."""
        clock = self._pipeline.clock
        give_up = None if timeout is None else clock.monotonic() + timeout
        while True:
            call = self.get(call_id)
            if call.state in TERMINAL or call.state is State.UNKNOWN:
                return self._outcome(call)
            left = _POLL if give_up is None else min(_POLL, give_up - clock.monotonic())
            if left <= 0:
                raise TimeoutError(
                    f"{call.name} is still {call.state.value} after "
                    f"{timeout:g} s" + (f": {call.note}" if call.note else "")
                )
            self._pipeline.settled.wait(left)

    def _outcome(self, call: Call) -> Any:
        if call.state is State.SUCCEEDED:
            return result_of(self._pipeline.actions.get(call.action), call)
        if call.state in {State.UNKNOWN, State.FAILED}:
            raise failure_of(call)
        why = call.note or "no reason"
        refused = Refused(f"{call.name} was {call.state.value}: {why}", **about(call))
        refused.happened = call.happened
        raise refused

    def explain(self, call_id: str) -> list[str]:
        """See `Handle.explain`."""
        found = self._pipeline.get(call_id)
        short = None if found is None else shortage_of(self._pipeline, found)

        def work(tx: Transaction) -> list[str]:
            call = tx.calls.get(call_id)
            if call is None:
                raise no_call(call_id)
            attempts, now = attempts_of(tx, call), self._pipeline.clock.now()
            actions = self._pipeline.actions
            decisions = [*tx.decisions.of(call_id), *thrown(tx, call, actions, now)]
            if call.plan_id is not None:
                about_plan = tx.decisions.of(call.plan_id)
                decisions += [one for one in about_plan if concerns(call, one)]
            holder = holder_of(tx, call)
            beats = [beat for beat in tx.beats.all() if beat.kind == "worker"]
            workers = Workers(beats, self._lease)
            stop = stop_of(call, actions, tx.controls.all(), now)
            return explain(call, attempts, decisions, now, holder, workers, stop, short)

        return self._pipeline.store.read(work)


def no_call(call_id: str) -> NotFound:
    """The error for an id that is no call's."""
    return NotFound(
        f"there is no call {call_id!r} in this ledger; gonogo calls list shows the calls and their "
        "ids",
        call_id=call_id,
    )


def _is_of_plan(call: Call) -> Refused:
    return Refused(
        f"call {call.id} belongs to plan {call.plan_id}, which is approved and applied as a whole: "
        "discard the plan and rehearse again without it",
        action=call.action,
        key=call.key,
        call_id=call.id,
    )
