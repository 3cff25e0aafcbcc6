"""The orchestrator: joins everything, starts and ends in any order, shares nothing by accident."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.scene import SOON, WHO, Provider, Sandboxes, drain, payment, reminder

from gonogo.errors import (
    ConfigurationError,
    DryRunBlocked,
    InFlight,
    NotFound,
    NotReady,
    RateLimited,
)
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State

# life


def test_it_is_ready_when_it_runs(sandboxes: Sandboxes) -> None:
    """Before initialize and after cleanup it is not ready; in between it is."""
    sandbox = sandboxes()
    assert not sandbox.is_ready()
    sandbox.initialize()
    assert sandbox.is_ready()
    sandbox.cleanup()
    assert not sandbox.is_ready()


@pytest.mark.parametrize(
    "order",
    [
        ["cleanup"],
        ["cleanup", "cleanup"],
        ["get_status", "cleanup", "get_status"],
        ["initialize", "initialize", "cleanup", "cleanup", "get_status"],
        ["cleanup", "initialize", "get_status", "cleanup", "initialize", "cleanup"],
    ],
)
def test_any_order_is_fine(sandboxes: Sandboxes, order: list[str]) -> None:
    """initialize, status and cleanup may be called in any order, and twice."""
    sandbox = sandboxes()
    for name in order:
        getattr(sandbox, name)()
    sandbox.cleanup()
    assert not sandbox.worker.is_running


def test_a_ledger_that_begins_with_the_process_is_there() -> None:
    """Nobody can have meant another one, so no command has to be run elsewhere for it."""
    for memory in (True, False):
        sandbox = SandboxOrchestrator(use_memory_db=memory)
        assert sandbox.has_ledger()
        sandbox.cleanup()


def test_a_temporary_ledger_leaves_nothing_behind(sandboxes: Sandboxes) -> None:
    """A sandbox on a private file removes it, also when it was looked at after the cleanup."""
    sandbox = SandboxOrchestrator(use_memory_db=False, clock=sandboxes.clock)
    path = Path(sandbox.db_manager.engine.url.database or "")
    sandbox.counts()
    assert path.exists()
    sandbox.cleanup()
    assert not path.exists()


def test_it_works_again_after_cleanup(sandboxes: Sandboxes) -> None:
    """A sandbox that was cleaned up can be initialized anew; its ledger is what it was."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox)
    pay("A")
    with sandbox:
        pass
    with sandbox:
        assert pay.enqueue("B").result(SOON * 1e6) == "paid B"
    assert sandbox.counts() == {State.SUCCEEDED: 2}


def test_cleanup_drains(sandboxes: Sandboxes) -> None:
    """What is under way ends, also when it asks for the database; what waits is left."""
    sandbox, began, draining = sandboxes(), threading.Event(), threading.Event()

    def use_the_database(text: str) -> str:
        began.set()
        assert draining.wait(SOON)
        return str(sandbox.db_manager.database_url)

    handle = reminder(sandbox, use_the_database).enqueue("hello")
    sandbox.initialize()
    assert began.wait(SOON)
    stop = sandbox.worker.stop

    def stopping(timeout: float) -> bool:
        draining.set()
        return stop(timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox.worker, "stop", stopping)
        sandbox.cleanup()
    assert handle.state() is State.SUCCEEDED


def test_the_status_is_a_glance(sandboxes: Sandboxes) -> None:
    """It counts what waits, what is done, and says whether it is locked."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox)
    pay("A")
    pay.enqueue("B")
    status = sandbox.get_status()
    assert (status["dry_run"], status["worker_queue_length"]) == (False, 1)
    assert status["calls"] == {"succeeded": 1, "pending": 1}


def test_defaults_are_set_by_initialize(sandboxes: Sandboxes) -> None:
    """The checklist's limits are in force, unless somebody declared others before."""
    sandbox = sandboxes(payment_limit=7)
    payment(sandbox, limits=[Limit("api_call", 3, per="1s")])
    sandbox.initialize()
    limits = {name: (x.max, x.span) for name, x in sandbox.governor._limits.items()}
    assert limits["payment"][0] == 7
    assert limits["api_call"][0] == 3
    sandbox.cleanup()


# declaring


def test_silence_is_not_permission(sandboxes: Sandboxes) -> None:
    """An action says whether it is irreversible, unless its name says so."""
    sandbox = sandboxes()
    with pytest.raises(ConfigurationError, match="silence is not permission"):
        sandbox.action("tidy_up")

    @sandbox.action("Payment", key="{invoice}")
    def pay(invoice: str) -> None: ...

    with pytest.raises(DryRunBlocked):
        pay("A")
    with pytest.raises(ConfigurationError, match="no key"):
        sandbox.action("transfer")


def test_an_action_without_its_parentheses_is_an_error(sandboxes: Sandboxes) -> None:
    """The bare decorator gets the function for a name; the error shows how it is written."""
    with pytest.raises(ConfigurationError, match=r"@sandbox\.action\('payment'"):
        sandboxes().action(len)  # type: ignore[arg-type]


def test_a_name_is_declared_once(sandboxes: Sandboxes) -> None:
    """Keys are scoped by the action's name, so two actions never share one."""
    sandbox = sandboxes()
    payment(sandbox)
    with pytest.raises(ConfigurationError, match="declared twice"):
        payment(sandbox)


@pytest.mark.parametrize(
    "policy",
    [
        {"key": "pay:{nobody}"},
        {"key": "pay:{invoice"},
        {"timeout": 0},
        {"deadline": -1.0},
        {"key_ttl": 0},
        {"verify_after": -1.0},
        {"in_flight": "maybe"},
        {"limits": [Limit("x", 1, per="1h", cost="{nobody}")]},
        {"concurrency": 0},
    ],
)
def test_what_does_not_fit_is_refused_when_declared(
    sandboxes: Sandboxes, policy: dict[str, Any]
) -> None:
    """A mistake in a declaration is found at once, and nothing of it stays."""
    sandbox = sandboxes()
    with pytest.raises(ConfigurationError):
        payment(sandbox, **policy)
    assert dict(sandbox.actions) == {}


# what is shared and what is not


def test_two_in_memory_share_nothing() -> None:
    """Keys, limits, lock, alerts and actions of one are unknown to the other."""
    first, second = SandboxOrchestrator(), SandboxOrchestrator()
    first.arm(**WHO)
    limits = [Limit("budget", 1, per="1h")]
    pay = payment(first, limits=limits)
    assert not pay.call("A").replayed
    other = payment(second, limits=limits)
    with pytest.raises(DryRunBlocked):
        other("A")
    second.arm(**WHO)
    assert not other.call("A").replayed
    assert first.owner != second.owner
    for sandbox in (first, second):
        sandbox.cleanup()


def test_two_on_one_ledger_share_keys(shared: Sandboxes) -> None:
    """The same key is the same effect, whichever process asks."""
    first, second, provider = shared(), shared(), Provider()
    first.arm(**WHO)
    pay, other = payment(first, provider), payment(second, provider)
    assert pay("A") == "paid A"
    assert other.call("A").replayed
    assert provider.book == ["A"]


def test_two_on_one_ledger_share_what_runs(shared: Sandboxes) -> None:
    """A call that runs in one process is in flight for the other."""
    first, second, errors = shared(), shared(), []
    first.arm(**WHO)
    other = payment(second)

    def ask(invoice: str) -> str:
        with pytest.raises(InFlight) as caught:
            other(invoice)
        errors.append(caught.value)
        return "done"

    provider = Provider()
    provider.script = [ask]
    payment(first, provider)("A")
    assert len(errors) == 1


def test_two_on_one_ledger_share_limits(shared: Sandboxes) -> None:
    """A budget is one budget, whoever spends it."""
    first, second = shared(), shared()
    first.arm(**WHO)
    limits = [Limit("budget", 2, per="1h")]
    pay, other = payment(first, limits=limits), payment(second, limits=limits)
    pay("A")
    other("B")
    for asked in (pay, other):
        with pytest.raises(RateLimited):
            asked("C")


def test_two_on_one_ledger_share_switches(shared: Sandboxes) -> None:
    """Arming, halting and holding count everywhere at once."""
    first, second = shared(), shared()
    first.arm(**WHO)
    assert not second.dry_run_lock.dry_run
    other = payment(second)
    first.halt(**WHO)
    with pytest.raises(Exception, match="checked the books"):
        other("A")
    second.resume(**WHO)
    other("A")
    second.lock(**WHO)
    assert first.dry_run_lock.dry_run


def test_the_last_free_job_goes_to_one(shared: Sandboxes) -> None:
    """Two workers on one ledger never perform the same job."""
    both, provider = [shared(), shared()], Provider()
    both[0].arm(**WHO)
    for sandbox in both:
        payment(sandbox, provider)
    both[0].actions["pay"].enqueue_many([(f"{n}",) for n in range(40)])
    threads = [threading.Thread(target=drain, args=(s,)) for s in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert sorted(provider.book) == sorted(f"{n}" for n in range(40))


# looking


def test_calls_can_be_found(armed: SandboxOrchestrator) -> None:
    """By state, action and key; an id that is not there is an error that says so."""
    pay = payment(armed)
    pay("A")
    pay.enqueue("B")
    assert [c.key for c in armed.calls(states=(State.PENDING,))] == ["pay:B"]
    assert [c.key for c in armed.calls(key="pay:A")] == ["pay:A"]
    with pytest.raises(NotFound):
        armed.call("nowhere")


def test_decisions_are_recorded(locked: SandboxOrchestrator) -> None:
    """Who armed, halted and resumed, and why, newest first."""
    locked.arm(**WHO)
    locked.halt("pay", **WHO)
    locked.resume("pay", **WHO)
    decisions = locked.decisions()
    assert len(decisions) == 3
    assert {d.actor for d in decisions} == {"ann@example.com"}
    assert "armed" in decisions[-1].what


def test_a_repr_shows_no_password() -> None:
    """Neither the orchestrator nor its settings show credentials."""
    url = "postgresql+psycopg://ann:hunter2@db.internal/ops"
    sandbox = SandboxOrchestrator(url)
    try:
        shown = f"{sandbox!r} {sandbox.settings!r} {sandbox.store!r}"
    finally:
        sandbox.cleanup()
    assert "db.internal" in shown
    assert "hunter2" not in shown


def test_a_hold_of_the_sandbox_stops_irreversible_calls_until_its_release() -> None:
    """hold and release stand beside arm, lock, halt and resume, with who and why."""
    sandbox = SandboxOrchestrator(dry_run=False)

    @sandbox.action("pay", irreversible=True, key="pay:{n}")
    def pay(n: int) -> int:
        return n

    sandbox.hold(by="ana", reason="audit")
    with pytest.raises(NotReady, match="audit"):
        pay(1)
    sandbox.release(by="ana", reason="over")
    assert pay(1) == 1
