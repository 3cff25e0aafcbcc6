"""Taking due calls off the ledger: from the queues that run, in batches, actions in turn."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Any

from msgspec import structs

from gonogo.action import Action
from gonogo.clock import Clock
from gonogo.errors import InFlight, RateLimited
from gonogo.handout import is_free, pending_again
from gonogo.owner import Owner
from gonogo.pauses import check_pause, running
from gonogo.records import Call, State, counted, taken_by
from gonogo.returns import HELD
from gonogo.said import HOLD
from gonogo.stops import Actions, stop_of, stopped
from gonogo.store.port import Store, Transaction
from gonogo.writing import Writing

LONGEST_PASS = 1.0
"""Seconds for which an action that has no room, or is stopped, is passed over, at most."""


class Claims:
    """What one process claims, and in which turn.

    Attributes:
        kept_back: whether, when calls were last asked for, some were due and all of them stopped.

    Args:
        actions: those it knows; what is stopped of them is left alone.
        lease: seconds a claim holds without being renewed.
    """

    def __init__(
        self, store: Store, clock: Clock, actions: Actions, *, owner: Owner, lease: float
    ) -> None:
        self.kept_back = False
        self._store = store
        self._clock = clock
        self._actions = actions
        self._owner = owner
        self._lease = lease
        self._turn = ""
        self._passing: dict[str, float] = {}
        self._mutex = threading.Lock()

    def taking(self, queues: Sequence[str], most: int, ahead: int = 0) -> Writing[list[Call]]:
        """Claim up to ``most`` due calls, and ``ahead`` more for later.

        Of the latter no attempt counts yet; see `AHEAD`. Raises `StoreError` when the ledger cannot
        be asked.
        """
        now = self._clock.now()
        passing = self._passed_over(now)

        def work(tx: Transaction) -> list[Call]:
            controls = tx.controls.all()
            on, stops = running(controls, queues, now), stopped(self._actions, controls, now)
            claimed = tx.calls.claim(
                owner=self._owner.name,
                queues=on,
                now=now,
                lease_until=now + self._lease,
                limit=most,
                ahead=ahead,
                turn=self._turn,
                passing=stops.union(passing) if stops else passing,
            )
            self.kept_back = not claimed and bool(stops) and _is_due(tx, on, now)
            return claimed

        claimed: list[Call] = yield work, False
        if claimed:
            self._turn = claimed[-1].action
        return claimed

    def take_one(self, call_id: str) -> Call | None:
        """Claim this call, if it is due or was handed to a broker; ``None`` when it is not free.

        One that is stopped is put back. Raises `StoreError` when the ledger cannot be asked.
        """
        now = self._clock.now()

        def work(tx: Transaction) -> Call | None:
            call = tx.calls.get(call_id)
            if call is None or call.queue is None or not is_free(call, now):
                return None
            stop = stop_of(call, self._actions, tx.controls.all(), now)
            if stop is not None:
                if call.state is State.CLAIMED:
                    after = pending_again(call, call.note)
                    if stop.name == HOLD:  # who hands out may not know that it is irreversible
                        after = structs.replace(after, run_at=max(after.run_at, now + HELD))
                    tx.calls.replace(call, after)
                return None
            claimed = taken_by(self._owner.name, call, now + self._lease)
            return claimed if tx.calls.replace(call, claimed) else None

        return self._store.write(work, durable=False)

    def heed(self, action: Action[Any, Any], denial: RateLimited) -> bool:
        """Leave ``action`` alone for a while, and say so, if none of its calls can have room."""
        wait = denial.retry_after
        if wait is None or not _is_for_all(denial, action):
            return False
        with self._mutex:
            self._passing[action.name] = self._clock.now() + min(wait, LONGEST_PASS)
        return True

    def next_due(self, queues: Sequence[str]) -> float | None:
        """Seconds until there may be something to claim; ``None`` when there is nothing."""
        now = self._clock.now()
        passing = self._passed_over(now)

        def work(tx: Transaction) -> list[float]:
            """When something falls due, or is looked at again although it is left alone."""
            controls = tx.controls.all()
            on, stops = running(controls, queues, now), stopped(self._actions, controls, now)
            run_at = tx.calls.next_run_at(on)
            if run_at is None or run_at > now or not (stops or passing):
                return [] if run_at is None else [run_at]
            again = [*passing.values(), now + LONGEST_PASS] if stops else passing.values()
            free = tx.calls.next_run_at(on, stops.union(passing))
            return [*again] if free is None else [*again, free]

        times = self._store.read(work)
        return max(0.0, min(times) - now) if times else None

    def next_free(self, queues: Sequence[str], passing: Collection[str]) -> float | None:
        """Seconds until something falls due that is not stopped; ``None`` when nothing does.

        Calls of the actions ``passing`` are left out.
        """
        now = self._clock.now()

        def work(tx: Transaction) -> float | None:
            controls = tx.controls.all()
            left = stopped(self._actions, controls, now).union(passing)
            return tx.calls.next_run_at(running(controls, queues, now), left)

        run_at = self._store.read(work)
        return None if run_at is None else max(0.0, run_at - now)

    def begin(self, call: Call) -> Call:
        """Count the attempt of a call that was claimed ahead, before any code of its own runs.

        Raises `InFlight` when somebody else has it by now, `QueuePaused` when its queue was paused
        meanwhile, and `StoreError` like `take`.
        """
        begun = counted(call)
        now = self._clock.now()

        def work(tx: Transaction) -> bool:
            if call.queue is not None:
                check_pause(tx.controls.all(), call.queue, now)
            return tx.calls.replace(call, begun)

        if not self._store.write(work, durable=False):
            raise InFlight(
                f"{call.action}: call {call.id} was taken over by somebody else",
                action=call.action,
                key=call.key,
                call_id=call.id,
            )
        return begun

    def _passed_over(self, now: float) -> dict[str, float]:
        with self._mutex:
            self._passing = {a: until for a, until in self._passing.items() if until > now}
            return dict(self._passing)


def _is_for_all(denial: RateLimited, action: Action[Any, Any]) -> bool:
    """Whether what has no room for one call has none for any other of the action."""
    if denial.row is None or "[" in denial.row:
        return False  # only some count there
    if denial.used is None or denial.max is None or denial.used >= denial.max:
        return True
    limits = [limit for limit in action.policy.limits if limit.name == denial.limit]
    return all(isinstance(limit.cost, int) for limit in limits)  # else a cheaper one may have room


def _is_due(tx: Transaction, queues: Sequence[str], now: float) -> bool:
    run_at = tx.calls.next_run_at(queues)
    return run_at is not None and run_at <= now
