"""Ctrl-C while PostgreSQL commits: what became of the commit is found out, or said to be open."""

from __future__ import annotations

import signal
import sys
import threading
from linecache import getline

import psycopg
import pytest
from tests.store.making import call
from tests.store.together import together
from tests.support.postgres import plain

from gonogo.errors import StoreUnavailable
from gonogo.records import State
from gonogo.store import postgres_answers
from gonogo.store.postgres_prepared import Prepared

SENDS = postgres_answers.__file__

SLOW_COMMIT = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON gonogo_calls
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait();
SELECT pg_advisory_lock(42)
"""


@pytest.fixture
def interrupt(monkeypatch):
    """Arms one interrupt at the next COMMIT, before or after the server has heard of it."""
    say = Prepared.say

    def arm(*, heard):
        def interrupted(prepared, words):
            if not words.endswith("COMMIT"):
                return say(prepared, words)
            monkeypatch.setattr(Prepared, "say", say)
            if heard:
                say(prepared, words)
            raise KeyboardInterrupt

        monkeypatch.setattr(Prepared, "say", interrupted)

    return arm


def insert(tx):
    made = call()
    tx.calls.insert(made)
    return made.id


def counts(store):
    return store.read(lambda tx: tx.calls.counts())


def test_ctrl_c_while_the_server_commits(ledger, postgres_url):
    """A commit that the server is busy with is given up; the next write works."""
    main = threading.main_thread().ident

    def press(watcher):
        waits = (
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
            "WHERE datname = current_database() AND objid = 42 AND NOT granted"
        )
        while watcher.execute(waits).fetchone() != (1,):
            threading.Event().wait(0.001)
        signal.pthread_kill(main, signal.SIGINT)

    with psycopg.connect(plain(postgres_url), autocommit=True) as other:
        other.execute(SLOW_COMMIT)
        pressing = threading.Thread(target=press, args=(other,))
        pressing.start()
        with pytest.raises(KeyboardInterrupt):
            ledger.write(insert)
        pressing.join(10)
        assert counts(ledger) == {}
        other.execute("SELECT pg_advisory_unlock(42)")
        ledger.write(insert)
        assert counts(ledger) == {State.PENDING: 1}


def interrupt_once_sent():
    """An interrupt at the line after the one that sends a message."""
    sent = False

    def line(frame, event, _):
        nonlocal sent
        if event == "line" and sent:
            sys.settrace(None)
            raise KeyboardInterrupt
        sent = "send_query(" in getline(frame.f_code.co_filename, frame.f_lineno)
        return line

    sys.settrace(lambda frame, *_: line if frame.f_code.co_filename == SENDS else None)


def test_ctrl_c_as_soon_as_the_server_has_heard(ledger, postgres_url):
    """The server is told to stop, also when nobody had begun to wait for its answer."""

    def work(tx):
        insert(tx)
        interrupt_once_sent()

    ledger.write(lambda tx: None)
    with psycopg.connect(plain(postgres_url), autocommit=True) as other:
        other.execute(SLOW_COMMIT)
        with pytest.raises(KeyboardInterrupt):
            ledger.write(work)
        assert counts(ledger) == {}


@pytest.mark.parametrize("heard", [True, False])
def test_an_interrupt_is_the_callers_alone(ledger, interrupt, heard):
    """The caller is interrupted; those who share its commit get their results, written once."""

    def work(tx):
        interrupt(heard=heard)
        return insert(tx)

    first, *others = together(ledger, [work, insert, insert])
    assert isinstance(first, KeyboardInterrupt)
    assert all(ledger.read(lambda tx, one=one: tx.calls.get(one)) for one in others)
    assert counts(ledger) == {State.PENDING: 3 if heard else 2}
    ledger.write(insert)


@pytest.mark.parametrize("heard", [True, False])
def test_an_interrupt_at_anothers_commit_is_the_leaders(ledger, interrupt, heard):
    """Where works are committed one by one, who leads is interrupted and no work is lost."""
    ledger._apart_until = float("inf")
    runs = []

    def work(tx):
        runs.append(1)
        if len(runs) == 1:
            interrupt(heard=heard)
        insert(tx)

    results = together(ledger, [lambda tx: None, work, insert])
    assert len(runs) == (1 if heard else 2)
    assert [isinstance(one, KeyboardInterrupt) for one in results] == [True, False, False]
    assert counts(ledger) == {State.PENDING: 2}


def test_interrupted_again_while_it_is_looked_up(ledger, interrupt, monkeypatch):
    """Who shared the commit hears that it may have been written, and nothing is run again."""
    runs = []

    def work(tx):
        runs.append(insert(tx))
        if len(runs) == 1:
            interrupt(heard=True)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "_is_committed", interrupted)
    first, *others = together(ledger, [work, work, work])
    assert isinstance(first, KeyboardInterrupt)
    for one in others:
        assert isinstance(one, StoreUnavailable)
        assert "may have been written" in str(one)
    assert len(runs) == 3
    assert counts(ledger) == {State.PENDING: 3}
    ledger.write(insert)
