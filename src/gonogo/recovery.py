"""Bringing calls whose process went silent back to a defined state, and settling the unknown.

A call leaves `State.UNKNOWN` by evidence alone: what its verifier proved, its own late result, or
the recorded decision of a person. Everything here is one fenced transaction a call, so it can be
killed anywhere and run by any number of processes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import structs

from gonogo.action import Action, as_evidence
from gonogo.deadlines import Run
from gonogo.errors import ConfigurationError, NotFound, Refused
from gonogo.evidence import Evidence, cannot_tell
from gonogo.ids import new_id
from gonogo.pipeline import Pipeline
from gonogo.records import NEVER, Call, Decision, Outcome, Severity, State, advance
from gonogo.secrets import describe
from gonogo.settlement import unheard
from gonogo.store.port import Transaction

VERIFY_TIMEOUT = 30.0
"""Seconds a verifier may take; a longer silence proves nothing."""

LONGEST_PAUSE = 3600.0
"""Seconds between two looks for evidence, at most."""

UNKNOWN_ACTION_PAUSE = 60.0

Resolution = Literal["landed", "absent", "retry"]


class Recovery:
    """Recovers, verifies and resolves calls of one pipeline."""

    def __init__(self, pipeline: Pipeline, *, verify_timeout: float = VERIFY_TIMEOUT) -> None:
        self._pipeline = pipeline
        self._store = pipeline.store
        self._clock = pipeline.clock
        self._verify_timeout = verify_timeout
        pipeline.recovery = self

    def run_once(self, limit: int = 100) -> int:
        """One round: expired leases, passed deadlines, doubtful calls. Returns how many changed."""
        now = self._clock.now()
        changed = 0
        for call in self._store.read(lambda tx: tx.calls.expired(now, limit)):
            changed += self.recover(call).fence != call.fence
        for call in self._store.read(lambda tx: tx.calls.overdue(now, limit)):
            changed += self._expire(call)
        for call in self._store.read(lambda tx: tx.calls.doubtful(now, limit)):
            changed += self._look(call)
        return changed

    # expired leases

    def recover(self, call: Call) -> Call:
        """Take a call from an owner whose lease is over; returns it as it is afterwards.

        claimed → pending (safe: nothing was sent), or failed when its attempts are used up;
        dispatched → unknown, or pending when it is repeatable; a direct call that waited for its
        retry → cancelled, because its caller is gone.
        """
        now = self._clock.now()
        why = f"its owner {call.owner or 'unknown'} went silent"

        def work(tx: Transaction) -> Call:
            current = tx.calls.get(call.id)
            if current is None or current.fence != call.fence or not _expired(current, now):
                return current or call
            if current.state is State.DISPATCHED:
                return self._unheard(tx, current, now, why)
            after = self._not_begun(current, now, why)
            if tx.calls.replace(current, after):
                if after.state is not State.PENDING:
                    self._pipeline.governor.release(tx, current.reservations)
                    self._pipeline.follow(tx, after, now)
                if after.state is State.FAILED:
                    self._alert(tx, after, "attempts used up without ever being performed", now)
                return after
            return current

        recovered = self._store.write(work)
        if recovered.fence != call.fence:
            self._pipeline.tell(
                "call.recovered", recovered, state=recovered.state.value, owner=call.owner
            )
        return recovered

    def _unheard(self, tx: Transaction, call: Call, now: float, why: str) -> Call:
        settlement = unheard(self._pipeline.actions.get(call.action), call, now, why)
        if not tx.calls.replace(call, settlement.after):
            return call
        if settlement.attempt is not None:
            tx.attempts.append(settlement.attempt)
        if (notice := settlement.notice) is not None:
            self._pipeline.alerts.fire(
                tx, call.action, notice.reason, notice.severity, notice.context, now
            )
        self._pipeline.follow(tx, settlement.after, now)
        return settlement.after

    def _not_begun(self, call: Call, now: float, why: str) -> Call:
        if call.queue is None:
            return _end(call, State.CANCELLED, now, f"{why} before it was performed")
        if call.attempt >= call.max_attempts:
            note = f"{why} before it was performed, {call.attempt} times; it is not tried again"
            return _end(call, State.FAILED, now, note)
        return advance(
            call,
            State.PENDING,
            run_at=now,
            lease_until=None,
            owner=None,
            note=f"{why}; safe to run",
        )

    def _expire(self, call: Call) -> bool:
        now = self._clock.now()
        after = _end(call, State.FAILED, now, "its deadline passed before it could run")

        def work(tx: Transaction) -> bool:
            if not tx.calls.replace(call, after):
                return False
            self._pipeline.governor.release(tx, call.reservations)
            self._pipeline.follow(tx, after, now)
            self._alert(tx, after, "deadline passed", now)
            return True

        return self._store.write(work, durable=False)

    # evidence

    def _look(self, call: Call) -> bool:
        action = self._pipeline.actions.get(call.action)
        if action is not None and action.verifier is not None:
            return self.verify(action, call).state is not State.UNKNOWN
        later = NEVER if action is not None else self._clock.now() + UNKNOWN_ACTION_PAUSE
        self._postpone(call, later, call.note)
        return False

    def verify(self, action: Action[Any, Any], call: Call) -> Call:
        """Ask the action's verifier about an unknown call and act on the evidence.

        ``absent`` is only believed ``verify_after`` seconds after the outcome became unknown:
        before that a request that is still on its way could arrive after the answer.
        """
        now = self._clock.now()
        since = now - (call.settled_at or now)
        pause = max(1.0, action.policy.verify_after, min(since, LONGEST_PAUSE))
        claimed = self._postpone(call, now + pause, call.note)
        if claimed is None:  # somebody else looks, or it is settled
            return self._pipeline.get(call.id) or call
        evidence = self._ask(action, claimed)
        if evidence.finding == "absent" and since < action.policy.verify_after:
            wait = (call.settled_at or now) + action.policy.verify_after
            return self._postpone(claimed, wait, "not there yet; it may still arrive") or claimed
        return self._act(action, claimed, evidence)

    def _ask(self, action: Action[Any, Any], call: Call) -> Evidence:
        assert action.verifier is not None  # noqa: S101 - callers ask only where one is declared
        verifier = action.verifier
        view = action.view(call)
        run = Run(lambda: verifier(view), self._clock.now(), f"gonogo-verify-{action.name}")
        if not run.wait(self._verify_timeout):
            return cannot_tell(f"the verifier gave no answer in {self._verify_timeout:g} s")
        if run.error is not None:
            return cannot_tell(f"the verifier failed: {describe(run.error)}")
        return as_evidence(run.value)

    def _act(self, action: Action[Any, Any], call: Call, evidence: Evidence) -> Call:
        by = f"verify of {action.name}"
        if evidence.finding == "landed":
            result, why = action.encode_result(evidence.result)
            return self._settle(call, "landed", by, why or evidence.reason, result)
        if evidence.finding == "absent":
            again = call.queue is not None and call.attempt < call.max_attempts
            return self._settle(call, "retry" if again else "absent", by, evidence.reason, None)
        return self._note(call, f"cannot tell: {evidence.reason}")

    def resolve(
        self, call_id: str, resolution: Resolution, *, by: str, reason: str, result: Any = None
    ) -> Call:
        """A person's recorded decision about an unknown call.

        ``landed``: it happened, ``result`` is its result. ``absent``: it did not happen; it ends
        as failed and its key is free. ``retry``: it did not happen; run it again.

        Raises `ConfigurationError` without who and why, `NotFound` when there is no such call, and
        `Refused` when it is not unknown (any more).
        """
        if resolution not in ("landed", "absent", "retry"):
            raise ConfigurationError(f"resolution {resolution!r}: say landed, absent or retry")
        if not by.strip() or not reason.strip():
            raise ConfigurationError("resolving a call needs by= (who) and reason= (why)")
        call = self._pipeline.get(call_id)
        if call is None:
            raise NotFound(f"there is no call {call_id!r} in this ledger", call_id=call_id)
        text = None
        if resolution == "landed":
            text = msgspec.json.encode(result, order="sorted").decode()
        settled = self._settle(call, resolution, by, reason, text)
        if settled.fence == call.fence or call.state is not State.UNKNOWN:
            raise Refused(
                f"call {call_id} is {settled.state.value}, not unknown: nothing to resolve",
                action=call.action,
                key=call.key,
                call_id=call_id,
            )
        return settled

    def _settle(
        self, call: Call, resolution: Resolution, by: str, reason: str, result: str | None
    ) -> Call:
        now = self._clock.now()
        if call.state is not State.UNKNOWN:
            return call
        after = self._resolved(call, resolution, f"{resolution}, says {by}: {reason}", result, now)

        def work(tx: Transaction) -> Call:
            if not tx.calls.replace(call, after):
                return tx.calls.get(call.id) or call
            if after.state is State.FAILED:
                self._pipeline.governor.release(tx, call.reservations)
            self._pipeline.follow(tx, after, now)
            tx.decisions.append(
                Decision(
                    id=new_id(now),
                    at=now,
                    what=f"resolved as {resolution}",
                    subject=call.id,
                    actor=by,
                    reason=reason,
                )
            )
            return after

        settled = self._store.write(work)
        if settled is after:
            self._pipeline.tell("call.resolved", settled, state=settled.state.value, by=by)
        with self._pipeline.settled:
            self._pipeline.settled.notify_all()
        return settled

    def _resolved(
        self, call: Call, resolution: Resolution, note: str, result: str | None, now: float
    ) -> Call:
        if resolution == "landed":
            action = self._pipeline.actions.get(call.action)
            ttl = None if action is None else action.policy.key_ttl
            return advance(
                call,
                State.SUCCEEDED,
                outcome=Outcome.SUCCEEDED,
                result=result,
                note=note,
                settled_at=now,
                expires_at=None if ttl is None else now + ttl,
            )
        if resolution == "absent":
            return _end(call, State.FAILED, now, note)
        return advance(
            call,
            State.PENDING,
            queue=call.queue or "default",
            max_attempts=max(call.max_attempts, call.attempt + 1),
            run_at=now,
            lease_until=None,
            note=note,
        )

    def _postpone(self, call: Call, run_at: float, note: str | None) -> Call | None:
        """Set the time of the next look, raising the epoch so that only one process looks.

        ``None`` when somebody else was first.
        """
        after = structs.replace(call, epoch=call.epoch + 1, run_at=run_at, note=note)
        won = self._store.write(lambda tx: tx.calls.replace(call, after), durable=False)
        return after if won else None

    def _note(self, call: Call, note: str) -> Call:
        after = structs.replace(call, note=note)
        won = self._store.write(lambda tx: tx.calls.replace(call, after), durable=False)
        return after if won else call

    def _alert(self, tx: Transaction, call: Call, reason: str, now: float) -> None:
        context = {"call": call.id, "key": call.key, "note": call.note}
        self._pipeline.alerts.fire(tx, call.action, reason, Severity.ERROR, context, now)


def _expired(call: Call, now: float) -> bool:
    return call.lease_until is not None and call.lease_until <= now


def _end(call: Call, state: State, now: float, note: str) -> Call:
    """Proven not applied: the key is free and the units are given back."""
    return advance(
        call,
        state,
        outcome=Outcome.NOT_APPLIED,
        held=False,
        reservations=(),
        lease_until=None,
        settled_at=now,
        note=note,
    )
