"""The ledger in memory is bounded: what is finished is forgotten, what is owed never."""

from __future__ import annotations

from msgspec import structs
from tests.store.making import NOW, alert, attempt, call, charge, decision

from gonogo.records import AlertState, State
from gonogo.store.memory import MemoryStore


def test_finished_calls_beyond_the_history_are_forgotten():
    """The oldest finished calls go first, with their attempts; calls with a key stay."""
    store = MemoryStore(history=3)
    held = call(State.SUCCEEDED, key="k", held=True)
    doubtful = call(State.UNKNOWN)
    finished = [call(State.SUCCEEDED) for _ in range(5)]
    for one in [held, doubtful, *finished]:
        store.write(
            lambda tx, one=one: (tx.calls.insert(one), tx.attempts.append(attempt(one.id, 1)))
        )
    kept = [held.id, doubtful.id, *(one.id for one in finished[2:])]
    assert [c.id for c in store.read(lambda tx: [tx.calls.get(i) for i in kept])] == kept
    assert store.read(lambda tx: tx.calls.get(finished[0].id)) is None
    assert store.read(lambda tx: tx.attempts.of(finished[0].id)) == []
    assert store.read(lambda tx: tx.calls.counts()) == {State.SUCCEEDED: 4, State.UNKNOWN: 1}


def test_a_call_that_gives_its_key_back_is_forgotten_in_turn():
    """Once a key has lapsed, its call is history like any other."""
    store = MemoryStore(history=1)
    held = call(State.SUCCEEDED, key="k", held=True)
    store.write(lambda tx: tx.calls.insert(held))
    store.write(lambda tx: tx.calls.replace(held, structs.replace(held, held=False)))
    store.write(lambda tx: tx.calls.insert(call(State.FAILED)))
    assert store.read(lambda tx: tx.calls.get(held.id)) is None


def test_decisions_and_alerts_are_bounded():
    """Decisions and alerts beyond the history go, oldest first, and grouping still works."""
    store = MemoryStore(history=2)
    for number in range(4):
        store.write(lambda tx, n=number: tx.decisions.append(decision(n)))
        store.write(lambda tx, n=number: tx.alerts.fire(alert(n, f"f{n}")))
    assert [d.id for d in store.read(lambda tx: tx.decisions.latest(9))] == ["d3", "d2"]
    assert [a.id for a in store.read(lambda tx: tx.alerts.find())] == ["a3", "a2"]
    again = store.write(lambda tx: tx.alerts.fire(alert(9, "f0")))
    assert (again.id, again.count, again.state) == ("a9", 1, AlertState.OPEN)


def test_a_decision_that_is_rolled_back_pushes_nothing_out():
    """A full history is as before when the transaction that added to it fails."""
    store = MemoryStore(history=1)
    store.write(lambda tx: tx.decisions.append(decision(1)))

    def fail(tx):
        tx.decisions.append(decision(2))
        raise KeyError

    try:
        store.write(fail)
    except KeyError:
        pass
    assert [d.id for d in store.read(lambda tx: tx.decisions.latest(9))] == ["d1"]


def test_stale_entries_do_not_pile_up():
    """Heaps and limit rows are cleaned as they grow, however many calls come and go."""
    store = MemoryStore(history=10)
    for number in range(3_000):
        one = call(State.PENDING, queue="q", run_at=NOW + number, deadline_at=NOW + number)
        store.write(lambda tx, one=one: tx.calls.insert(one))
        gone = structs.replace(one, state=State.CANCELLED)
        store.write(lambda tx, one=one, gone=gone: tx.calls.replace(one, gone))
        charged = [charge(f"k{number}", window=1.0)]
        store.write(lambda tx, c=charged, n=number: tx.limits.reserve(c, NOW + n * 10))
    calls, limits = store._tables.calls, store._tables.limits
    assert len(calls._deadlines._entries) <= 256
    assert len(calls._queues._by_action["q", "pay"]._later._entries) <= 256
    assert len(limits._rows) <= 1_025
