"""What other processes write to a SQLite file is noticed at once, without a query while idle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.store.making import queued

from gonogo.store import sqlite_watch
from gonogo.store.sqlite import SqliteStore

SOON = 10.0


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], SqliteStore]]:
    """Stores on one file; each is to it what another process would be."""
    made: list[SqliteStore] = []

    def make() -> SqliteStore:
        made.append(SqliteStore(f"sqlite:///{tmp_path}/ledger.db"))
        made[-1].read(lambda tx: tx.calls.counts())
        return made[-1]

    yield make
    for store in made:
        store.close()


def enqueue(store: SqliteStore) -> None:
    store.write(lambda tx: tx.calls.insert(queued()))


class Ear:
    """Listens to a store, and looks when it is asked."""

    def __init__(self, store: SqliteStore) -> None:
        self.heard = 0
        listening = store.listen(self._wake)
        assert listening.look is not None
        self._look = listening.look
        while self._look():
            pass
        self.heard = 0

    def hears(self) -> bool:
        """Whether it was woken within two looks: the second asks again after a change."""
        before = self.heard
        self._look()
        self._look()
        return self.heard > before

    def _wake(self, _: object) -> None:
        self.heard += 1


def test_a_commit_of_another_process_is_noticed(open_store: Callable[[], SqliteStore]) -> None:
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
) -> tuple[Callable[[], bool], list[bool | None], list[None]]:
    """A look at a log that changed once, what it will be told, and how often it woke."""
    glances = iter([(1, 1, 1)])
    monkeypatch.setattr(sqlite_watch.Watch, "_glance", lambda self: next(glances, (1, 1, 2)))
    woken: list[None] = []
    watch = sqlite_watch.Watch("log", lambda: answers.pop(0), lambda: woken.append(None))
    return watch.look, answers, woken


def test_two_commits_in_one_tick_of_the_disk_are_both_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A log that looks as before is asked once more: its clock is coarser than commits are fast."""
    look, answers, woken = watching(monkeypatch, [False, True])
    assert [look(), look(), look()] == [True, True, False]
    assert (answers, len(woken)) == ([], 1)


def test_what_cannot_be_said_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as our own commit is in the way; then once more, as after every change."""
    look, answers, woken = watching(monkeypatch, [False, None, None, True])
    assert [look() for _ in range(5)] == [True, True, True, True, False]
    assert (answers, len(woken)) == ([], 1)


def test_a_look_waits_for_no_commit(open_store: Callable[[], SqliteStore]) -> None:
    """Who looks has leases to renew: while our own commit is under way the answer can wait."""
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


def test_what_we_write_ourselves_wakes_nobody(open_store: Callable[[], SqliteStore]) -> None:
    """Whoever enqueues in this process is told directly; a beat must not make work."""
    ours = open_store()
    ours._others_wrote()
    for _ in range(3):
        enqueue(ours)
        assert not ours._others_wrote()
    enqueue(open_store())
    assert ours._others_wrote()


def test_a_file_that_cannot_be_asked_ends_no_watch(
    open_store: Callable[[], SqliteStore], tmp_path: Path
) -> None:
    """The watch outlives the file's disappearance and a closed store; waking costs only a look."""
    ours = open_store()
    ear = Ear(ours)
    ours.close()
    for leftover in tmp_path.iterdir():
        leftover.unlink()
    assert ear.hears()
    for _ in range(2):
        enqueue(open_store())
        assert ear.hears()
