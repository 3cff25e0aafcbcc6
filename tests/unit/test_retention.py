"""What is over is kept as long as was asked, and never what protects against doing it again."""

from __future__ import annotations

import pytest
from tests.support.scene import WHO, Sandboxes

from gonogo.errors import ConfigurationError
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Beat
from gonogo.retention import AT_ONCE, EVERY, SOON, SPELL, Retention

DAY = 86_400.0


def finished(sandbox: SandboxOrchestrator, count: int) -> None:
    """So many calls without a key that are over."""

    @sandbox.action("note", irreversible=False)
    def note(number: int) -> None: ...

    note.enqueue_many([(number,) for number in range(count)])
    while sandbox.worker.run_once():
        pass


def kept(sandbox: SandboxOrchestrator) -> int:
    return sum(sandbox.counts().values())


def test_nothing_is_forgotten_unless_asked(sandboxes: Sandboxes) -> None:
    """By default the history is kept."""
    sandbox = sandboxes()
    finished(sandbox, 3)
    sandboxes.clock.advance(1000 * DAY)
    sandbox.delivery.maintain()
    assert kept(sandbox) == 3


def test_what_is_old_is_forgotten_by_the_workers(sandboxes: Sandboxes) -> None:
    """With a retention, calls that ended longer ago go, and not a moment before."""
    sandbox = sandboxes(retention=30 * DAY)
    finished(sandbox, 3)
    sandboxes.clock.advance(30 * DAY - 1)
    sandbox.delivery.maintain()
    assert kept(sandbox) == 3
    sandboxes.clock.advance(120)
    sandbox.delivery.maintain()
    assert kept(sandbox) == 0


def test_a_key_that_is_taken_is_never_forgotten(sandboxes: Sandboxes) -> None:
    """A payment that was made is not made again, however long ago it was."""
    sandbox = sandboxes(retention=DAY)
    sandbox.arm(**WHO)
    paid: list[str] = []

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str) -> None:
        paid.append(invoice)

    pay("A")
    sandboxes.clock.advance(1000 * DAY)
    sandbox.delivery.maintain()
    sandbox.arm(**WHO)
    pay("A")
    assert paid == ["A"]


def test_a_long_history_goes_in_short_transactions(sandboxes: Sandboxes) -> None:
    """Each round forgets a few, and rounds follow each other until there is nothing to forget."""
    sandbox = sandboxes()
    finished(sandbox, 5)
    sandboxes.clock.advance(2 * DAY)
    retention = Retention(sandbox.store, sandbox.clock, keep=DAY)
    assert [retention.run_once(2) for _ in range(4)] == [2, 2, 1, 0]
    assert AT_ONCE > 2


def test_forgetting_keeps_up_with_a_fast_worker(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step makes several rounds, though not so many that the keeper is kept from its leases."""
    monkeypatch.setattr("gonogo.retention.AT_ONCE", 2)
    monkeypatch.setattr("gonogo.retention.IN_A_ROW", 3)
    monkeypatch.setattr(Retention.run_once, "__defaults__", (2,))
    sandbox = sandboxes()
    finished(sandbox, 9)
    sandboxes.clock.advance(2 * DAY)
    retention = Retention(sandbox.store, sandbox.clock, keep=DAY)
    assert [retention.step() for _ in range(3)] == [6, 3, 0]


def test_forgetting_leaves_the_keeper_its_time(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy ledger makes its transactions longer, and the fewer follow each other."""
    sandbox, clock = sandboxes(), sandboxes.clock
    retention = Retention(sandbox.store, clock, keep=DAY)

    def slow() -> int:
        clock.advance(SPELL / 2)
        return AT_ONCE

    monkeypatch.setattr(retention, "run_once", slow)
    assert retention.step() == 2 * AT_ONCE
    assert retention.due


@pytest.mark.parametrize(("gone", "pause"), [(AT_ONCE, SOON), (AT_ONCE - 1, EVERY), (0, EVERY)])
def test_where_much_is_forgotten_the_next_round_comes_soon(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch, gone: int, pause: float
) -> None:
    """A ledger under load keeps to its size, and a quiet one is left in peace."""
    sandbox, clock = sandboxes(), sandboxes.clock
    retention = Retention(sandbox.store, clock, keep=DAY)
    rounds = iter([AT_ONCE, 0] if gone == AT_ONCE else [gone])
    monkeypatch.setattr(retention, "run_once", lambda: next(rounds))
    assert retention.step() == gone
    clock.advance(pause - 0.1)
    assert not retention.due
    clock.advance(0.1)
    assert retention.due


def test_the_dead_are_forgotten(sandboxes: Sandboxes) -> None:
    """The beat of a process that died goes after a while; those that beat stay."""
    sandbox = sandboxes()
    old = Beat(name="dead", kind="worker", at=sandbox.clock.now())
    sandbox.store.write(lambda tx: tx.beats.put(old))
    sandboxes.clock.advance(3601)
    sandbox.delivery.keep()
    sandbox.delivery.maintain()
    names = sandbox.store.read(lambda tx: [beat.name for beat in tx.beats.all()])
    assert names == [sandbox.owner]


def test_what_just_ended_can_still_be_looked_for(sandboxes: Sandboxes) -> None:
    """However short the retention, whoever queued a call has two minutes to find it."""
    sandbox = sandboxes(retention=1)
    finished(sandbox, 3)
    sandboxes.clock.advance(119)
    sandbox.delivery.maintain()
    assert kept(sandbox) == 3
    sandboxes.clock.advance(62)
    sandbox.delivery.maintain()
    assert kept(sandbox) == 0


def test_a_retention_is_a_time(sandboxes: Sandboxes) -> None:
    """A retention that is not above zero is an error, and nothing is forgotten."""
    with pytest.raises(ConfigurationError, match="retention"):
        sandboxes(retention=0)
