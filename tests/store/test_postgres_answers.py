"""Messages and their answers on the bare connection: all of it comes, whatever comes in between."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors
from tests.support.postgres import plain

from gonogo.store.postgres_answers import Messages

Raw = psycopg.Connection[Any]


@pytest.fixture
def raw(postgres_url: str) -> Iterator[Raw]:
    with psycopg.connect(plain(postgres_url), autocommit=True) as connection:
        yield connection


def test_each_statement_has_its_answer(raw: Raw) -> None:
    """By its number; what is asked of a cursor is asked of the last one."""
    answers = Messages(raw).send(
        "BEGIN; SELECT 1; SELECT 'a', NULL UNION ALL SELECT 'b', 2; COMMIT"
    )
    assert (answers.rows(1), answers.rows(2)) == ([(1,)], [("a", None), ("b", 2)])
    assert (answers.did, answers.rowcount, answers.fetchone()) == ("COMMIT", 0, None)


def test_a_message_and_its_answer_may_be_larger_than_any_buffer(raw: Raw) -> None:
    """All of it is sent and read, in pieces."""
    text = "x" * 8_000_000
    words = "; ".join([f"SELECT '{text}'"] * 3)
    assert Messages(raw).send(words).fetchone() == (text,)


def test_a_failure_leaves_the_session_ready(raw: Raw) -> None:
    """It is the driver's error for it; the next message has its own answer."""
    messages = Messages(raw)
    with pytest.raises(errors.DivisionByZero):
        messages.send("SELECT 1; SELECT 1 / 0; SELECT 2")
    assert messages.send("SELECT 3").fetchone() == (3,)


def test_an_interrupt_ends_what_the_server_does(raw: Raw, postgres_url: str) -> None:
    """At once, and nothing that follows in the message is done; the session goes on."""
    main = threading.main_thread().ident
    assert main is not None
    messages = Messages(raw)
    waits = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"

    def press(other: Raw) -> None:
        while other.execute(waits, (raw.info.backend_pid,)).fetchone() != (1,):
            threading.Event().wait(0.001)
        signal.pthread_kill(main, signal.SIGINT)

    with psycopg.connect(plain(postgres_url), autocommit=True) as other:
        other.execute("CREATE TABLE done (it int)")
        other.execute("SELECT pg_advisory_lock(7)")
        pressing = threading.Thread(target=press, args=(other,))
        pressing.start()
        with pytest.raises(KeyboardInterrupt):
            messages.send("BEGIN; SELECT pg_advisory_lock(7); INSERT INTO done VALUES (1); COMMIT")
        pressing.join(10)
        assert messages.send("ROLLBACK; SELECT count(*) FROM done").fetchone() == (0,)
