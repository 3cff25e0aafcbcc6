"""The dry-run lock: closed by itself, opened by a person for a while."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gonogo.clock import FakeClock
from gonogo.dry_run import IRREVERSIBLE, DryRunLock
from gonogo.errors import ConfigurationError, DryRunBlocked, StoreError
from gonogo.store.memory import MemoryStore
from gonogo.testing import FaultyStore


@pytest.fixture
def lock(fake_clock: FakeClock) -> DryRunLock:
    return DryRunLock(clock=fake_clock)


def test_what_cannot_be_taken_back_is_held_back(lock: DryRunLock) -> None:
    """Locked: the function is not called, the answer says so, the log too."""
    ran: list[int] = []
    for name in IRREVERSIBLE:
        answer = lock.execute(name, ran.append, 1)
        assert answer == {"dry_run": True, "action": name, "result": None}
    assert ran == []
    assert {e["status"] for e in lock.get_execution_log()} == {"dry_run_blocked"}
    assert len(lock.get_execution_log("payment")) == 1


@pytest.mark.parametrize("name", ["PAYMENT", "Payment", "User_Deletion"])
def test_names_have_no_case(lock: DryRunLock, name: str) -> None:
    """However it is written."""
    assert lock.is_irreversible(name)


def test_other_actions_run(lock: DryRunLock) -> None:
    """A reversible action runs with its arguments, locked or not."""
    assert lock.execute("look", lambda a, b: a + b, 1, b=2) == 3
    assert [e["status"] for e in lock.get_execution_log()] == ["executed"]


def test_strict_mode_raises(fake_clock: FakeClock) -> None:
    """Strict: a `PermissionError` that names the action and what to do."""
    lock = DryRunLock(strict_mode=True, clock=fake_clock)
    with pytest.raises(PermissionError, match="payment was not performed") as caught:
        lock.execute("payment", lambda: None)
    assert isinstance(caught.value, DryRunBlocked)
    assert "arm(" in str(caught.value)


def test_names_and_patterns_can_be_added(fake_clock: FakeClock) -> None:
    """More names and patterns, at the start or later; an empty one is an error."""
    lock = DryRunLock(irreversible=["refund*", "Wipe"], clock=fake_clock)
    lock.add("send_?")
    names = ["refund_all", "REFUND", "wipe", "send_x", "send_xy", "look"]
    assert [lock.is_irreversible(n) for n in names] == [True, True, True, True, False, False]
    with pytest.raises(ConfigurationError):
        lock.add("  ")


def test_armed_for_a_while(lock: DryRunLock, fake_clock: FakeClock) -> None:
    """Armed it performs; when the time is over it is locked by itself."""
    control = lock.arm(by="ann", reason="payday", seconds=60)
    assert (control.actor, control.reason, control.until) == ("ann", "payday", control.set_at + 60)
    assert not lock.dry_run
    assert lock.execute("payment", lambda: "paid") == "paid"
    fake_clock.advance(60.0)
    assert lock.dry_run
    assert lock.execute("payment", lambda: "paid")["dry_run"]


def test_arming_and_locking_are_recorded(fake_clock: FakeClock) -> None:
    """Who, why, until when: decisions that stay."""
    store = MemoryStore()
    lock = DryRunLock(store=store, clock=fake_clock)
    lock.arm(by="ann", reason="payday", seconds=60)
    lock.lock(by="bob", reason="done")
    assert lock.dry_run
    decisions = store.read(lambda tx: tx.decisions.of("sandbox"))
    assert sorted((d.what, d.actor, d.reason) for d in decisions) == [
        ("armed", "ann", "payday"),
        ("locked", "bob", "done"),
    ]


@pytest.mark.parametrize(
    "how",
    [
        {"by": " ", "reason": "x"},
        {"by": "ann", "reason": ""},
        {"by": "ann", "reason": "x", "seconds": 0},
        {"by": "ann", "reason": "x", "seconds": float("nan")},
        {"by": "ann", "reason": "x", "seconds": 31 * 86_400},
    ],
)
def test_arming_needs_who_why_and_an_end(lock: DryRunLock, how: dict[str, Any]) -> None:
    """Nobody arms without a name, a reason and a time within a month."""
    with pytest.raises(ConfigurationError):
        lock.arm(**how)
    assert lock.dry_run


def test_two_locks_on_one_ledger_agree(fake_clock: FakeClock) -> None:
    """Arming is a fact of the ledger, not of a process."""
    store = MemoryStore()
    one, other = (
        DryRunLock(store=store, clock=fake_clock),
        DryRunLock(store=store, clock=fake_clock),
    )
    one.arm(by="ann", reason="payday")
    assert not other.dry_run


def test_live_by_configuration_can_be_locked(fake_clock: FakeClock) -> None:
    """``dry_run=False`` is live until somebody locks it."""
    lock = DryRunLock(dry_run=False, clock=fake_clock)
    assert lock.execute("payment", lambda: "paid") == "paid"
    lock.lock(by="ann", reason="stop")
    assert lock.dry_run


def test_a_lock_that_cannot_be_written_still_locks(fake_clock: FakeClock) -> None:
    """The ledger failed: this process is locked all the same; a lock that cannot look is closed."""
    store = FaultyStore(MemoryStore())
    lock = DryRunLock(dry_run=False, store=store, clock=fake_clock)
    store.fail_when(lambda write: True)
    with pytest.raises(StoreError):
        lock.lock(by="ann", reason="stop")
    assert lock.dry_run


def test_errors_are_logged_and_go_on(lock: DryRunLock) -> None:
    """The error of an executed action is in the log, without secrets, and reaches its caller."""

    def fails() -> None:
        raise ValueError("password=hunter2hunter2")

    with pytest.raises(ValueError, match="hunter2"):
        lock.execute("look", fails)
    (entry,) = lock.get_execution_log("look")
    assert entry["status"] == "error"
    assert "hunter2" not in entry["error"]
    assert "ValueError" in entry["error"]


def test_the_log_is_bounded_and_a_copy(fake_clock: FakeClock) -> None:
    """The newest entries are kept, and changing what was returned changes nothing."""
    lock = DryRunLock(log_size=3, clock=fake_clock)
    for n in range(5):
        lock.execute(f"look{n}", lambda: None)
    entries = lock.get_execution_log()
    assert [e["action"] for e in entries] == ["look2", "look3", "look4"]
    entries[0]["action"] = "forged"
    assert lock.get_execution_log()[0]["action"] == "look2"


def test_many_threads_log_every_entry(lock: DryRunLock) -> None:
    """No entry is lost under concurrent callers."""
    threads = [
        threading.Thread(target=lambda: [lock.execute("payment", print) for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lock.get_execution_log("payment")) == 400
