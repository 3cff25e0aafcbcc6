"""Bad ledgers in PostgreSQL: a clear error before any effect, and no password in it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from tests.support.postgres import PostgresServer, execute, logged_in
from tests.support.program import Program
from tests.support.scene import Provider, payment, refuses

from gonogo.cli.exits import Exit
from gonogo.errors import ConfigurationError, GonogoError, SchemaError, StoreUnavailable
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.store import open_store, postgres_server
from gonogo.store.postgres_server import Server
from gonogo.store.upgrade import upgrade
from gonogo.store.urls import parse

APP = """
import logging, os
from gonogo import SandboxOrchestrator
from gonogo.store import postgres_server
from gonogo.store.postgres_server import Server

logging.basicConfig(level=logging.DEBUG)
if number := os.environ.get("SERVER"):
    postgres_server.ask = lambda execute: Server(int(number), os.environ["STANDBY"] == "yes")
sandbox = SandboxOrchestrator(dry_run=False)
print(sandbox, sandbox.settings, sandbox.store)


@sandbox.action("pay", irreversible=False)
def pay(invoice: str) -> None:
    open("book", "a").close()
"""


def one(url: str, old: str, new: str) -> str:
    assert old in url
    return url.replace(old, new, 1)


def dropped(url: str, table: str) -> str:
    upgrade(url)
    execute(url, f"DROP TABLE {table}")
    return url


def at_revision(url: str, revision: str) -> str:
    upgrade(url)
    execute(url, f"UPDATE gonogo_alembic_version SET version_num = '{revision}'")
    return url


def older(url: str) -> str:
    upgrade(url, to="0001")
    return url


def production(url: str) -> str:
    store = open_store(parse(url), "production")
    store.write(lambda tx: None)
    store.close()
    return url


def password(url: str) -> str:
    return urlsplit(url).password or ""


def host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


class Bad(NamedTuple):
    """A ledger that cannot be worked on, and what is said of it."""

    make: Callable[[str], str]
    kind: type[GonogoError]
    says: str
    server: Server | None = None
    environment: str | None = None


BAD = {
    "another scheme": Bad(
        lambda url: one(url, "postgresql+psycopg", "mysql"), ConfigurationError, "are not known"
    ),
    "no number for a port": Bad(
        lambda url: one(url, host(url), "127.0.0.1:five/x"), ConfigurationError, "cannot be read"
    ),
    "a password with an @": Bad(
        lambda url: one(url, "@", "@" + password(url) + "@"), ConfigurationError, "as %40"
    ),
    "another host": Bad(
        lambda url: one(url, "127.0.0.1", "127.0.0.9"), StoreUnavailable, "Check that it runs"
    ),
    "another port": Bad(
        lambda url: one(url, host(url), "127.0.0.1:1"), StoreUnavailable, "Check that it runs"
    ),
    "another password": Bad(
        lambda url: one(url, ":" + password(url), ":x" + password(url)),
        StoreUnavailable,
        "check the credentials",
    ),
    "a wrong password as a parameter": Bad(
        lambda url: one(url, ":" + password(url), "") + f"?password=x{password(url)}",
        StoreUnavailable,
        "check the credentials",
    ),
    "no such database": Bad(lambda url: url + "x", ConfigurationError, "createdb"),
    "an old server": Bad(str, ConfigurationError, "needs 13 or newer", Server(120_004, False)),
    "a standby": Bad(str, StoreUnavailable, "Connect to the primary", Server(150_004, True)),
    "no version": Bad(
        lambda url: dropped(url, "gonogo_alembic_version"), SchemaError, "copied by half"
    ),
    "a table is gone": Bad(lambda url: dropped(url, "gonogo_marks"), SchemaError, "by half"),
    "a newer schema": Bad(lambda url: at_revision(url, "9999"), SchemaError, "a newer gonogo"),
    "an older schema": Bad(older, SchemaError, "gonogo db upgrade"),
    "another environment": Bad(
        production, SchemaError, "'production'.*'staging'", environment="staging"
    ),
}


@pytest.fixture(params=[*BAD, "no rights"])
def bad(
    request: pytest.FixtureRequest, postgres_url: str, postgres_server: PostgresServer
) -> tuple[str, Bad]:
    """The URL of a bad ledger, and what is said of it."""
    if request.param != "no rights":
        found = BAD[request.param]
        return found.make(postgres_url), found
    upgrade(postgres_url)
    url = logged_in(postgres_url, postgres_server.role("ops"))
    return url, Bad(str, StoreUnavailable, "Let the owner run: GRANT SELECT")


def test_nothing_is_done(
    bad: tuple[str, Bad],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    postgres_url: str,
) -> None:
    """Every way in says why, and neither it nor log, output and repr give the password away."""
    url, told = bad
    if told.server is not None:
        server = told.server
        monkeypatch.setattr(postgres_server, "ask", lambda execute: server)
    caplog.set_level("DEBUG")
    shown: list[str] = []
    if told.kind is ConfigurationError and told.server is None and "createdb" not in told.says:
        with pytest.raises(told.kind, match=told.says) as caught:
            SandboxOrchestrator(url)
        shown += traceback.format_exception(caught.value)
    else:
        sandbox = SandboxOrchestrator(url, environment=told.environment)
        shown += [repr(sandbox), repr(sandbox.store), repr(sandbox.settings)]
        refuses(sandbox, told.kind, told.says, shown)
    words = "".join(shown) + caplog.text + "".join(capfd.readouterr())
    for secret in (password(postgres_url), urlsplit(url).password):
        assert secret is None or secret not in words


def test_the_command_line_says_so(bad: tuple[str, Bad], tmp_path: Path, postgres_url: str) -> None:
    """A worker ends with the status and the words that say what is wrong, and did nothing."""
    url, told = bad
    (tmp_path / "app.py").write_text(APP)
    gonogo = Program(tmp_path)
    env = {"SANDBOX_DB_URL": url}
    if told.server is not None:
        env |= {"SERVER": str(told.server.number), "STANDBY": "yes" if told.server.standby else ""}
    if told.environment is not None:
        env |= {"SANDBOX_ENVIRONMENT": told.environment}
    code = Exit.CONFIGURATION if told.kind is ConfigurationError else Exit.STORE
    done = gonogo("worker", "--until-idle", "--debug", **env)
    assert done.code == code, done
    assert re.search(told.says, done.err), done
    for secret in (password(postgres_url), password(url)):
        assert not secret or secret not in done.out + done.err
    assert not (tmp_path / "book").exists()


def test_rights_as_the_command_line_shows_them(
    postgres_url: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """What is needed, what is missing, and the statements; with them all is well."""
    upgrade(postgres_url)
    role = postgres_server.role("ops")
    name = role.partition(":")[0]
    url = logged_in(postgres_url, role)
    gonogo = Program(tmp_path, None)
    done = gonogo("db", "status", "--url", url, "--json")
    assert (done.code, done.json["current"], done.json["pending"]) == (Exit.STORE, None, [])
    rights = done.json["rights"]
    assert rights["role"] == name
    assert rights["needed"][0] == {
        "kind": "SCHEMA",
        "name": "public",
        "needs": ["USAGE"],
        "missing": [],
    }
    assert [right["name"] for right in rights["needed"][1:]] == [
        right["name"] for right in rights["missing"]
    ]
    execute(postgres_url, *rights["grants"], f"REVOKE SELECT ON gonogo_plans FROM {name}")
    done = gonogo("db", "status", "--url", url)
    assert done.code == Exit.STORE
    assert f"role {name} lacks SELECT on table public.gonogo_plans\n" in done.out
    assert done.out.endswith(f"run:\n  GRANT SELECT ON TABLE public.gonogo_plans TO {name};\n")
    execute(postgres_url, *gonogo("db", "status", "--url", url, "--json").json["rights"]["grants"])
    done = gonogo("db", "status", "--url", url)
    assert done.code == Exit.OK
    assert f"role {name} has every right it needs" in done.out
    assert "server PostgreSQL 1" in done.out


def test_two_environments_on_one_ledger(postgres_url: str) -> None:
    """The one that came first goes on working; the other one is refused."""
    provider = Provider()
    first = SandboxOrchestrator(postgres_url, environment="production", dry_run=False)
    pay = payment(first, provider)
    pay("A")
    refuses(
        SandboxOrchestrator(postgres_url, environment="staging"), SchemaError, "'production'", []
    )
    pay("B")
    assert provider.book == ["A", "B"]
    first.cleanup()
