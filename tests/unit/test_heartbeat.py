"""The heartbeat: what counts as healthy, and what cannot stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError, StoreUnavailable
from gonogo.heartbeat import SchedulerHeartbeat
from gonogo.store.memory import MemoryStore

SOON = 5.0  # seconds; how long a test waits for a signal that comes at once


class BrokenStore(MemoryStore):
    """A ledger that can be cut off."""

    broken = True

    def write(self, work: Any, *, durable: bool = True) -> Any:
        if self.broken:
            raise StoreUnavailable("disk full at postgresql://me:hunter2@db")
        return super().write(work, durable=durable)


class Hanging:
    """A check that does not answer until it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.let_go = threading.Event()

    def __call__(self) -> bool:
        self.calls += 1
        return self.let_go.wait(SOON)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    check = Hanging()
    yield check
    check.let_go.set()


@pytest.fixture
def heartbeat(clock: FakeClock) -> Iterator[SchedulerHeartbeat]:
    """One whose thread beats once and then, on this clock's terms, waits for an hour."""
    beating = SchedulerHeartbeat(interval=3600, timeout=7200, clock=clock)
    yield beating
    beating.stop()


@pytest.mark.parametrize(
    "wrong", [{"interval": 0}, {"interval": -1}, {"interval": 10, "timeout": 5}, {"timeout": 1e999}]
)
def test_times_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    """The interval is above zero and the timeout at least as long."""
    with pytest.raises(ConfigurationError, match="heartbeat"):
        SchedulerHeartbeat(**wrong)


def test_it_is_not_healthy_before_it_starts(heartbeat: SchedulerHeartbeat) -> None:
    """No thread and no beat is no sign of life; a beat by hand does not make it run."""
    assert not heartbeat.is_running
    assert not heartbeat.is_healthy()
    heartbeat.beat_once()
    assert not heartbeat.is_healthy()


def test_start_gives_a_first_beat_and_stop_ends_it(heartbeat: SchedulerHeartbeat) -> None:
    """After start() it runs and is healthy; after stop() neither."""
    heartbeat.start()
    assert heartbeat.is_running
    assert heartbeat.is_healthy()
    heartbeat.stop()
    assert not heartbeat.is_running
    assert not heartbeat.is_healthy()


def test_start_and_stop_may_be_repeated(heartbeat: SchedulerHeartbeat) -> None:
    """Stopping what never started, starting twice, stopping twice, starting again: all fine."""
    heartbeat.stop()
    heartbeat.start()
    thread = heartbeat._thread
    heartbeat.start()
    assert heartbeat._thread is thread
    heartbeat.stop()
    heartbeat.stop()
    heartbeat.start()
    assert heartbeat.is_healthy()


def test_threads_that_start_it_together_start_one_thread(heartbeat: SchedulerHeartbeat) -> None:
    """start() from many threads makes one heartbeat thread."""
    gate = threading.Barrier(4)

    def begin() -> None:
        gate.wait()
        heartbeat.start()

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("gonogo-heartbeat") == 1


def test_it_beats_every_interval(clock: FakeClock) -> None:
    """The thread goes on beating by itself."""
    third = threading.Event()
    beats = []

    def count() -> bool:
        beats.append(1)
        if len(beats) >= 3:
            third.set()
        return True

    heartbeat = SchedulerHeartbeat(interval=0.001, timeout=10, clock=clock)
    heartbeat.register_check("count", count)
    heartbeat.start()
    assert third.wait(SOON)
    heartbeat.stop()


def test_a_beat_that_is_too_old_is_unhealthy(
    heartbeat: SchedulerHeartbeat, clock: FakeClock
) -> None:
    """A beat counts up to timeout seconds, and not longer."""
    heartbeat.start()
    clock.advance(7200)
    assert heartbeat.is_healthy()
    clock.advance(1)
    assert not heartbeat.is_healthy()


@pytest.mark.parametrize(
    ("answer", "ok"),
    [(True, True), (False, False), (None, False), (1, False), ("yes", False), ((True, "a"), True),
     ((False, "b"), False), ((None, "c"), False)],
    ids=repr,
)  # fmt: skip
def test_only_true_is_well(heartbeat: SchedulerHeartbeat, answer: object, ok: bool) -> None:
    """A check is well when it answers exactly True, alone or with evidence."""
    heartbeat.register_check("check", lambda: answer)
    heartbeat.start()
    assert heartbeat.is_healthy() is ok


def test_a_check_that_raises_is_unhealthy_and_heard(heartbeat: SchedulerHeartbeat) -> None:
    """Its message is the evidence, without secrets; other checks are asked all the same."""

    def broken() -> bool:
        raise ConnectionError("password=hunter2 refused")

    heartbeat.register_check("broken", broken)
    heartbeat.register_check("fine", lambda: True)
    heartbeat.start()
    assert not heartbeat.is_healthy()
    assert heartbeat.get_health_status()["checks"] == {
        "broken": {"ok": False, "evidence": "ConnectionError: password=[secret] refused"},
        "fine": {"ok": True, "evidence": "ok"},
    }


def test_a_check_that_hangs_is_unhealthy_and_started_once(
    heartbeat: SchedulerHeartbeat, hanging: Hanging
) -> None:
    """Beats go on, no second thread is spent on it, and it is well again when it answers again."""
    heartbeat.register_check("hanging", hanging, timeout=0.01)
    pulses = [heartbeat.beat_once() for _ in range(5)]
    assert [pulse.ok for pulse in pulses] == [False] * 5
    assert pulses[-1].checks[0].hung
    assert hanging.calls == 1
    run = heartbeat._checks["hanging"]._run
    hanging.let_go.set()
    assert run is not None
    assert run._done.wait(SOON)
    assert heartbeat.beat_once().ok
    assert hanging.calls == 2


def test_checks_of_a_beat_run_at_the_same_time(heartbeat: SchedulerHeartbeat) -> None:
    """Two checks that wait for each other both succeed."""
    meeting = threading.Barrier(2)
    for name in ("one", "two"):
        heartbeat.register_check(name, lambda: meeting.wait(SOON) >= 0)
    assert heartbeat.beat_once().ok


def test_a_check_registered_again_is_replaced(heartbeat: SchedulerHeartbeat) -> None:
    """One name, one check."""
    heartbeat.register_check("check", lambda: False)
    heartbeat.register_check("check", lambda: True)
    assert heartbeat.beat_once().ok
    assert heartbeat.get_health_status()["total_checks"] == 1


def test_the_status_says_all_there_is(heartbeat: SchedulerHeartbeat, clock: FakeClock) -> None:
    """Before the first beat the times are None; afterwards they are the last beat's."""
    heartbeat.register_check("check", lambda: True)
    status = heartbeat.get_health_status()
    assert status["last_heartbeat"] is None
    assert status["seconds_since_heartbeat"] is None
    assert status["checks"] == {"check": {"ok": False, "evidence": "not asked yet"}}
    heartbeat.start()
    clock.advance(90)
    assert heartbeat.get_health_status() == {
        "name": heartbeat.name,
        "is_running": True,
        "is_healthy": True,
        "last_heartbeat": "2027-01-15T08:00:00.000000Z",
        "seconds_since_heartbeat": 90.0,
        "total_checks": 1,
        "total_beats": 1,
        "missed_beats": 0,
        "problem": None,
        "checks": {"check": {"ok": True, "evidence": "ok"}},
    }


def test_beats_that_did_not_come_are_counted(clock: FakeClock) -> None:
    """Three intervals without a beat are two missed ones: at once in the status, then for good."""
    heartbeat = SchedulerHeartbeat(interval=10, timeout=30, clock=clock)
    heartbeat.beat_once()
    clock.advance(19.9)
    assert heartbeat.get_health_status()["missed_beats"] == 0
    clock.advance(10.1)
    assert heartbeat.get_health_status()["missed_beats"] == 2
    assert heartbeat.beat_once().missed == 2
    clock.advance(10)
    heartbeat.beat_once()
    assert heartbeat.get_health_status()["missed_beats"] == 2


def test_the_history_is_bounded(clock: FakeClock) -> None:
    """Only the last beats are remembered, oldest first."""
    heartbeat = SchedulerHeartbeat(clock=clock, history=3)
    for _ in range(5):
        heartbeat.beat_once()
        clock.advance(10)
    start = 1_800_000_000.0
    assert [pulse.at for pulse in heartbeat.history] == [start + 20, start + 30, start + 40]


def test_listeners_hear_of_changes_only(heartbeat: SchedulerHeartbeat) -> None:
    """One call when beats turn bad, one when they are well again, none in between."""
    well = True
    heard: list[tuple[bool, bool]] = []
    heartbeat.register_check("check", lambda: well)
    heartbeat.on_change(lambda ok, status: heard.append((ok, status["checks"]["check"]["ok"])))
    for well in (True, False, False, True, True):  # noqa: B007  the check reads it
        heartbeat.beat_once()
    assert heard == [(False, False), (True, True)]


def test_listeners_hear_of_a_gap(clock: FakeClock) -> None:
    """A heartbeat that stood still longer than its timeout was unhealthy, and then well again."""
    heartbeat = SchedulerHeartbeat(interval=10, timeout=30, clock=clock)
    heard: list[bool] = []
    heartbeat.on_change(lambda ok, status: heard.append(ok))
    heartbeat.beat_once()
    clock.advance(31)
    heartbeat.beat_once()
    assert heard == [False, True]


def test_a_listener_that_raises_or_hangs_disturbs_nobody(
    clock: FakeClock, hanging: Hanging
) -> None:
    """Others still hear, the beat goes on, and the failures are counted."""
    heartbeat = SchedulerHeartbeat(interval=0.01, timeout=10, clock=clock)
    well = True
    heard: list[bool] = []

    def rude(ok: bool, status: object) -> None:
        raise SystemExit("listener")

    heartbeat.register_check("check", lambda: well)
    heartbeat.on_change(rude)
    heartbeat.on_change(lambda ok, status: hanging())
    heartbeat.on_change(lambda ok, status: heard.append(ok))
    for well in (False, True):  # noqa: B007  the check reads it
        heartbeat.beat_once()
    assert heard == [False, True]
    assert hanging.calls == 1
    assert heartbeat.listener_failures == 4


def test_stopping_is_not_a_change(heartbeat: SchedulerHeartbeat) -> None:
    """Who stops it knows; nobody is told that it turned bad."""
    heard: list[bool] = []
    heartbeat.on_change(lambda ok, status: heard.append(ok))
    heartbeat.start()
    heartbeat.stop()
    assert heard == []


def test_the_beat_is_on_the_ledger_until_it_stops(clock: FakeClock) -> None:
    """Other processes see name, time and checks of a heartbeat that runs, and none of one that
    stopped in good order."""
    store = MemoryStore()
    heartbeat = SchedulerHeartbeat(3600, 7200, clock=clock, store=store, name="host-1")
    heartbeat.register_check("check", lambda: True)
    heartbeat.start()
    (beat,) = store.read(lambda tx: tx.beats.all())
    assert (beat.name, beat.kind, beat.at) == ("host-1", "heartbeat", clock.now())
    assert beat.detail == {"checks": {"check": True}}
    heartbeat.stop()
    assert store.read(lambda tx: tx.beats.all()) == []


def test_two_heartbeats_have_two_names() -> None:
    """Two in one process do not overwrite each other's beats."""
    assert SchedulerHeartbeat().name != SchedulerHeartbeat().name


def test_a_beat_that_cannot_be_written_is_unhealthy(clock: FakeClock) -> None:
    """The thread survives a broken ledger, says why, and is well again when the ledger is."""
    store = BrokenStore()
    heartbeat = SchedulerHeartbeat(3600, 7200, clock=clock, store=store)
    heartbeat.start()
    assert heartbeat.is_running
    assert not heartbeat.is_healthy()
    problem = heartbeat.get_health_status()["problem"]
    assert problem == "StoreUnavailable: disk full at postgresql://me:[secret]@db"
    store.broken = False
    heartbeat.beat_once()
    assert heartbeat.is_healthy()
    store.broken = True
    heartbeat.stop()
    assert not heartbeat.is_running


@pytest.mark.parametrize(
    "register",
    [
        lambda beat: beat.register_check("", bool),
        lambda beat: beat.register_check("check", "not a function"),
        lambda beat: beat.register_check("check", bool, timeout=0),
        lambda beat: beat.register_check("check", bool, timeout=float("inf")),
    ],
)
def test_a_check_that_makes_no_sense_is_refused(
    heartbeat: SchedulerHeartbeat, register: Callable[[SchedulerHeartbeat], None]
) -> None:
    """A check has a name, a function and a time limit that ends."""
    with pytest.raises(ConfigurationError):
        register(heartbeat)
