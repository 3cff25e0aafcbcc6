"""Bad ledgers, through the whole system: a clear error or state, and nothing lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.support.scene import WHO, Provider, drain, payment, refuses, reminder

from gonogo.clock import FakeClock
from gonogo.errors import (
    ConfigurationError,
    GonogoError,
    OutcomeUnknown,
    SchemaError,
    StoreUnavailable,
)
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State


def open_at(url: str, clock: FakeClock) -> SandboxOrchestrator:
    return SandboxOrchestrator(url, clock=clock, random=lambda: 0.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a ledger is, or will be."""
    return tmp_path / "ledger.db"


@pytest.fixture
def used(path: Path, fake_clock: FakeClock) -> Path:
    """A ledger with one call that succeeded."""
    sandbox = open_at(f"sqlite:///{path}", fake_clock)
    sandbox.arm(**WHO, seconds=86_400)
    payment(sandbox)("A")
    sandbox.cleanup()
    return path


def test_a_ledger_that_cannot_be_reached(tmp_path: Path, fake_clock: FakeClock) -> None:
    """A directory that is not there: the error names the file and the remedy."""
    sandbox = open_at(f"sqlite:///{tmp_path}/nowhere/ledger.db", fake_clock)
    refuses(sandbox, StoreUnavailable, "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_ledger_that_is_a_directory(tmp_path: Path, fake_clock: FakeClock) -> None:
    """A path that cannot be a database is said to be none."""
    refuses(open_at(f"sqlite:///{tmp_path}", fake_clock), StoreUnavailable, "cannot be opened")


def test_a_ledger_that_is_no_database(path: Path, fake_clock: FakeClock) -> None:
    """A file of something else is not overwritten."""
    text = "dear diary, " * 1000
    path.write_text(text)
    refuses(open_at(f"sqlite:///{path}", fake_clock), StoreUnavailable, "not a SQLite database")
    assert path.read_text() == text


def test_a_ledger_that_is_read_only(used: Path, fake_clock: FakeClock) -> None:
    """It can be looked at; nothing can be done on it, and the error says so."""
    sandbox = open_at(f"sqlite:///file:{used}?mode=ro&uri=true", fake_clock)
    refuses(sandbox, StoreUnavailable, "read-only")


def test_a_ledger_of_a_newer_schema(used: Path, fake_clock: FakeClock) -> None:
    """Code that is too old for a ledger says so instead of guessing."""
    raw = sqlite3.connect(used)
    (table,) = raw.execute(
        "select name from sqlite_master where name like '%version%' and type = 'table'"
    ).fetchone()
    with raw:
        raw.execute(f"update {table} set version_num = 'r9999'")
    raw.close()
    refuses(open_at(f"sqlite:///{used}", fake_clock), SchemaError, "newer")


def test_a_ledger_that_is_damaged(used: Path, fake_clock: FakeClock) -> None:
    """A damaged file is reported; what cannot be trusted is not written to."""
    raw = bytearray(used.read_bytes())
    raw[100:4096] = b"\xff" * 3996
    raw[4096:] = b"\xff" * (len(raw) - 4096)
    used.write_bytes(raw)
    refuses(open_at(f"sqlite:///{used}", fake_clock), GonogoError, "damaged|malformed")


def limit_pages(sandbox: SandboxOrchestrator, room: int) -> None:
    """Leave room for so many pages on the disk."""
    raw = sandbox.store._writer._raw  # type: ignore[attr-defined]  # the one way to fill a disk
    (used,) = raw.execute("PRAGMA page_count").fetchone()
    raw.execute(f"PRAGMA max_page_count = {used + room}")


def fill(sandbox: SandboxOrchestrator, pay: Any) -> int:
    """Enqueue until nothing fits any more; how many jobs fitted."""
    limit_pages(sandbox, 20)
    for fitted in range(100_000):
        try:
            pay.enqueue(f"{fitted}-{'x' * 300}")
        except StoreUnavailable as error:
            if "no room left" in str(error):
                return fitted
            raise
    raise AssertionError("the disk is never full")


def test_a_full_disk_loses_nothing(path: Path, fake_clock: FakeClock) -> None:
    """What was accepted is there; what did not fit is refused whole; room lets it go on."""
    sandbox, provider = open_at(f"sqlite:///{path}", fake_clock), Provider()
    sandbox.arm(**WHO, seconds=86_400)
    pay = payment(sandbox, provider)
    fitted = fill(sandbox, pay)
    with pytest.raises(StoreUnavailable, match="no room left"):
        pay.enqueue_many([(f"many-{n}-{'x' * 300}",) for n in range(50)])
    assert sandbox.counts() == {State.PENDING: fitted}
    limit_pages(sandbox, 10_000)
    drain(sandbox)
    assert sandbox.counts() == {State.SUCCEEDED: fitted}
    assert len(provider.book) == len(set(provider.book)) == fitted
    sandbox.cleanup()


def test_a_disk_that_fills_during_the_effect(path: Path, fake_clock: FakeClock) -> None:
    """The effect happened and could not be written: in doubt, said so, and settled by evidence."""
    sandbox, provider = open_at(f"sqlite:///{path}", fake_clock), Provider()
    sandbox.arm(**WHO, seconds=86_400)
    pay = payment(sandbox, provider)

    def big(invoice: str) -> str:
        provider.book.append(invoice)
        limit_pages(sandbox, 0)
        return "x" * 500_000

    provider.script = [big]
    with pytest.raises(OutcomeUnknown, match="could not be written"):
        pay("A")
    limit_pages(sandbox, 10_000)
    fake_clock.advance(3600)
    sandbox.recovery.run_once()
    with pytest.raises(OutcomeUnknown):
        pay("A")
    assert provider.book == ["A"]
    sandbox.cleanup()


def test_a_locked_ledger(used: Path, fake_clock: FakeClock) -> None:
    """Somebody else's open transaction: refused after the busy time-out, and fine after it."""
    sandbox, provider = open_at(f"sqlite:///{used}", fake_clock), Provider()
    sandbox.store._busy_timeout = 0.01  # type: ignore[attr-defined]  # the default is 5 s
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider)
    other = sqlite3.connect(used, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked by another process"):
        pay("B")
    other.execute("ROLLBACK")
    other.close()
    assert (pay("B"), provider.book) == ("paid B", ["B"])
    sandbox.cleanup()


def test_production_is_refused(path: Path, fake_clock: FakeClock) -> None:
    """A sandbox on the declared production database is refused before anything is opened."""
    url = f"sqlite:///{path}"
    with pytest.raises(ConfigurationError, match="production"):
        SandboxOrchestrator(url, production_url=url, clock=fake_clock)
    assert not path.exists()


@pytest.mark.parametrize(
    "bad", [object(), {1, 2}.__iter__(), float("nan"), "x" * 300_000, lambda: None]
)
def test_arguments_that_cannot_travel(path: Path, fake_clock: FakeClock, bad: object) -> None:
    """Unserialisable, senseless or oversized arguments are refused, direct and queued."""
    sandbox = open_at(f"sqlite:///{path}", fake_clock)
    said: list[object] = []

    @sandbox.action("say", irreversible=False)
    def say(thing: Any) -> None:
        said.append(thing)

    for way in (say, say.enqueue):
        with pytest.raises(ConfigurationError, match="say"):
            way(bad)
    assert (said, sandbox.counts()) == ([], {})
    sandbox.cleanup()


def test_a_clock_that_is_set_back(path: Path, fake_clock: FakeClock) -> None:
    """Irreversible calls are refused while the machine's clock is far from the sandbox's."""
    sandbox = open_at(f"sqlite:///{path}", fake_clock)
    sandbox.arm(**WHO)
    fake_clock.skew = lambda: 60.0  # type: ignore[method-assign]  # the machine's was set back
    with pytest.raises(GonogoError, match="clock"):
        payment(sandbox)("A")
    assert reminder(sandbox, str.upper)("hello") == "HELLO"
    sandbox.cleanup()
