"""Two processes on one ledger: what one writer at a time would give holds for several too."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
from msgspec import structs
from tests.store.conftest import ledger_url
from tests.store.making import NOW, alert, call, charge, queued

from gonogo.records import Control, Denial, State
from gonogo.store import open_store
from gonogo.store.upgrade import status, upgrade
from gonogo.store.urls import parse


@pytest.fixture(params=["sqlite file", "postgres"])
def two(request):
    """Two stores on one ledger, as two processes have them."""
    with ExitStack() as stack:
        url = parse(ledger_url(request.param, request, stack))
        pair = [open_store(url), open_store(url)]
        for store in pair:
            stack.callback(store.close)
            store.write(lambda tx: None)
        yield pair


def at_once(pair, work, times=3):
    """The results of ``work`` run in a write by several threads on both stores at once."""
    gate, results, errors = threading.Barrier(2 * times), [], []

    def run(store, number):
        gate.wait()
        try:
            results.append(store.write(lambda tx: work(tx, number)))
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(store, 10 * side + number))
        for side, store in enumerate(pair)
        for number in range(times)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return results


def test_a_key_is_taken_once(two):
    """Of all that look for a holder and insert, one inserts and the others find it."""

    def admit(tx, key):
        holder = tx.calls.holder("pay", key)
        if holder is not None:
            return holder.id
        made = call(key=key, held=True)
        tx.calls.insert(made)
        return made.id

    for key in map(str, range(10)):
        assert len(set(at_once(two, lambda tx, _, key=key: admit(tx, key)))) == 1


def test_first_users_do_not_over_admit(two):
    """A limit nobody used before has room for its maximum and no more, whoever comes at once."""
    for row in map(str, range(10)):
        charges = [charge(row, most=2), charge(f"{row} b", most=9)]
        found = at_once(two, lambda tx, _, charges=charges: tx.limits.reserve(charges, NOW))
        assert sum(not isinstance(one, Denial) for one in found) == 2


def test_a_slot_is_not_filled_twice(two):
    """Counting a slot and filling it is one step."""

    def fill(tx, slot):
        if tx.calls.in_slot(slot) >= 2:
            return False
        tx.calls.insert(call(State.DISPATCHED, slots=(slot,), lease_until=NOW))
        return True

    for slot in map(str, range(10)):
        assert sum(at_once(two, lambda tx, _, slot=slot: fill(tx, slot))) == 2


def test_an_alert_is_counted_not_doubled(two):
    """Everybody who fires one alert counts onto the same."""
    for fingerprint in map(str, range(10)):
        at_once(two, lambda tx, n, f=fingerprint: tx.alerts.fire(alert(100 * int(f) + n, f)))
    assert [one.count for one in two[0].read(lambda tx: tx.alerts.find())] == [6] * 10


def test_what_was_read_in_a_write_stays(two):
    """Read, then write what follows from it: no change in between is lost."""
    two[0].write(lambda tx: tx.calls.insert(call(id="one", priority=0)))

    def count(tx, _):
        found = tx.calls.get("one")
        return tx.calls.replace(found, structs.replace(found, priority=found.priority + 1))

    for _ in range(5):
        assert all(at_once(two, count))
    assert two[0].read(lambda tx: tx.calls.get("one")).priority == 30


def test_no_job_is_claimed_twice(two):
    """Claimants at once share the jobs."""
    two[0].write(lambda tx: tx.calls.insert_many([queued() for _ in range(30)]))

    def claim(tx, n):
        found = tx.calls.claim(owner=str(n), queues=["main"], now=NOW, lease_until=NOW + 9, limit=9)
        return [one.id for one in found]

    taken = [one for some in at_once(two, claim) for one in some]
    assert len(taken) == len(set(taken))


def test_nobody_passes_a_switch_after_it_was_set(two):
    """Once a switch is set, nothing commits that was decided without it."""
    looked, go_on, seen, order = threading.Event(), threading.Event(), [], []

    def pass_by(tx):
        found = list(tx.controls.all())
        looked.set()
        go_on.wait(5)
        tx.calls.insert(call())
        return found

    def passer():
        seen.extend(two[0].write(pass_by))

    def switcher():
        looked.wait(5)
        control = Control(name="halt", actor="ann", reason="r", set_at=NOW)
        two[1].write(lambda tx: tx.controls.put(control))
        order.append(two[1].read(lambda tx: tx.calls.counts()))

    threads = [threading.Thread(target=one) for one in (passer, switcher)]
    for thread in threads:
        thread.start()
    looked.wait(5)
    threads[1].join(0.2)
    go_on.set()
    for thread in threads:
        thread.join()
    assert seen == ["halt"] or order == [{State.PENDING: 1}]


@pytest.mark.parametrize("kind", ["sqlite file", "postgres"])
def test_two_may_upgrade_at_once(kind, request, tmp_path):
    """Several processes that find no ledger make one together, and none fails."""
    url = (
        f"sqlite:///{tmp_path}/ledger.db"
        if kind == "sqlite file"
        else request.getfixturevalue("postgres_url")
    )
    threads = [threading.Thread(target=upgrade, args=(url,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert status(url).pending == ()
