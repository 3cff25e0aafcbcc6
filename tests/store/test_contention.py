"""PostgreSQL's conflicts: work that lost one is run again, and nobody hears of it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from functools import partial

import psycopg
import pytest
from tests.store.making import NOW, call, charge
from tests.store.together import all_together, together
from tests.support import crossed
from tests.support.postgres import plain

from gonogo.errors import StoreUnavailable
from gonogo.governor import GovernorEnforcer
from gonogo.records import State
from gonogo.store.postgres import PostgresStore
from gonogo.store.postgres_errors import Contention, Crossed, Lost
from gonogo.store.postgres_rounds import Rounds
from gonogo.store.texts import Text


@pytest.fixture
def ledger(postgres_url, fake_clock):
    store = PostgresStore(postgres_url, clock=fake_clock)
    store.write(lambda tx: None)
    yield store
    store.close()


def transaction(tx):
    """The number of the transaction that ``tx`` belongs to."""
    return tx.calls._run(Text("SELECT pg_current_xact_id()::text"), {}).fetchone()[0]


def writer(fails_at=(), kind=Crossed):
    """Work that inserts a call and returns its transaction; some of its runs lose a conflict."""
    runs = []

    def work(tx):
        runs.append(1)
        tx.calls.insert(call())
        if len(runs) in fails_at:
            raise kind(StoreUnavailable("busy"))
        return transaction(tx)

    return work


def test_a_crossed_commit_is_taken_apart(ledger):
    """After a conflict each work runs in a transaction of its own, and alone is repeated."""
    found = together(ledger, [writer(), writer(fails_at=(1, 2)), writer()])
    assert len(set(found)) == 3
    assert all(one.isdecimal() for one in found)
    assert ledger.read(lambda tx: tx.calls.counts()) == {State.PENDING: 3}


def test_nothing_is_taken_together_for_a_while_after_a_crossing(ledger, fake_clock):
    """Two processes' commits that crossed would cross again: they share none for ten seconds."""
    together(ledger, [writer(fails_at=(1,)), writer()])
    assert len(set(together(ledger, [writer(), writer(), writer()]))) == 3
    fake_clock.advance(10)
    assert len(set(together(ledger, [writer(), writer(), writer()]))) == 1


def test_work_is_repeated_ten_times_with_growing_pauses(fake_clock):
    """Who keeps losing waits longer each time, unevenly, and in the end hears why."""
    shares = itertools.cycle([0.0, 0.5])
    rounds = Rounds(fake_clock, lambda: next(shares))
    runs = []

    def lose():
        runs.append(fake_clock.now())
        raise Contention(StoreUnavailable("busy"))

    with pytest.raises(StoreUnavailable, match="busy") as caught:
        rounds.run(lose)
    assert not isinstance(caught.value, Contention)
    assert len(runs) == 10
    assert fake_clock.slept == pytest.approx(
        [0.0025, 0.0075, 0.01, 0.03, 0.04, 0.075, 0.05, 0.075, 0.05]
    )


def test_a_repeated_write_and_a_repeated_join_pause(ledger, postgres_url, fake_clock):
    """Between two rounds nothing is locked and time passes, in the ledger's transaction and
    in the user's own."""
    ledger.write(writer(fails_at=(1, 2)))
    assert len(fake_clock.slept) == 2
    with psycopg.connect(plain(postgres_url)) as connection:
        ledger.join(connection, writer(fails_at=(1, 2)), lambda: None)
    assert len(fake_clock.slept) == 4
    assert ledger.read(lambda tx: tx.calls.counts()) == {State.PENDING: 2}


def test_a_key_taken_meanwhile_parts_one_commit_only(ledger):
    """Two who insert one key are no crossing: the next commit is shared."""
    together(ledger, [writer(fails_at=(1,), kind=Contention), writer()])
    assert len(set(together(ledger, [writer(), writer(), writer()]))) == 1


def test_a_connection_that_stays_broken_in_between_runs_nothing_twice(ledger, monkeypatch):
    """Of works one by one, those committed stay so; the rest is told that nothing was written."""

    def breaking(tx):
        ledger._writer.close()
        monkeypatch.setattr(ledger, "_connect", unreachable)
        raise Lost("gone")

    def unreachable(**_):
        raise Lost("gone")

    first, broken, last = together(ledger, [writer(fails_at=(1,)), breaking, writer()])
    assert first.isdecimal()
    assert isinstance(broken, StoreUnavailable)
    assert isinstance(last, StoreUnavailable)
    assert "nothing was written" in str(last)
    monkeypatch.undo()
    assert ledger.read(lambda tx: tx.calls.counts()) == {State.PENDING: 1}


def test_crossed_limits_of_two_processes_deny_nobody(postgres_url):
    """Many threads in two processes that take two limits in crossed order all get them."""
    url = f"{postgres_url}?options=-c%20deadlock_timeout%3D10ms"
    store = PostgresStore(postgres_url)
    store.write(lambda tx: None)
    command = [sys.executable, "-m", "tests.support.crossed", url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = [json.loads(one.communicate(timeout=120)[0]) for one in running]
    each = crossed.THREADS * crossed.ROUNDS
    assert found == [{"reserved": each}] * 2
    charges = [charge("a"), charge("b")]
    used = store.read(lambda tx: [one.used for one in tx.limits.usage(charges, NOW)])
    assert used == [2 * each, 2 * each]
    store.close()


def test_a_denial_in_a_shared_commit_is_counted_once(ledger, fake_clock):
    """However often the commit it stood in was run."""
    governor = GovernorEnforcer(store=ledger, clock=fake_clock)
    governor.set_limit("payment", 1, 60)
    assert governor.check_limit("payment") == (True, "Allowed")
    others = partial(ledger.write, writer())
    results = all_together(ledger, [others, partial(governor.check_limit, "payment"), others])
    assert results[1][0] is False
    assert governor.get_status("payment")["denied_count"] == 1
    assert len(governor.violations()) == 1
