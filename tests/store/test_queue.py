"""Claims and leases: every due call is handed out once, in order, for a time."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.store.making import NOW, attempt, call, queued

from gonogo.records import AHEAD, State, advance


def put(store, *calls):
    store.write(lambda tx: tx.calls.insert_many(calls))
    return calls


def claim(store, limit=10, queues=("main",), now=NOW, owner="w", **how):
    return store.write(
        lambda tx: tx.calls.claim(
            owner=owner, queues=queues, now=now, lease_until=now + 30, limit=limit, **how
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


def test_what_is_claimed_ahead_uses_no_attempt(store):
    """After those for now come some for later, of which no attempt counts and the note says so."""
    one, two, three, four = put(store, *(queued(attempt=2, note="again") for _ in range(4)))
    now, later, latest = claim(store, limit=1, ahead=2)
    taken = {"state": State.CLAIMED, "owner": "w", "lease_until": NOW + 30, "epoch": 1}
    assert now == structs.replace(one, **taken, attempt=3)
    assert later == structs.replace(two, **taken, note=AHEAD)
    assert latest == structs.replace(three, **taken, note=AHEAD)
    assert store.read(lambda tx: tx.calls.get(three.id)) == latest
    assert store.read(lambda tx: tx.calls.get(four.id)) == four


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


def test_next_run_at_leaves_out_what_is_passed_over(store):
    """The earliest time of a call of another action, whether due or not."""
    put(store, queued(run_at=NOW - 5), queued(action="mail", run_at=NOW + 3, priority=2))
    put(store, queued(action="mail", run_at=NOW + 2), queued(action="mail", queue="other"))

    def earliest(*passing):
        return store.read(lambda tx: tx.calls.next_run_at(["main"], passing))

    assert earliest() == earliest("none") == NOW - 5
    assert earliest("pay") == NOW + 2
    assert earliest("pay", "mail") is None


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


def test_actions_take_turns(store):
    """Within a priority the actions are served one call each, however many one of them has."""
    put(store, *(queued(action="flood", run_at=NOW - 9, id=f"f{n}") for n in range(5)))
    put(store, *(queued(action="rare", run_at=NOW, id=f"r{n}") for n in range(2)))
    assert [c.id for c in claim(store, limit=5)] == ["f0", "r0", "f1", "r1", "f2"]


def test_the_turn_goes_on_behind_the_action_served_last(store):
    """One call at a time, an action that was served comes after those that were not."""
    put(store, *(queued(action="flood", run_at=NOW - 9) for _ in range(3)))
    put(store, queued(action="rare"), queued(action="zeal", run_at=NOW - 1))
    served, turn = [], ""
    while found := claim(store, limit=1, turn=turn):
        turn = found[0].action
        served.append(turn)
    assert served == ["flood", "rare", "zeal", "flood", "flood"]


def test_priority_goes_before_turns(store):
    """What is urgent is served first, whichever action was served last."""
    put(store, queued(action="a", priority=1), queued(action="b"), queued(action="a", priority=1))
    assert [c.action for c in claim(store, turn="a")] == ["a", "a", "b"]


def test_turns_are_taken_across_queues(store):
    """An action in two queues has one turn, and its earliest call goes first."""
    put(store, queued(action="a", queue="x", id="a-x", run_at=NOW - 1))
    put(store, queued(action="a", queue="y", id="a-y", run_at=NOW - 2))
    put(store, queued(action="b", queue="x", id="b-x"))
    assert [c.id for c in claim(store, queues=("x", "y"))] == ["a-y", "b-x", "a-x"]


def test_actions_can_be_passed_over(store):
    """A claim leaves the actions alone that it is told to."""
    put(store, queued(action="full", priority=9), queued(action="free"))
    assert [c.action for c in claim(store, passing=("full",))] == ["free"]
    assert [c.action for c in claim(store)] == ["full"]


def test_a_call_that_waits_is_not_due(store):
    """A call that waits for another one is neither claimed nor a reason to wake up."""
    (waiting,) = put(store, queued(waits=True))
    assert claim(store) == []
    assert store.read(lambda tx: tx.calls.next_run_at(["main"])) is None
    store.write(lambda tx: tx.calls.replace(waiting, structs.replace(waiting, waits=False)))
    assert store.read(lambda tx: tx.calls.next_run_at(["main"])) == NOW
    assert [c.id for c in claim(store)] == [waiting.id]


def test_a_lane_lists_who_is_in_it(store):
    """Open calls of the lane: those that go before those that wait, then in their order."""
    second, first, third = put(
        store,
        queued(lane="x", waits=True, run_at=NOW - 1),
        queued(lane="x", run_at=NOW),
        queued(lane="x", waits=True, run_at=NOW),
    )
    put(store, queued(lane="y"), queued(), call(State.SUCCEEDED, lane="x"))
    put(store, call(State.PLANNED, lane="x", queue="main"))
    assert store.read(lambda tx: tx.calls.in_lane("x", 9)) == [first, second, third]
    assert store.read(lambda tx: tx.calls.in_lane("x", 1)) == [first]
    claim(store)
    doubtful = store.read(lambda tx: tx.calls.get(first.id))
    store.write(lambda tx: tx.calls.replace(doubtful, structs.replace(doubtful, state="unknown")))
    assert store.read(lambda tx: tx.calls.in_lane("x", 1))[0].id == first.id
    over = store.read(lambda tx: tx.calls.get(first.id))
    store.write(lambda tx: tx.calls.replace(over, structs.replace(over, state=State.FAILED)))
    assert store.read(lambda tx: tx.calls.in_lane("x", 9)) == [second, third]


def test_what_somebody_has_claimed_is_counted(store):
    """By owner and queue; what is begun or done no longer counts."""
    put(store, queued(), queued(), queued(queue="mail"))
    first, _ = claim(store, limit=2)

    def count(owner, *queues):
        return store.read(lambda tx: tx.calls.claimed_by(owner, queues))

    assert count(first.owner, "main") == 2
    assert (count(first.owner, "mail"), count("nobody", "main")) == (0, 0)
    begun = advance(first, State.DISPATCHED)
    assert store.write(lambda tx: tx.calls.replace(first, begun))
    assert count(first.owner, "main", "mail") == 1


def test_the_backlog_counts_what_is_pending_in_each_queue(store):
    """Calls that wait count; direct calls and those under way do not."""
    put(store, queued(), queued(waits=True), queued(queue="mail"), call(), call(State.UNKNOWN))
    assert store.read(lambda tx: tx.calls.backlog()) == {"main": 2, "mail": 1}
    claim(store)
    assert store.read(lambda tx: tx.calls.backlog()) == {"main": 1, "mail": 1}


def test_what_is_over_and_holds_no_key_is_pruned(store):
    """The oldest first, with their attempts; what holds a key, is open or in doubt is kept."""
    old, older, young = put(
        store,
        call(State.FAILED, settled_at=NOW - 20),
        call(State.SUCCEEDED, settled_at=NOW - 30, key="free", held=False),
        call(State.CANCELLED, settled_at=NOW),
    )
    kept = put(
        store,
        call(State.SUCCEEDED, settled_at=NOW - 99, key="k", held=True),
        call(State.UNKNOWN, settled_at=NOW - 99),
        queued(settled_at=NOW - 99),
    )
    store.write(lambda tx: [tx.attempts.append(attempt(c.id, 1)) for c in (old, older)])
    assert store.write(lambda tx: tx.calls.prune(NOW - 10, 1)) == 1
    assert store.read(lambda tx: tx.calls.get(older.id)) is None
    assert store.read(lambda tx: tx.attempts.of(older.id)) == []
    assert store.read(lambda tx: len(tx.attempts.of(old.id))) == 1
    assert store.write(lambda tx: tx.calls.prune(NOW - 10, 99)) == 1
    assert store.write(lambda tx: tx.calls.prune(NOW - 10, 99)) == 0
    left = store.read(lambda tx: [tx.calls.get(c.id) for c in (young, *kept)])
    assert left == [young, *kept]


def test_pruning_that_is_rolled_back_forgets_nothing(store):
    """An error after pruning leaves calls and attempts as they were."""
    (old,) = put(store, call(State.FAILED, settled_at=NOW - 20))
    store.write(lambda tx: tx.attempts.append(attempt(old.id, 1)))

    def prune_and_fail(tx):
        tx.calls.prune(NOW, 9)
        raise KeyError

    with pytest.raises(KeyError):
        store.write(prune_and_fail)
    assert store.read(lambda tx: (tx.calls.get(old.id), len(tx.attempts.of(old.id)))) == (old, 1)
