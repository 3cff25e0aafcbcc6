"""Calls: inserted once, changed behind a fence, found by what is known of them."""

from __future__ import annotations

import pytest
from msgspec import structs
from tests.store.making import NOW, call, queued

from gonogo.errors import StoreError
from gonogo.records import CallFilter, Fault, Outcome, Reservation, State, advance


def put(store, *calls):
    store.write(lambda tx: tx.calls.insert_many(calls))
    return calls


def get(store, call_id):
    return store.read(lambda tx: tx.calls.get(call_id))


def replace(store, before, after):
    return store.write(lambda tx: tx.calls.replace(before, after))


def test_every_field_survives(store):
    """A call is read back equal to what was inserted."""
    (full,) = put(
        store,
        call(
            State.UNKNOWN,
            key="k",
            held=True,
            fingerprint="v1:ab",
            args='{"a":"é"}',
            epoch=3,
            attempt=2,
            max_attempts=5,
            queue="main",
            priority=-4,
            run_at=NOW + 0.125,
            lease_until=NOW + 9.5,
            owner="w1",
            dispatched_at=NOW,
            settled_at=NOW + 1,
            deadline_at=NOW + 2,
            expires_at=NOW + 3,
            outcome=Outcome.UNKNOWN,
            result="[1]",
            fault=Fault("TimeoutError", "no answer"),
            note="why",
            reservations=(Reservation("api", 3, 1.0e11, 60.0), Reservation("d", 1, 5.0, 9.0, 5.0)),
            slots=("one", "two"),
            correlation_id="c",
            facts="{}",
            plan_id="p",
            position=7,
            verdict="new",
            after="x",
            approved_by="ann",
            repeatable=True,
        ),
    )
    assert get(store, full.id) == full


def test_what_is_not_there_is_none(store):
    """Asking for an unknown call or key is answered with None."""
    assert get(store, "nobody") is None
    assert store.read(lambda tx: tx.calls.holder("pay", "k")) is None


def test_an_id_is_inserted_once(store):
    """A second call with the same id is an error, and the first one stays."""
    (first,) = put(store, call(note="first"))
    with pytest.raises(StoreError):
        put(store, structs.replace(first, note="second"))
    assert get(store, first.id) == first


def test_a_key_has_one_holder(store):
    """A second call cannot hold a key of the same action, whatever its state."""
    put(store, call(State.SUCCEEDED, key="k", held=True))
    with pytest.raises(StoreError, match="held by another call"):
        put(store, call(key="k", held=True))


def test_actions_do_not_share_keys(store):
    """The same key under another action is another key."""
    one, other = put(store, call(key="k", held=True), call(key="k", held=True, action="refund"))
    assert store.read(lambda tx: tx.calls.holder("pay", "k")) == one
    assert store.read(lambda tx: tx.calls.holder("refund", "k")) == other


def test_a_key_given_back_can_be_taken(store):
    """A call that no longer holds its key keeps it to read, and another may hold it."""
    (first,) = put(store, call(key="k", held=True))
    assert replace(store, first, structs.replace(first, held=False))
    (second,) = put(store, call(key="k", held=True))
    assert store.read(lambda tx: tx.calls.holder("pay", "k")) == second
    assert get(store, first.id).key == "k"


def test_a_key_cannot_be_taken_by_a_replacement(store):
    """A replacement that would hold a held key is an error and changes nothing."""
    put(store, call(key="k", held=True))
    (second,) = put(store, call(key="k"))
    with pytest.raises(StoreError, match="held by another call"):
        replace(store, second, structs.replace(second, held=True))
    assert get(store, second.id) == second


@pytest.mark.parametrize(
    "stale",
    [{"epoch": 4}, {"epoch": 6}, {"state": State.CLAIMED}, {"id": "someone else"}],
)
def test_a_replacement_must_match_the_fence(store, stale):
    """A replacement by someone who holds an old id, epoch or state writes nothing."""
    (known,) = put(store, call(State.DISPATCHED, epoch=5))
    before = structs.replace(known, **stale)
    assert not replace(store, before, structs.replace(before, state=State.SUCCEEDED))
    assert get(store, known.id) == known


def test_of_two_writers_one_wins(store):
    """Of two replacements from the same version the second writes nothing."""
    (known,) = put(store, call(State.DISPATCHED))
    assert replace(store, known, advance(known, State.SUCCEEDED))
    assert not replace(store, known, advance(known, State.UNKNOWN))
    assert get(store, known.id).state is State.SUCCEEDED


def test_a_replacement_takes_back_nothing_else(store):
    """A lease that was renewed meanwhile is not shortened by a replacement that is about else."""
    (known,) = put(store, call(State.CLAIMED, owner="w", lease_until=NOW + 1))
    store.write(lambda tx: tx.calls.renew(owner="w", calls={known.id: 0}, lease_until=NOW + 99))
    assert replace(store, known, advance(known, State.DISPATCHED))
    assert get(store, known.id).lease_until == NOW + 99


def test_a_replacement_without_a_change_still_checks(store):
    """Replacing a call by itself says whether it is still what it was."""
    (known,) = put(store, call(State.DISPATCHED))
    assert replace(store, known, known)
    assert not replace(store, structs.replace(known, epoch=9), structs.replace(known, epoch=9))


def test_slots_are_filled_while_dispatched(store):
    """A call fills its slots exactly while it is dispatched."""

    def filled():
        return store.read(lambda tx: [tx.calls.in_slot("a"), tx.calls.in_slot("b")])

    (known,) = put(store, call(State.CLAIMED, slots=("a", "b")))
    put(store, call(State.DISPATCHED, slots=("a",)))
    before = filled()
    running = advance(known, State.DISPATCHED)
    replace(store, known, running)
    during = filled()
    replace(store, running, advance(running, State.UNKNOWN))
    assert [before, during, filled()] == [[1, 0], [2, 1], [1, 0]]


def test_a_lost_fence_fills_no_slot(store):
    """A replacement that is refused leaves the slots as they are."""
    (known,) = put(store, call(State.DISPATCHED, slots=("a",)))
    stale = structs.replace(known, epoch=8)
    assert not replace(store, stale, advance(stale, State.SUCCEEDED))
    assert store.read(lambda tx: tx.calls.in_slot("a")) == 1


def test_expired_leases_are_found(store):
    """Claimed and dispatched calls and pending direct ones, from the instant the lease is over."""
    over = put(
        store,
        call(State.DISPATCHED, lease_until=NOW - 2),
        call(State.CLAIMED, lease_until=NOW - 1),
        call(State.PENDING, lease_until=NOW),
    )
    put(
        store,
        call(State.DISPATCHED, lease_until=NOW + 0.001),
        call(State.DISPATCHED),
        queued(lease_until=NOW - 5),
        call(State.UNKNOWN, lease_until=NOW - 5),
        call(State.SUCCEEDED, lease_until=NOW - 5),
    )
    assert store.read(lambda tx: tx.calls.expired(NOW, 10)) == list(over)
    assert store.read(lambda tx: tx.calls.expired(NOW, 2)) == list(over[:2])


def test_doubtful_calls_are_found_oldest_first(store):
    """Unknown calls that are due for a look, earliest first."""
    later, sooner = put(store, call(State.UNKNOWN, run_at=NOW), call(State.UNKNOWN, run_at=NOW - 1))
    put(store, call(State.UNKNOWN, run_at=NOW + 1), call(State.FAILED, run_at=NOW - 9))
    assert store.read(lambda tx: tx.calls.doubtful(NOW, 10)) == [sooner, later]


def test_overdue_calls_are_found(store):
    """Pending calls whose deadline is not after now; those that began are left alone."""
    over, exactly = put(store, queued(deadline_at=NOW - 1), call(deadline_at=NOW))
    put(store, queued(deadline_at=NOW + 1), queued(), call(State.CLAIMED, deadline_at=NOW - 1))
    assert store.read(lambda tx: tx.calls.overdue(NOW, 10)) == [over, exactly]
    assert store.read(lambda tx: tx.calls.overdue(NOW, 1)) == [over]


def test_lapsed_keys_are_found_until_given_back(store):
    """Terminal calls whose key has expired; unknown ones never do."""
    (over,) = put(store, call(State.SUCCEEDED, key="a", held=True, expires_at=NOW))
    put(
        store,
        call(State.SUCCEEDED, key="b", held=True, expires_at=NOW + 1),
        call(State.SUCCEEDED, key="c", held=True),
        call(State.SUCCEEDED, key="d", expires_at=NOW - 1),
        call(State.UNKNOWN, key="e", held=True, expires_at=NOW - 1),
    )
    assert store.read(lambda tx: tx.calls.lapsed(NOW, 10)) == [over]
    assert store.read(lambda tx: tx.calls.lapsed(NOW, 10)) == [over]
    replace(store, over, structs.replace(over, held=False))
    assert store.read(lambda tx: tx.calls.lapsed(NOW, 10)) == []


def test_calls_that_wait_for_another_are_found(store):
    """Pending calls that come after the given one."""
    waiting, too = put(store, queued(after="x"), call(after="x"))
    put(store, queued(after="y"), call(State.CANCELLED, after="x"))
    assert store.read(lambda tx: tx.calls.waiting_on("x")) == [waiting, too]


def test_calls_of_a_plan_come_in_order(store):
    """A plan's calls are read in the order of their positions."""
    second, first = put(
        store,
        call(State.PLANNED, plan_id="p", position=2),
        call(State.PLANNED, plan_id="p", position=1),
    )
    put(store, call(State.PLANNED, plan_id="q", position=1))
    assert store.read(lambda tx: tx.calls.of_plan("p")) == [first, second]


def test_find_matches_every_given_field(store):
    """A filter's fields must all match; an empty filter matches all, newest first."""
    wanted = call(State.FAILED, key="k", plan_id="p", correlation_id="c")
    others = [
        call(State.FAILED, key="x", plan_id="p", correlation_id="c"),
        call(State.FAILED, key="k", plan_id="x", correlation_id="c"),
        call(State.FAILED, key="k", plan_id="p", correlation_id="x"),
        call(State.FAILED, key="k", plan_id="p", correlation_id="c", action="x"),
        call(State.PENDING, key="k", plan_id="p", correlation_id="c"),
    ]
    put(store, wanted, *others)
    every = CallFilter(
        states=(State.FAILED, State.UNKNOWN),
        action="pay",
        key="k",
        plan_id="p",
        correlation_id="c",
    )
    assert store.read(lambda tx: tx.calls.find(every)) == [wanted]
    assert store.read(lambda tx: tx.calls.find(CallFilter())) == [*reversed(others), wanted]


def test_find_pages_backwards(store):
    """`before` continues where the last page ended; nothing is shown twice or left out."""
    calls = put(store, *(call() for _ in range(7)))
    pages, before = [], None
    while page := store.read(
        lambda tx, before=before: tx.calls.find(CallFilter(before=before, limit=3))
    ):
        pages += page
        before = page[-1].id
    assert pages == list(reversed(calls))


def test_planned_calls_whose_keys_were_taken_are_found(store):
    """By an open call or one that ended and holds its key, of the same action; in their order."""
    planned = [
        call(State.PLANNED, plan_id="p", position=place, key=key, verdict="new")
        for place, key in enumerate("abcde")
    ]
    put(store, *reversed(planned))
    put(
        store,
        call(State.PLANNED, plan_id="p", position=9, key="b", verdict="done"),
        call(State.PLANNED, plan_id="q", position=1, key="b", verdict="new"),
        call(State.DISCARDED, plan_id="p", position=8, key="b", verdict="new"),
        call(State.SUCCEEDED, key="b", held=True),
        call(State.PENDING, key="d", held=True),
        call(State.FAILED, key="a"),
        call(State.PENDING, key="c", held=True, action="mail"),
    )

    def overtaken(limit):
        return store.read(lambda tx: tx.calls.overtaken("p", ("new", "waits"), limit))

    assert overtaken(9) == [planned[1], planned[3]]
    assert overtaken(1) == [planned[1]]


@pytest.mark.parametrize("states", [(State.PENDING,), ()])
def test_calls_of_a_plan_are_found_in_its_order(store, states):
    """Page by page, however their ids sort; nothing is shown twice or left out."""
    order = [3, 0, 6, 1, 5, 2, 4]
    calls = put(store, *(call(plan_id="p", position=place) for place in order))
    put(store, call(plan_id="q", position=1), call())
    pages, before = [], None
    while page := store.read(
        lambda tx, before=before: tx.calls.find(
            CallFilter(plan_id="p", states=states, before=before, limit=3)
        )
    ):
        pages += page
        before = page[-1].id
    assert pages == sorted(calls, key=lambda one: one.position)
    nowhere = CallFilter(plan_id="p", before="0" * 32)
    assert store.read(lambda tx: tx.calls.find(nowhere)) == []


@pytest.mark.parametrize("states", [(State.FAILED, State.UNKNOWN), (State.SUCCEEDED, State.FAILED)])
@pytest.mark.parametrize("action", [None, "pay"])
def test_a_list_of_states_holds_the_newest_of_all_of_them(store, states, action):
    """However the calls of each state lie between the others, and page by page."""
    every = (State.FAILED, State.SUCCEEDED, State.SUCCEEDED, State.UNKNOWN, State.FAILED)
    put(store, *(call(state, action=name) for state in every * 2 for name in ("pay", "mail")))
    found = store.read(lambda tx: tx.calls.find(CallFilter()))
    wanted = [c for c in found if c.state in states and action in {None, c.action}]
    pages, before = [], None
    while page := store.read(
        lambda tx, before=before: tx.calls.find(
            CallFilter(states=states, action=action, before=before, limit=3)
        )
    ):
        pages += page
        before = page[-1].id
    assert pages == wanted
    assert len(pages) > 3


@pytest.mark.parametrize("states", [(State.PLANNED,), (State.PLANNED, State.FAILED), ()])
def test_calls_of_no_plan_are_found_among_those_of_plans(store, states):
    """However many of a plan are newer; with what else the filter says."""
    first, second, third = put(store, *(call(State.PLANNED) for _ in range(3)))
    put(store, *(call(State.PLANNED, plan_id="p") for _ in range(5)))
    put(store, call(State.PLANNED, action="mail"))
    last = CallFilter(states=states, action="pay", before=third.id, alone=True, limit=2)
    assert store.read(lambda tx: tx.calls.find(last)) == [second, first]
    one = CallFilter(states=states, alone=True, plan_id="p")
    assert store.read(lambda tx: tx.calls.find(one)) == []


def test_counts_are_by_state(store):
    """Counts name the states that occur and no other."""
    put(store, call(), call(), call(State.UNKNOWN))
    (gone,) = put(store, call(State.CLAIMED))
    replace(store, gone, advance(gone, State.CANCELLED))
    counted = {State.PENDING: 2, State.UNKNOWN: 1, State.CANCELLED: 1}
    assert store.read(lambda tx: tx.calls.counts()) == counted
    put(store, call(State.SUCCEEDED))
    assert store.read(lambda tx: tx.calls.counts()) == {**counted, State.SUCCEEDED: 1}


def test_a_call_outside_of_any_correlation_is_found_by_its_own_id(store):
    """Beside those that were asked for while it was performed."""
    outer, _ = put(store, call(State.SUCCEEDED), call(State.SUCCEEDED, correlation_id="c"))
    (inner,) = put(store, call(State.SUCCEEDED, correlation_id=outer.id))
    wanted = CallFilter(correlation_id=outer.id)
    found = store.read(lambda tx: tx.calls.find(wanted))
    assert {one.id for one in found} == {outer.id, inner.id}
    wanted = CallFilter(correlation_id=inner.id)
    assert store.read(lambda tx: tx.calls.find(wanted)) == []


@pytest.mark.parametrize("held", [True, False])
def test_a_call_is_found_by_its_key_whether_it_holds_it_or_not(store, held):
    """A person asks for what was done under a key, whatever became of the key."""
    one, _ = put(store, call(State.FAILED, key="k", held=held), call(State.FAILED, key="x"))
    assert store.read(lambda tx: tx.calls.find(CallFilter(key="k"))) == [one]


def test_the_next_chore_is_the_earliest_of_all(store):
    """A lease, a doubt, a deadline and a key that lapses: whichever comes first."""
    assert store.read(lambda tx: tx.calls.next_chore()) is None
    chores = [
        call(State.SUCCEEDED, key="k", held=True, expires_at=NOW + 40),
        call(State.PENDING, queue="main", deadline_at=NOW + 30),
        call(State.UNKNOWN, run_at=NOW + 20),
        call(State.DISPATCHED, owner="w", lease_until=NOW + 10),
    ]
    found = []
    for chore in chores:
        store.write(lambda tx, chore=chore: tx.calls.insert(chore))
        found.append(store.read(lambda tx: tx.calls.next_chore()))
    assert found == [NOW + 40, NOW + 30, NOW + 20, NOW + 10]
    store.write(lambda tx: tx.calls.insert(call(State.SUCCEEDED, lease_until=None)))
    assert store.read(lambda tx: tx.calls.next_chore()) == NOW + 10
