"""The nouns of the ledger: frozen records and the state machine of a call.

Records are ``msgspec`` structs: immutable, cheap to make, and JSON both ways. A record is changed
by making another one (``msgspec.structs.replace``); a call changes state by a `move` alone.
Those that are many hold nothing that could lead back to them, so no garbage collector follows them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct, structs

from gonogo.errors import Happened


class State(StrEnum):
    """Where a call is; see `TRANSITIONS` for the moves there are."""

    PLANNED = "planned"
    PENDING = "pending"
    CLAIMED = "claimed"
    DISPATCHED = "dispatched"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


_CLAIMED = State.CLAIMED

TRANSITIONS: dict[State, frozenset[State]] = {
    State.PLANNED: frozenset({State.PENDING, State.DISCARDED}),
    State.PENDING: frozenset(
        {
            State.CLAIMED,
            State.CANCELLED,
            State.FAILED,
            State.SUCCEEDED,  # the late result of an attempt that was given up
            State.UNKNOWN,  # not tried again, and an earlier attempt may have happened
        }
    ),
    State.CLAIMED: frozenset(
        {State.DISPATCHED, State.PENDING, State.CANCELLED, State.FAILED, State.UNKNOWN}
    ),
    State.DISPATCHED: frozenset(
        {State.SUCCEEDED, State.FAILED, State.UNKNOWN, State.PENDING, State.CANCELLED}
    ),
    State.UNKNOWN: frozenset({State.SUCCEEDED, State.FAILED, State.PENDING}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.DISCARDED: frozenset(),
}

TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.DISCARDED})
QUEUED = frozenset({State.PENDING, State.CLAIMED})
"""Asked for, and nothing was sent, or nothing since an earlier attempt."""

OPEN = QUEUED | {State.DISPATCHED, State.UNKNOWN}
"""Asked for and not at its end; the others of its lane wait for a call in one of these."""


class Outcome(StrEnum):
    """What became of an attempt; one classification drives retry, key, budget and alerts."""

    SUCCEEDED = "succeeded"
    NOT_APPLIED = "not_applied"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """The answer of readiness: all well, something is wrong, or a person said stop."""

    GO = "GO"
    NO_GO = "NO-GO"
    HOLD = "HOLD"


class Severity(StrEnum):
    """How urgent an alert is, in rising order."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Fault(Struct, frozen=True, gc=False):
    """An exception as the ledger keeps it: its type and message, without locals or traceback."""

    type: str
    message: str


class Charge(Struct, frozen=True, gc=False):
    """A wish to use ``cost`` units of one limit; made by the governor, granted by the store.

    Attributes:
        limit: name of the limit, as declared.
        row: what is counted separately: the name, or the name with its key, ``api[customer-7]``.
        max: units allowed in any window.
        cost: units wanted, a whole number of at least 0.
        window: length of the sliding window in seconds, or of the calendar period.
        since: start of the calendar period (epoch seconds); ``None`` for a sliding window.
    """

    limit: str
    row: str
    max: int
    cost: int
    window: float
    since: float | None = None


class Reservation(Struct, frozen=True, gc=False):
    """Units of one limit held by a call; enough to give them back where they were taken.

    ``bucket`` is the store's own mark of the time slice the units were counted in.
    """

    row: str
    cost: int
    bucket: float
    window: float
    since: float | None = None


class Denial(Struct, frozen=True, gc=False):
    """Why a charge was not granted. ``retry_after`` (seconds) is ``None`` when it never will be."""

    limit: str
    row: str
    used: int
    max: int
    cost: int
    retry_after: float | None


class Usage(Struct, frozen=True, gc=False):
    """Units of one limit row in use now."""

    row: str
    used: int


class Call(Struct, frozen=True, kw_only=True, gc=False):
    """One request to perform an action: one row of the ledger.

    Times are epoch seconds. ``args``, ``result`` and ``facts`` are canonical JSON texts.

    Attributes:
        key: the idempotency key, scoped by ``action``; ``held`` says whether it is taken by this
            call now (a call that was proven not applied gives it back and keeps ``key`` to read).
        fingerprint: versioned digest of the arguments.
        epoch: fencing number; raised by every claim, matched by every later write.
        attempt: attempts begun so far; counted before anything of the job runs, so that one which
            kills its worker ends.
        queue: the queue a worker takes it from; ``None`` for a direct call, left to its caller.
        run_at: earliest next claim (pending) or next look for evidence (unknown).
        lease_until: until when the owner holds the claim; ``None`` when nobody does.
        deadline_at: after this time no attempt is begun.
        expires_at: when a succeeded or rejected call gives its key back; ``None`` is never.
        note: one sentence on why the call is where it is.
        reservations: units of limits it holds.
        slots: concurrency slots it fills while claimed or dispatched.
        facts: what the precondition read when the plan was made.
        verdict: of a planned call: ``new``, ``done``, ``in_doubt``, ``in_flight``, ``duplicate``,
            ``denied``, ``not_ready`` or ``undetermined``.
        after: id of the call that must succeed first.
        lane: calls of one lane are performed one after the other, in the order they were queued.
        waits: a pending call that waits for another one, not for a time: no worker may claim it.
        approved_by: who approved exactly this call, alone or in a plan.
        repeatable: as the action declared it, so that any process can recover the call.
    """

    id: str
    action: str
    state: State
    created_at: float
    key: str | None = None
    held: bool = False
    fingerprint: str = ""
    args: str = "{}"
    epoch: int = 0
    attempt: int = 0
    max_attempts: int = 1
    queue: str | None = None
    priority: int = 0
    run_at: float = 0.0
    lease_until: float | None = None
    owner: str | None = None
    dispatched_at: float | None = None
    settled_at: float | None = None
    deadline_at: float | None = None
    expires_at: float | None = None
    outcome: Outcome | None = None
    result: str | None = None
    fault: Fault | None = None
    note: str | None = None
    reservations: tuple[Reservation, ...] = ()
    slots: tuple[str, ...] = ()
    correlation_id: str | None = None
    facts: str | None = None
    plan_id: str | None = None
    position: int | None = None
    verdict: str | None = None
    after: str | None = None
    approved_by: str | None = None
    repeatable: bool = False
    lane: str | None = None
    waits: bool = False

    @property
    def name(self) -> str:
        """The call as people are told of it: its action and key, or id where it has no key."""
        return f"{self.action} ({self.key or self.id})"

    @property
    def correlation(self) -> str:
        """What its log lines and events carry: its correlation id, or its own outside of any."""
        return self.correlation_id or self.id

    @property
    def fence(self) -> tuple[str, int, State]:
        """What every write to this call must match."""
        return self.id, self.epoch, self.state

    @property
    def happened(self) -> Happened:
        """Whether the effect has happened, as far as the ledger knows."""
        if self.state is State.SUCCEEDED:
            return "yes"
        open_question = self.state in {State.DISPATCHED, State.UNKNOWN}
        return "maybe" if open_question or self.outcome is Outcome.UNKNOWN else "no"


NEVER = 9_999_999_999.0
"""A ``run_at`` that does not come (the year 2286): nothing is known that could give evidence."""


AHEAD = "claimed ahead of its turn; nothing of it was begun"
"""The note of a claimed call whose attempt does not count yet: its worker's death costs it none."""


def taken_by(owner: str, call: Call, lease_until: float, *, ahead: bool = False) -> Call:
    """The call as ``owner`` claims it; if ``ahead``, for later, no attempt counts yet."""
    return structs.replace(
        call,
        state=_CLAIMED,
        owner=owner,
        lease_until=lease_until,
        epoch=call.epoch + 1,
        attempt=call.attempt if ahead else call.attempt + 1,
        note=AHEAD if ahead else call.note,
    )


class IllegalTransition(Exception):
    """A move the state machine does not have; always a defect of gonogo itself."""


def move(call: Call, state: State) -> State:
    """``state``, for the call's next version; `IllegalTransition` where there is no way to it."""
    if state not in TRANSITIONS[call.state]:
        raise IllegalTransition(f"call {call.id}: {call.state.value} → {state.value}")
    return state


def numbers(call: Call) -> tuple[int, int]:
    """Epoch and attempt of the attempt that begins now; the same when it is claimed for it."""
    if call.state is _CLAIMED:
        return call.epoch, call.attempt + (call.note == AHEAD)
    move(call, _CLAIMED)
    return call.epoch + 1, call.attempt + 1


def counted(call: Call) -> Call:
    """The call claimed, with the attempt counted that begins now; once, whoever asks again."""
    epoch, attempt = numbers(call)
    if attempt == call.attempt:
        return call
    note = None if call.note == AHEAD else call.note
    return structs.replace(call, state=_CLAIMED, epoch=epoch, attempt=attempt, note=note)


def advance(call: Call, state: State, **changes: Any) -> Call:
    """The call moved to ``state`` with ``changes``; `IllegalTransition` where there is no move.

    What every call passes writes the `move` out: handing ``changes`` on takes thrice the time.
    """
    return structs.replace(call, state=move(call, state), **changes)


class Attempt(Struct, frozen=True, kw_only=True, gc=False):
    """One try at a call, written when it is over (or found dead).

    Of one that succeeded the call's own row tells it all; see `gonogo.history`.
    """

    call_id: str
    attempt: int
    epoch: int
    owner: str | None
    started_at: float
    ended_at: float
    outcome: Outcome
    fault: Fault | None = None
    note: str | None = None


class Decision(Struct, frozen=True, kw_only=True):
    """What a person (or gonogo on their behalf) decided: who, what about, why, when."""

    id: str
    at: float
    what: str
    subject: str
    actor: str
    reason: str
    detail: dict[str, Any] = {}


class Control(Struct, frozen=True, kw_only=True):
    """A switch set by a person: ``armed``, ``hold``, ``halt:*`` or ``halt:<action>``.

    ``until`` is when it falls back by itself (epoch seconds); ``None`` stays until cleared.
    """

    name: str
    actor: str
    reason: str
    set_at: float
    until: float | None = None

    def active(self, now: float) -> bool:
        """Whether the switch is on at ``now``."""
        return self.until is None or now < self.until


class AlertState(StrEnum):
    """open → acknowledged → resolved; a resolved alert that fires again is a new one."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Alert(Struct, frozen=True, kw_only=True):
    """Something a person should know. Equal alerts are one row with a count.

    Attributes:
        fingerprint: what makes two alerts the same (task, reason, severity).
        count: how often it fired since it was opened.
    """

    id: str
    fingerprint: str
    task: str
    reason: str
    severity: Severity
    context: dict[str, Any]
    first_seen: float
    last_seen: float
    count: int = 1
    state: AlertState = AlertState.OPEN
    changed_by: str | None = None

    def again(self, fired: Alert) -> Alert:
        """This alert after ``fired``, which is the same one, was raised as well."""
        return structs.replace(
            self,
            count=self.count + fired.count,
            last_seen=max(self.last_seen, fired.last_seen),
            context=fired.context,
        )


class PlanState(StrEnum):
    """ready → approved → applied, or incomplete; each but applied can be discarded."""

    READY = "ready"
    INCOMPLETE = "incomplete"
    APPROVED = "approved"
    APPLIED = "applied"
    DISCARDED = "discarded"


class PlanRecord(Struct, frozen=True, kw_only=True):
    """A rehearsal as the ledger keeps it; its calls are rows in state ``planned``.

    ``digest`` covers action, key, fingerprint, facts and verdict of every call in order.
    """

    id: str
    name: str
    state: PlanState
    created_at: float
    expires_at: float
    digest: str
    size: int
    problems: tuple[str, ...] = ()
    approved_by: str | None = None
    approved_at: float | None = None
    approval_reason: str | None = None
    applied_by: str | None = None
    applied_at: float | None = None


class Schedule(Struct, frozen=True, kw_only=True):
    """What recurs, as the ledger keeps it.

    Attributes:
        spec: ``cron 0 9 * * MON-FRI`` or ``every 900``; read in the time zone ``tz``.
        grace: seconds after which a tick that was not made counts as missed.
        digest: of the declaration; processes that declare it otherwise leave it alone.
        anchor: the instant from which ``every`` counts: when it was first declared.
        next_at: the next tick; with the digest it is the fence of every change.
        last_at: the last tick that was made, and ``last_call`` the call it made.
        missed: ticks that were not made in time, in all.
        note: what became of the last tick, where that is not a new call.
    """

    name: str
    action: str
    spec: str
    tz: str
    catch_up: str
    grace: float
    digest: str
    anchor: float
    next_at: float
    last_at: float | None = None
    last_call: str | None = None
    missed: int = 0
    note: str | None = None


class Beat(Struct, frozen=True, kw_only=True):
    """A sign of life of one process: its worker, its heartbeat, its scheduler."""

    name: str
    kind: str
    at: float
    detail: dict[str, Any] = {}

    def is_fresh(self, now: float, within: float) -> bool:
        """Whether it is younger than ``within`` seconds, else its process counts as dead."""
        return self.at > now - within


class CallFilter(Struct, frozen=True, kw_only=True):
    """Which calls to list; every given field must match.

    Newest first, and those of one plan in its order; the next page is behind the call ``before``.
    With ``alone``, only those that belong to no plan.
    """

    states: tuple[State, ...] = ()
    action: str | None = None
    key: str | None = None
    plan_id: str | None = None
    correlation_id: str | None = None
    before: str | None = None
    alone: bool = False
    limit: int = 100
