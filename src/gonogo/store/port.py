"""What the components ask of a ledger: one port, small parts, three implementations.

A `Store` runs a piece of work inside one transaction and hands it a `Transaction`, whose parts
are the tables a component needs. Work is library code only: it never calls the user, never
sleeps, and must be safe to run again from the start, because a store may roll back and repeat it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from gonogo.records import (
    Alert,
    AlertState,
    Attempt,
    Beat,
    Call,
    CallFilter,
    Charge,
    Control,
    Decision,
    Denial,
    PlanRecord,
    PlanState,
    Reservation,
    Schedule,
    State,
    Usage,
)
from gonogo.store.fates import Fate, Piece

T = TypeVar("T")

Wake = Callable[[str | None], None]
"""Told the queue in which a job is due, or ``None`` where only is known that one was written."""

NESTED = (
    "a transaction was begun inside another one on the same thread; "
    "use the transaction that was handed to the work"
)
READ_ONLY = "work that was given to read() tried to write; give it to write()"


class Calls(Protocol):
    """The calls: inserted once, then changed only by fenced replacement."""

    def get(self, call_id: str) -> Call | None:
        """The call. In a write, what `get` and `holder` return stays so until its end."""
        ...

    def holder(self, action: str, key: str) -> Call | None:
        """The call that holds ``key`` of ``action`` now (``held`` is true), if any."""
        ...

    def insert(self, call: Call) -> None: ...

    def insert_many(self, calls: Sequence[Call]) -> None: ...

    def replace(self, before: Call, after: Call) -> bool:
        """Write ``after`` if the row still matches ``before.fence``; false when it does not."""
        ...

    def claim(
        self,
        *,
        owner: str,
        queues: Sequence[str],
        now: float,
        lease_until: float,
        limit: int,
        ahead: int = 0,
        turn: str = "",
        passing: Collection[str] = (),
    ) -> list[Call]:
        """Move due pending calls of ``queues`` to claimed and return them.

        Up to ``limit`` of them, and after them up to ``ahead`` more for later: their epoch is
        raised, but no attempt counts yet, and their note says `AHEAD`.

        Due: ``run_at <= now``, and not ``waits``. Order: higher priority first; within a priority
        actions take turns, beginning with the one after ``turn`` in the alphabet; of one action
        the earlier ``run_at``, then the smaller id. Actions in ``passing`` are left alone.
        Epoch and attempt of each are raised by one. No call is handed to two claimants.
        """
        ...

    def claimed_by(self, owner: str, queues: Sequence[str]) -> int:
        """How many calls of ``queues`` are claimed by ``owner``."""
        ...

    def renew(self, *, owner: str, calls: Mapping[str, int], lease_until: float) -> set[str]:
        """Extend the leases of ``calls`` (id → epoch) still claimed or dispatched by ``owner``.

        Returns the ids that were extended; an id that is missing has been taken away.
        """
        ...

    def expired(self, now: float, limit: int) -> list[Call]:
        """Claimed or dispatched calls, and pending direct ones, whose lease is over at ``now``."""
        ...

    def doubtful(self, now: float, limit: int) -> list[Call]:
        """Unknown calls with ``run_at <= now``, oldest first: due for a look for evidence."""
        ...

    def overdue(self, now: float, limit: int) -> list[Call]:
        """Pending calls whose ``deadline_at`` is not after ``now``."""
        ...

    def lapsed(self, now: float, limit: int) -> list[Call]:
        """Terminal calls that still hold a key whose ``expires_at`` is not after ``now``."""
        ...

    def next_chore(self) -> float | None:
        """The earliest time for which `expired`, `doubtful`, `overdue` or `lapsed` has a call."""
        ...

    def in_slot(self, slot: str) -> int:
        """How many dispatched calls fill the concurrency slot ``slot``."""
        ...

    def waiting_on(self, call_id: str) -> list[Call]:
        """Pending calls whose ``after`` is ``call_id``."""
        ...

    def in_lane(self, lane: str, limit: int) -> list[Call]:
        """The first ``limit`` open calls of a lane: those that do not wait, then by ``run_at``, id.

        In a write, nobody else changes who is in the lane before the transaction ends.
        """
        ...

    def next_run_at(self, queues: Sequence[str], passing: Collection[str] = ()) -> float | None:
        """The earliest ``run_at`` of a pending call in ``queues`` that does not wait, if any.

        Calls of the actions ``passing`` are left out.
        """
        ...

    def prune(self, before: float, limit: int) -> int:
        """Forget calls that ended before ``before`` and hold no key, with their attempts.

        At most ``limit`` of them, the oldest first; returns how many there were.
        """
        ...

    def backlog(self) -> dict[str, int]:
        """Pending calls of each queue that has any, those that wait for others included."""
        ...

    def of_plan(self, plan_id: str) -> list[Call]:
        """All calls of a plan in the order they were recorded."""
        ...

    def overtaken(self, plan_id: str, verdicts: Collection[str], limit: int) -> list[Call]:
        """The first planned calls of a plan, of these ``verdicts``, whose keys others hold now."""
        ...

    def find(self, wanted: CallFilter) -> list[Call]: ...

    def counts(self) -> dict[State, int]:
        """Number of calls in each state that occurs."""
        ...


class Attempts(Protocol):
    """The attempts of which the calls themselves do not tell, append-only."""

    def append(self, attempt: Attempt) -> None: ...

    def of(self, call_id: str) -> list[Attempt]: ...


class Decisions(Protocol):
    """Who decided what and why, append-only."""

    def append(self, decision: Decision) -> None: ...

    def of(self, subject: str) -> list[Decision]: ...

    def latest(self, limit: int) -> list[Decision]: ...


class Limits(Protocol):
    """Usage of limits. Charges are granted all or none, and a denial uses nothing."""

    def reserve(
        self, charges: Sequence[Charge], now: float, clock: Callable[[], float] | None = None
    ) -> tuple[Reservation, ...] | Denial:
        """Take every charge, or none and say which had no room.

        Where this may have to wait for others, ``clock`` is asked again when it is alone: units
        count from when they are taken, not from when they were asked for.
        """
        ...

    def release(self, reservations: Iterable[Reservation]) -> None:
        """Give units back: only for effects proven not applied. Never below zero."""
        ...

    def adjust(self, reservation: Reservation, cost: int) -> Reservation:
        """Replace the reserved cost by the actual one, even where that exceeds the limit."""
        ...

    def usage(self, charges: Sequence[Charge], now: float) -> list[Usage]:
        """Units in use for each charge's row (its ``cost`` is ignored), in the same order."""
        ...


class Alerts(Protocol):
    """Alerts, grouped by fingerprint while they are not resolved."""

    def fire(self, alert: Alert) -> Alert:
        """Insert it, or count it onto the unresolved alert of the same fingerprint."""
        ...

    def get(self, alert_id: str) -> Alert | None: ...

    def change(self, before: Alert, state: AlertState, actor: str) -> bool:
        """Set the state if it is still ``before.state``, and was not counted again since."""
        ...

    def find(
        self, *, severity: str | None = None, task: str | None = None, limit: int = 100
    ) -> list[Alert]:
        """Matching alerts, last seen first."""
        ...


class Plans(Protocol):
    """The plans; their calls are in `Calls`."""

    def insert(self, plan: PlanRecord) -> None: ...

    def get(self, plan_id: str) -> PlanRecord | None: ...

    def replace(self, before: PlanRecord, after: PlanRecord) -> bool:
        """Write ``after`` if the plan is still in ``before.state``."""
        ...

    def find(self, *, states: Sequence[PlanState] = (), limit: int = 100) -> list[PlanRecord]:
        """Newest first."""
        ...


class Controls(Protocol):
    """The switches that people set."""

    def all(self) -> dict[str, Control]:
        """Every switch by name, also those that have run out."""
        ...

    def put(self, control: Control) -> None: ...

    def clear(self, name: str) -> bool:
        """Remove it; false when it was not set."""
        ...


class Beats(Protocol):
    """Signs of life of the processes on this ledger."""

    def put(self, beat: Beat) -> None: ...

    def all(self) -> list[Beat]: ...

    def remove(self, name: str) -> None: ...


class Schedules(Protocol):
    """What recurs, and when it does next."""

    def get(self, name: str) -> Schedule | None:
        """The schedule. In a write it stays so until the end."""
        ...

    def put(self, schedule: Schedule) -> None:
        """Insert it, or replace the one of that name."""
        ...

    def replace(self, before: Schedule, after: Schedule) -> bool:
        """Write ``after`` if digest and ``next_at`` are still those of ``before``."""
        ...

    def all(self) -> list[Schedule]:
        """Every schedule, by name."""
        ...

    def remove(self, name: str) -> bool:
        """Forget it; false when there is none of that name."""
        ...


class Transaction(Protocol):
    """One open transaction, seen as its tables."""

    @property
    def calls(self) -> Calls: ...
    @property
    def attempts(self) -> Attempts: ...
    @property
    def decisions(self) -> Decisions: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def alerts(self) -> Alerts: ...
    @property
    def plans(self) -> Plans: ...
    @property
    def controls(self) -> Controls: ...
    @property
    def beats(self) -> Beats: ...
    @property
    def schedules(self) -> Schedules: ...


class Listening:
    """What hears of jobs that others write, from `Store.listen` on.

    Whoever began to listen spends its pauses here. This one hears nothing by itself: nobody
    tells, or the store has a thread that does.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._gate = threading.Lock()  # opens at the end: half of what waiting for an event costs
        self._gate.acquire()

    def pause(self, seconds: float) -> bool:
        """Hear nothing for so long; true at once from the end on. For one thread at a time."""
        if not self.is_over:
            self._gate.acquire(timeout=seconds)
        return self.is_over

    def wait(self, seconds: float) -> bool:
        """A `pause` in which it hears, and wakes on this thread; what is heard ends it early.

        It waits for nobody's write.
        """
        return self.pause(seconds)

    def end(self) -> None:
        """End it and every pause, and wait for the end of what hears; may be called twice."""
        if not self.is_over:
            self.is_over = True
            self._gate.release()


class Store(Protocol):
    """A ledger. Thread-safe; opened on first use; `close` may be called twice.

    Errors: `StoreUnavailable` when the database cannot serve (then nothing was written,
    unless its message says that it may have been: a connection broke while it committed),
    `SchemaError` when its schema does not fit this code. An exception raised by ``work`` rolls the
    whole transaction back and reaches the caller unchanged.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes can see it, so that only JSON may be written to it."""
        ...

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """Run ``work`` in a write transaction and commit.

        With ``durable`` the commit survives power loss when this returns; without it the commit
        survives the death of the process but a power failure may lose it, and so may a crash of
        the database's server.
        """
        ...

    def write_all(self, pieces: Sequence[Piece]) -> list[Fate]:
        """Run each piece in order, like `write`; in one commit where that is cheaper.

        Each has its own fate: one that fails takes nothing of the others back. They may as well be
        committed one after the other, so no piece may rely on another one's commit.
        """
        ...

    def join(
        self, session: object, work: Callable[[Transaction], T], then: Callable[[], None]
    ) -> T:
        """Run ``work`` inside the open transaction of a user's session on the same database.

        What it wrote is there if and only if the user commits; ``then`` is called after that, where
        the session can tell. An exception raised by ``work`` takes back what it wrote and leaves
        the user's transaction open. Raises `ConfigurationError` for a session that cannot be
        joined: on another database, async, or committing every statement by itself.
        """
        ...

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` on one consistent snapshot; it must not write."""
        ...

    def time(self) -> float | None:
        """The database's own clock, in epoch seconds; ``None`` where it has none but ours."""
        ...

    def listen(self, wake: Wake) -> Listening:
        """Call ``wake`` when a job was written, from a thread of its own or in `Listening.wait`.

        A courtesy that may fail in silence or never come: whoever waits looks by himself as well.
        """
        ...

    def close(self) -> None: ...
