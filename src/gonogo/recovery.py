"""Bringing calls whose process went silent back to a defined state.

Everything here is one fenced transaction a call, so it can be killed anywhere and run by any number
of processes. What became unknown is settled by `gonogo.doubt`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gonogo.decisions import Resolution
from gonogo.doubt import VERIFY_TIMEOUT, Doubts
from gonogo.errors import Refused, StoreError
from gonogo.records import Alert, Call, Severity, State, advance
from gonogo.secrets import describe
from gonogo.settlement import NEVER_BEGUN, TOO_LATE, unheard, withdrawn
from gonogo.store.port import Transaction

if TYPE_CHECKING:
    from gonogo.action import Action
    from gonogo.pipeline import Pipeline


__all__ = ["Recovery", "Resolution"]


class Recovery:
    """Recovers the calls of one pipeline, and has its doubtful ones looked into."""

    def __init__(self, pipeline: Pipeline, *, verify_timeout: float = VERIFY_TIMEOUT) -> None:
        self._pipeline = pipeline
        self._store = pipeline.store
        self._clock = pipeline.clock
        self._doubts = Doubts(pipeline, verify_timeout=verify_timeout)
        pipeline.recovery = self

    def run_once(self, limit: int = 100) -> int:
        """One round: expired leases, passed deadlines, doubtful calls. Returns how many changed.

        Waits for the answer of every verifier it asks.
        """
        return self._tidy_up(limit) + self._each(self._doubtful(limit), self._look)

    def step(self, limit: int = 100) -> int:
        """`run_once` for a thread that must not wait: slow verifiers are heard by a later step."""
        changed = self._tidy_up(limit)
        return changed + self._doubts.look_around(self._doubtful(limit))

    @property
    def looking(self) -> bool:
        """Whether `step` asked a verifier that has not answered yet."""
        return self._doubts.open

    def verify(self, action: Action[Any, Any], call: Call) -> Call:
        """Look for evidence about an unknown call; see `Doubts.verify`."""
        return self._doubts.verify(action, call)

    def resolve(
        self, call_id: str, resolution: Resolution, *, by: str, reason: str, result: Any = None
    ) -> Call:
        """A person's recorded decision about an unknown call.

        ``landed``: it happened, ``result`` is its result. ``absent``: it did not happen; it ends
        as failed and its key is free. ``retry``: it did not happen; run it again.

        A call that was rejected takes ``absent`` too: the cause is mended, and its key is free. One
        whose process went silent is recovered first, as a worker would.

        Raises `ConfigurationError` without who and why, `NotFound` when there is no such call, and
        `Refused` when it is not unknown (any more).
        """
        try:
            return self._doubts.resolve(call_id, resolution, by=by, reason=reason, result=result)
        except Refused:
            if not self._was_left(call_id):
                raise
        return self._doubts.resolve(call_id, resolution, by=by, reason=reason, result=result)

    def _was_left(self, call_id: str) -> bool:
        """Whether it was begun by a process that went silent, and is recovered now."""
        call = self._pipeline.get(call_id)
        if call is None or call.state is not State.DISPATCHED:
            return False
        return self.recover(call).fence != call.fence

    def _tidy_up(self, limit: int) -> int:
        now = self._clock.now()
        silent = self._store.read(lambda tx: tx.calls.expired(now, limit))
        changed = self._each(silent, lambda call: self.recover(call).fence != call.fence)
        overdue = self._store.read(lambda tx: tx.calls.overdue(now, limit))
        return changed + self._each(overdue, self._expire)

    def _doubtful(self, limit: int) -> list[Call]:
        now = self._clock.now()
        return self._store.read(lambda tx: tx.calls.doubtful(now, limit))

    def _each(self, calls: Iterable[Call], change: Callable[[Call], bool]) -> int:
        """Apply ``change`` to all; one that cannot be changed must not keep the others waiting."""
        changed = 0
        for call in calls:
            try:
                changed += change(call)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 - a defect, and no reason to strand others
                self._pipeline.logger.log_action(
                    "recovery.fault", "critical", call=call.id, error=describe(error)
                )
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

        fired: list[Alert] = []
        moved: list[bool] = []

        def work(tx: Transaction) -> Call:
            fired.clear()
            moved.clear()
            current = tx.calls.get(call.id)
            if current is None or current.fence != call.fence or not _expired(current, now):
                return current or call
            if current.state is State.DISPATCHED:
                after = self._unheard(tx, current, now, why, fired)
                moved.append(after is not current)
                return after
            after = self._not_begun(current, now, why)
            if not self._pipeline.conclude(tx, current, after, now):
                return current
            if after.state in {State.FAILED, State.UNKNOWN}:
                fired.append(self._alert(tx, after, NEVER_BEGUN, now))
            moved.append(True)
            return after

        recovered = self._store.write(work)
        self._publish(fired)
        if any(moved):
            self._pipeline.tell(
                "call.recovered", recovered, state=recovered.state.value, owner=call.owner
            )
        return recovered

    def _unheard(
        self, tx: Transaction, call: Call, now: float, why: str, fired: list[Alert]
    ) -> Call:
        settlement = unheard(self._pipeline.actions.get(call.action), call, now, why)
        if not self._pipeline.conclude(tx, call, settlement.after, now):
            return call
        if settlement.attempt is not None:
            tx.attempts.append(settlement.attempt)
        if (notice := settlement.notice) is not None:
            alert = self._pipeline.alerts.fire(
                tx, call.action, notice.reason, notice.severity, notice.context, now
            )
            fired.append(alert)
        return settlement.after

    def _not_begun(self, call: Call, now: float, why: str) -> Call:
        action = self._pipeline.actions.get(call.action)
        if call.queue is None:
            note = f"{why} before it was performed"
            return withdrawn(action, call, State.CANCELLED, now, note)
        if call.attempt >= call.max_attempts:
            note = f"{why} before it was performed, {call.attempt} times; it is not tried again"
            return withdrawn(action, call, State.FAILED, now, note)
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
        action = self._pipeline.actions.get(call.action)
        note = "its deadline passed before it could run"
        after = withdrawn(action, call, State.FAILED, now, note)
        fired: list[Alert] = []

        def work(tx: Transaction) -> bool:
            fired.clear()
            if not self._pipeline.conclude(tx, call, after, now):
                return False
            fired.append(self._alert(tx, after, TOO_LATE, now))
            return True

        expired = self._store.write(work, durable=False)
        self._publish(fired)
        if expired:
            self._pipeline.tell("call.withdrawn", after, state=after.state.value, reason=note)
        return expired

    def _look(self, call: Call) -> bool:
        action = self._pipeline.actions.get(call.action)
        if action is None or action.verifier is None:
            self._doubts.put_off(call, action)
            return False
        return self.verify(action, call).state is not State.UNKNOWN

    def _alert(self, tx: Transaction, call: Call, reason: str, now: float) -> Alert:
        context = {"call": call.id, "key": call.key, "note": call.note}
        return self._pipeline.alerts.fire(tx, call.action, reason, Severity.ERROR, context, now)

    def _publish(self, fired: Iterable[Alert]) -> None:
        """Tell the subscribers what the commit that just happened alerted about."""
        for alert in fired:
            self._pipeline.alerts.publish(alert)


def _expired(call: Call, now: float) -> bool:
    return call.lease_until is not None and call.lease_until <= now
