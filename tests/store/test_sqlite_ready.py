"""What comes compiled with the package is what SQLAlchemy would make, and spares its import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url
from tests.support.ready import compiled

from gonogo.errors import ConfigurationError, StoreUnavailable
from gonogo.store import rows, sqlite_ledger
from gonogo.store.compiling import for_sqlite
from gonogo.store.sqlite import SqliteStore
from gonogo.store.sqlite_ready import Ready, ready, text_of
from gonogo.store.upgrade import status
from gonogo.store.urls import FileUrl, full, parse, read, shown

COMPILER = for_sqlite()
LISTS: list[tuple[str, tuple[bool, ...]]] = [
    ("claim_calls", (False,)),
    ("claim_calls", (True,)),
    ("count_claimed", ()),
    ("due_groups", ()),
    ("find_plans", ()),
    ("forget_attempts", ()),
    ("forget_calls", ()),
    ("limit_rows", (False,)),
]
LIFE = """
import sys
from gonogo import GonogoError, Limit, Rejected, SandboxOrchestrator

for _ in range(2):
    sandbox = SandboxOrchestrator("sqlite:///{path}", environment="staging")
    sandbox.set_default_limits()

    @sandbox.action("pay", key="pay:{{invoice}}", irreversible=True,
                    limits=[Limit("pay", 100, per="1h"), Limit("pay.day", 100, per="1d")])
    def pay(invoice: str) -> str:
        return invoice

    @pay.verify
    def _(call): ...

    @sandbox.action("remind", irreversible=False)
    def remind(text: str) -> None:
        raise Rejected(text)

    sandbox.arm(by="ann", reason="a test")
    assert pay("INV-1") == "INV-1"
    sandbox.initialize()
    handles = pay.enqueue_many([("INV-2",), ("INV-3",), ("INV-4",)])
    assert [handle.result(20) for handle in handles] == ["INV-2", "INV-3", "INV-4"]
    try:
        remind.enqueue("x").result(20)
    except GonogoError:
        pass
    assert sandbox.calls(action="pay")
    assert sandbox.calls(states=["failed"])
    sandbox.get_status()
    sandbox.cleanup()
print(*sorted({{"sqlalchemy", "alembic", "asyncio", "pathlib", "shutil"}} & set(sys.modules)))
"""


def test_it_is_what_the_code_says() -> None:
    """Whoever changes a table or a statement compiles them anew: ``make statements``."""
    assert compiled(ready()) == ready()


@given(st.sets(st.sampled_from(rows.CALLS.columns), min_size=1))
def test_an_update_follows_from_the_one_of_all_columns(columns: set[str]) -> None:
    """The text of any columns, and of those alone, is the compiler's."""
    asked = ("update", "replace_call", (), tuple(columns))
    assert text_of(*asked) == as_tuple(COMPILER(*asked))


@given(st.sets(st.sampled_from(rows.CALLS.columns), min_size=1))
def test_an_insert_follows_from_the_one_of_all_columns(columns: set[str]) -> None:
    """The text of any columns, and of those alone, is the compiler's."""
    asked = ("insert", "calls", (), ("id", *(columns - {"id"})))
    assert text_of(*asked) == as_tuple(COMPILER(*asked))


def test_unknown_columns_do_not_follow() -> None:
    """The compiler says what is wrong with them."""
    assert text_of("update", "replace_call", (), ("state", "colour")) is None
    assert text_of("insert", "calls", (), ("state", "colour")) is None
    assert text_of("update", "unknown", (), ("state",)) is None


@pytest.mark.parametrize("size", [1, 2, 3, 20])
@pytest.mark.parametrize(("build", "more"), LISTS)
def test_a_list_follows_from_a_list_of_one(build: str, more: tuple[bool, ...], size: int) -> None:
    """The text of any size is the compiler's."""
    asked = ("text", build, (size, *more), None)
    assert text_of(*asked) == as_tuple(COMPILER(*asked))


def test_what_does_not_follow_is_compiled(tmp_path: Path) -> None:
    """A statement in a shape that is not here is built when it is asked for."""
    assert text_of("text", "next_run_at", (9,), None) is None
    store = SqliteStore(f"sqlite:///{tmp_path}/ledger.db")
    assert store.read(lambda tx: tx.calls.next_run_at(list("abcdefghi"))) is None
    store.close()


def as_tuple(found: tuple[str, Any]) -> tuple[str, tuple[str, ...]]:
    return found[0], tuple(found[1])


def test_a_ledger_in_a_file_needs_no_sqlalchemy(tmp_path: Path) -> None:
    """Made, opened again, and used in all usual ways, it never imports what is heavy."""
    program = LIFE.format(path=tmp_path / "ledger.db")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_ledger_that_is_not_made_to_its_end_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it fails half-way there is nothing, and it can be made later."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    known = ready()
    broken = Ready(known.tables, (*known.indexes, "CREATE NOTHING"), known.texts)
    store = SqliteStore(url)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_ledger, "ready", lambda: broken)
        with pytest.raises(StoreUnavailable):
            store.read(lambda tx: tx.calls.counts())
    assert status(url).current is None
    assert store.read(lambda tx: tx.calls.counts()) == {}
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///a.db",
        "sqlite:////tmp/a-b_c.d/e f+g.db",
        "sqlite+pysqlite:///sub/../a.db",
        "sqlite:///~/a.db",
    ],
)
def test_a_plain_url_is_read_as_sqlalchemy_does(url: str) -> None:
    """Apart from a home and the way to it, which are spelled out."""
    plain, theirs = parse(url), make_url(url)
    assert isinstance(plain, FileUrl)
    path = Path(theirs.database or "").expanduser().absolute()
    wanted = theirs.set(drivername="sqlite", database=str(path))
    assert (full(plain), shown(plain)) == (wanted, wanted.render_as_string())


@given(st.text("/. ~+-_a9", min_size=1, max_size=12))
def test_a_path_is_made_absolute_as_pathlib_does(path: str) -> None:
    """Whether pathlib is asked or the path is settled without it."""
    try:
        wanted = Path(path).expanduser().absolute()
    except RuntimeError:  # such a home is refused
        return
    plain = parse(f"sqlite:///{path}")
    assert isinstance(plain, FileUrl)
    assert plain.database == str(wanted)


def test_a_path_in_full_needs_no_folder_to_begin_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """That in which a process works may have been deleted."""

    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    assert parse("sqlite:////srv/ops.db").database == "/srv/ops.db"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:a.db?mode=ro&uri=true",
        "sqlite:///a.db?timeout=3",
        "sqlite:///a%20b.db",
        "sqlite:///ä.db",
        "sqlite:///a@b.db",
        "postgresql://host/name",
    ],
)
def test_what_is_not_plain_is_left_to_sqlalchemy(url: str) -> None:
    """Options, and signs that URLs spell in another way."""
    assert not isinstance(parse(url), FileUrl)
    assert read(url) == make_url(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://ledger.db", "three slashes"),
        ("sqlite://folder/ledger.db", "three slashes"),
        ("sqlite://ann:key@/ledger.db", "three slashes"),
        ("sqlite:///~nobody-has-this-name/ledger.db", "home"),
        ("sqlite:///led\0ger.db", "NUL"),
    ],
)
def test_a_url_that_names_no_file_is_refused_at_once(url: str, says: str) -> None:
    """A host, a home that nobody has, or a sign that no path can have: it says what to write."""
    with pytest.raises(ConfigurationError, match=says):
        parse(url)
