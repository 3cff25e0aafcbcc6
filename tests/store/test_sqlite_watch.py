"""What other processes write to a SQLite file is noticed at once, without a query while idle."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from tests.store.making import call, queued

from gonogo.records import Control, State
from gonogo.store import sqlite, sqlite_watch
from gonogo.store.sqlite import SqliteStore
from gonogo.store.sqlite_watch import TICK, Watch

SOON = 10.0
Open = Callable[[], SqliteStore]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file has a bell")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "our ledger's näme #1.db"


@pytest.fixture
def open_store(file: Path) -> Iterator[Open]:
    """Stores on one file; each is to it what another process would be."""
    made: list[SqliteStore] = []

    def make() -> SqliteStore:
        made.append(SqliteStore(f"sqlite:///{file}"))
        made[-1].read(lambda tx: tx.calls.counts())
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def no_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose kernel tells nothing."""
    monkeypatch.setattr(sqlite_watch, "hang", lambda _: None)


@pytest.fixture
def only_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log looks always as before, so that only the bell can tell."""
    monkeypatch.setattr(sqlite_watch, "SELDOM", 3600.0)
    monkeypatch.setattr(Watch, "_glance", lambda _: None)


def enqueue(store: SqliteStore) -> None:
    store.write(lambda tx: tx.calls.insert(queued()))


class Ear:
    """Listens to a store, and waits when it is asked."""

    def __init__(self, store: SqliteStore) -> None:
        self.heard = 0
        listening = store.listen(self._wake)
        assert isinstance(listening, Watch)
        self.watch = listening
        self.hears(4 * TICK)

    def hears(self, seconds: float = 2 * TICK) -> bool:
        """Whether it was woken within so long."""
        before = self.heard
        self.watch.wait(seconds)
        self.watch.wait(seconds)
        return self.heard > before

    def hears_bell(self) -> bool:
        """Whether it is woken as soon as it listens, and not because it would ask anyway."""
        before = self.heard
        self.watch._again = False
        self.watch.wait(SOON)
        return self.heard > before

    def _wake(self, _: object) -> None:
        self.heard += 1


# looking at the log, where no bell can be had


def test_a_commit_of_another_process_is_noticed(open_store: Open, no_bell: None) -> None:
    """Each one is, also after the log was folded into the file and begun anew."""
    ours, theirs = open_store(), open_store()
    ear = Ear(ours)
    for fold in (False, False, True, True):
        enqueue(theirs)
        assert ear.hears()
        assert not ear.hears()
        if fold:
            theirs._writer._raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def watching(
    monkeypatch: pytest.MonkeyPatch, answers: list[bool | None]
) -> tuple[Callable[[], bool], list[None]]:
    """One look at a log that changed once and what it will be told; and how often it woke."""
    glances = iter([(1, 1, 1)])
    monkeypatch.setattr(Watch, "_glance", lambda self: next(glances, (1, 1, 2)))
    woken: list[None] = []
    watch = Watch("file", lambda: answers.pop(0), lambda: woken.append(None))
    return lambda: watch.wait(TICK), woken


def test_two_commits_in_one_tick_of_the_disk_are_both_noticed(
    monkeypatch: pytest.MonkeyPatch, no_bell: None
) -> None:
    """A log that looks as before is asked once more: its clock is coarser than commits are fast."""
    answers: list[bool | None] = [False, True, False]
    look, woken = watching(monkeypatch, answers)
    for _ in range(3):
        look()
    assert (answers, len(woken)) == ([False], 1)


def test_what_cannot_be_said_yet_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, no_bell: None
) -> None:
    """As long as our own commit is in the way; then once more, as after every change."""
    answers: list[bool | None] = [False, None, None, True, False]
    look, woken = watching(monkeypatch, answers)
    for _ in range(5):
        look()
    assert (answers, len(woken)) == ([False], 1)


def test_a_log_behind_a_link_is_looked_at(file: Path, open_store: Open, no_bell: None) -> None:
    """SQLite writes it beside the file that is meant, and not beside the link."""
    theirs = open_store()
    (file.parent / "link").symlink_to(file)
    ours = SqliteStore(f"sqlite:///{file.parent}/link")
    ours.read(lambda tx: tx.calls.counts())
    ear = Ear(ours)
    enqueue(theirs)
    assert ear.hears()
    ours.close()


# either way


@pytest.fixture(params=["with a bell", "without"])
def either_way(request: pytest.FixtureRequest) -> None:
    if request.param == "without":
        request.getfixturevalue("no_bell")
    elif sys.platform != "linux":
        pytest.skip("elsewhere no file has a bell")


def test_a_wait_is_for_no_commit(open_store: Open, either_way: None) -> None:
    """Who waits has leases to renew: while our own commit is under way the answer can wait."""
    ours, theirs = open_store(), open_store()
    ear, inside, over = Ear(ours), threading.Event(), threading.Event()

    def linger(_: object) -> None:
        inside.set()
        assert over.wait(SOON)

    enqueue(theirs)
    writing = threading.Thread(target=lambda: ours.write(linger))
    writing.start()
    try:
        assert inside.wait(SOON)
        assert not ear.hears()
    finally:
        over.set()
        writing.join(SOON)
    assert ear.hears()


def test_what_we_write_ourselves_wakes_nobody(open_store: Open, either_way: None) -> None:
    """Whoever enqueues in this process is told directly; a beat must not make work."""
    ours = open_store()
    ear = Ear(ours)
    for _ in range(3):
        enqueue(ours)
        assert not ear.hears()
    enqueue(open_store())
    assert ear.hears()


def test_a_file_that_cannot_be_asked_ends_no_watch(
    open_store: Open, file: Path, either_way: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch outlives the file's disappearance and a closed store; waking costs only a look."""
    monkeypatch.setattr(sqlite_watch, "SELDOM", TICK)
    ours = open_store()
    ear = Ear(ours)
    ours.close()
    for leftover in file.parent.iterdir():
        leftover.unlink()
    assert ear.hears()
    for _ in range(2):
        enqueue(open_store())
        assert ear.hears(4 * TICK)


def test_the_end_ends_a_wait(open_store: Open, either_way: None) -> None:
    """At once and for ever, however long it was to be; another end is none."""
    watch = Ear(open_store()).watch
    waiting = threading.Thread(target=watch.wait, args=(3600.0,))
    waiting.start()
    watch.end()
    waiting.join(SOON)
    assert not waiting.is_alive()
    watch.end()
    assert watch.wait(3600.0)


# the bell


@on_linux
def test_a_job_of_another_process_rings(file: Path, open_store: Open, only_bell: None) -> None:
    """Another process, indeed."""
    ear = Ear(open_store())
    code = f"""if True:
        from gonogo.store.sqlite import SqliteStore
        from tests.store.making import queued
        store = SqliteStore("sqlite:///{file}")
        store.write(lambda tx: tx.calls.insert(queued(id="theirs")))
        store.close()
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    assert ear.hears_bell()


@on_linux
def test_our_own_jobs_keep_the_bell_silent(open_store: Open, only_bell: None) -> None:
    """Our own threads are told, and need the interpreter's lock at that very moment."""
    ours, theirs = open_store(), open_store()
    ear, other = Ear(ours), Ear(theirs)
    enqueue(ours)
    assert ear.watch._bell is not None
    assert not ear.watch._bell.wait(0.0)
    assert other.hears_bell()


@on_linux
def test_the_end_of_a_switch_rings(open_store: Open, only_bell: None) -> None:
    """What it kept back is due; that one was set makes nothing due."""
    ours, theirs = open_store(), open_store()
    ear = Ear(ours)
    switch = Control(name="halt:pay", actor="ann", reason="a test", set_at=0.0)
    theirs.write(lambda tx: tx.controls.put(switch))
    assert ear.watch._bell is not None
    assert not ear.watch._bell.wait(0.0)
    assert theirs.write(lambda tx: tx.controls.clear("halt:pay"))
    assert ear.hears_bell()


@on_linux
def test_a_ring_during_our_own_commit_is_heard_after_it(open_store: Open, only_bell: None) -> None:
    """Nobody rings again: that it could not be said yet is remembered."""
    ours, theirs = open_store(), open_store()
    ear = Ear(ours)
    enqueue(theirs)
    with ours._io:
        assert not ear.hears_bell()
    assert ear.hears_bell()


@on_linux
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_rings_for_its_parent(open_store: Open, file: Path, only_bell: None) -> None:
    """It is another process, whose jobs our threads do not know of."""
    ours = open_store()
    ear = Ear(ours)
    keeps = sqlite3.connect(file)  # the log, while a fork closes all of ours
    keeps.execute("SELECT count(*) FROM gonogo_calls").fetchone()

    def in_the_child() -> None:
        enqueue(ours)
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=in_the_child)
    child.start()
    child.join(SOON)
    assert child.exitcode == 0
    assert ear.watch._bell is not None
    assert ear.watch._bell.hangs
    assert ear.hears_bell()
    keeps.close()


@on_linux
def test_a_log_that_is_begun_anew_takes_no_bell_away(open_store: Open, only_bell: None) -> None:
    """The last one that closes the database folds its log away: a bell is hung at the next one."""
    ours, theirs = open_store(), open_store()
    ear = Ear(ours)
    for _ in range(2):
        ours.close()
        theirs.close()
        enqueue(theirs)
        assert ear.hears_bell()


@on_linux
def test_it_hangs_as_soon_as_there_is_a_file(file: Path, open_store: Open, only_bell: None) -> None:
    """A worker may be started on a ledger that is out of reach, and is there later."""
    ours = SqliteStore(f"sqlite:///{file}")
    ear = Ear(ours)
    assert not file.exists()
    theirs = open_store()
    ear.hears()
    enqueue(theirs)
    assert ear.hears_bell()
    ours.close()


@on_linux
def test_a_kernel_that_refuses_one_is_asked_again(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have one later; until then the log is looked at as often as without."""
    ours, theirs, hang = open_store(), open_store(), sqlite_watch.hang
    monkeypatch.setattr(sqlite_watch, "hang", lambda _: None)
    ear = Ear(ours)
    enqueue(theirs)
    assert ear.hears()
    monkeypatch.setattr(sqlite_watch, "hang", hang)
    ear.hears()
    monkeypatch.setattr(Watch, "_glance", lambda _: None)
    enqueue(theirs)
    assert ear.hears_bell()


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each time that a bell is rung, its file."""
    rings: list[str] = []
    monkeypatch.setattr(sqlite, "ring", rings.append)
    return rings


def test_what_a_worker_may_take_rings(open_store: Open, file: Path, rung: list[str]) -> None:
    """A commit with such jobs does once; no other one, or workers would call each other."""
    store, job = open_store(), queued()
    store.write(lambda tx: tx.calls.insert_many([job, queued(run_at=2_000_000_000.0)]))
    assert rung == [f"{file}-wal"]
    rung.clear()
    direct, planned = call(State.DISPATCHED), call(State.PLANNED, queue="main")
    store.write(lambda tx: tx.calls.insert_many([direct, planned]))
    taking = {"owner": "w", "queues": ["main"], "now": job.run_at, "lease_until": job.run_at + 1}
    (taken,) = store.write(lambda tx: tx.calls.claim(limit=1, **taking))
    with pytest.raises(ZeroDivisionError):
        store.write(lambda tx: (tx.calls.insert(queued()), 1 / 0))
    store.write(lambda tx: None)
    assert rung == []
    again = queued(id=taken.id, epoch=taken.epoch, created_at=taken.created_at)
    assert store.write(lambda tx: tx.calls.replace(taken, again))
    assert rung == [f"{file}-wal"]


def test_a_job_in_a_users_transaction_rings_when_it_is_there(
    open_store: Open, file: Path, rung: list[str]
) -> None:
    """Not before, or who hears would look in vain."""
    store = open_store()
    engine = create_engine(f"sqlite:///{file}")
    with Session(engine) as session:
        store.join(session, lambda tx: tx.calls.insert(queued()), lambda: rung.append("then"))
        assert rung == []
        session.commit()
    engine.dispose()
    assert rung == [f"{file}-wal", "then"]


def test_a_ledger_in_memory_rings_nothing(rung: list[str]) -> None:
    """No other process sees it."""
    store = SqliteStore("sqlite://")
    enqueue(store)
    assert rung == []
    assert not isinstance(store.listen(lambda _: None), Watch)
    store.close()


class Busy:
    """A bell that rings so many times without a pause, and then no more."""

    hangs = True

    def __init__(self, times: int) -> None:
        self.times = times

    def wait(self, seconds: float) -> bool:
        self.times -= 1
        return self.times >= 0


def test_a_bell_that_rings_on_is_heard_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to a look every tick: whoever queues thousands here and elsewhere has work to do."""
    monkeypatch.setattr(sqlite_watch, "hang", lambda _: bell)
    bell, asked, pauses = Busy(8), [], []
    watch = Watch("file", lambda: bool(asked.append(1)), lambda: None)
    monkeypatch.setattr(watch, "pause", pauses.append)
    watch.wait(0.0)
    asked.clear()
    for _ in range(8):
        watch.wait(3600.0)
    assert (len(asked), pauses) == (8, [0.001, 0.002, 0.004, 0.008, 0.016, TICK, TICK])
    watch.wait(1.0)
    assert pauses[7:] == [TICK]
    bell.times = 2
    watch.wait(3600.0)
    watch.wait(3600.0)
    assert pauses[8:] == [0.001]
