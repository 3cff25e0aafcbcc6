"""What a SQLite connection keeps of what it read: never longer than it holds."""

from __future__ import annotations

import pytest
from tests.store.making import NOW, call, charge
from tests.store.together import together

from gonogo.records import Control, Reservation, State
from gonogo.store.sqlite import SqliteStore

HALT = Control(name="halt:*", actor="ann", reason="stop", set_at=NOW)


@pytest.fixture
def ledger(tmp_path):
    """Two stores on one file, as two processes have them."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    stores = SqliteStore(url), SqliteStore(url)
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def store(ledger):
    return ledger[0]


@pytest.fixture
def other(ledger):
    return ledger[1]


@pytest.fixture
def asked(store):
    """The texts that the store's writer runs."""
    store.write(lambda tx: None)
    texts: list[str] = []
    store._writer._raw.set_trace_callback(texts.append)
    return texts


def switches(store):
    return store.write(lambda tx: [*tx.controls.all()])


def take(store, *, row="api", at=NOW, most=10, window=60.0):
    return store.write(lambda tx: tx.limits.reserve([charge(row, 1, most, window=window)], at))


def used(store, at=NOW):
    return store.write(lambda tx: tx.limits.usage([charge()], at))[0].used


def test_what_nobody_changed_is_not_read_again(store, asked):
    """Switches and limits in use are read once, and a limit within a slice writes its count."""
    for _ in range(5):
        switches(store)
        take(store)
    about = [text for text in asked if "gonogo_controls" in text or "gonogo_limits" in text]
    assert sum("SELECT" in text and "DELETE" not in text for text in about) == 2
    assert sum(text.startswith("UPDATE gonogo_limits SET buckets") for text in about) == 4


def test_a_switch_of_another_process_is_seen_at_once(store, other):
    """The next write after somebody else's commit knows of it."""
    assert switches(store) == []
    other.write(lambda tx: tx.controls.put(HALT))
    assert switches(store) == ["halt:*"]
    other.write(lambda tx: tx.controls.clear("halt:*"))
    assert switches(store) == []


def test_a_switch_of_the_same_transaction_is_seen(store):
    """Who sets a switch reads it as it is now."""
    switches(store)

    def work(tx):
        tx.controls.put(HALT)
        return [*tx.controls.all()]

    assert store.write(work) == ["halt:*"]


def test_what_others_used_counts(store, other):
    """Two processes that take turns never take more than the limit."""
    granted = [take((store, other)[turn % 2], most=7) for turn in range(12)]
    assert sum(isinstance(grant, tuple) for grant in granted) == 7


@pytest.mark.parametrize("first", ["taken back", "denied"])
def test_what_was_not_written_does_not_count(store, first):
    """Units of work that failed, or of a row granted beside one that was denied, are free."""
    take(store)

    def work(tx):
        if first == "denied":
            return tx.limits.reserve([charge(), charge("full", cost=2, most=1)], NOW)
        tx.limits.reserve([charge()], NOW)
        tx.controls.put(HALT)
        raise LookupError

    if first == "denied":
        store.write(work)
    else:
        with pytest.raises(LookupError):
            store.write(work)
    assert (used(store), switches(store)) == (1, [])


@pytest.mark.parametrize("at", [NOW + 100, NOW])
def test_a_row_that_was_swept_comes_back(store, at):
    """A kept row that was swept from the table is written again, also by a clock set back."""
    take(store, row="a", window=1.0)
    take(store, row="b", at=NOW + 100)
    take(store, row="a", at=at, window=1.0)
    rows = store._writer._raw.execute("SELECT name FROM gonogo_limits ORDER BY name").fetchall()
    assert [row[0] for row in rows] == ["a", "b"]


def test_units_are_given_back_where_they_are_kept(store, other):
    """What a kept row gives back, others see."""
    (held,) = take(store)
    take(store)
    store.write(lambda tx: tx.limits.release([held]))
    assert (used(store), used(other)) == (1, 1)
    assert isinstance(held, Reservation)


@pytest.mark.parametrize("by", ["itself", "another process"])
def test_who_waits_is_found(store, other, by):
    """That nobody waits for anybody is known until somebody does."""
    first, second = call(), call()
    store.write(lambda tx: tx.calls.insert_many([first, second]))
    assert store.write(lambda tx: tx.calls.waiting_on(first.id)) == []
    waiting = call(after=first.id, queue="main", waits=True)
    (store if by == "itself" else other).write(lambda tx: tx.calls.insert(waiting))
    assert store.write(lambda tx: tx.calls.waiting_on(first.id)) == [waiting]


def test_one_that_fails_in_a_shared_commit_runs_once(store):
    """Its answer stands; the others run again without it, and are committed."""
    store.write(lambda tx: None)
    ran: list[str] = []

    def kept(tx):
        tx.calls.insert(call())

    def failing(tx):
        ran.append("failed")
        tx.calls.insert(call())
        raise LookupError

    results = together(store, [kept, failing, kept, failing, kept])
    assert [type(result) for result in results].count(LookupError) == 2
    assert ran == ["failed", "failed"]
    assert store.read(lambda tx: tx.calls.counts()) == {State.PENDING: 3}
