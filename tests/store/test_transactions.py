"""Transactions: all of the work or nothing, one after the other, from any thread."""

from __future__ import annotations

import threading

import pytest
from msgspec import structs
from tests.store.making import NOW, alert, attempt, call, charge, decision, plan, queued

from gonogo.records import AlertState, Beat, Control, PlanState, State, advance


def everything(tx, known):
    """All that can be read, to compare before with after."""
    return (
        [tx.calls.get(c.id) for c in known],
        tx.calls.counts(),
        tx.calls.holder("pay", "k"),
        tx.calls.in_slot("s"),
        tx.calls.expired(NOW + 99, 99),
        tx.calls.doubtful(NOW + 99, 99),
        tx.calls.overdue(NOW + 99, 99),
        tx.calls.lapsed(NOW + 99, 99),
        tx.calls.waiting_on("x"),
        tx.calls.next_run_at(["main"]),
        tx.calls.of_plan("p"),
        tx.attempts.of("c"),
        tx.decisions.latest(9),
        tx.limits.usage([charge("api")], NOW),
        tx.alerts.find(),
        tx.plans.find(),
        tx.controls.all(),
        tx.beats.all(),
    )


def fill(tx, mark):
    """Write something to every table."""
    tx.calls.insert_many(
        [
            call(State.DISPATCHED, key=mark, held=True, slots=("s",), lease_until=NOW),
            queued(after="x", deadline_at=NOW, plan_id="p", position=1),
            call(State.UNKNOWN),
            call(State.SUCCEEDED, key=f"{mark}2", held=True, expires_at=NOW),
        ]
    )
    tx.attempts.append(attempt("c", 1))
    tx.decisions.append(decision(1))
    tx.limits.reserve([charge("api", 2)], NOW)
    tx.alerts.fire(alert(1, mark))
    tx.plans.insert(plan(1 if mark == "k" else 2))
    tx.controls.put(Control(name=mark, actor="a", reason="r", set_at=NOW))
    tx.beats.put(Beat(name=mark, kind="worker", at=NOW))


def test_an_error_rolls_everything_back(store):
    """An exception in the work reaches the caller unchanged and leaves every table as it was."""
    (busy, pending) = (call(State.CLAIMED, key="k", held=True), queued())

    def begin(tx):
        tx.calls.insert_many([busy, pending])
        tx.alerts.fire(alert(7, "kept"))
        tx.plans.insert(plan(7))
        tx.controls.put(Control(name="c", actor="a", reason="r", set_at=NOW))
        tx.beats.put(Beat(name="b", kind="worker", at=NOW))

    store.write(begin)
    before = store.read(lambda tx: everything(tx, [busy, pending]))
    error = KeyError("mine")

    def fail(tx):
        running = advance(busy, State.DISPATCHED, lease_until=NOW)
        tx.calls.replace(busy, running)
        tx.calls.replace(running, advance(running, State.FAILED, held=False))
        tx.calls.claim(owner="w", queues=["main"], now=NOW, lease_until=NOW, limit=9)
        fill(tx, "k")
        tx.alerts.change(tx.alerts.get("a7"), AlertState.RESOLVED, "ann")
        tx.alerts.fire(alert(8, "kept"))
        tx.plans.replace(plan(7), plan(7, PlanState.APPROVED))
        tx.controls.clear("c")
        tx.beats.remove("b")
        raise error

    with pytest.raises(KeyError) as caught:
        store.write(fail)
    assert caught.value is error
    assert store.read(lambda tx: everything(tx, [busy, pending])) == before
    store.write(lambda tx: fill(tx, "k2"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_rolls_back_and_the_store_stays_usable(store, error):
    """KeyboardInterrupt inside a transaction writes nothing and blocks nobody."""

    def interrupted(tx):
        fill(tx, "k")
        raise error

    with pytest.raises(error):
        store.write(interrupted)
    assert store.read(lambda tx: tx.calls.counts()) == {}
    store.write(lambda tx: fill(tx, "k"))
    assert store.read(lambda tx: tx.calls.in_slot("s")) == 1


def test_the_work_sees_its_own_writes(store):
    """Inside a transaction everything written before is visible."""

    def work(tx):
        fill(tx, "k")
        return tx.calls.holder("pay", "k").state, tx.calls.in_slot("s"), tx.plans.get("p1").id

    assert store.write(work) == (State.DISPATCHED, 1, "p1")


@pytest.mark.parametrize("outer", ["read", "write"])
@pytest.mark.parametrize("inner", ["read", "write"])
def test_a_transaction_inside_another_is_an_error(store, outer, inner):
    """A nested transaction on the same thread is refused at once instead of waiting for itself."""
    store.write(lambda tx: None)
    with pytest.raises(RuntimeError, match="inside another"):
        getattr(store, outer)(lambda _: getattr(store, inner)(lambda tx: tx.calls.counts()))
    assert store.write(lambda tx: tx.calls.counts()) == {}


def test_reading_may_not_write(store):
    """Work given to read() that writes is an error and writes nothing."""
    store.write(lambda tx: None)
    with pytest.raises(RuntimeError, match="read\\(\\)"):
        store.read(lambda tx: tx.calls.insert(call()))
    assert store.read(lambda tx: tx.calls.counts()) == {}


def test_the_result_of_the_work_is_returned(store):
    """write and read return what the work returns, durable or not."""
    assert store.write(lambda tx: 1) == 1
    assert store.write(lambda tx: 2, durable=False) == 2
    assert store.read(lambda tx: 3) == 3


def test_closing_is_safe_at_any_time(store):
    """close may be called before the first use and twice, and the store can be used again."""
    store.close()
    store.write(lambda tx: tx.calls.counts())
    store.close()
    store.close()
    store.write(lambda tx: tx.calls.counts())


def test_threads_write_without_losing_anything(store):
    """Concurrent writers each get their own result, and every write is there."""
    start, results = threading.Barrier(6), {}

    def work(number):
        start.wait()
        for step in range(10):
            made = call(note=f"{number}-{step}")

            def insert(tx, made=made):
                tx.calls.insert(made)
                return made.note

            results[number, step] = store.write(insert, durable=step % 2 == 0)
            assert store.read(lambda tx, made=made: tx.calls.get(made.id)) == made

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {(n, s): f"{n}-{s}" for n in range(6) for s in range(10)}
    assert store.read(lambda tx: tx.calls.counts()) == {State.PENDING: 60}


def test_an_error_of_one_thread_leaves_the_others(store):
    """A transaction that fails does not take along those that were written beside it."""
    start, errors = threading.Barrier(6), []

    def work(number):
        start.wait()
        for _ in range(10):

            def insert(tx):
                tx.calls.insert(call())
                if number % 2:
                    raise ValueError(number)

            try:
                store.write(insert)
            except ValueError as error:
                errors.append(error.args[0])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(errors) == [1] * 10 + [3] * 10 + [5] * 10
    assert store.read(lambda tx: tx.calls.counts()) == {State.PENDING: 30}


def test_a_key_is_taken_once_by_threads(store):
    """Of many threads that look up and insert the same key, exactly one inserts it."""
    start, won = threading.Barrier(6), []

    def admit(tx):
        if tx.calls.holder("pay", "same") is not None:
            return False
        tx.calls.insert(call(key="same", held=True))
        return True

    def work():
        start.wait()
        if store.write(admit):
            won.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_records_are_not_shared_with_the_caller(store):
    """Changing what was written or read changes nothing in the ledger."""
    store.write(lambda tx: tx.calls.insert(structs.replace(call(), id="one")))
    found = store.read(lambda tx: tx.calls.counts())
    found.clear()
    assert store.read(lambda tx: tx.calls.counts()) == {State.PENDING: 1}


def test_pieces_have_their_own_fates(store):
    """A piece that fails takes nothing of the others back; they are run in order."""
    first, second, third = queued(), queued(), queued()

    def refuse(tx):
        tx.calls.insert(second)
        raise KeyError("no room")

    fates = store.write_all(
        [
            (lambda tx: tx.calls.insert(first) or "first", False),
            (refuse, True),
            (lambda tx: (tx.calls.insert(third), tx.calls.get(first.id))[1], True),
        ]
    )
    assert (fates[0].get(), fates[2].get()) == ("first", first)
    with pytest.raises(KeyError):
        fates[1].get()
    found = store.read(lambda tx: [tx.calls.get(c.id) for c in (first, second, third)])
    assert found == [first, None, third]


def test_pieces_of_many_threads_share_commits(store):
    """Whoever commits for whom, each thread gets what came of its own pieces."""
    got, together = {}, threading.Barrier(8)

    def run(number):
        mine = [queued(), queued()]
        together.wait(10)
        for c in mine:
            pieces = [
                (lambda tx, c=c: (tx.calls.insert(c), (number, c.id))[1], True),
                (lambda tx, c=c: tx.calls.get(c.id), False),
            ]
            fates = store.write_all(pieces)
            got[number, c.id] = [fate.get() for fate in fates] == [(number, c.id), c]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert list(got.values()) == [True] * 16
