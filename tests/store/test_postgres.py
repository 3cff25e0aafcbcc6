"""PostgreSQL alone: broken connections, commits in doubt, and errors that name the remedy."""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from msgspec import structs
from tests.store.making import NOW, call, queued
from tests.support.postgres import execute, logged_in, plain
from tests.support.proxy import Proxy

from gonogo import SandboxOrchestrator
from gonogo.alerts import AlertSystem
from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError, StoreError, StoreUnavailable
from gonogo.records import Alert, Control, Outcome, State
from gonogo.store import open_store
from gonogo.store.port import Transaction
from gonogo.store.postgres import PostgresStore
from gonogo.store.postgres_connection import Connection
from gonogo.store.postgres_fate import Numbered, Witness, Witnessed
from gonogo.store.postgres_listener import Listener
from gonogo.store.upgrade import status
from gonogo.store.urls import parse

CLOSE_WAIT = 8
"""The state of a TCP socket whose other side has ended."""


@pytest.fixture
def proxied(postgres_url):
    """A store that reaches its server through a proxy."""
    parts = urlsplit(postgres_url)
    proxy = Proxy(parts.port)
    place = parts.netloc.replace(f":{parts.port}", f":{proxy.port}")
    store = PostgresStore(urlunsplit(parts._replace(netloc=place)))
    store.write(lambda tx: None)
    yield store, proxy
    store.close()
    proxy.close()


def end_connections(url: str) -> None:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'gonogo' AND datname = current_database()"
        )


@pytest.mark.parametrize("forward", [True, False])
def test_a_connection_cut_at_its_commit_writes_exactly_once(proxied, forward):
    """Whether the server heard of the commit or not, the work is there once in the end."""
    store, proxy = proxied
    runs = []

    def work(tx):
        made = call()
        runs.append(made.id)
        tx.calls.insert(made)
        return made.id

    proxy.lose(b"COMMIT\0", forward=forward)
    written = store.write(work)
    assert proxy.cuts == 1
    assert len(runs) == (1 if forward else 2)
    assert written == runs[-1]
    assert store.read(lambda tx: tx.calls.counts()) == {State.PENDING: 1}


@pytest.mark.parametrize("forward", [True, False])
def test_a_settlement_cut_at_its_commit_is_written_exactly_once(proxied, forward):
    """Whether the call succeeded at that moment tells whether the server heard of the commit."""
    store, proxy = proxied
    one = dispatched()
    store.write(lambda tx: tx.calls.insert(one))
    after = succeeded(one, at=NOW + 1)
    runs = []

    def work(tx):
        runs.append(tx.calls.replace(one, after))

    proxy.lose(b"COMMIT\0", forward=forward)
    store.write(work)
    assert proxy.cuts == 1
    assert runs == [True] * (1 if forward else 2)
    assert store.read(lambda tx: tx.calls.get(one.id)) == after


def test_success_at_another_moment_is_another_commits(ledger):
    """A call that somebody else found to have succeeded does not witness the commit it was for."""
    one = dispatched()
    ledger.write(lambda tx: tx.calls.insert(one))
    ledger.write(lambda tx: tx.calls.replace(one, succeeded(one, at=NOW + 1 / 3)))
    session = structs.replace(ledger._writer._session, pid=1)
    ours, theirs = (Witness(one.id, NOW + part / 3) for part in (1, 2))
    assert ledger._ask(Witnessed(session, ours)) == "committed"
    assert ledger._ask(Witnessed(session, theirs)) == "aborted"


def dispatched():
    return call(State.DISPATCHED, epoch=1, attempt=1, lease_until=NOW + 9)


def succeeded(one, *, at):
    done = {"outcome": Outcome.SUCCEEDED, "result": "1", "settled_at": at}
    return structs.replace(one, state=State.SUCCEEDED, **done)


def test_a_commit_nobody_can_tell_of_may_have_been_written(proxied):
    """When the server stays away after a cut commit, the error does not say nothing happened."""
    store, proxy = proxied
    store._timeouts = type(store._timeouts)(patience=0.0)
    proxy.lose(b"COMMIT\0", forward=True)
    proxy.refuses = True
    with pytest.raises(StoreUnavailable, match="may have been written") as caught:
        store.write(lambda tx: tx.calls.insert(call()))
    assert "nothing was written" not in str(caught.value)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="needs to be told of a socket's end")
def test_a_connection_that_had_ended_leaves_no_doubt(proxied, postgres_url):
    """Nothing was sent to a server that went away before."""
    store, proxy = proxied
    store._timeouts = type(store._timeouts)(patience=0.0)
    store.write(lambda tx: tx.calls.insert(call()))
    proxy.refuses = True
    end_connections(postgres_url)
    with socket.socket(fileno=os.dup(store._writer._raw.fileno())) as ends:
        for _ in range(1000):
            if ends.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT:
                break
            threading.Event().wait(0.01)
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        store.write(lambda tx: tx.calls.insert(call()))


def test_ended_connections_are_made_anew(ledger, postgres_url):
    """Writers and readers go on after the server ended their connections, and lose nothing."""
    failed = []

    def work():
        try:
            for _ in range(30):
                made = call()
                ledger.write(lambda tx, made=made: tx.calls.insert(made))
                assert ledger.read(lambda tx, made=made: tx.calls.get(made.id)) == made
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        end_connections(postgres_url)
    for thread in threads:
        thread.join()
    assert failed == []
    assert ledger.read(lambda tx: tx.calls.counts()) == {State.PENDING: 120}


def test_readers_take_turns(ledger):
    """However many threads read at once, a handful of connections is enough."""
    met = threading.Event()
    full = threading.Barrier(9, action=met.set)

    def read(tx):
        if not met.is_set():
            full.wait(30)
        return tx.calls.counts()

    threads = [threading.Thread(target=ledger.read, args=(read,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    full.wait(30)
    for thread in threads:
        thread.join(30)
    assert len(ledger._readers) == 8


def test_a_child_opens_connections_of_its_own(ledger):
    """A fork shares no socket: parent and child both go on writing."""
    ledger.read(lambda tx: tx.calls.counts())
    child = os.fork()
    if child == 0:
        try:
            ledger.write(lambda tx: tx.calls.insert(call(id="child")))
            os._exit(0)
        finally:
            os._exit(1)
    ledger.write(lambda tx: tx.calls.insert(call(id="parent")))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ledger.read(lambda tx: tx.calls.counts()) == {State.PENDING: 2}


def test_a_ledger_works_through_pgbouncer_in_transaction_mode(pgbouncer_url):
    """Nothing is left in a session, so connections may change hands after each transaction."""
    pair = [PostgresStore(pgbouncer_url), PostgresStore(pgbouncer_url)]

    def work(store, number):
        for step in range(20):
            made = call(key=f"{number}-{step}", held=True)
            store.write(lambda tx, made=made: tx.calls.insert(made), durable=step % 2 == 0)
            found = store.read(lambda tx, made=made: tx.calls.holder("pay", made.key))
            if found != made:
                lost.append(made)

    lost = []
    threads = [
        threading.Thread(target=work, args=(pair[number % 2], number)) for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert pair[0].read(lambda tx: tx.calls.counts()) == {State.PENDING: 120}
    for store in pair:
        store.close()


def test_nothing_is_prepared_on_a_server_that_pgbouncer_hands_around(pgbouncer_url):
    """The same statements many times on many connections, the ledger's and a user's that it joins,
    leave no prepared statement behind: the next transaction may be on another server."""
    stores = [PostgresStore(pgbouncer_url) for _ in range(3)]
    users = [psycopg.connect(plain(pgbouncer_url)) for _ in range(6)]
    for _ in range(8):
        for store in stores:
            store.write(lambda tx: tx.calls.insert(call()))
            store.read(lambda tx: tx.calls.counts())
        for pair in zip(users[::2], users[1::2], strict=True):  # each on a server of its own
            for user in pair:
                stores[0].join(user, lambda tx: tx.calls.insert(queued()), lambda: None)
            for user in pair:
                user.commit()
    for user in users:
        prepared = user.execute("SELECT count(*) FROM pg_prepared_statements", prepare=False)
        assert prepared.fetchone() == (0,)
        user.rollback()
    assert stores[0].read(lambda tx: tx.calls.counts()) == {State.PENDING: 8 * (3 + 6)}
    for one in (*stores, *users):
        one.close()


def test_errors_name_the_database_and_never_the_password(postgres_url):
    """A wrong name, password or port is said with the remedy, by the store and by db status."""
    parts = urlsplit(postgres_url)
    wrong = {
        "createdb": (parts._replace(path="/missing"), ConfigurationError),
        "check the credentials": (
            parts._replace(netloc=parts.netloc.replace(parts.password, "hunter2")),
            StoreUnavailable,
        ),
        "Check that it runs": (
            parts._replace(netloc=parts.netloc.replace(str(parts.port), "1")),
            StoreUnavailable,
        ),
    }
    for remedy, (url, kind) in wrong.items():
        for ask in (
            lambda url: open_store(parse(url)).read(lambda tx: tx.calls.counts()),
            status,
        ):
            with pytest.raises(kind, match=remedy) as caught:
                ask(urlunsplit(url))
            assert "127.0.0.1" in str(caught.value)
            assert "hunter2" not in str(caught.value)
            assert parts.password not in str(caught.value)


def test_a_statement_that_failed_silently_is_no_commit(ledger):
    """Work that swallows the database's error is not told that its writes are there."""

    def work(tx):
        made = call()
        tx.calls.insert(made)
        try:
            tx.calls.insert(made)
        except Exception:
            return "fine"

    with pytest.raises(StoreError, match="took a transaction back"):
        ledger.write(work)
    assert ledger.read(lambda tx: tx.calls.counts()) == {}


def test_a_job_written_elsewhere_is_heard_at_once(ledger, postgres_url):
    """Who listens hears of a job that another process wrote, also after its connection broke."""
    heard = threading.Semaphore(0)
    stop = ledger.listen(lambda _: heard.release()).end
    other = PostgresStore(postgres_url)
    try:
        assert heard.acquire(timeout=10)  # it listens
        other.write(lambda tx: tx.calls.insert(queued()))
        assert heard.acquire(timeout=10)
        end_connections(postgres_url)
        assert heard.acquire(timeout=10)  # it listens again
        other.write(lambda tx: tx.calls.insert(queued()))
        assert heard.acquire(timeout=10)
        other.write(lambda tx: tx.calls.insert(call(State.DISPATCHED)))
        switch = Control(name="halt:pay", actor="ann", reason="a test", set_at=0.0)
        other.write(lambda tx: tx.controls.put(switch))
        assert not heard.acquire(blocking=False)
        assert other.write(lambda tx: tx.controls.clear("halt:pay"))
        assert heard.acquire(timeout=10)
    finally:
        stop()
        other.close()


def test_who_listens_is_told_where_a_job_is_due(ledger, postgres_url):
    """The queue by its name, whatever that is; nothing of jobs that fall due later, or too much."""
    heard = queue.Queue()
    stop = ledger.listen(heard.put).end
    other = PostgresStore(postgres_url)
    odd, late = "it's 100 % \\ \u00e9", queued(run_at=2_000_000_000.0, created_at=1_000_000_000.0)
    many = [queued(queue=f"{number}") for number in range(9)]
    try:
        assert heard.get(timeout=10) is None  # it listens
        other.write(lambda tx: tx.calls.insert(queued(queue=odd)))
        assert heard.get(timeout=10) == odd
        other.write(lambda tx: tx.calls.insert(late))
        assert heard.get(timeout=10) is None
        other.write(lambda tx: tx.calls.insert_many([*many[:2], late_like(late)]))
        assert [heard.get(timeout=10) for _ in range(3)] == [None, "0", "1"]
        long = queued(queue="long" * 999)
        for jobs in ([*many[2:], queued(queue="a"), queued(queue="b")], [long]):
            other.write(lambda tx, jobs=jobs: tx.calls.insert_many(jobs))
            assert heard.get(timeout=10) is None
        assert heard.empty()
    finally:
        stop()
        other.close()


def late_like(one):
    return structs.replace(one, id=queued().id)


def test_a_session_is_ended_before_an_absence_is_believed(ledger, monkeypatch):
    """What it was sent and has not begun would be written later; it gets a moment for that."""
    writer = ledger._writer
    made = [call() for _ in range(2)]
    ledger.write(lambda tx: tx.calls.insert(made[0]))
    here, gone = (Witnessed(writer._session, Witness(one.id)) for one in made)
    assert ledger._ask(here) == "committed"
    assert writer._raw.execute("SELECT 1").fetchone() == (1,)
    assert ledger._ask(gone) == "in progress"
    assert writer._raw.execute("SELECT 1").fetchone() == (1,)
    monkeypatch.setattr("gonogo.store.postgres_fate.SILENCE", 0.0)
    assert ledger._ask(gone) == "in progress"
    with pytest.raises(psycopg.OperationalError):
        writer._raw.execute("SELECT 1")
    for _ in range(1000):
        if ledger._ask(gone) != "in progress":
            break
    assert ledger._ask(gone) == "aborted"
    assert ledger._ask(structs.replace(here, session=gone.session)) == "committed"


def test_a_session_that_acts_as_another_role_is_not_taken_for_gone(postgres_server, postgres_url):
    """The server does not tell such a role of its own session: its absence there proves nothing."""
    worker = postgres_server.role("worker")
    login, owner = worker.partition(":")[0], f"owner_{os.getpid()}"
    execute(
        postgres_url,
        f"CREATE ROLE {owner}",
        f"GRANT {owner} TO {login}",
        f"GRANT ALL ON SCHEMA public TO {owner}",
    )
    store = PostgresStore(f"{logged_in(postgres_url, worker)}?options=-crole%3D{owner}")
    traces, commit = [], Connection._commit

    def ask_and_commit(connection, batch, trace):
        traces.append((trace, store._ask(trace)))
        commit(connection, batch, trace)

    try:
        store.write(lambda tx: None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "_commit", ask_and_commit)
            store.write(lambda tx: tx.calls.insert(call()))
        assert [type(trace) for trace, _ in traces] == [Numbered]
        assert [said for _, said in traces] == ["in progress"]
        session = structs.replace(store._writer._session, began="1.0")
        assert store._ask(Witnessed(session, Witness(call().id))) == "in progress"
    finally:
        store.close()
        execute(postgres_url, f"DROP OWNED BY {owner}", f"DROP ROLE {owner}")


def test_an_absence_is_no_proof_for_long(proxied):
    """A call that is looked for late may have been written, carried out and forgotten."""
    store, proxy = proxied
    store._clock = FakeClock()
    proxy.lose(b"COMMIT\0", forward=False)

    def work(tx):
        store._clock.advance(61)
        tx.calls.insert(call())

    with pytest.raises(StoreUnavailable, match="may have been written"):
        store.write(work)


def test_polling_is_said_once_and_so_is_its_end(proxied, postgres_url, caplog):
    """However often it fails to listen, the log has one line; another one when it hears again."""
    store, proxy = proxied
    heard, waited = threading.Semaphore(0), threading.Semaphore(0)
    secret = store._url.password
    listener = Listener(store._url, 2.0, lambda _: heard.release())
    wait = listener._over.wait
    listener._over.wait = lambda _: waited.release() or wait(0.01)
    try:
        assert heard.acquire(timeout=10)
        proxy.refuses = True
        end_connections(postgres_url)
        for _ in range(3):
            assert waited.acquire(timeout=10)
        proxy.refuses = False
        assert heard.acquire(timeout=10)
        assert listener._after == 0.5  # seconds: the next outage begins with short pauses again
    finally:
        listener.end()
    polls, hears = [record.getMessage() for record in caplog.records]
    assert "it polls for them: " in polls
    assert "is told of new jobs" in hears
    assert str(store._url.port) in polls
    assert secret not in polls + hears


def test_behind_pgbouncer_nobody_listens(pgbouncer_url, caplog):
    """The thread says so and ends by itself, and stopping it is no error."""
    store = PostgresStore(pgbouncer_url)
    heard = []
    listener = Listener(store._url, 10.0, heard.append)
    listener._thread.join(20)
    assert not listener._thread.is_alive()
    listener.end()
    assert heard == []
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "PgBouncer is in between"
    ]
    store.close()


def test_the_clock_check_compares_with_the_database(postgres_url, monkeypatch):
    """Minutes are corrected and told; a day means that a clock is broken: NO-GO."""
    off = 180.0
    time = PostgresStore.time
    monkeypatch.setattr(PostgresStore, "time", lambda store: time(store) + off)
    for off, sound in ((180.0, True), (-180.0, True), (100_000.0, False)):
        sandbox = SandboxOrchestrator(postgres_url)
        try:
            found, said = sandbox.checks.clock_is_sound()
            assert found is sound
            assert ("behind" if off > 0 else "ahead of") in said
            assert sandbox.clock.skew() == pytest.approx(off, abs=2.0)
        finally:
            sandbox.cleanup()


def test_a_database_set_back_is_no_go(postgres_url, monkeypatch):
    """After a fail-over to a server that is behind, nothing runs until it has caught up."""
    sandbox = SandboxOrchestrator(postgres_url)
    try:
        assert sandbox.checks.clock_is_sound()[0]
        there = sandbox.store.time()
        monkeypatch.setattr(sandbox.store, "time", lambda: there - 60)
        sandbox.clock.refresh()
        sound, said = sandbox.checks.clock_is_sound()
        assert not sound
        assert "set back" in said
    finally:
        sandbox.cleanup()


def test_a_sandbox_works_on_postgresql(postgres_url):
    """Enqueued by one orchestrator, done once by the worker of another."""
    done, over = [], threading.Event()

    def make():
        sandbox = SandboxOrchestrator(postgres_url, dry_run=False)

        @sandbox.action("pay", key="pay:{number}", irreversible=False)
        def pay(number: int) -> int:
            done.append(number)
            if len(done) == 5:
                over.set()
            return number

        return sandbox, pay

    (here, pay), (there, _) = make(), make()
    try:
        there.worker.start()
        for number in (1, 2, 3, 4, 5, 5):
            pay.enqueue(number)
        assert over.wait(20)
        assert sorted(done) == [1, 2, 3, 4, 5]
    finally:
        there.worker.stop()
        for sandbox in (here, there):
            sandbox.cleanup()


def test_a_missing_driver_is_said_with_its_remedy(monkeypatch):
    """Without psycopg the error names what to install."""
    monkeypatch.setitem(sys.modules, "gonogo.store.postgres", None)
    with pytest.raises(ConfigurationError, match=r'pip install "gonogo\[postgres\]"'):
        open_store(parse("postgresql://ops@127.0.0.1/ledger"))


def test_an_alert_that_is_raised_again_while_it_closes_stays_open(
    ledger: PostgresStore, postgres_url: str
) -> None:
    """Another process may commit a failure after this one has looked whether there is one."""
    other = PostgresStore(postgres_url)
    first, second = AlertSystem(store=ledger), AlertSystem(store=other)
    first.alert("pay", "failed")
    looks: list[bool] = []

    def fails_meanwhile(tx: Transaction, alert: Alert) -> bool:
        looks.append(False)
        if len(looks) == 2:  # in the transaction that would resolve it
            second.alert("pay", "failed", patience=0)
        return False

    first.close("pay", "failed", by="gonogo", why="it is over", lasts=fails_meanwhile)
    assert [(a["state"], a["count"]) for a in first.alerts] == [("open", 2)]
    first.close("pay", "failed", by="gonogo", why="it is over", lasts=lambda *_: False)
    assert [(a["state"], a["count"]) for a in first.alerts] == [("resolved", 2)]
    other.close()
