"""Whether there is a ledger can be asked without making one, and making one is told."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gonogo.store.presence import holds_ledger
from gonogo.store.sqlite import SqliteStore
from gonogo.store.upgrade import upgrade
from gonogo.store.urls import parse


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def made(file: Path) -> SqliteStore:
    store = SqliteStore(f"sqlite:///{file}")
    store.read(lambda tx: tx.controls.all())
    return store


def test_asking_makes_no_ledger(file: Path) -> None:
    """Neither a file nor tables, and a directory that is not there is no error."""
    assert not holds_ledger(parse(f"sqlite:///{file}"))
    assert not file.exists()
    assert not holds_ledger(parse(f"sqlite:///{file.parent}/nowhere/ledger.db"))
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE theirs (id)")
    other.close()
    assert not holds_ledger(parse(f"sqlite:///{file}"))


def test_a_ledger_is_there_while_it_is_open_and_after(file: Path) -> None:
    """Also one whose rows are in the write-ahead log only."""
    store = made(file)
    assert holds_ledger(parse(f"sqlite:///{file}"))
    store.close()
    assert holds_ledger(parse(f"sqlite:///{file}"))


def test_what_cannot_be_looked_at_is_left_to_who_opens_it(file: Path) -> None:
    """Opening it says what is wrong; a ledger in memory is always there."""
    file.write_text("this is no database, but long enough to be taken for the head of one" * 9)
    assert holds_ledger(parse(f"sqlite:///{file}"))
    assert holds_ledger(parse(f"sqlite:///{file.parent}"))
    assert holds_ledger(parse("sqlite://"))


def test_a_new_ledger_is_told_once_with_its_path(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A path that was not meant is noticed; one that is there, or in memory, is not told."""
    caplog.set_level(logging.WARNING, "gonogo.store")
    for _ in range(2):
        made(file).close()
    SqliteStore("sqlite://").read(lambda tx: tx.controls.all())
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("gonogo.store", "WARNING")
    assert str(file) in record.getMessage()


def test_an_upgrade_that_makes_one_tells_it_too(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is how a ledger is made on purpose; the path is worth a look all the same."""
    caplog.set_level(logging.WARNING, "gonogo.store")
    for _ in range(2):
        upgrade(f"sqlite:///{file}")
    (record,) = caplog.records
    assert str(file) in record.getMessage()


def test_postgres_is_asked_as_well(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """An empty database of the right name is no ledger either."""
    caplog.set_level(logging.WARNING, "gonogo.store")
    assert not holds_ledger(parse(postgres_url))
    upgrade(postgres_url)
    assert holds_ledger(parse(postgres_url))
    (record,) = caplog.records
    assert "there was no ledger at postgresql" in record.getMessage()


@pytest.mark.parametrize("heard", [True, False])
def test_who_set_up_no_logging_is_warned_of_a_new_ledger(tmp_path: Path, heard: bool) -> None:
    """In a directory that was not meant it would know of no call that was ever made."""
    setup = "import logging; logging.basicConfig(); " if heard else ""
    words = f"{setup}from gonogo import SandboxOrchestrator as S; S('sqlite:///ops.db').calls()"
    for made in (True, False):
        done = subprocess.run(
            [sys.executable, "-W", "error" if made else "default", "-c", words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (f"there was no ledger at {tmp_path / 'ops.db'}" in done.stderr) is (made and heard)
    (tmp_path / "ops.db").unlink()
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"there was no ledger at {tmp_path / 'ops.db'}: a new" in done.stderr
    assert ("NewLedger" in done.stderr) is not heard
