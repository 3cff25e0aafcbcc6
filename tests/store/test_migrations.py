"""Migrations: what they build is what the tables declare, on every database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, Text, insert, inspect, text
from tests.store.making import call
from tests.support.postgres import plain
from tests.support.program import Program

from gonogo.errors import SchemaError, StoreUnavailable
from gonogo.records import State
from gonogo.store import open_store
from gonogo.store.engines import BEGIN, make_engine
from gonogo.store.indexes import metadata, version
from gonogo.store.revisions import REVISION, REVISIONS, VERSION_TABLE
from gonogo.store.upgrade import LOCK, status, upgrade
from gonogo.store.urls import parse


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path) -> str:
    """A database without a ledger, of each kind."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path}/ledger.db"


def difference(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, metadata)


INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL",
    "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
}


def indexes(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        found = connection.execute(text(INDEXES[engine.dialect.name])).all()
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in found}


def columns(engine: Engine) -> dict[tuple[str, str], tuple[object, ...]]:
    """What is known of each column: type, nullable, default, place in the primary key."""
    inspector = inspect(engine)
    return {
        (table, column["name"]): (
            str(column["type"]),
            column["nullable"],
            str(column["default"]),
            column["name"] in inspector.get_pk_constraint(table)["constrained_columns"],
        )
        for table in inspector.get_table_names()
        for column in inspector.get_columns(table)
    }


@pytest.fixture
def other(url, request, tmp_path) -> Iterator[str]:
    """Another such database, of the same kind."""
    if not url.startswith("postgresql"):
        yield f"sqlite:///{tmp_path}/other.db"
        return
    with request.getfixturevalue("postgres_server").database() as made:
        yield made


def test_a_new_ledger_is_like_one_that_the_migrations_made(url, other):
    """Tables, columns, defaults and every index, conditions included, and they are as declared."""
    upgrade(url)
    for revision in REVISIONS:
        upgrade(other, to=revision)
    made, migrated = make_engine(url), make_engine(other)
    try:
        assert indexes(made) == indexes(migrated)
        assert columns(made) == columns(migrated)
        assert len(columns(made)) > 50
        assert difference(made) == difference(migrated) == []
    finally:
        made.dispose()
        migrated.dispose()


def test_an_upgrade_is_done_once(url):
    """What is at the newest revision is left as it is."""
    assert status(url).current is None
    assert upgrade(url).applied == REVISIONS
    assert upgrade(url).applied == ()
    assert status(url).pending == ()


def test_asking_for_the_status_makes_no_file(tmp_path):
    """Where there is no file there is no ledger, and asking does not make one."""
    found = status(f"sqlite:///{tmp_path}/ledger.db")
    assert (found.current, found.head) == (None, REVISION)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ask", [status, upgrade])
def test_a_database_out_of_reach_is_said_in_the_stores_words(ask, tmp_path):
    """What a driver raises reaches nobody: the error names the database and the remedy."""
    (tmp_path / "junk.db").write_text("not a database, and longer than its header " * 9)
    with pytest.raises(StoreUnavailable, match="its directory must exist"):
        ask(f"sqlite:///{tmp_path}/missing/ledger.db")
    with pytest.raises(StoreUnavailable, match="is not a SQLite database"):
        ask(f"sqlite:///{tmp_path}/junk.db")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1.*Check that it runs") as refused:
        ask("postgresql://ops:hunter2@127.0.0.1:1/ledger")
    assert "hunter2" not in str(refused.value)


def test_a_database_may_hold_other_tables(tmp_path):
    """Tables of others are neither taken for a ledger nor touched."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    upgrade(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "theirs"
    engine.dispose()


def test_a_failed_migration_leaves_nothing(tmp_path, monkeypatch):
    """When a migration fails half-way, the database is as before and can be upgraded later."""
    from alembic import op

    url = f"sqlite:///{tmp_path}/ledger.db"
    upgrade(url, to=REVISIONS[0])

    def fail(name: str, *columns: object, **options: object) -> object:
        raise OSError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_table", fail)
        with pytest.raises(OSError, match="power cut"):
            upgrade(url)
    assert status(url).current == REVISIONS[0]
    assert upgrade(url).current == REVISION


def test_a_ledger_that_is_not_made_to_its_end_is_not_there(url, monkeypatch):
    """When it fails half-way there is nothing, and it can be made later."""
    with monkeypatch.context() as patched:
        patched.setattr(version, "name", "gonogo_calls")
        with pytest.raises(StoreUnavailable):
            upgrade(url)
    assert status(url).current is None
    assert upgrade(url).current == REVISION


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_an_older_ledger_keeps_all_that_is_in_it(url, revision):
    """From every earlier revision: each row of each table is there, and the store can read it."""
    upgrade(url, to=revision)
    assert status(url).pending == REVISIONS[REVISIONS.index(revision) + 1 :]
    kept = fill(url)
    assert len(kept) >= 9
    assert upgrade(url).pending == ()
    assert {name: row.items() <= read(url, name).items() for name, row in kept.items()} == (
        dict.fromkeys(kept, True)
    )
    store = open_store(parse(url))
    store.write(lambda tx: tx.calls.insert(call(id="new")))
    old, counts = store.read(lambda tx: (tx.calls.get("its id"), tx.calls.counts()))
    store.close()
    assert (old.state, old.key, old.run_at) == (State.SUCCEEDED, "its key", 7.0)
    assert counts == {State.SUCCEEDED: 1, State.PENDING: 1}


def fill(url: str) -> dict[str, dict[str, object]]:
    """One row in each table of a ledger of any revision; the rows by their tables."""
    words = {"state": "succeeded", "args": "{}", "outcome": "succeeded", "fault": None}
    words |= dict.fromkeys(("reservations", "slots"), "[]") | dict.fromkeys(("result", "facts"))
    engine, rows = make_engine(url), {}
    found = MetaData()
    with engine.begin() as connection:
        found.reflect(connection)
        for table in found.sorted_tables:
            if table.name == VERSION_TABLE:
                continue
            row = {
                column.name: words.get(column.name, f"its {column.name}")
                if isinstance(column.type, Text)
                else column.type.python_type(7)
                for column in table.columns
            }
            connection.execute(insert(table).values(row))
            rows[table.name] = row
    engine.dispose()
    return rows


def read(url: str, table: str) -> dict[str, object]:
    """The only row of a table."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return dict(connection.execute(text(f"SELECT * FROM {table}")).mappings().one())
    finally:
        engine.dispose()


@pytest.mark.parametrize("revision", [None, REVISIONS[0]])
def test_processes_that_upgrade_at_once(url, revision, tmp_path):
    """All end well, one of them did it, and the ledger has kept what was in it."""
    if revision is not None:
        upgrade(url, to=revision)
        fill(url)
    gonogo = Program(tmp_path, None)
    with held_up(url):
        running = [gonogo.start("db", "upgrade", "--url", url, "--json") for _ in range(3)]
        if url.startswith("postgresql"):
            until_waiting(url, running)
    applied = []
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert json.loads(out)["pending"] == []
        applied += json.loads(out)["applied"]
    assert applied == list(REVISIONS if revision is None else REVISIONS[1:])
    assert read(url, VERSION_TABLE) == {"version_num": REVISION}
    if revision is not None:
        assert read(url, "gonogo_calls")["id"] == "its id"


@contextmanager
def held_up(url: str) -> Iterator[None]:
    """Have the lock that an upgrade waits for, until the block ends."""
    engine = make_engine(url)
    try:
        with engine.execution_options(**{BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
            if url.startswith("postgresql"):
                connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            yield
    finally:
        engine.dispose()


def until_waiting(url: str, running: list[Popen[str]]) -> None:
    """Come back when all of them wait for the lock."""
    asked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(plain(url), autocommit=True) as connection:
        while connection.execute(asked).fetchone() != (len(running),):
            assert all(process.poll() is None for process in running)


def test_a_ledger_that_lacks_a_table_is_told(url):
    """Copied by half, or a table dropped: nothing is done on what is left of it."""
    upgrade(url)
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE gonogo_decisions"))
    engine.dispose()
    store = open_store(parse(url))
    for way in (lambda: store.write(lambda tx: None), lambda: status(url), lambda: upgrade(url)):
        with pytest.raises(SchemaError, match="lacks gonogo_decisions"):
            way()
    store.close()


def test_what_waited_before_0002_waits_by_its_mark(url):
    """It has the time it had, without what 0001 had added to it."""
    upgrade(url, to="0001")
    engine = make_engine(url)
    insert = text(
        "INSERT INTO gonogo_calls (id, action, state, created_at, held, fingerprint, args, epoch,"
        " attempt, max_attempts, queue, priority, run_at, reservations, slots, after, repeatable)"
        " VALUES (:id, 'pay', 'pending', 5, false, '', '{}', 0, 0, 1, 'q', 0, :run_at, '[]', '[]',"
        " :after, false)"
    )
    with engine.begin() as connection:
        connection.execute(insert, {"id": "first", "run_at": 5.0, "after": None})
        connection.execute(insert, {"id": "then", "run_at": 9_999_999_999.0 + 7, "after": "first"})
    engine.dispose()
    assert upgrade(url).pending == ()
    store = open_store(parse(url))
    first, then = store.read(lambda tx: (tx.calls.get("first"), tx.calls.get("then")))
    store.close()
    assert (first.state, first.run_at, first.waits) == (State.PENDING, 5.0, False)
    assert (then.run_at, then.waits, then.after) == (7.0, True, "first")
