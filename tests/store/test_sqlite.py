"""What only a SQLite file has: other processes, a disk, a schema, power."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from tests.store.making import NOW, call, charge, queued
from tests.store.together import together

import gonogo
from gonogo.errors import ConfigurationError, SchemaError, StoreUnavailable
from gonogo.records import State
from gonogo.store.engines import make_engine
from gonogo.store.group import Job
from gonogo.store.revisions import REVISION, REVISIONS
from gonogo.store.sqlite import SqliteStore
from gonogo.store.upgrade import status, upgrade


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def url(file) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def store(url):
    made = SqliteStore(url, busy_timeout=0.05)
    yield made
    made.close()


def counts(store):
    return store.read(lambda tx: tx.calls.counts())


def insert(store, **fields):
    store.write(lambda tx: tx.calls.insert(call(**fields)))


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process that runs ``code`` on this gonogo."""
    paths = [str(Path(gonogo.__file__).parents[1]), str(Path(__file__).parents[2])]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


RACE = """
    import sys
    from gonogo.store.sqlite import SqliteStore
    from tests.store.making import NOW, call, charge

    store = SqliteStore(sys.argv[1], busy_timeout=60)
    print("ready", flush=True)
    sys.stdin.readline()

    def admit(tx, key):
        if tx.calls.holder("pay", key) is not None:
            return 0
        tx.calls.insert(call(id=f"{sys.argv[2]}-{key}", key=key, held=True))
        return 1

    def claim(tx):
        found = tx.calls.claim(owner="w", queues=["q"], now=NOW, lease_until=NOW, limit=1)
        return [c.id for c in found]

    won = sum(store.write(lambda tx, k=key: admit(tx, str(k))) for key in range(40))
    taken = 0
    for _ in range(40):
        held = store.write(lambda tx: tx.limits.reserve([charge(most=50)], NOW))
        taken += isinstance(held, tuple)
    ids = []
    while found := store.write(claim):
        ids += found
    store.close()
    print(won, taken, ",".join(ids), flush=True)
"""


@pytest.mark.faults
def test_processes_share_keys_limits_and_queue(url, file):
    """Two processes that even create the file at once: each key, unit and call goes to one."""
    racers = [python(RACE, url, name) for name in "ab"]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    queue = [queued(queue="q", run_at=NOW - 1, id=f"job-{n}") for n in range(30)]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    filler = SqliteStore(url, busy_timeout=60)
    filler.write(lambda tx: tx.calls.insert_many(queue))
    answers = [racer.communicate(timeout=60)[0].split(" ") for racer in racers]
    ids = [job for answer in answers for job in answer[2].strip().split(",") if job]
    left = filler.write(
        lambda tx: tx.calls.claim(owner="f", queues=["q"], now=NOW, lease_until=NOW, limit=99)
    )
    filler.close()
    assert sum(int(answer[0]) for answer in answers) == 40
    assert sum(int(answer[1]) for answer in answers) == 50
    assert sorted(ids + [job.id for job in left]) == sorted(job.id for job in queue)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.faults
def test_a_killed_writer_leaves_all_or_nothing(url):
    """SIGKILL in the middle of a transaction leaves what was committed before, and only that."""
    code = """
        import sys
        from gonogo.store.sqlite import SqliteStore
        from tests.store.making import call

        store = SqliteStore(sys.argv[1])
        store.write(lambda tx: tx.calls.insert(call(id="whole")))

        def half(tx):
            tx.calls.insert_many([call(id=f"half-{n}") for n in range(500)])
            print("in the middle", flush=True)
            sys.stdin.readline()

        store.write(half)
    """
    victim = python(code, url)
    assert victim.stdout.readline() == "in the middle\n"
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=30)
    survivor = SqliteStore(url)
    assert counts(survivor) == {State.PENDING: 1}
    insert(survivor)
    survivor.close()


@pytest.mark.faults
def forked(in_the_child) -> multiprocessing.Process:
    return multiprocessing.get_context("fork").Process(target=in_the_child, daemon=True)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_waits_for_the_work_under_way(store):
    """A child forked while a thread writes is not stuck behind a lock that only its parent had."""
    insert(store)
    entered = threading.Event()

    def slow(tx):
        entered.set()
        threading.Event().wait(0.2)
        tx.calls.insert(call(id="parent"))

    def in_the_child():
        insert(store, id="child")
        store.close()

    writing = threading.Thread(target=store.write, args=(slow,))
    writing.start()
    assert entered.wait(30)
    child = forked(in_the_child)
    child.start()
    child.join(30)
    writing.join(30)
    insert(store)
    assert child.exitcode == 0
    assert counts(store) == {State.PENDING: 4}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_parent_and_child_see_that_the_other_has_it_open(store):
    """The parent that closes does not take the log from under a child that still writes."""
    insert(store)
    context = multiprocessing.get_context("fork")
    opened, closed = context.Event(), context.Event()

    def in_the_child():
        insert(store, id="child-1")
        opened.set()
        assert closed.wait(30)
        insert(store, id="child-2")
        os._exit(0)

    child = forked(in_the_child)
    child.start()
    assert opened.wait(30)
    store.close()
    closed.set()
    child.join(30)
    assert child.exitcode == 0
    assert counts(store) == {State.PENDING: 3}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_inside_a_transaction_refuses(store):
    """Whoever forks inside of work cannot wait for it to end; the child says so, and no more."""

    def in_the_child():
        with pytest.raises(StoreUnavailable, match="forked while the ledger"):
            insert(store, id="child")
        os._exit(0)

    def forks(tx):
        child = forked(in_the_child)
        child.start()
        child.join(30)
        return child.exitcode

    assert store.write(forks) == 0
    insert(store)


@pytest.mark.parametrize("then", [Path.unlink, lambda path: path.rename(path.with_suffix(".old"))])
def test_a_file_that_was_taken_away_is_not_written_to(store, file, url, then):
    """Nobody else would see what is written there, so a key could be taken twice."""
    insert(store)
    then(file)
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        insert(store)
    other = SqliteStore(url)
    insert(other)
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        insert(store)
    store.close()  # what a new start would do
    insert(store)
    assert counts(other) == {State.PENDING: 2}
    other.close()


def test_work_that_waits_shares_a_commit(store, monkeypatch):
    """Writes that come while another commits are committed together."""
    from gonogo.store.sqlite_connection import Connection

    sizes, entered, go = [], threading.Event(), threading.Event()
    commit = Connection.commit

    def spy(connection, batch):
        sizes.append(len(batch))
        commit(connection, batch)

    monkeypatch.setattr(Connection, "commit", spy)

    def slow(tx):
        entered.set()
        assert go.wait(30)

    def fail(tx):
        tx.calls.insert(call())
        raise LookupError

    def failing():
        with pytest.raises(LookupError):
            store.write(fail)

    threads = [threading.Thread(target=lambda: store.write(slow))]
    threads[0].start()
    assert entered.wait(30)
    targets = [failing, *[lambda: insert(store)] * 4]
    threads += [threading.Thread(target=target) for target in targets]
    for thread in threads[1:]:
        thread.start()
    while len(store._group._waiting) < 5:
        threading.Event().wait(0.001)
    go.set()
    for thread in threads:
        thread.join(30)
    assert sizes == [1, 5]
    assert counts(store) == {State.PENDING: 4}


def test_durable_work_is_committed_to_the_disk(store):
    """synchronous is FULL for durable work, NORMAL for other, in a file with a write-ahead log."""

    def pragma(name):
        return store._writer._raw.execute(f"PRAGMA {name}").fetchone()[0]

    def levels(durable):
        return store.write(lambda tx: pragma("synchronous"), durable=durable)

    full, normal = 2, 1
    assert [levels(True), levels(False), levels(True)] == [full, normal, full]
    assert (pragma("journal_mode"), pragma("foreign_keys")) == ("wal", 1)


def test_an_insert_says_nothing_of_what_is_null(store):
    """The driver takes longer for a `None` than for a value: it looks for one who adapts it."""
    said = []
    store._open_writer()._raw.set_trace_callback(said.append)
    made = call(key="k", held=True)
    store.write(lambda tx: tx.calls.insert(made))
    (insert,) = (words for words in said if words.startswith("INSERT"))
    assert "NULL" not in insert
    assert store.read(lambda tx: tx.calls.get(made.id)) == made


def test_reads_do_not_wait_for_a_writer(store):
    """A reader sees the last committed state while a write is under way."""
    insert(store)
    entered, go = threading.Event(), threading.Event()

    def slow(tx):
        tx.calls.insert(call())
        entered.set()
        assert go.wait(30)

    writer = threading.Thread(target=lambda: store.write(slow))
    writer.start()
    assert entered.wait(30)
    during = counts(store)
    go.set()
    writer.join(30)
    assert (during, counts(store)) == ({State.PENDING: 1}, {State.PENDING: 2})


def test_a_read_is_one_snapshot(store):
    """What is written during a read is not seen by it."""
    insert(store)

    def read(tx):
        first = tx.calls.counts()
        writer = threading.Thread(target=lambda: insert(store))
        writer.start()
        writer.join(30)
        return first, tx.calls.counts()

    assert store.read(read) == ({State.PENDING: 1}, {State.PENDING: 1})


def test_closing_leaves_one_file(store, file):
    """After close there is the database and nothing beside it."""
    insert(store)
    counts(store)
    store.close()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_engine_may_be_given(url, file):
    """A store takes the database of an engine, whose users' tables live beside the ledger."""
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE mine (n INTEGER)")
    store = SqliteStore(engine)
    insert(store)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM gonogo_calls").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM mine").scalar() == 0
    engine.dispose()
    store.close()


def test_another_database_is_refused():
    """A URL of another kind of database is a configuration error."""
    with pytest.raises(ConfigurationError):
        SqliteStore("postgresql://db/x")


# --- faults: a clear error each, and nothing written ---------------------------------------------


def refused(store, match):
    with pytest.raises(StoreUnavailable, match=match):
        insert(store)


def test_a_missing_directory(tmp_path):
    """A file in a directory that is not there cannot be opened, and the error says so."""
    refused(SqliteStore(f"sqlite:///{tmp_path}/no/ledger.db"), "directory must exist")


def test_a_directory_instead_of_a_file(tmp_path):
    """A path that is a directory cannot be opened."""
    refused(SqliteStore(f"sqlite:///{tmp_path}"), "must not be a directory")


def test_a_file_that_is_no_database(store, file):
    """Text is not a database."""
    file.write_text("dear diary, " * 200)
    refused(store, "not a SQLite database")
    assert file.read_text().startswith("dear diary")


def test_a_damaged_database(store, file):
    """A database whose pages are overwritten is reported as damaged."""
    for _ in range(200):
        insert(store, args="x" * 500)
    store.close()
    content = bytearray(file.read_bytes())
    content[8192:] = b"\xa5" * len(content[8192:])
    file.write_bytes(bytes(content))
    refused(store, "damaged|not a SQLite database")


def test_a_read_only_database(store, file):
    """A ledger that may only be read is readable, and a write says what is missing."""
    insert(store)
    store.close()
    only = SqliteStore(f"sqlite:///file:{file}?mode=ro&uri=true")
    assert counts(only) == {State.PENDING: 1}
    refused(only, "read-only")
    only.close()


def test_a_locked_database(store, url):
    """While another connection holds the lock, a write gives up after the busy timeout."""
    insert(store)
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused(store, "locked by another process")
    assert counts(store) == {State.PENDING: 1}
    other.execute("ROLLBACK")
    insert(store)
    other.close()


def test_a_full_disk(store):
    """Without room the write fails as a whole; with room again it works."""
    insert(store)
    raw = store._writer._raw
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.execute(f"PRAGMA max_page_count = {pages}")

    def much(tx):
        tx.calls.insert_many([call(args="x" * 5_000) for _ in range(50)])

    with pytest.raises(StoreUnavailable, match="no room left"):
        store.write(much)
    assert counts(store) == {State.PENDING: 1}
    raw.execute("PRAGMA max_page_count = 1000000")
    store.write(much)
    assert counts(store) == {State.PENDING: 51}


def test_a_transaction_given_up_by_sqlite_fails_everybody_in_it(store):
    """When SQLite ends the transaction by itself, nobody in it is told that work was kept."""
    insert(store)
    raw = store._writer._raw

    def lose(tx):
        raw.execute("ROLLBACK")  # as SQLite does on some disk errors
        raise StoreUnavailable("disk trouble")

    kept, lost = Job(lambda tx: tx.calls.insert(call(id="kept")), True), Job(lose, True)
    with pytest.raises(StoreUnavailable, match="disk trouble"):
        store._writer.commit([kept, lost, kept])
    assert counts(store) == {State.PENDING: 1}


# --- the schema ----------------------------------------------------------------------------------


def edit(file, statement):
    raw = sqlite3.connect(file)
    raw.execute(statement)
    raw.commit()
    raw.close()


def test_a_new_database_gets_the_newest_schema(url):
    """upgrade creates the ledger; status says where a database is, before and after."""
    before = status(url)
    assert (before.current, before.head, before.pending) == (None, REVISION, REVISIONS)
    after = upgrade(url)
    assert (after.current, after.pending, after.applied) == (REVISION, (), REVISIONS)
    assert upgrade(url) == status(url)
    assert status(url).applied == ()


def test_a_newer_schema_is_refused(store, file):
    """A ledger made by a newer gonogo is not touched."""
    insert(store)
    store.close()
    edit(file, "UPDATE gonogo_alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="newer gonogo"):
        insert(store)
    with pytest.raises(SchemaError, match="newer gonogo"):
        upgrade(f"sqlite:///{file}")


@pytest.mark.parametrize(
    "damage", ["DROP TABLE gonogo_alembic_version", "DELETE FROM gonogo_alembic_version"]
)
def test_half_a_schema_is_refused(store, file, damage):
    """Tables without their version are not guessed at."""
    insert(store)
    store.close()
    edit(file, damage)
    with pytest.raises(SchemaError, match="by half"):
        insert(store)


@pytest.mark.faults
def test_opening_what_is_there_needs_no_alembic(url):
    """Only the creation of a ledger imports the migration tool."""
    upgrade(url)
    code = """
        import sys
        from gonogo.store.sqlite import SqliteStore

        store = SqliteStore(sys.argv[1])
        store.write(lambda tx: tx.calls.counts())
        store.close()
        print("alembic" in sys.modules, flush=True)
    """
    assert python(code, url).communicate(timeout=30)[0] == "False\n"


# --- speed that comes from the plan and not from the machine -------------------------------------


@pytest.mark.parametrize(
    ("build", "shape", "index"),
    [
        ("call_by_key", (), "gonogo_held_key"),
        ("due_groups", (1,), "(queue=? AND action=? AND priority>?)"),
        ("due_groups", (1,), "(queue=? AND action>?)"),
        ("due_in_group", (), "(queue=? AND action=? AND priority=? AND run_at<?)"),
        ("calls_in_lane", (), "gonogo_lane"),
        ("forgettable_calls", (), "gonogo_forgettable"),
        ("expired_calls", (), "gonogo_lease"),
        ("doubtful_calls", (), "gonogo_doubt"),
        ("overdue_calls", (), "gonogo_deadline"),
        ("lapsed_calls", (), "gonogo_expiry"),
        ("calls_waiting_on", (), "gonogo_after"),
        ("is_awaited", (), "gonogo_after"),
        ("next_run_at", (2,), "gonogo_next (queue=?)"),
        ("backlog", (), "gonogo_next"),
        ("calls_of_plan", (), "gonogo_plan_calls"),
        ("find_calls", (("action", "before"), 2), "gonogo_action (action=? AND id<?)"),
        ("find_calls", ((), 2, True), "gonogo_state (state=?)"),
        ("find_calls", (("key",), 0), "gonogo_held_key (key=?)"),
        ("find_calls", (("key",), 0), "gonogo_key (key=?)"),
        ("find_calls", (("correlation_id",), 0), "gonogo_correlation (correlation_id=?)"),
        ("call_by_key", (), "gonogo_held_key (key=? AND action=?)"),
        ("find_calls", (("action", "before"), 1, True), "gonogo_state (state=? AND id<?)"),
        ("unresolved_alert", (), "gonogo_unresolved"),
        ("sweep_limits", (), "gonogo_limits_idle"),
    ],
)
def test_hot_questions_use_their_index(store, build, shape, index):
    """Each hot statement is answered from its own index, however long the history is."""
    from gonogo.store import statements

    insert(store)
    text = store._texts.text(getattr(statements, build), *shape)
    asked = text.placed(Nulls())
    plan = store._writer._raw.execute(f"EXPLAIN QUERY PLAN {text}", asked).fetchall()
    assert any(index in row[3] for row in plan), plan
    assert not any("SCAN gonogo_calls" in row[3] for row in plan), plan


@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO gonogo_calls (id) VALUES ('a')",
        "UPDATE gonogo_calls SET state = 'b', held = 0, lane = 'c', lease_until = 0",
        "DELETE FROM gonogo_calls WHERE id = 'a'",
    ],
)
def test_a_write_makes_no_table_for_the_condition_of_an_index(store, write):
    """A list in such a condition would be made into a table of its own for every row."""
    insert(store)
    done = [step[1] for step in store._writer._raw.execute(f"EXPLAIN {write}")]
    assert "IdxInsert" in done or "IdxDelete" in done
    assert "OpenEphemeral" not in done


class Nulls(dict):
    """Every parameter a statement may ask for, as NULL."""

    def __missing__(self, name: str) -> None:
        return None


def test_claims_of_every_size_share_a_few_statements(store, monkeypatch):
    """How many calls are claimed at once seldom asks for a statement that was not compiled yet."""
    store.write(lambda tx: tx.calls.insert_many([queued(queue="q") for _ in range(36)]))
    texts = set()
    text = store._texts.text

    def spy(build, *shape):
        texts.add(text(build, *shape))
        return text(build, *shape)

    monkeypatch.setattr(store._texts, "text", spy)

    def claim(size):
        wanted = {"owner": "w", "queues": ["q"], "now": NOW, "lease_until": NOW, "limit": size}
        return store.write(lambda tx: tx.calls.claim(**wanted))

    assert [len(claim(size)) for size in range(1, 9)] == [*range(1, 9)]
    assert len([each for each in texts if each.startswith("UPDATE")]) == 4


def test_a_limit_is_one_row(store):
    """However much is used, a limit is one short row."""
    for tick in range(300):
        store.write(
            lambda tx, t=tick: tx.limits.reserve([charge(most=10**9, cost=1000)], NOW + t),
            durable=False,
        )
    rows = store._writer._raw.execute("SELECT buckets FROM gonogo_limits").fetchall()
    assert len(rows) == 1
    assert len(rows[0][0]) < 61 * 30


def test_limits_that_are_over_are_swept(store):
    """Rows of keys nobody uses any more go as new ones come, so the table stays short."""
    for number in range(100):
        store.write(
            lambda tx, n=number: tx.limits.reserve([charge(f"k{n}", window=1.0)], NOW + n * 10),
            durable=False,
        )
    rows = store._writer._raw.execute("SELECT count(*) FROM gonogo_limits").fetchone()[0]
    assert rows <= 2


@pytest.mark.parametrize("heard", [True, False])
def test_an_interrupted_commit_is_not_written_twice(store, heard):
    """Ctrl-C at a shared commit is the leader's alone; the others' work is written once."""
    runs = []

    class Interrupting:
        def __init__(self, raw):
            self._raw = raw

        def __getattr__(self, name):
            return getattr(self._raw, name)

        def commit(self):
            store._writer._raw = self._raw
            if heard:
                self._raw.commit()
            raise KeyboardInterrupt

    def work(tx):
        runs.append(1)
        if len(runs) == 1:
            store._writer._raw = Interrupting(store._writer._raw)
        tx.calls.insert(call())
        return len(runs)

    first, *others = together(store, [work, work, work])
    assert isinstance(first, KeyboardInterrupt)
    assert others == ([2, 3] if heard else [4, 5])
    assert counts(store) == {State.PENDING: 3 if heard else 2}
