"""A direct call, from the guards to what the ledger says afterwards, on both ledgers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.sandboxes import FaultySandbox, arm, only, used

from gonogo.action import Action
from gonogo.backoff import Retry
from gonogo.clock import FakeClock
from gonogo.context import current
from gonogo.errors import (
    DryRunBlocked,
    EffectFailed,
    EffectRejected,
    GonogoError,
    Halted,
    InFlight,
    KeyConflict,
    NotApproved,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Refused,
    StoreUnavailable,
)
from gonogo.history import attempts_of
from gonogo.limits import Concurrency, Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import NEVER, Outcome, State
from gonogo.signals import Cancel, NotApplied, Rejected, Snooze

Effect = Callable[[], Any]


def declare(sandbox: SandboxOrchestrator, effect: Effect, **policy: Any) -> Action[Any, Any]:
    """An irreversible action ``pay(invoice)`` that uses a unit and does ``effect``."""
    policy = {
        "irreversible": True,
        "key": "pay:{invoice}",
        "limits": [Limit("units", 100, per="1h")],
        **policy,
    }

    @sandbox.action("pay", **policy)
    def pay(invoice: str = "INV-1") -> Any:
        return effect()

    return pay


class Script:
    """An effect that raises or returns what it is told, one after the other; the last for ever."""

    def __init__(self, *acts: Any) -> None:
        self.acts = list(acts)
        self.ran = 0

    def __call__(self) -> Any:
        act = self.acts[min(self.ran, len(self.acts) - 1)]
        self.ran += 1
        if isinstance(act, BaseException) or (
            isinstance(act, type) and issubclass(act, BaseException)
        ):
            raise act
        return act


def in_ledger(folder: Path) -> list[tuple[str, str]]:
    """State and key of every call, as another connection sees them."""
    with sqlite3.connect(f"file:{folder}/ledger.db?mode=ro", uri=True) as other:
        rows = other.execute("SELECT state, key FROM gonogo_calls").fetchall()
    other.close()
    return rows


# the commit before the effect


def test_dispatched_is_committed_before_the_effect(tmp_path: Path, fake_clock: FakeClock) -> None:
    """When the function is entered, another connection sees its call dispatched."""
    sandbox = arm(SandboxOrchestrator(f"sqlite:///{tmp_path}/ledger.db", clock=fake_clock))
    pay = declare(sandbox, lambda: in_ledger(tmp_path))

    assert pay() == [("dispatched", "pay:INV-1")]
    assert in_ledger(tmp_path) == [("succeeded", "pay:INV-1")]
    sandbox.cleanup()


# what each outcome does to state, key, budget and retry

ENDS = [
    ("returned", None, State.SUCCEEDED, Outcome.SUCCEEDED, True, 1, 1, None),
    ("not applied", NotApplied, State.FAILED, Outcome.NOT_APPLIED, False, 0, 4, EffectFailed),
    (
        "connection refused",
        ConnectionRefusedError,
        State.FAILED,
        Outcome.NOT_APPLIED,
        False,
        0,
        4,
        EffectFailed,
    ),
    ("rejected", Rejected, State.FAILED, Outcome.REJECTED, True, 0, 1, EffectRejected),
    ("cancel", Cancel, State.CANCELLED, Outcome.NOT_APPLIED, False, 0, 1, EffectFailed),
    ("read timeout", TimeoutError, State.UNKNOWN, Outcome.UNKNOWN, True, 1, 1, OutcomeUnknown),
    (
        "reset",
        ConnectionResetError,
        State.UNKNOWN,
        Outcome.UNKNOWN,
        True,
        1,
        1,
        OutcomeUnknown,
    ),
    ("unclassified", ValueError, State.UNKNOWN, Outcome.UNKNOWN, True, 1, 1, OutcomeUnknown),
]


@pytest.mark.parametrize(
    ("act", "state", "outcome", "held", "units", "attempts", "raised"),
    [end[1:] for end in ENDS],
    ids=[end[0] for end in ENDS],
)
def test_each_outcome_settles_state_key_budget_and_retries(
    sandbox: SandboxOrchestrator,
    act: Any,
    state: State,
    outcome: Outcome,
    held: bool,
    units: int,
    attempts: int,
    raised: type[GonogoError] | None,
) -> None:
    """The table of outcome classes: what becomes of the call, its key, its budget, its retries."""
    script = Script("ok" if act is None else act)
    pay = declare(sandbox, script)

    if raised is None:
        assert pay() == "ok"
    else:
        with pytest.raises(raised) as caught:
            pay()
        assert type(caught.value) is raised
        assert caught.value.happened == ("maybe" if state is State.UNKNOWN else "no")
        assert caught.value.call_id == only(sandbox).id

    call = only(sandbox)
    assert (call.state, call.outcome, call.held) == (state, outcome, held)
    assert (script.ran, call.attempt, used(sandbox)) == (attempts, attempts, units)
    assert sum(r.cost for r in call.reservations) == units
    assert call.lease_until is None


def test_an_unknown_outcome_is_never_run_again(sandbox: SandboxOrchestrator) -> None:
    """After a read time-out the same call answers unknown for ever, and the effect stays one."""
    script = Script(TimeoutError("read"), "paid twice")
    pay = declare(sandbox, script)
    with pytest.raises(OutcomeUnknown):
        pay()

    sandbox.clock.sleep(86_400.0)
    sandbox.recovery.run_once()
    with pytest.raises(OutcomeUnknown) as caught:
        pay()

    assert script.ran == 1
    assert caught.value.happened == "maybe"
    assert only(sandbox).run_at == NEVER  # nothing is known that could give evidence


def test_a_refused_connection_is_retried_and_charged_once(sandbox: SandboxOrchestrator) -> None:
    """A retry moves the reservation to where it runs; two attempts use one unit."""
    script = Script(ConnectionRefusedError(), "ok")
    pay = declare(sandbox, script)

    receipt = pay.call()

    assert (receipt.value, receipt.attempts, receipt.replayed) == ("ok", 2, False)
    assert used(sandbox) == 1
    call = only(sandbox)
    tried = sandbox.store.read(lambda tx: attempts_of(tx, call))
    assert [attempt.outcome for attempt in tried] == [
        Outcome.NOT_APPLIED,
        Outcome.SUCCEEDED,
    ]


def test_retry_after_is_a_floor(sandbox: SandboxOrchestrator, fake_clock: FakeClock) -> None:
    """A call that was asked to come back in 120 s waits that long, whatever its backoff says."""
    pay = declare(sandbox, Script(NotApplied("429", retry_after=120.0), "ok"))

    pay()

    assert fake_clock.slept == [120.0]


def test_backoff_doubles_and_ends_with_max_retries(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """``max_retries`` counts the tries after the first; each waits twice as long."""
    script = Script(NotApplied())
    pay = declare(sandbox, script, retry=Retry(max_retries=2, base_delay=4))
    with pytest.raises(EffectFailed, match="all 2 retries are used"):
        pay()
    assert script.ran == 3
    assert fake_clock.slept == [4.0, 8.0]


def test_no_attempt_begins_after_the_deadline(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """The deadline counts over all attempts, from the request."""
    script = Script(NotApplied())
    pay = declare(sandbox, script, deadline=8, retry=Retry(max_retries=9, base_delay=2))
    begun = fake_clock.now()
    with pytest.raises(EffectFailed, match="deadline"):
        pay()
    assert script.ran == 3  # at 0, 2 and 6 s; the next would be at 14 s
    assert fake_clock.now() - begun < 8


def test_max_elapsed_counts_from_the_first_attempt(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """A job that waited a day in its queue is retried as if it had just been asked for."""
    script = Script(NotApplied(), NotApplied(), "late")
    retry = Retry(max_retries=9, base_delay=10, max_elapsed=25)
    pay = declare(sandbox, script, retry=retry)
    handle = pay.enqueue_in("1d")
    fake_clock.advance(86_400.0)

    sandbox.worker.run_once()
    assert handle.call().state is State.PENDING
    fake_clock.advance(10.0)
    sandbox.worker.run_once()

    assert handle.call().state is State.FAILED
    assert "max_elapsed" in str(handle.call().note)
    assert script.ran == 2


@pytest.mark.parametrize("narrowing", [{"retry_on": OSError}, {"no_retry_on": LookupError}])
def test_retry_lists_only_narrow(sandbox: SandboxOrchestrator, narrowing: dict[str, Any]) -> None:
    """An exception the lists leave out ends a repeatable call at its first attempt."""
    script = Script(KeyError("no"))
    look = declare(
        sandbox, script, irreversible=False, key=None, retry=Retry(max_retries=3, **narrowing)
    )
    with pytest.raises(EffectFailed):
        look()
    assert script.ran == 1


def test_retry_on_does_not_widen(sandbox: SandboxOrchestrator) -> None:
    """Naming an exception in ``retry_on`` does not make its unknown outcome harmless."""
    script = Script(TimeoutError())
    pay = declare(sandbox, script, retry=Retry(max_retries=3, retry_on=TimeoutError))
    with pytest.raises(OutcomeUnknown):
        pay()
    assert script.ran == 1


# repeatable actions


def test_a_repeatable_action_is_run_again(sandbox: SandboxOrchestrator) -> None:
    """An unclassified exception of a repeatable action is retried with the same key."""
    keys = []

    @sandbox.action("pay", key="pay:{invoice}", irreversible=True, repeatable=True)
    def pay(invoice: str) -> int:
        keys.append(current().key)
        if len(keys) < 3:
            raise ValueError("who knows")
        return len(keys)

    assert pay("A") == 3
    assert keys == ["pay:A"] * 3


def test_a_harmless_action_fails_and_says_maybe(sandbox: SandboxOrchestrator) -> None:
    """Out of retries it has failed, may have happened, keeps its units and frees its key."""
    look = declare(sandbox, Script(ValueError("no")), irreversible=False)
    with pytest.raises(EffectFailed) as caught:
        look()
    call = only(sandbox)
    assert caught.value.happened == "maybe"
    assert (call.state, call.outcome, call.held) == (State.FAILED, Outcome.UNKNOWN, False)
    assert used(sandbox) == 1
    (alert,) = sandbox.alert_system.get_alerts()
    assert "may have happened" in alert["reason"]


@pytest.mark.parametrize("last", [NotApplied(), Rejected(), Cancel()])
def test_an_earlier_doubt_outlasts_a_later_refusal(
    sandbox: SandboxOrchestrator, last: Exception
) -> None:
    """That a later attempt was turned away proves nothing about the one that was not heard of."""
    script = Script(TimeoutError(), last)
    pay = declare(sandbox, script, repeatable=True, retry=Retry(max_retries=1))
    with pytest.raises(OutcomeUnknown, match="earlier attempt"):
        pay()
    call = only(sandbox)
    assert (call.state, call.outcome, call.held) == (State.UNKNOWN, Outcome.UNKNOWN, True)
    assert (used(sandbox), script.ran) == (1, 2)


def test_success_ends_an_earlier_doubt(sandbox: SandboxOrchestrator) -> None:
    """A repeatable call that succeeds in the end succeeded."""
    pay = declare(sandbox, Script(TimeoutError(), NotApplied(), "ok"), repeatable=True)
    assert pay() == "ok"
    assert only(sandbox).outcome is Outcome.SUCCEEDED


def test_evidence_ends_an_earlier_doubt(sandbox: SandboxOrchestrator) -> None:
    """A call that a person sends on its way again is not in doubt any more."""
    script = Script(TimeoutError(), NotApplied())
    pay = declare(sandbox, script, retry=Retry(max_retries=0))
    with pytest.raises(OutcomeUnknown):
        pay()
    sandbox.resolve(only(sandbox).id, "retry", by="ann", reason="not in their books")
    sandbox.worker.run_once()
    call = only(sandbox)
    assert (call.state, call.outcome, used(sandbox)) == (State.FAILED, Outcome.NOT_APPLIED, 0)


# control signals


def test_snooze_uses_no_attempt(sandbox: SandboxOrchestrator, fake_clock: FakeClock) -> None:
    """A snoozed call waits as long as it said; its budget waits with it; no attempt is used."""
    script = Script(*[Snooze(60.0, "bank holiday")] * 5, "ok")
    pay = declare(sandbox, script, retry=Retry(max_retries=0))

    receipt = pay.call()

    assert (receipt.value, receipt.attempts, script.ran) == ("ok", 1, 6)
    assert fake_clock.slept == [60.0] * 5
    assert used(sandbox) == 1
    call = only(sandbox)
    assert len(sandbox.store.read(lambda tx: attempts_of(tx, call))) == 1


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), "soon", None])
def test_a_snooze_of_no_number_is_a_short_one(sandbox: SandboxOrchestrator, seconds: Any) -> None:
    """A signal with a nonsensical time still says that nothing happened."""
    pay = declare(sandbox, Script(Snooze(seconds), "ok"))
    assert pay() == "ok"


def test_a_snooze_beyond_the_deadline_ends_the_call(sandbox: SandboxOrchestrator) -> None:
    """A direct call never sleeps past its deadline; it ends as not applied."""
    pay = declare(sandbox, Script(Snooze(60.0)), deadline=30)
    with pytest.raises(EffectFailed, match="deadline"):
        pay()
    assert (only(sandbox).held, used(sandbox)) == (False, 0)


# keys


def test_the_same_call_again_is_replayed(sandbox: SandboxOrchestrator) -> None:
    """Same key, same arguments: the recorded result, marked as replayed; no unit is used."""
    script = Script({"id": 7})
    pay = declare(sandbox, script)
    first, second = pay.call(), pay.call()
    assert (first.replayed, second.replayed) == (False, True)
    assert first.value == second.value == {"id": 7}
    assert first.call_id == second.call_id
    assert (script.ran, used(sandbox)) == (1, 1)


def test_a_rejection_is_replayed(sandbox: SandboxOrchestrator) -> None:
    """The other side's no is asked for once."""
    script = Script(Rejected("account closed"))
    pay = declare(sandbox, script)
    for _ in range(2):
        with pytest.raises(EffectRejected, match="account closed"):
            pay()
    assert script.ran == 1


def test_other_arguments_under_a_known_key_conflict(sandbox: SandboxOrchestrator) -> None:
    """One key is one effect: other arguments are refused, and nothing is used."""

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str, cents: int) -> int:
        return cents

    pay("A", 1)
    with pytest.raises(KeyConflict, match=r"'A'.*\(succeeded\): cents 2 here, 1 there\. If this"):
        pay("A", 2)
    assert len(sandbox.calls()) == 1


def test_a_conflict_shows_no_secret(sandbox: SandboxOrchestrator) -> None:
    """A secret argument is in no fingerprint, and what is named like one is not shown."""

    @sandbox.action("pay", key="{invoice}", irreversible=True, secrets=["pin"])
    def pay(invoice: str, pin: str, login: dict[str, str], cents: int = 1) -> None: ...

    pay("A", "hunter2", {"password": "hunter3"})
    for cents, told in ((1, "in what is not shown"), (2, ": cents 2 here, 1 there.")):
        with pytest.raises(KeyConflict, match=told) as conflict:
            pay("A", "hunter4", {"password": "hunter5"}, cents)
        assert "hunter" not in str(conflict.value)


def test_a_conflict_with_a_rejected_call_says_how_its_key_is_freed(
    sandbox: SandboxOrchestrator,
) -> None:
    """What was turned away may come again when its cause is mended, with other arguments."""

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str, iban: str) -> str:
        if iban == "closed":
            raise Rejected("account closed")
        return iban

    with pytest.raises(EffectRejected):
        pay("A", "closed")
    with pytest.raises(KeyConflict, match=r"gonogo resolve \w+ absent") as conflict:
        pay("A", "open")
    sandbox.resolve(conflict.value.call_id or "", "absent", by="ops@example.com", reason="mended")
    assert pay("A", "open") == "open"


def declare_nothing() -> None:
    """An effect without arguments or result."""


def test_two_actions_never_share_a_key(sandbox: SandboxOrchestrator) -> None:
    """Keys are scoped by action."""
    for name in ("pay", "mail"):
        sandbox.action(name, key="same", irreversible=True)(declare_nothing)
    assert [sandbox.actions[name]() for name in ("pay", "mail")] == [None, None]
    assert len(sandbox.calls()) == 2


def test_a_key_is_free_after_its_ttl(sandbox: SandboxOrchestrator, fake_clock: FakeClock) -> None:
    """``key_ttl`` seconds after it settled the same call is performed anew; the row stays."""
    script = Script("ok")
    pay = declare(sandbox, script, key_ttl=60)
    pay()
    fake_clock.advance(59.0)
    pay()
    assert script.ran == 1
    fake_clock.advance(1.0)
    pay()
    assert script.ran == 2
    assert sorted(c.held for c in sandbox.calls(action="pay")) == [False, True]


def test_an_unknown_key_never_expires(sandbox: SandboxOrchestrator, fake_clock: FakeClock) -> None:
    """The time of a key counts for what is settled only."""
    script = Script(TimeoutError())
    pay = declare(sandbox, script, key_ttl=60)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            pay()
        fake_clock.advance(10_000.0)
        sandbox.idempotency_manager.clear_expired()
    assert script.ran == 1


def test_one_execution_under_many_threads(sandbox: SandboxOrchestrator) -> None:
    """Sixteen threads with the same key make one effect; the others are told so or replay it."""
    barrier, script = threading.Barrier(16), Script("ok")
    pay = declare(sandbox, script)
    said: list[str] = []

    def caller() -> None:
        barrier.wait()
        try:
            said.append(pay())
        except InFlight:
            said.append("in flight")

    threads = [threading.Thread(target=caller) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert script.ran == 1
    assert "ok" in said
    assert set(said) <= {"ok", "in flight"}
    assert (len(said), len(sandbox.calls(action="pay")), used(sandbox)) == (16, 1, 1)


def test_a_call_in_flight_is_refused(sandbox: SandboxOrchestrator) -> None:
    """Calling an action with its own key from within is in flight, not a dead end."""
    refusals = []

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str) -> str:
        with pytest.raises(InFlight) as caught:
            pay(invoice)
        refusals.append(caught.value)
        return "ok"

    assert pay("A") == "ok"
    assert refusals[0].call_id == only(sandbox).id


# guards: a denial leaves no trace


def nothing_is_left(sandbox: SandboxOrchestrator) -> bool:
    return not sandbox.calls(action="pay") and used(sandbox) == 0


def locked(sandbox: SandboxOrchestrator) -> dict[str, Any]:
    sandbox.lock(by="ann", reason="lunch")
    return {}


def halted(sandbox: SandboxOrchestrator) -> dict[str, Any]:
    sandbox.halt("pay", by="ann", reason="stop")
    return {}


def unready(sandbox: SandboxOrchestrator) -> dict[str, Any]:
    sandbox.readiness_checker.register_check("bank", lambda: False, groups=("call",))
    return {}


def on_hold(sandbox: SandboxOrchestrator) -> dict[str, Any]:
    sandbox.readiness_checker.hold(by="ann", reason="audit")
    return {}


def unapproved(sandbox: SandboxOrchestrator) -> dict[str, Any]:
    return {"needs_approval": True}


def overdrawn(sandbox: SandboxOrchestrator) -> dict[str, Any]:
    return {"limits": [Limit("units", 100, per="1h"), Limit("tiny", 1, per="1h", cost=2)]}


DENIALS = [
    (locked, DryRunBlocked),
    (halted, Halted),
    (unready, NotReady),
    (on_hold, NotReady),
    (unapproved, NotApproved),
    (overdrawn, RateLimited),
]


@pytest.mark.parametrize(("deny", "raised"), DENIALS, ids=[d[0].__name__ for d in DENIALS])
def test_a_denial_leaves_no_claim_and_no_usage(
    sandbox: SandboxOrchestrator,
    deny: Callable[[SandboxOrchestrator], dict[str, Any]],
    raised: type[Refused],
) -> None:
    """Whichever guard says no: not performed, no row, no key, no unit of any limit; and told."""
    script, told = Script("ok"), []
    pay = declare(sandbox, script, **deny(sandbox))
    sandbox.events.subscribe(lambda event: told.append(event), names=("call.refused",))

    with pytest.raises(raised) as caught:
        pay()

    assert (caught.value.happened, caught.value.action) == ("no", "pay")
    assert script.ran == 0
    assert nothing_is_left(sandbox)
    assert [event.detail["error"] for event in told] == [raised.__name__]


@pytest.mark.parametrize("deny", [locked, unready, on_hold])
def test_reversible_actions_pass_lock_and_verdict(
    sandbox: SandboxOrchestrator, deny: Callable[[SandboxOrchestrator], dict[str, Any]]
) -> None:
    """Lock and verdict hold back what cannot be taken back, and nothing else."""
    look = declare(sandbox, Script("seen"), irreversible=False, **deny(sandbox))
    assert look() == "seen"


def test_a_failing_guard_refuses(
    sandbox: SandboxOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error inside a guard is a no."""
    script = Script("ok")
    pay = declare(sandbox, script)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(sandbox.governor, "reserve", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        pay()
    assert script.ran == 0
    assert nothing_is_left(sandbox)


def test_a_failing_observer_breaks_nothing(sandbox: SandboxOrchestrator) -> None:
    """An observer that raises is counted; the call goes its way."""

    def observer(event: Any) -> None:
        raise RuntimeError("not interested")

    sandbox.events.subscribe(observer)
    assert declare(sandbox, Script("ok"))() == "ok"


# limits and slots


def test_limits_count_by_key_and_by_actual_cost(sandbox: SandboxOrchestrator) -> None:
    """A limit is counted for each key, reserved by its cost and settled to what was spent."""

    @sandbox.action(
        "pay",
        key="{invoice}",
        irreversible=True,
        limits=[Limit("cents", 100, per="1h", key="{customer}", cost="{cents}")],
    )
    def pay(invoice: str, customer: str, cents: int) -> None:
        current().spend("cents", cents // 2)
        current().spend("nobody declared this", 5)

    pay("A", "ann", 80)
    pay("B", "bob", 100)
    pay("C", "ann", 60)  # 40 were spent, 60 are left
    with pytest.raises(RateLimited, match=r"cents\[ann\]"):
        pay("D", "ann", 31)
    status = sandbox.governor.get_status("cents", key="ann")
    assert status["current_actions"] == 70
    held = [r.cost for c in sandbox.calls(action="pay") for r in c.reservations]
    assert sorted(held) == [30, 40, 50]


def test_a_failed_attempt_is_not_settled_to_what_it_spent(sandbox: SandboxOrchestrator) -> None:
    """The budget of an unknown outcome stays as reserved, whatever the action said it spent."""

    def effect() -> None:
        current().spend("units", 0)
        raise TimeoutError

    with pytest.raises(OutcomeUnknown):
        declare(sandbox, effect)()
    assert used(sandbox) == 1


def test_slots_bound_what_runs_at_once(sandbox: SandboxOrchestrator) -> None:
    """No more calls run at a moment than there are slots; a slot is free when its call ends."""
    inner: list[type[Exception]] = []

    @sandbox.action(
        "pay", key="{invoice}", irreversible=True, concurrency=Concurrency(1, key="{bank}")
    )
    def pay(invoice: str, bank: str, then: str = "") -> str:
        if then:
            try:
                pay(f"{invoice}+", then)
            except RateLimited as refusal:
                inner.append(type(refusal))
        return "ok"

    pay("A", "x", "x")
    assert inner == [RateLimited]
    pay("B", "x", "y")
    pay("C", "x")
    assert len(inner) == 1


def test_a_limit_that_lets_callers_wait(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """With ``wait`` a call waits for room within its time, and is refused beyond."""
    pay = declare(
        sandbox, Script("ok"), timeout=90, limits=[Limit("units", 1, per="1m", wait=True)]
    )
    pay("A")
    begun = fake_clock.now()
    assert pay("B") == "ok"
    assert 0 < fake_clock.now() - begun <= 90
    sandbox.governor.set_limit("units", 1, 7200)
    with pytest.raises(RateLimited):
        pay("C")


def test_a_retry_without_room_ends_the_call(sandbox: SandboxOrchestrator) -> None:
    """A direct call that is refused at a later attempt did not happen: no key, no units left."""

    def effect() -> None:
        sandbox.halt("pay", by="ann", reason="too many errors")
        raise NotApplied

    pay = declare(sandbox, effect)
    with pytest.raises(Halted):
        pay()
    call = only(sandbox)
    assert (call.state, call.outcome, call.held) == (State.FAILED, Outcome.NOT_APPLIED, False)
    assert used(sandbox) == 0
    assert "refused before it could run again" in str(call.note)


def test_a_refused_retry_keeps_an_earlier_doubt(sandbox: SandboxOrchestrator) -> None:
    """An irreversible call whose first attempt may have happened is unknown, not failed."""

    def effect() -> None:
        sandbox.halt("pay", by="ann", reason="too many errors")
        raise TimeoutError

    with pytest.raises(Halted):
        declare(sandbox, effect, repeatable=True)()
    call = only(sandbox)
    assert (call.state, call.outcome, call.held) == (State.UNKNOWN, Outcome.UNKNOWN, True)
    assert used(sandbox) == 1


# a ledger that fails


@pytest.fixture
def failing(fake_clock: FakeClock) -> FaultySandbox:
    sandbox = FaultySandbox(clock=fake_clock, random=lambda: 0.5)
    arm(sandbox)
    return sandbox


def test_nothing_happens_when_admission_cannot_be_written(failing: FaultySandbox) -> None:
    """A ledger that fails in admit: the function is not entered, nothing is kept, try again."""
    script = Script("ok")
    pay = declare(failing, script)
    failing.faulty.fail_when(lambda write: True)
    with pytest.raises(StoreUnavailable) as caught:
        pay()
    failing.faulty.heal()
    assert (caught.value.happened, script.ran) == ("no", 0)
    assert nothing_is_left(failing)
    assert pay() == "ok"


@pytest.mark.parametrize("act", ["ok", Rejected(), NotApplied()])
def test_an_outcome_that_cannot_be_written_is_unknown(
    failing: FaultySandbox, fake_clock: FakeClock, act: Any
) -> None:
    """A ledger that fails in settle: unknown to the caller at once, to all when the lease ends."""
    script = Script(act)
    pay = declare(failing, script, timeout=10)
    failing.faulty.fail_when(lambda write: not write.durable)
    with pytest.raises(OutcomeUnknown, match="could not be written"):
        pay()
    failing.faulty.heal()
    assert only(failing).state is State.DISPATCHED
    with pytest.raises(InFlight):
        pay()

    fake_clock.advance(41.0)
    with pytest.raises(OutcomeUnknown):
        pay()
    assert (only(failing).state, script.ran, used(failing)) == (State.UNKNOWN, 1, 1)


def test_a_stop_is_obeyed_when_the_ledger_fails_too(failing: FaultySandbox) -> None:
    """KeyboardInterrupt reaches the program though its outcome could not be written."""
    pay = declare(failing, Script(KeyboardInterrupt()))
    failing.faulty.fail_when(lambda write: not write.durable)
    with pytest.raises(KeyboardInterrupt) as caught:
        pay()
    assert "could not be written" in caught.value.__notes__[0]


# clocks


class Stepping(FakeClock):
    """A clock whose owner sets it back, as an administrator would the wall clock."""

    def set_back(self, seconds: float) -> None:
        self._now -= seconds


def test_a_clock_that_steps_back_loses_nothing() -> None:
    """An hour set back in the middle of the effect changes no outcome, and no time is negative."""
    clock = Stepping()
    sandbox = arm(SandboxOrchestrator(clock=clock))
    told = []
    sandbox.events.subscribe(told.append, names=("call.settled",))
    pay = declare(sandbox, lambda: clock.set_back(3600.0) or "ok")
    assert pay() == "ok"
    assert only(sandbox).state is State.SUCCEEDED
    assert told[0].detail["duration"] >= 0
    assert pay.call().replayed
