"""PostgreSQL: what the role and the server must be able to do, said before anything is done."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.store.making import call
from tests.support.documents import blocks
from tests.support.postgres import execute, logged_in

from gonogo.errors import ConfigurationError, StoreUnavailable
from gonogo.records import State
from gonogo.store import postgres_server
from gonogo.store.postgres import PostgresStore
from gonogo.store.postgres_rights import NEEDS
from gonogo.store.postgres_server import Server
from gonogo.store.revisions import VERSION_TABLE
from gonogo.store.schema import metadata
from gonogo.store.upgrade import status, upgrade

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "postgres.md"


@pytest.fixture
def credentials(postgres_server) -> str:
    """User and password of a role that owns nothing."""
    return postgres_server.role("ops")


@pytest.fixture
def role(credentials) -> str:
    """Its name."""
    return credentials.partition(":")[0]


@pytest.fixture
def url(postgres_url, credentials) -> str:
    """A ledger, as that role reaches it."""
    upgrade(postgres_url)
    return logged_in(postgres_url, credentials)


def refused(url: str, kind: type[Exception], match: str) -> None:
    """Neither writing nor reading begins; whoever is told learns the remedy and no password."""
    ran = []
    for way in ("write", "read"):
        store = PostgresStore(url)
        with pytest.raises(kind, match=match) as caught:
            getattr(store, way)(ran.append)
        assert url.split(":")[2].partition("@")[0] not in str(caught.value) + repr(store)
        store.close()
    assert ran == []


def works(url: str) -> None:
    store = PostgresStore(url)
    store.write(lambda tx: tx.calls.insert(call()))
    assert store.read(lambda tx: tx.calls.counts()) == {State.PENDING: 1}
    store.close()


def test_it_is_known_what_every_table_needs():
    """A table without its rights here would be one that a role with all of them cannot use."""
    tables = {name for name, rights in NEEDS.items() if rights != ("USAGE",)}
    assert tables == {VERSION_TABLE, *metadata.tables}


def test_a_role_without_rights_is_told_what_mends_it(url, postgres_url, role):
    """The statements of the error and of the status are the same, and they are enough."""
    found = status(url)
    assert (found.current, found.pending, found.readable, found.usable) == (None, (), False, False)
    refused(url, StoreUnavailable, r"GRANT SELECT ON TABLE public\.gonogo_alembic_version TO ops_")
    execute(postgres_url, *found.rights.grants)
    assert status(url).rights.missing == ()
    assert status(url).usable
    works(url)


def test_the_one_right_that_is_missing_is_named(url, postgres_url, role):
    """Of one that was taken away, the grant of that one is the remedy."""
    execute(postgres_url, *status(url).rights.grants)
    execute(postgres_url, f"REVOKE INSERT ON gonogo_decisions FROM {role}")
    grant = f"GRANT INSERT ON TABLE public.gonogo_decisions TO {role};"
    refused(url, StoreUnavailable, f"nothing was written. Let the owner run: {grant}$")
    found = status(url)
    assert found.rights.grants == (grant,)
    assert (found.pending, found.readable, found.usable) == ((), True, False)
    execute(postgres_url, f"REVOKE ALL ON SEQUENCE gonogo_attempts_seq_seq FROM {role}")
    assert f"GRANT USAGE ON SEQUENCE public.gonogo_attempts_seq_seq TO {role};" in (
        status(url).rights.grants
    )


def test_the_page_names_the_rights_that_are_needed(postgres_url, postgres_server):
    """Its statements, run as it says, are those of the status: enough, and no more."""
    once, after = sql_of(PAGE)
    owner, worker = (postgres_server.role(name) for name in ("ledger_owner", "ops"))
    users = {
        user: role.partition(":")[0] for user, role in (("ledger_owner", owner), ("ops", worker))
    }
    once, after = (
        [re.sub(r"\b(ledger_owner|ops)\b", lambda found: users[found[0]], it) for it in part]
        for part in (once, after)
    )
    execute(postgres_url, "REVOKE ALL ON SCHEMA public FROM public")
    execute(postgres_url, *(it for it in once if not it.startswith("CREATE ROLE")))
    upgrade(logged_in(postgres_url, owner))
    url = logged_in(postgres_url, worker)
    assert sorted(after) == sorted(status(url).rights.grants)
    execute(logged_in(postgres_url, owner), *after)
    assert status(url).usable
    works(url)


def sql_of(page: Path) -> list[list[str]]:
    """The statements of each block of SQL, each on one line."""
    found = (block.code.split(";") for block in blocks(page.read_text()) if block.language == "sql")
    return [[f"{' '.join(it.split())};" for it in block if it.strip()] for block in found]


def test_rights_may_come_from_a_group(url, postgres_url, postgres_server, role):
    """What counts is what the role may do, however it came by it."""
    group = postgres_server.role("group").partition(":")[0]
    grants = (grant.replace(f"TO {role}", f"TO {group}") for grant in status(url).rights.grants)
    execute(postgres_url, *grants, f"GRANT {group} TO {role}")
    try:
        works(url)
    finally:
        execute(postgres_url, f"REVOKE {group} FROM {role}")


def test_a_ledger_that_the_role_cannot_enter_is_not_passed_over(postgres_url, credentials, role):
    """PostgreSQL goes on to the next schema of the path; a second ledger is not made there."""
    path = "?options=-csearch_path%3Dbooks,public"
    execute(postgres_url, "CREATE SCHEMA books", f"GRANT CREATE ON SCHEMA public TO {role}")
    upgrade(postgres_url + path)
    url = logged_in(postgres_url, credentials) + path
    grant = f"GRANT USAGE ON SCHEMA books TO {role};"
    refused(url, StoreUnavailable, grant)
    with pytest.raises(StoreUnavailable, match=grant):
        upgrade(url)
    assert not status(url).readable
    execute(postgres_url, *status(url).rights.grants)  # what is in it is seen from without
    works(url)
    assert status(postgres_url).current is None


def test_who_may_not_make_a_ledger_is_told_so(postgres_url, credentials, role):
    """Nobody made it yet, and this role has no right to."""
    execute(postgres_url, "REVOKE CREATE ON SCHEMA public FROM public")
    url = logged_in(postgres_url, credentials)
    grant = f"GRANT CREATE ON SCHEMA public TO {role};"
    refused(url, StoreUnavailable, grant)
    with pytest.raises(StoreUnavailable, match=grant):
        upgrade(url)
    assert not status(url).usable
    execute(postgres_url, *status(url).rights.grants)
    works(url)


def test_a_search_path_that_leads_nowhere_is_told(postgres_url):
    """No schema of the path exists, so there is no place for a ledger."""
    url = f"{postgres_url}?options=-csearch_path%3Dnowhere"
    refused(url, StoreUnavailable, r"search_path of gonogo \(nowhere\) exists")


def test_a_role_that_may_not_connect_is_told(postgres_url, credentials):
    """The right to connect is the database's, and its owner gives it."""
    name = postgres_url.rpartition("/")[2]
    execute(postgres_url, f'REVOKE CONNECT ON DATABASE "{name}" FROM public')
    refused(logged_in(postgres_url, credentials), StoreUnavailable, "GRANT CONNECT ON DATABASE")


def test_an_old_server_is_refused(postgres_url, monkeypatch):
    """It would fail in the middle of the first commit whose acknowledgement is lost."""
    with monkeypatch.context() as patched:
        patched.setattr(postgres_server, "ask", lambda execute: Server(120_019, standby=False))
        refused(postgres_url, ConfigurationError, "is PostgreSQL 12; .* needs 13 or newer")
        for ask in (status, upgrade):
            with pytest.raises(ConfigurationError, match="needs 13 or newer"):
                ask(postgres_url)
    assert status(postgres_url).current is None


def test_a_standby_is_refused(postgres_url, monkeypatch):
    """It can be looked at; nothing is done on it, and the remedy is the primary."""
    with monkeypatch.context() as patched:
        patched.setattr(postgres_server, "ask", lambda execute: Server(150_004, standby=True))
        refused(postgres_url, StoreUnavailable, "is a standby.*Connect to the primary")
        with pytest.raises(StoreUnavailable, match="is a standby"):
            upgrade(postgres_url)
        found = status(postgres_url)
        assert (found.current, found.usable) == (None, False)
        assert (found.server.version, found.server.standby) == ("15.4", True)
    assert status(postgres_url).current is None


def test_a_standby_that_is_promoted_is_waited_for(postgres_url, monkeypatch):
    """After a fail-over the name may lead to the new primary a moment before it is one."""
    store = PostgresStore(postgres_url)
    store.write(lambda tx: tx.calls.insert(call()))
    store._drop_writer()
    ask, standby = postgres_server.ask, [True, True, False]

    def promoted(execute):
        return Server(ask(execute).number, standby.pop(0))

    with monkeypatch.context() as patched:
        patched.setattr(postgres_server, "ask", promoted)
        store.write(lambda tx: tx.calls.insert(call()))
    assert standby == []
    assert store.read(lambda tx: tx.calls.counts()) == {State.PENDING: 2}
    store.close()


def test_of_several_servers_the_primary_is_found(postgres_url):
    """As libpq does it: the first one that answers and takes writes."""
    parts = urlsplit(postgres_url)
    credentials, _, place = parts.netloc.rpartition("@")
    query = f"host=127.0.0.1,127.0.0.1&port=1,{place.rpartition(':')[2]}"
    url = f"postgresql://{credentials}@{parts.path}?{query}&target_session_attrs=read-write"
    works(url)
    assert status(url).usable
