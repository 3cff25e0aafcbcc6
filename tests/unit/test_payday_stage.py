"""The stage of a run: its state is used by one run at a time, and its processes end with it."""

from __future__ import annotations

import fcntl
import os
import urllib.request
from pathlib import Path

import pytest
from examples.payday.bank import Bank
from examples.payday.mailbox import Folder
from examples.payday.places import Places
from examples.payday.stage import Busy, Stage

from gonogo.clock import FakeClock, SystemClock

pytestmark = pytest.mark.faults


def test_the_programs_run_while_the_stage_is_open(tmp_path: Path) -> None:
    """Inside, provider and mail server answer; afterwards their ports are closed."""
    with Stage(tmp_path / "state", clock=SystemClock(), seed=3, work=0) as stage:
        places = stage.open()
        bank = Bank(places.provider, timeout=5)
        assert bank.payments() == []
        assert bank.faults() == {}
        assert Folder(places.mail).messages() == []

    with pytest.raises(urllib.request.URLError):
        bank.payments()


def test_two_runs_never_share_a_state(tmp_path: Path) -> None:
    """While one run has the folder another one is told so, and may begin when it is over."""
    with (
        Stage(tmp_path, clock=SystemClock()),
        pytest.raises(Busy, match="another run uses"),
        Stage(tmp_path, clock=FakeClock()),
    ):
        pass
    with Stage(tmp_path, clock=FakeClock()):
        pass


def test_what_a_run_started_keeps_its_state_locked(tmp_path: Path) -> None:
    """Should the run die, the lock is held until the last of its processes is gone."""
    stage = Stage(tmp_path, clock=SystemClock(), work=0)
    with stage:
        stage.open()
        os.close(stage._lock)  # as the kernel does when the run is killed
        stage._lock = os.open(tmp_path / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(stage._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for child in stage._started:
            child.stop()
        fcntl.flock(stage._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_clear_forgets_everything_but_the_lock(tmp_path: Path) -> None:
    """Files and folders of earlier runs are removed; the lock stays held."""
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "one.eml").touch()
    (tmp_path / "ledger.db").touch()
    with Stage(tmp_path, clock=SystemClock()) as stage:
        stage.clear()

        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_places_travel_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process reads back what the run put into its environment."""
    places = Places("sqlite:///l.db", "http://127.0.0.1:1", 25, Path("mail"))
    for name, value in places.environment().items():
        monkeypatch.setenv(name, value)

    assert Places.from_environment() == places
