"""Claims and leases: every due call is handed out once, in order, for a time."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.store.making import NOW, call, queued

from gonogo.records import State, advance


def put(store, *calls):
    store.write(lambda tx: tx.calls.insert_many(calls))
    return calls


def claim(store, limit=10, queues=("main",), now=NOW, owner="w"):
    return store.write(
        lambda tx: tx.calls.claim(
            owner=owner, queues=queues, now=now, lease_until=now + 30, limit=limit
        )
    )


def test_a_claim_marks_the_call(store):
    """A claimed call has an owner and a lease, its epoch and attempt are raised, in the ledger."""
    (waiting,) = put(store, queued(epoch=4, attempt=1))
    (claimed,) = claim(store)
    expected = structs.replace(
        waiting, state=State.CLAIMED, owner="w", lease_until=NOW + 30, epoch=5, attempt=2
    )
    assert claimed == expected
    assert store.read(lambda tx: tx.calls.get(waiting.id)) == expected


def test_the_order_is_priority_then_time_then_id(store):
    """Higher priority first, then the earlier run_at, then the smaller id."""
    third, fourth, second, first, fifth = put(
        store,
        queued(run_at=NOW - 1),
        queued(run_at=NOW - 1),
        queued(run_at=NOW - 2),
        queued(priority=5),
        queued(priority=-5, run_at=NOW - 9),
    )
    order = [c.id for c in claim(store)]
    assert order == [c.id for c in (first, second, third, fourth, fifth)]


def test_only_due_calls_are_claimed(store):
    """A call is due at its run_at and not before, however urgent it is."""
    due, _ = put(store, queued(run_at=NOW), queued(run_at=NOW + 0.001, priority=9))
    assert [c.id for c in claim(store)] == [due.id]


def test_a_call_that_was_due_early_is_claimed_later(store):
    """What was not due at one claim is handed out at a later one."""
    (waiting,) = put(store, queued(run_at=NOW + 10))
    assert claim(store) == []
    assert [c.id for c in claim(store, now=NOW + 10)] == [waiting.id]


def test_only_the_asked_queues_are_claimed(store):
    """Calls of other queues, direct calls and calls in other states are left alone."""
    one, two = put(store, queued(queue="a"), queued(queue="b", priority=1))
    put(store, queued(queue="c"), call(run_at=NOW), call(State.PLANNED, queue="a"))
    assert [c.id for c in claim(store, queues=("a", "b"))] == [two.id, one.id]


def test_no_more_than_asked(store):
    """At most ``limit`` calls are claimed, and the rest stays for the next."""
    calls = put(store, *(queued() for _ in range(5)))
    ids = [c.id for c in calls]
    assert [c.id for c in claim(store, limit=2)] == ids[:2]
    assert [c.id for c in claim(store, limit=9)] == ids[2:]
    assert claim(store) == []


def test_nothing_is_claimed_from_no_queue(store):
    """A claim on no queue is empty, not an error."""
    put(store, queued())
    assert claim(store, queues=()) == []
    assert store.read(lambda tx: tx.calls.next_run_at(())) is None


def test_a_call_that_returns_is_claimed_again(store):
    """A retried call is due again at its new run_at."""
    put(store, queued())
    (claimed,) = claim(store)
    again = advance(claimed, State.PENDING, run_at=NOW + 5, owner=None, lease_until=None)
    assert store.write(lambda tx: tx.calls.replace(claimed, again))
    assert claim(store) == []
    assert [c.attempt for c in claim(store, now=NOW + 5)] == [2]


def test_a_call_that_moved_is_claimed_where_it_is(store):
    """A pending call whose time, priority or queue changed is handed out by the new ones."""
    first, second = put(store, queued(run_at=NOW - 1), queued())
    moved = structs.replace(first, run_at=NOW, priority=-1)
    store.write(lambda tx: tx.calls.replace(first, moved))
    assert [c.id for c in claim(store)] == [second.id, first.id]


def test_a_claim_that_is_rolled_back_can_be_made_again(store):
    """After an error in the claiming transaction the calls are pending as before."""
    (waiting,) = put(store, queued())

    def claim_and_fail(tx):
        tx.calls.claim(owner="w", queues=["main"], now=NOW, lease_until=NOW, limit=1)
        raise KeyError

    with pytest.raises(KeyError):
        store.write(claim_and_fail)
    assert store.read(lambda tx: tx.calls.get(waiting.id)) == waiting
    assert [c.epoch for c in claim(store)] == [1]


def test_next_run_at_is_the_earliest_in_the_queues(store):
    """The earliest time of a pending call in the queues asked for."""
    put(store, queued(run_at=NOW + 5, priority=1), queued(run_at=NOW + 3))
    put(store, queued(queue="other", run_at=NOW - 9), call(run_at=NOW - 9))
    assert store.read(lambda tx: tx.calls.next_run_at(["main"])) == NOW + 3
    assert store.read(lambda tx: tx.calls.next_run_at(["main", "other"])) == NOW - 9
    assert store.read(lambda tx: tx.calls.next_run_at(["none"])) is None


def test_next_run_at_knows_what_became_due(store):
    """A due call that a claim left behind is still the earliest."""
    put(store, queued(priority=1), queued(run_at=NOW - 3))
    claim(store, limit=1)
    assert store.read(lambda tx: tx.calls.next_run_at(["main"])) == NOW - 3


def test_threads_never_get_the_same_call(store):
    """Under concurrent claimants every call is handed out exactly once."""
    calls = put(store, *(queued() for _ in range(60)))
    start, got = threading.Barrier(4), []

    def work(name):
        start.wait()
        while found := claim(store, limit=3, owner=name):
            got.extend(c.id for c in found)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [c.id for c in calls]


def test_renewing_needs_owner_epoch_and_a_running_state(store):
    """Only leases of claimed and dispatched calls of this owner and epoch are extended."""
    mine = call(State.CLAIMED, owner="w", epoch=1, lease_until=NOW)
    running = call(State.DISPATCHED, owner="w", epoch=2, lease_until=NOW)
    others = [
        call(State.CLAIMED, owner="x", epoch=1, lease_until=NOW),
        call(State.CLAIMED, owner="w", epoch=2, lease_until=NOW),
        call(State.SUCCEEDED, owner="w", epoch=1, lease_until=NOW),
    ]
    put(store, mine, running, *others)
    wanted = {mine.id: 1, running.id: 2, "gone": 1, **{other.id: 1 for other in others}}
    renewed = store.write(lambda tx: tx.calls.renew(owner="w", calls=wanted, lease_until=NOW + 60))
    assert renewed == {mine.id, running.id}
    assert store.read(lambda tx: tx.calls.get(mine.id).lease_until) == NOW + 60
    assert store.read(lambda tx: tx.calls.get(others[0].id).lease_until) == NOW
    assert store.read(lambda tx: tx.calls.expired(NOW + 1, 10)) == others[:2]


jobs = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(-2, 2),
        st.integers(-3, 3),
        st.sampled_from([State.PENDING, State.PENDING, State.CLAIMED]),
    ),
    max_size=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(jobs, st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["a", "b", "ab"])), max_size=8))
def test_claims_agree_with_sorting(store, jobs, claims):
    """Any series of claims hands out what a sort of all pending calls would."""
    waiting = [
        call(state, queue=queue, priority=priority, run_at=NOW + at)
        for queue, priority, at, state in jobs
    ]
    put(store, *waiting)
    left = [c for c in waiting if c.state is State.PENDING]
    for now, (limit, queues) in enumerate(claims):
        due = [c for c in left if c.queue in queues and c.run_at <= NOW + now]
        due.sort(key=lambda c: (-c.priority, c.run_at, c.id))
        found = claim(store, limit=limit, queues=tuple(queues), now=NOW + now)
        assert [c.id for c in found] == [c.id for c in due[:limit]]
        left = [c for c in left if c not in due[:limit]]
    everything = claim(store, limit=1000, queues=("a", "b"), now=NOW + 99)
    assert {c.id for c in everything} == {c.id for c in left}
