"""The sandbox database: sessions that roll back, secrets hidden, nothing left behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from gonogo.database import SandboxDatabaseManager
from gonogo.errors import ConfigurationError

SECRET = "s3cret-word"


@pytest.fixture(params=["memory", "private file", "given file"])
def manager(request, tmp_path):
    if request.param == "given file":
        made = SandboxDatabaseManager(f"sqlite:///{tmp_path}/given.db")
    else:
        made = SandboxDatabaseManager(use_memory=request.param == "memory")
    yield made
    made.cleanup()


@pytest.fixture
def table(manager):
    with manager.session() as session:
        session.execute(text("CREATE TABLE kept (n INTEGER)"))
    return manager


def rows(manager) -> list[int]:
    with manager.get_session() as session:
        return list(session.scalars(text("SELECT n FROM kept ORDER BY n")))


def add(session, number: int) -> None:
    session.execute(text("INSERT INTO kept VALUES (:n)"), {"n": number})


def add_and_fail(manager) -> None:
    with manager.session() as session:
        add(session, 1)
        raise ZeroDivisionError


def test_a_block_that_ends_well_is_committed(table):
    """`session()` commits at the end of its block."""
    with table.session() as session:
        add(session, 1)
    assert rows(table) == [1]


def test_a_block_that_fails_is_rolled_back(table):
    """`session()` rolls back when its block raises, and the error reaches the caller."""
    with pytest.raises(ZeroDivisionError):
        add_and_fail(table)
    assert rows(table) == []


def test_get_session_commits_only_when_told(table):
    """A session from `get_session` keeps nothing that was not committed."""
    with table.get_session() as session:
        add(session, 1)
        session.commit()
        add(session, 2)
    assert rows(table) == [1]


def test_a_rollback_takes_back_rows_and_tables(table):
    """A rollback takes back everything since BEGIN, also the creation of a table."""
    with table.get_session() as session:
        add(session, 1)
        session.execute(text("CREATE TABLE other (n INTEGER)"))
        session.rollback()
        names = list(session.scalars(text("SELECT name FROM sqlite_master WHERE type='table'")))
    assert (rows(table), names) == ([], ["kept"])


def test_an_outer_transaction_takes_back_what_a_session_committed(table):
    """A session joined to an open transaction leaves no row behind when that is rolled back."""
    from sqlalchemy.orm import Session

    with table.engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            add(session, 1)
            session.commit()
        outer.rollback()
    assert rows(table) == []


def test_two_sessions_do_not_share_a_transaction(table):
    """A rollback in one session leaves what another one committed meanwhile."""
    with table.get_session() as one:
        assert list(one.scalars(text("SELECT 1")))
        one.rollback()
        with table.session() as other:
            add(other, 2)
        one.rollback()
    assert rows(table) == [2]


def test_every_thread_sees_the_same_database(table):
    """What one thread commits another one reads, in memory as well."""
    with table.session() as session:
        add(session, 7)
    seen: list[list[int]] = []
    thread = threading.Thread(target=lambda: seen.append(rows(table)))
    thread.start()
    thread.join()
    assert seen == [[7]]


def test_foreign_keys_are_enforced(table):
    """SQLite checks foreign keys on every connection."""
    with table.get_session() as session:
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_cleanup_may_be_called_at_any_time_and_twice():
    """`cleanup` before first use, and again, does nothing."""
    manager = SandboxDatabaseManager()
    manager.cleanup()
    assert manager.engine.connect().close() is None
    manager.cleanup()
    manager.cleanup()


def test_a_private_file_is_gone_after_cleanup():
    """The temporary database is removed with its directory."""
    with SandboxDatabaseManager() as manager:
        with manager.session() as session:
            session.execute(text("CREATE TABLE t (n INTEGER)"))
        file = Path(make_url(manager.database_url).database)
        assert file.exists()
    assert not file.parent.exists()


def test_memory_is_gone_after_cleanup():
    """A memory database begins empty again after cleanup."""
    manager = SandboxDatabaseManager(use_memory=True)
    with manager.session() as session:
        session.execute(text("CREATE TABLE t (n INTEGER)"))
    manager.cleanup()
    with manager.get_session() as session:
        assert session.scalar(text("SELECT count(*) FROM sqlite_master")) == 0
    manager.cleanup()


def test_a_given_file_stays_and_nothing_beside_it(tmp_path):
    """A database given by URL outlives cleanup, without write-ahead files beside it."""
    manager = SandboxDatabaseManager(f"sqlite:///{tmp_path}/a.db")
    with manager.session() as session:
        session.execute(text("CREATE TABLE t (n INTEGER)"))
        session.execute(text("INSERT INTO t VALUES (1)"))
    manager.cleanup()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_two_managers_in_memory_share_nothing():
    """Each manager in memory has a database of its own."""
    one, other = SandboxDatabaseManager(use_memory=True), SandboxDatabaseManager(use_memory=True)
    with one.session() as session:
        session.execute(text("CREATE TABLE t (n INTEGER)"))
    with other.get_session() as session:
        assert session.scalar(text("SELECT count(*) FROM sqlite_master")) == 0
    one.cleanup()
    other.cleanup()


def test_credentials_are_hidden():
    """No representation shows the password."""
    manager = SandboxDatabaseManager(f"postgresql://ann:{SECRET}@db.example/x")
    shown = [repr(manager), str(manager), manager.database_url, repr(manager.engine)]
    manager.cleanup()
    assert not any(SECRET in text for text in shown)
    assert manager.database_url == "postgresql+psycopg://ann:***@db.example/x"


@pytest.mark.parametrize(
    ("sandbox", "production"),
    [
        ("postgresql://a:1@DB.example/x", "postgresql+psycopg://b:2@db.example.:5432/x"),
        ("postgres://db/x", "postgresql://db/x?sslmode=require"),
        ("postgresql://db/x", "postgresql+asyncpg://db/x"),
        ("postgresql:///x?host=db", "postgresql://db/x"),
        ("sqlite:///{tmp}/a.db", "sqlite+pysqlite:///{tmp}/sub/../a.db"),
        ("sqlite:///{tmp}/link.db", "sqlite:///{tmp}/a.db"),
        ("sqlite:///file:{tmp}/a.db?uri=true", "sqlite:///{tmp}/a.db"),
    ],
)
def test_the_production_database_is_refused(sandbox, production, tmp_path):
    """A sandbox URL that means the production database is an error, however it is spelled."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "a.db")
    with pytest.raises(ConfigurationError, match="production"):
        SandboxDatabaseManager(
            sandbox.format(tmp=tmp_path), production_url=production.format(tmp=tmp_path)
        )


@pytest.mark.parametrize(
    ("sandbox", "production"),
    [
        ("postgresql://db/x", "postgresql://db/y"),
        ("postgresql://db:5433/x", "postgresql://db/x"),
        ("sqlite:///a.db", "postgresql://db/a.db"),
        ("sqlite:///a.db", "sqlite:///b.db"),
        ("sqlite:///a.db", "mysql+pymysql://db/x"),
    ],
)
def test_another_database_is_accepted(sandbox, production):
    """Databases that differ in server, port, name or kind are not confused."""
    SandboxDatabaseManager(sandbox, production_url=production).cleanup()


@pytest.mark.parametrize("url", ["", "nonsense", "oracle://db/x", "sqlite+aiosqlite:///a.db"])
def test_an_unknown_url_says_what_to_write(url):
    """A URL that cannot be used is a configuration error that names one that can."""
    with pytest.raises(ConfigurationError, match="sqlite://"):
        SandboxDatabaseManager(url)


def test_a_url_and_memory_together_are_refused():
    """A URL together with use_memory is a contradiction, not a silent choice."""
    with pytest.raises(ConfigurationError, match="not both"):
        SandboxDatabaseManager("sqlite:///a.db", use_memory=True)


def test_sessions_on_postgresql_roll_back(postgres_url):
    """The same session rules hold on a real PostgreSQL server."""
    with SandboxDatabaseManager(postgres_url) as manager:
        with manager.session() as session:
            session.execute(text("CREATE TABLE kept (n INTEGER)"))
        with pytest.raises(ZeroDivisionError):
            add_and_fail(manager)
        with manager.get_session() as session:
            add(session, 2)
        with manager.session() as session:
            add(session, 3)
        assert rows(manager) == [3]


@pytest.mark.parametrize("url", ["sqlite:///{}", "sqlite:///file://{}?uri=true"])
def test_a_hard_link_to_production_is_production(tmp_path, url):
    """One file with two names is one database."""
    (tmp_path / "prod.db").touch()
    (tmp_path / "copy.db").hardlink_to(tmp_path / "prod.db")
    production = f"sqlite:///{tmp_path}/prod.db"
    for name in ("copy.db", "prod.db"):
        with pytest.raises(ConfigurationError, match="production"):
            SandboxDatabaseManager(url.format(tmp_path / name), production_url=production)
