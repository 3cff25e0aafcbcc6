"""PostgreSQL alone: transactions that are drafted on what is likely, and sent at once."""

from __future__ import annotations

import pytest
from msgspec import structs
from tests.store.making import NOW, attempt, call, queued
from tests.store.together import together

from gonogo.errors import GonogoError
from gonogo.records import AHEAD, Charge, Control, Outcome, State
from gonogo.store.postgres import PostgresStore
from gonogo.store.postgres_prepared import Prepared

ODD = 'it\'s 100 % \\ "odd" \n {"a": [1]} \u00e9 \U0001f600 $1 %(rows)s ; --'


@pytest.fixture
def pair(postgres_url):
    """Two processes' stores; each has seen what it may guess from."""
    stores = [PostgresStore(postgres_url) for _ in range(2)]
    for store in stores:
        store.write(lambda tx: tx.controls.all())
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def messages(monkeypatch):
    """Every message of a draft, as it is sent."""
    sent = []
    say = Prepared.say

    def note(prepared, words):
        sent.append(words)
        return say(prepared, words)

    monkeypatch.setattr(Prepared, "say", note)
    return sent


def put(store, *calls):
    store.write(lambda tx: tx.calls.insert_many(calls))
    return list(calls)


def dispatched(**fields):
    return call(State.DISPATCHED, epoch=1, attempt=1, lease_until=NOW + 9, **fields)


def settle(before):
    """What a settlement writes: the call, its attempt, and a look at who waits for it."""
    done = {"outcome": Outcome.SUCCEEDED, "result": "1", "settled_at": NOW}
    after = structs.replace(before, state=State.SUCCEEDED, **done)

    def work(tx):
        written = tx.calls.replace(before, after)
        if written:
            tx.attempts.append(attempt(before.id, 1))
        return written, tx.calls.waiting_on(before.id)

    return work


def test_what_shares_a_commit_goes_in_one_message(pair, messages):
    """However many calls are settled by one commit, all is written in one message."""
    store = pair[0]
    calls = put(store, *(dispatched() for _ in range(5)))
    for one in put(store, dispatched(), dispatched(), dispatched(), dispatched()):
        store.write(settle(one))  # from now on these statements are kept by the server
    messages.clear()
    assert together(store, [settle(one) for one in calls]) == [(True, [])] * 5
    written = [words for words in messages if words != "COMMIT"]
    assert len(written) == 2  # the one that held them up, and theirs
    assert all(words.startswith("BEGIN") for words in written)
    assert store.read(lambda tx: tx.calls.counts()) == {State.SUCCEEDED: 9}
    assert all(store.read(lambda tx, i=one.id: tx.attempts.of(i)) for one in calls)


def test_a_call_is_queued_in_one_message(pair, messages):
    """From its beginning to its commit, with what is told to those who listen."""
    for _ in range(4):
        put(pair[0], queued())  # from now on these statements are kept by the server
    messages.clear()
    put(pair[0], queued())
    (words,) = messages
    assert words.startswith("BEGIN")
    assert words.endswith("COMMIT")


def test_a_success_is_settled_in_one_message(pair, messages):
    """From its beginning to its commit: whether it succeeded then tells the fate of the commit."""
    calls = put(pair[0], *(dispatched() for _ in range(5)))
    for one in calls:
        messages.clear()
        assert pair[0].write(settle(one)) == (True, [])
    (words,) = messages
    assert words.startswith("BEGIN")
    assert words.endswith("COMMIT")


def test_a_refusal_takes_back_its_own_work_at_once(pair, messages):
    """Who shares a commit with work that is refused runs once, whatever that has written."""
    charge = Charge(limit="api", row="api", max=9, cost=1, window=60.0)
    runs = []

    def good(tx):
        runs.append("good")
        tx.calls.insert(call())

    def refused(tx):
        runs.append("refused")
        tx.calls.insert(call(note="refused"))
        tx.limits.reserve([charge], NOW)  # asks the server
        tx.attempts.append(attempt("refused", 1))
        raise PermissionError

    results = together(pair[0], [good, refused, good, refused, refused, good])
    assert [type(one) for one in results if one] == [PermissionError] * 3
    assert runs == ["good", "refused", "good", "refused", "refused", "good"]
    assert pair[0].read(lambda tx: tx.calls.counts()) == {State.PENDING: 3}
    assert pair[0].read(lambda tx: tx.attempts.of("refused")) == []
    assert [usage.used for usage in pair[0].read(lambda tx: tx.limits.usage([charge], NOW))] == [0]
    committed = [words for words in messages if words.endswith("COMMIT")]
    assert len(committed) == 2  # theirs, and of who held them up


@pytest.mark.parametrize("count", [19, 20, 1500])
def test_many_rows_outlive_a_refusal_behind_them(pair, count):
    """However they are sent, rows are not taken back with those of another's work."""
    rows = [call() for _ in range(count)]

    def refused(tx):
        tx.calls.get("none")
        tx.calls.insert_many([call() for _ in range(count)])
        raise PermissionError

    works = [refused, lambda tx: tx.calls.insert_many(rows), refused, lambda tx: tx.calls.get("-")]
    results = together(pair[0], works)
    assert [type(one) for one in results if one] == [PermissionError] * 2
    assert pair[0].read(lambda tx: tx.calls.counts()) == {State.PENDING: count}


def test_switches_that_a_refused_work_set_are_forgotten(pair):
    """What it wrote and read again is not told to the next one."""
    control = Control(name="halt:*", actor="ann", reason="r", set_at=NOW, until=NOW + 0.1)

    def refused(tx):
        tx.controls.put(control)
        assert tx.controls.all() == {"halt:*": control}
        raise PermissionError

    results = together(pair[0], [refused, lambda tx: tx.controls.all()])
    assert isinstance(results[0], PermissionError)
    assert results[1] == {}
    pair[0].write(lambda tx: tx.controls.put(control))
    assert pair[1].write(lambda tx: tx.controls.all()) == {"halt:*": control}
    assert pair[1].read(lambda tx: tx.controls.all()) == {"halt:*": control}


def test_a_call_that_somebody_else_changed_is_not_written(pair):
    """A fence that does not hold is told to its writer, and to nobody who shares the commit."""
    kept, taken = put(pair[0], dispatched(), dispatched())
    pair[1].write(lambda tx: tx.calls.replace(taken, structs.replace(taken, epoch=2)))
    assert together(pair[0], [settle(kept), settle(taken)]) == [(True, []), (False, [])]
    assert pair[0].read(lambda tx: tx.calls.get(taken.id)).state is State.DISPATCHED
    assert pair[0].read(lambda tx: tx.attempts.of(taken.id)) == []


def test_who_waits_is_found_though_nobody_was_expected(pair):
    """A call that came to wait, from whatever process, is told to who ends the other one."""
    first, other = put(pair[0], dispatched(), dispatched())
    (second,) = put(pair[1], queued(after=first.id, waits=True))
    results = together(pair[0], [settle(other), settle(first)])
    assert results == [(True, []), (True, [second])]


@pytest.mark.parametrize("count", [1, 19, 20, 1500])
def test_who_came_to_wait_in_the_same_commit_is_found(pair, count):
    """Calls queued after another one that ends in the same commit are told to who ends it."""
    (first,) = put(pair[0], dispatched())
    waiting = [queued(after=first.id, waits=True) for _ in range(count)]
    results = together(pair[0], [lambda tx: tx.calls.insert_many(waiting), settle(first)])
    assert results == [None, (True, waiting)]


def test_a_switch_that_was_set_elsewhere_is_seen_at_once(pair):
    """Nothing is decided by the switches of the last transaction."""
    control = Control(name="halt:*", actor="ann", reason="r", set_at=NOW)

    def look(tx):
        tx.calls.insert(call())
        return list(tx.controls.all())

    assert pair[0].write(look) == []
    pair[1].write(lambda tx: tx.controls.put(control))
    assert pair[0].write(look) == ["halt:*"]
    assert pair[0].write(lambda tx: list(tx.controls.all())) == ["halt:*"]
    pair[1].write(lambda tx: tx.controls.clear("halt:*"))
    assert pair[0].write(look) == []


def test_a_refusal_by_a_switch_that_is_gone_is_taken_back(pair):
    """Also who writes nothing is told of the switches as they are."""
    control = Control(name="halt:*", actor="ann", reason="r", set_at=NOW)
    pair[0].write(lambda tx: tx.controls.put(control))
    pair[0].write(lambda tx: tx.controls.all())
    pair[1].write(lambda tx: tx.controls.clear("halt:*"))

    def admit(tx):
        if tx.controls.all():
            raise PermissionError
        return "admitted"

    assert pair[0].write(admit) == "admitted"


@pytest.mark.parametrize("count", [1, 2, 19, 20, 1500])
def test_rows_are_what_was_given_however_they_are_sent(pair, count):
    """Any text survives, in one row or in many, and so do times and what has no value."""
    calls = [queued(args=ODD, note=ODD, key=f"{ODD}{n}", run_at=NOW + n / 7) for n in range(count)]
    put(pair[0], *calls)
    changed = [structs.replace(one, state=State.CLAIMED, note=ODD * 2, owner=None) for one in calls]

    def work(tx):
        for before, after in zip(calls, changed, strict=True):
            assert tx.calls.replace(before, after)
        return [tx.calls.get(one.id) for one in calls[:50]]

    assert pair[0].write(work) == changed[:50]
    assert [pair[1].read(lambda tx, i=one.id: tx.calls.get(i)) for one in changed[:50]] == changed[
        :50
    ]


def test_times_without_an_end_are_kept(pair):
    """What JSON has no number for is written all the same."""
    (one,) = put(pair[0], queued(deadline_at=float("inf")))
    assert pair[1].read(lambda tx: tx.calls.get(one.id)) == one
    after = structs.replace(one, expires_at=float("inf"))
    assert pair[0].write(lambda tx: tx.calls.replace(one, after))
    assert pair[1].read(lambda tx: tx.calls.get(one.id)) == after


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("note", ["a \0 in it", "half a \ud800 pair"])
def test_what_cannot_be_written_fails_its_own_writer_alone(pair, note, count):
    """A text that the server does not take leaves the others of the commit as they are."""
    works = [lambda tx: tx.calls.insert(call()) for _ in range(2)]
    odd = [call(note=note) for _ in range(count)]
    works.insert(1, lambda tx: (tx.calls.insert_many(odd), tx.calls.get("none")))
    first, bad, last = together(pair[0], works)
    assert first is None
    assert last is None
    assert isinstance(bad, GonogoError | ValueError)
    assert pair[0].read(lambda tx: tx.calls.counts()) == {State.PENDING: 2}


def test_the_same_call_may_change_twice_in_one_transaction(pair):
    """Each change is made to what the one before it left."""
    (one,) = put(pair[0], queued())
    claimed = structs.replace(one, state=State.CLAIMED, epoch=1)
    gone = structs.replace(claimed, state=State.DISPATCHED, note="second")

    def work(tx):
        return tx.calls.replace(one, claimed), tx.calls.replace(claimed, gone)

    assert pair[0].write(work) == (True, True)
    assert pair[1].read(lambda tx: tx.calls.get(one.id)) == gone


CLAIM = {"owner": "me", "queues": ("default",), "now": NOW, "lease_until": NOW + 9}


def test_a_call_is_claimed_and_begun_in_one_statement(pair, messages):
    """Its row is written once: what is begun in the transaction that claims it, with the claim."""
    put(pair[0], *(queued(queue="default", run_at=NOW - 9 + n) for n in range(3)))
    messages.clear()

    def work(tx):
        claimed = tx.calls.claim(**CLAIM, limit=1, ahead=2)
        begun = [
            structs.replace(each, state=State.DISPATCHED, attempt=1, note=None)
            for each in claimed[:2]
        ]
        written = list(map(tx.calls.replace, claimed, begun))
        return [*begun, claimed[2]], written

    (*begun, ahead), written = pair[0].write(work)
    assert written == [True, True]
    assert (ahead.state, ahead.epoch, ahead.attempt, ahead.note) == (State.CLAIMED, 1, 0, AHEAD)
    for each in (*begun, ahead):
        assert pair[1].read(lambda tx, each=each: tx.calls.get(each.id)) == each
    words = "; ".join(messages)
    assert words.count("UPDATE gonogo_calls") == 2  # the begun ones, and the one for later
    assert words.count('"if_id"') == 3


@pytest.mark.parametrize("then", ["looked up", "changed by its old fence"])
def test_a_claim_is_written_before_anybody_looks(pair, then):
    """Whatever is done with the call next sees it claimed."""
    (due,) = put(pair[0], queued(queue="default", run_at=NOW - 1))

    def work(tx):
        (claimed,) = tx.calls.claim(**CLAIM, limit=1)
        if then == "looked up":
            return claimed, tx.calls.get(due.id) == claimed
        return claimed, not tx.calls.replace(due, structs.replace(due, note="lost"))

    claimed, held = pair[0].write(work)
    assert held
    assert pair[1].read(lambda tx: tx.calls.get(due.id)) == claimed


def test_a_claim_is_taken_back_with_its_work_alone(pair):
    """Who shares the commit keeps what it wrote."""
    (due,) = put(pair[0], queued(queue="default", run_at=NOW - 1))

    def fails(tx):
        tx.calls.claim(**CLAIM, limit=1)
        raise ValueError

    first, failed = together(pair[0], [lambda tx: tx.calls.insert(call()), fails])
    assert (first, type(failed)) == (None, ValueError)
    assert pair[1].read(lambda tx: tx.calls.get(due.id)) == due
    assert pair[1].read(lambda tx: tx.calls.counts()) == {State.PENDING: 2}


def test_statements_that_a_session_lost_are_said_in_full(pair):
    """Somebody who empties the session of prepared statements only costs a round."""
    store = pair[0]
    for _ in range(5):
        store.write(lambda tx: tx.calls.insert(call()))
    held = store._writer._raw.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert held[0] > 0
    store._writer._raw.execute("DEALLOCATE ALL")
    for _ in range(5):
        store.write(lambda tx: tx.calls.insert(call()))
    assert store.read(lambda tx: tx.calls.counts()) == {State.PENDING: 10}


def test_a_statement_that_cannot_be_kept_is_said_in_full(pair):
    """A server that will not prepare a statement runs it all the same."""
    prepared = pair[0]._writer._draft._prepared
    for _ in range(5):
        prepared.prepare()
        answer = prepared.execute("SHOW server_version_num", {}).fetchone()
        assert int(answer[0]) > 0


def test_the_name_of_a_kept_statement_means_one_text(pair):
    """Where two processes' sessions turn out to be one, neither runs the other's statement."""
    works = [lambda tx: tx.calls.insert(call()), lambda tx: tx.calls.get("none")]
    texts = {}
    for store, order in zip(pair, (works, works[::-1]), strict=True):
        for work in order:
            for _ in range(5):
                store.write(work)
        words = "SELECT name, statement FROM pg_prepared_statements"
        for name, statement in store._writer._raw.execute(words):
            texts.setdefault(name, set()).add(statement)
    assert len(texts) > 2
    assert all(len(meant) == 1 for meant in texts.values())
