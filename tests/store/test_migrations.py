"""Migrations: what they build is what the tables declare, on every database."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text

from gonogo.errors import StoreUnavailable
from gonogo.store.engines import make_engine
from gonogo.store.schema import REVISION, REVISIONS, VERSION_TABLE, metadata
from gonogo.store.upgrade import status, upgrade


def difference(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, metadata)


def indexes(engine: Engine) -> dict[str, str]:
    query = text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL")
    with engine.connect() as connection:
        found = connection.execute(query).all()
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in found}


def test_the_migrations_make_the_declared_schema(tmp_path):
    """On SQLite tables, columns and every index, conditions included, are as declared."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    upgrade(url)
    migrated, declared = make_engine(url), create_engine("sqlite://")
    metadata.create_all(declared)
    try:
        assert difference(migrated) == []
        assert indexes(migrated) == indexes(declared)
    finally:
        migrated.dispose()
        declared.dispose()


def test_the_migrations_run_on_postgresql(postgres_url):
    """The same migrations make the same tables on PostgreSQL, and are not run twice."""
    assert status(postgres_url).current is None
    assert upgrade(postgres_url).current == REVISION
    assert upgrade(postgres_url).pending == ()
    engine = make_engine(postgres_url)
    try:
        assert difference(engine) == []
    finally:
        engine.dispose()


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
    create = op.create_table

    def fail(name: str, *columns: object, **options: object) -> object:
        if name == "gonogo_plans":
            raise OSError("power cut")
        return create(name, *columns, **options)

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_table", fail)
        try:
            upgrade(url)
            raise AssertionError("it did not fail")
        except OSError:
            pass
    assert status(url).current is None
    assert upgrade(url).current == REVISION


def test_an_older_ledger_keeps_its_calls(tmp_path):
    """What waited for another call before 0002 waits by its mark, with the time it had."""
    from gonogo.records import State
    from gonogo.store.sqlite import SqliteStore

    url = f"sqlite:///{tmp_path}/ledger.db"
    upgrade(url, to="0001")
    assert status(url).pending == REVISIONS[1:]
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
    store = SqliteStore(url)
    first, then = store.read(lambda tx: (tx.calls.get("first"), tx.calls.get("then")))
    store.close()
    assert (first.state, first.run_at, first.waits) == (State.PENDING, 5.0, False)
    assert (then.run_at, then.waits, then.after) == (7.0, True, "first")
