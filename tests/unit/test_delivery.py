"""Delivery: held jobs go back and say why, hopeless ones fail, leases live while jobs do."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.support.scene import SOON, WHO, Provider, Sandboxes, drain, payment, reminder, story

from gonogo.backoff import Retry
from gonogo.durations import spell_time
from gonogo.errors import EffectFailed, OutcomeUnknown, StoreUnavailable
from gonogo.jobs import Handle
from gonogo.limits import Concurrency, Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.signals import Cancel, NotApplied, Rejected, Snooze
from gonogo.testing import FaultyStore


def held(handle: Handle, *because: str) -> None:
    """It went back to wait, used no attempt, and says why."""
    call = handle.call()
    assert (call.state, call.attempt, call.lease_until, call.owner) == (
        State.PENDING,
        0,
        None,
        None,
    )
    told = story(handle)
    for text in because:
        assert text in told


# held back without using an attempt


def test_a_job_whose_arming_ran_out_waits(sandboxes: Sandboxes) -> None:
    """Queued while armed, due when locked again: it waits until somebody arms anew."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO, seconds=60)
    handle = payment(sandbox, provider).enqueue("A")
    sandboxes.clock.advance(60)
    drain(sandbox)
    held(handle, "locked", "dry-run")
    sandbox.arm(**WHO)
    sandboxes.clock.advance(60)
    drain(sandbox)
    assert provider.book == ["A"]


def test_a_halted_action_waits(sandboxes: Sandboxes) -> None:
    """A halted action's jobs wait with the halt's reason, others run."""
    sandbox, provider, sent = sandboxes(), Provider(), []
    sandbox.arm(**WHO)
    handle = payment(sandbox, provider).enqueue("A")
    reminder(sandbox, sent.append).enqueue("hello")
    sandbox.halt("pay", by="ann", reason="the bank called")
    drain(sandbox)
    held(handle, "the bank called")
    assert sent == ["hello"]
    sandbox.resume("pay", by="ann", reason="all clear")
    sandboxes.clock.advance(60)
    drain(sandbox)
    assert provider.book == ["A"]


def test_a_sandbox_on_hold_waits(sandboxes: Sandboxes) -> None:
    """While a person holds the verdict, irreversible jobs wait."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    handle = payment(sandbox, provider).enqueue("A")
    sandbox.readiness_checker.hold(**WHO)
    drain(sandbox)
    held(handle, "checked the books")
    assert provider.book == []


def test_a_sandbox_that_is_not_ready_waits(sandboxes: Sandboxes) -> None:
    """A NO-GO of the worker group holds irreversible jobs back; reversible ones run."""
    sandbox, provider, sent, well = sandboxes(), Provider(), [], [False]
    sandbox.arm(**WHO)
    register = sandbox.readiness_checker.register_check
    register("provider_up", lambda: well[0], groups=("worker",))
    handle = payment(sandbox, provider).enqueue("A")
    reminder(sandbox, sent.append).enqueue("hello")
    drain(sandbox)
    held(handle, "provider_up")
    assert (provider.book, sent) == ([], ["hello"])
    well[0] = True
    sandboxes.clock.advance(60)
    drain(sandbox)
    assert provider.book == ["A"]


def test_a_job_beyond_its_rate_waits_its_time(sandboxes: Sandboxes) -> None:
    """A limit without room holds a job back until there is some; what was refused used nothing."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, limits=[Limit("api", 1, per="10s")])
    _, second = pay.enqueue_many([("A",), ("B",)])
    drain(sandbox)
    held(second, "Rate limit exceeded", "api")
    now = sandboxes.clock.now()
    rooms = [f"try again at {spell_time(now + wait)}." for wait in (10, 11)]
    assert any(room in story(second) for room in rooms), "told later, it is as true"
    for _ in range(12):
        sandboxes.clock.advance(1)
        drain(sandbox)
    assert provider.book == ["A", "B"]


def test_a_job_without_a_slot_waits(sandboxes: Sandboxes) -> None:
    """A concurrency limit that is full holds a job back."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    provider, seen = Provider(), []
    pay = payment(sandbox, provider, concurrency=Concurrency(1))
    first, second = pay.enqueue_many([("A",), ("B",)])
    provider.script = [lambda invoice: seen.append(sandbox.worker.run_once())]
    assert sandbox.worker.run_once()
    held(second, f"1 of 1 calls of 'pay' ran at {spell_time(sandboxes.clock.now())}")
    assert (first.state(), seen) == (State.SUCCEEDED, [True])


def test_a_cost_that_can_never_pass_fails(armed: SandboxOrchestrator) -> None:
    """Waiting would not help: it ends, did not happen, and the key is free."""
    limits = [Limit("budget", 1000, per="1h", cost="{cents}")]
    pay = payment(armed, limits=limits)
    handle = pay.enqueue("A", 1001)
    drain(armed)
    with pytest.raises(EffectFailed, match=r"1,?001"):
        handle.result(0)
    assert pay.enqueue("A", 1000).is_new
    assert armed.alert_system.get_alerts(task_name="pay", severity="error")


def test_an_unknown_action_is_parked(shared: Sandboxes) -> None:
    """A process that does not know the action leaves the job to one that does, and says so."""
    knows, other = shared(), shared()
    knows.arm(**WHO)
    handle = payment(knows).enqueue("A")
    drain(other)
    held(handle, "not declared in this process")
    assert other.alert_system.get_alerts(task_name="pay")
    shared.clock.advance(60)
    drain(knows)
    assert handle.state() is State.SUCCEEDED


def test_arguments_that_no_longer_fit_are_parked(shared: Sandboxes) -> None:
    """A job of an older version waits for a process that understands it."""
    old, new = shared(), shared()
    handle = reminder(old, str.upper).enqueue("hello")

    @new.action("remind", irreversible=False)
    def remind(text: str, language: str) -> None: ...

    drain(new)
    held(handle, "no longer fit")
    shared.clock.advance(60)
    drain(old)
    assert handle.result(0) == "HELLO"


def test_a_drifted_job_fails(armed: SandboxOrchestrator) -> None:
    """A precondition that says no ends the job without performing it."""
    provider = Provider()
    pay = payment(armed, provider)
    pay.precondition(lambda invoice, cents=100: False)
    handle = pay.enqueue("A")
    drain(armed)
    with pytest.raises(EffectFailed, match="precondition no longer holds"):
        handle.result(0)
    assert provider.book == []


def test_a_precondition_that_raises_refuses(armed: SandboxOrchestrator) -> None:
    """A guard that fails is a guard that says no."""
    provider = Provider()
    pay = payment(armed, provider)

    @pay.precondition
    def _(invoice: str, cents: int = 100) -> Any:
        raise OSError("no route")

    handle = pay.enqueue("A")
    drain(armed)
    with pytest.raises(EffectFailed, match="OSError: no route"):
        handle.result(0)
    assert provider.book == []


def test_a_precondition_that_hangs_refuses(armed: SandboxOrchestrator) -> None:
    """A guard that does not answer within the time-out says no."""
    provider, let_go = Provider(), threading.Event()
    pay = payment(armed, provider, timeout=0.01)
    pay.precondition(lambda invoice, cents=100: let_go.wait(SOON))
    handle = pay.enqueue("A")
    drain(armed)
    let_go.set()
    with pytest.raises(EffectFailed, match="gave no answer"):
        handle.result(0)
    assert provider.book == []


# outcomes


def test_a_retry_is_a_row_and_not_a_sleep(sandboxes: Sandboxes) -> None:
    """A job to be tried again waits in the ledger; the worker goes on with others at once."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [NotApplied("busy", retry_after=40.0)]
    retry = Retry(base_delay=1.0, jitter="none")
    first, _ = payment(sandbox, provider, retry=retry).enqueue_many([("A",), ("B",)])
    drain(sandbox)
    assert (provider.book, sandboxes.clock.slept) == (["B"], [])
    assert first.call().run_at == sandboxes.clock.now() + 40
    assert "asked for 40 s" in story(first)
    sandboxes.clock.advance(40)
    drain(sandbox)
    assert (first.state(), first.call().attempt) == (State.SUCCEEDED, 2)


def test_retries_end(sandboxes: Sandboxes) -> None:
    """After the last attempt a job that was never applied has failed."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [NotApplied("busy")] * 3
    handle = payment(sandbox, provider, retry=Retry(max_retries=2)).enqueue("A")
    for _ in range(3):
        drain(sandbox)
        sandboxes.clock.advance(600)
    assert (handle.state(), handle.call().attempt) == (State.FAILED, 3)
    assert len(sandbox.store.read(lambda tx: tx.attempts.of(handle.id))) == 3


def test_a_snoozed_job_uses_no_attempt(sandboxes: Sandboxes) -> None:
    """Snooze: not now. It runs again after that time, however often it snoozes."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    provider.script = [Snooze(10, "bank holiday")] * 3
    handle = payment(sandbox, provider, retry=Retry(max_retries=0)).enqueue("A")
    for _ in range(3):
        drain(sandbox)
        assert "bank holiday" in story(handle)
        sandboxes.clock.advance(10)
    drain(sandbox)
    assert (handle.state(), handle.call().attempt) == (State.SUCCEEDED, 1)


def test_a_job_may_cancel_itself(armed: SandboxOrchestrator) -> None:
    """Cancel: not any more. It ends as cancelled and frees its key."""
    provider = Provider()
    provider.script = [Cancel("the customer left")]
    pay = payment(armed, provider)
    handle = pay.enqueue("A")
    drain(armed)
    assert handle.state() is State.CANCELLED
    assert "customer left" in story(handle)
    assert pay.enqueue("A").is_new


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_nothing_an_action_raises_ends_the_worker(
    armed: SandboxOrchestrator, error: BaseException
) -> None:
    """Whatever it raises is settled: unknown, and the next job runs."""
    provider = Provider()
    provider.script = [error]
    first, second = payment(armed, provider).enqueue_many([("A",), ("B",)])
    drain(armed)
    assert (first.state(), second.state()) == (State.UNKNOWN, State.SUCCEEDED)


def test_an_async_action_is_a_job_like_any_other(armed: SandboxOrchestrator) -> None:
    """A worker awaits it, and its time-out makes it unknown."""

    @armed.action("send", irreversible=True, key="send:{to}", timeout=0.01)
    async def send(to: str) -> str:
        import asyncio

        if to == "nowhere":
            await asyncio.Event().wait()
        return f"sent to {to}"

    good, hanging = send.enqueue_many([("ann",), ("nowhere",)])
    drain(armed)
    assert good.result(0) == "sent to ann"
    with pytest.raises(OutcomeUnknown):
        hanging.result(0)


def test_a_job_has_the_correlation_of_who_queued_it(armed: SandboxOrchestrator) -> None:
    """The correlation id travels with the job."""
    from gonogo.logs import correlation, get_correlation_id

    seen: list[str | None] = []
    remind = reminder(armed, lambda text: seen.append(get_correlation_id()))
    with correlation("req-7"):
        remind.enqueue("hello")
    drain(armed)
    assert seen == ["req-7"]


# leases


def test_a_long_job_is_not_taken_for_dead(sandboxes: Sandboxes) -> None:
    """The keeper renews the lease while the job runs, however much longer than a lease it takes."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)

    def long(invoice: str) -> str:
        for _ in range(10):
            sandboxes.clock.advance(20)
            sandbox.delivery.keep()
            assert sandbox.recovery.run_once() == 0
        return "done at last"

    provider.script = [long]
    handle = payment(sandbox, provider, timeout=None).enqueue("A")
    drain(sandbox)
    assert handle.result(0) == "done at last"


def test_a_job_that_is_not_kept_is_taken_for_dead(sandboxes: Sandboxes) -> None:
    """Without its keeper the lease runs out: the call is unknown, and its result is evidence."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)

    def long(invoice: str) -> str:
        sandboxes.clock.advance(31)
        assert sandbox.recovery.run_once() == 1
        assert handle.state() is State.UNKNOWN
        return "done at last"

    provider.script = [long]
    handle = payment(sandbox, provider, timeout=None).enqueue("A")
    drain(sandbox)
    assert handle.result(0) == "done at last"


def test_a_keeper_learns_what_was_taken_away(shared: Sandboxes) -> None:
    """Ids that could not be renewed are reported, and renewed by nobody."""
    first, second = shared(), shared()
    first.arm(**WHO)
    handle = payment(first).enqueue("A")
    assert first.delivery.claim() is not None
    shared.clock.advance(30)
    payment(second)
    second.recovery.run_once()
    assert second.delivery.claim() is not None
    assert first.delivery.keep() == {handle.id}
    assert handle.call().owner == second.owner


def test_an_idle_process_asks_seldom(sandboxes: Sandboxes) -> None:
    """A minute in which nothing happens costs a beat every third of the lease and few reads."""
    sandbox = sandboxes(store=FaultyStore(), lease=30.0)
    sandbox.worker.keep_once()
    store, reads = sandbox.store, []
    assert isinstance(store, FaultyStore)
    read, written = store.read, store.writes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "read", lambda work: (reads.append(1), read(work))[1])
        for _ in range(59):
            sandboxes.clock.advance(1)
            assert sandbox.delivery.tend() == 0
    assert (store.writes - written, len(reads)) == (5, 12)


def test_an_idle_process_does_its_chores_on_time(sandboxes: Sandboxes) -> None:
    """A lease that ends is noticed by the next round, whoever held it."""
    sandbox = sandboxes(lease=10.0)
    pay = payment(sandbox)
    sandbox.arm(**WHO)
    handle = pay.enqueue("A")
    sandbox.worker.keep_once()
    claimed = sandbox.delivery.claim()
    assert claimed is not None
    sandbox.delivery._hand.forget(claimed.id)  # as if its process had died
    ends = sandboxes.clock.now() + 10
    while sandboxes.clock.now() < ends - 1:
        sandboxes.clock.advance(1)
        assert sandbox.delivery.tend() == 0
    sandboxes.clock.advance(1)
    assert sandbox.delivery.tend() == 1
    assert handle.state() is State.PENDING


def test_who_cannot_beat_does_not_claim(shared: Sandboxes) -> None:
    """A worker whose own beat fails for a lease takes no new jobs, and does again when it beats."""
    sandbox = shared()
    sandbox.arm(**WHO)
    delivery = sandbox.delivery

    def refuse(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the disk is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.store, "write", refuse)
        with pytest.raises(StoreUnavailable):
            delivery.keep()
        assert delivery.fit
        shared.clock.advance(30)
        assert not delivery.fit
    delivery.keep()
    assert delivery.fit


def test_a_worker_beats_on_the_ledger(shared: Sandboxes) -> None:
    """Other processes see its sign of life, until it leaves."""
    first, second = shared(), shared()
    first.delivery.keep()
    beats = second.store.read(lambda tx: tx.beats.all())
    assert [(b.name, b.kind) for b in beats if b.kind == "worker"] == [(first.owner, "worker")]
    first.delivery.leave()
    assert not [b for b in second.store.read(lambda tx: tx.beats.all()) if b.kind == "worker"]


def test_who_leaves_gives_back_what_it_had_not_begun(sandboxes: Sandboxes) -> None:
    """A claim that was not performed goes back at once, without using an attempt."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    handle = payment(sandbox).enqueue("A")
    assert sandbox.delivery.claim() is not None
    sandbox.delivery.leave()
    held(handle, "stopped before it began")


def test_a_taken_over_claim_performs_nothing(shared: Sandboxes) -> None:
    """Between claim and admit the lease was lost: admit refuses, and the new claim stands."""
    first, second, provider = shared(), shared(), Provider()
    first.arm(**WHO)
    handle = payment(first, provider).enqueue("A")
    payment(second, provider)
    claimed = first.delivery.claim()
    assert claimed is not None
    shared.clock.advance(30)
    second.recovery.run_once()
    taken = second.delivery.claim()
    first.delivery.perform(claimed)
    assert provider.book == []
    assert taken is not None
    assert handle.call().fence == taken.fence
    second.delivery.perform(taken)
    assert provider.book == ["A"]


# functions that hang


def test_a_function_beyond_its_time_out_is_unknown(sandboxes: Sandboxes) -> None:
    """A plain function cannot be stopped: its call is unknown, and its late result is evidence."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)

    def hang(invoice: str) -> str:
        sandboxes.clock.advance(31)
        assert sandbox.delivery.overtime() == [handle.id]
        assert sandbox.delivery.overtime() == []
        assert handle.state() is State.UNKNOWN
        return "after all"

    provider.script = [hang]
    handle = payment(sandbox, provider, timeout=30.0).enqueue("A")
    drain(sandbox)
    assert handle.result(0) == "after all"
    assert any(call.state is State.SUCCEEDED for call in sandbox.calls())


def test_a_late_rejection_is_evidence_too(sandboxes: Sandboxes) -> None:
    """What the other side said late settles the doubt."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)

    def hang(invoice: str) -> str:
        sandboxes.clock.advance(31)
        sandbox.delivery.overtime()
        raise Rejected("no such account")

    provider.script = [hang]
    handle = payment(sandbox, provider, timeout=30.0).enqueue("A")
    drain(sandbox)
    assert handle.state() is State.FAILED


def test_time_out_of_none_is_no_time_out(sandboxes: Sandboxes) -> None:
    """Without a time-out a job may take as long as it is kept alive."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)

    def slow(invoice: str) -> str:
        sandboxes.clock.advance(29)
        assert sandbox.delivery.overtime() == []
        return "done"

    provider.script = [slow]
    handle = payment(sandbox, provider, timeout=None).enqueue("A")
    drain(sandbox)
    assert handle.result(0) == "done"


# a ledger out of reach


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_ledger_out_of_reach_loses_nothing(shared: Sandboxes, fails_at: int) -> None:
    """Before admit: the job runs later. At settle: the effect is in doubt, and surfaced."""
    sandbox, provider = shared(), Provider()
    sandbox.arm(**WHO)
    handle = payment(sandbox, provider).enqueue("A")
    claimed = sandbox.delivery.claim()
    assert claimed is not None
    write, count = sandbox.store.write, []

    def failing(work: Any, **how: Any) -> Any:
        count.append(1)
        if len(count) >= fails_at:
            raise StoreUnavailable("the disk is gone")
        return write(work, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.store, "write", failing)
        if fails_at == 1:
            with pytest.raises(StoreUnavailable):
                sandbox.delivery.perform(claimed)
        else:
            sandbox.delivery.perform(claimed)
    shared.clock.advance(30)
    sandbox.recovery.run_once()
    drain(sandbox)
    done = (State.SUCCEEDED, ["A"]) if fails_at == 1 else (State.UNKNOWN, ["A"])
    assert (handle.state(), provider.book) == done


def test_expired_keys_are_given_back(sandboxes: Sandboxes) -> None:
    """The keeper's round frees the keys whose time is over; the row stays as a tombstone."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox, key_ttl=60.0)
    handle = pay.enqueue("A")
    drain(sandbox)
    sandboxes.clock.advance(60)
    assert sandbox.delivery.maintain() == 1
    assert (handle.state(), handle.call().held) == (State.SUCCEEDED, False)
    assert pay.enqueue("A").is_new


def test_a_released_call_tells_the_truth_about_its_row(sandboxes: Sandboxes) -> None:
    """Putting back a call that somebody changed meanwhile changes nothing."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    handle = payment(sandbox).enqueue("A")
    claimed = sandbox.delivery.claim()
    assert claimed is not None
    handle.cancel()
    sandbox.delivery.perform(claimed)
    assert handle.state() is State.CANCELLED
