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


class Bell:
    """Rings when it is called, as often as one waits for it."""

    def __init__(self) -> None:
        self._rung = threading.Semaphore(0)

    def __call__(self, *_: object) -> None:
        self._rung.release()

    def rings(self) -> bool:
        return self._rung.acquire(timeout=SOON)

    def silence(self) -> None:
        while self._rung.acquire(blocking=False):
            pass


def test_a_commit_of_another_process_is_noticed(open_store: Callable[[], SqliteStore]) -> None:
    """Each one is, also after the log was folded into the file and begun anew."""
    ours, theirs, bell = open_store(), open_store(), Bell()
    stop = ours.listen(bell)
    try:
        for fold in (False, False, True, True):
            bell.silence()
            enqueue(theirs)
            assert bell.rings()
            if fold:
                theirs._writer._raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        stop()
        stop()


def test_two_commits_in_one_tick_of_the_disk_are_both_noticed(
    open_store: Callable[[], SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that looks as before is asked once more: its clock is coarser than commits are fast."""
    looks = iter([(1, 1, 1), (1, 1, 2)])
    monkeypatch.setattr(sqlite_watch.Watch, "_look", lambda self: next(looks, (1, 1, 2)))
    answers, bell, asked = iter([False, True]), Bell(), []

    def others_wrote() -> bool:
        asked.append(1)
        return next(answers)

    watch = sqlite_watch.Watch("log", others_wrote, bell)
    assert bell.rings()
    watch.stop()
    assert len(asked) == 2


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
    ours, bell = open_store(), Bell()
    stop = ours.listen(bell)
    ours.close()
    for leftover in tmp_path.iterdir():
        leftover.unlink()
    assert bell.rings()
    enqueue(open_store())
    bell.silence()
    enqueue(open_store())
    assert bell.rings()
    stop()
