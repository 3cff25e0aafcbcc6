"""The clock never steps back, and the fake one moves only when told to."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.clock import FakeClock, LedgerClock, Stamps, SystemClock, _in_child, iso
from gonogo.testing import sandbox_for_tests


class Machine:
    """The machine's two clocks, under the test's control."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = 1_800_000_000.0
        self.ticks = 50.0
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic", lambda: self.ticks)
        monkeypatch.setattr(time, "clock_gettime", lambda clock: self.ticks)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_now_is_the_wall_clock_at_first(machine: Machine) -> None:
    """A new clock says what the machine's wall clock says, and goes on with it."""
    clock = SystemClock()
    assert clock.now() == machine.wall
    machine.pass_time(7)
    assert clock.now() == machine.wall
    assert clock.skew() == 0


def test_a_wall_clock_set_back_does_not_set_now_back(machine: Machine) -> None:
    """When the wall clock steps back, now() goes on forwards and skew() says by how much."""
    clock = SystemClock()
    before = clock.now()
    machine.wall -= 3600
    machine.ticks += 1
    assert clock.now() == before + 1
    assert clock.skew() == pytest.approx(3601)


def test_a_wall_clock_set_ahead_is_followed(machine: Machine) -> None:
    """A step forwards beyond the tolerance is taken over, so that limits do not stay shut."""
    clock = SystemClock(tolerance=1.0)
    machine.wall += 3600
    assert clock.now() == machine.wall
    assert clock.skew() == 0


def test_the_wall_clock_is_looked_at_again_within_a_millisecond(machine: Machine) -> None:
    """Between two looks a step ahead may be missed, a thousandth of a second later not."""
    clock = SystemClock(tolerance=1.0)
    clock.now()
    machine.wall += 3600
    machine.pass_time(0.001)
    assert clock.now() == machine.wall


def test_a_small_lead_of_the_wall_clock_is_left_alone(machine: Machine) -> None:
    """A lead within the tolerance is no step; now() does not jump for it."""
    clock = SystemClock(tolerance=1.0)
    before = clock.now()
    machine.wall += 0.5
    assert clock.now() == before
    assert clock.skew() == pytest.approx(-0.5)


def test_now_never_decreases_through_a_storm_of_steps(machine: Machine) -> None:
    """Whatever the wall clock does, each answer is at least the one before."""
    clock = SystemClock()
    answers = []
    for step in (5, -3600, 2, 7200, -86_400, 0.1, 86_400, -1):
        machine.wall += step
        machine.ticks += 0.25
        answers.append(clock.now())
    assert answers == sorted(answers)


def test_monotonic_is_the_machines(machine: Machine) -> None:
    """monotonic() is not corrected by anything."""
    assert SystemClock().monotonic() == machine.ticks


def test_sleep_of_nothing_returns_without_sleeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero and negative times do not reach the machine's sleep, which would raise on the latter."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    clock = SystemClock()
    for seconds in (0, -1, 0.25):
        clock.sleep(seconds)
    assert slept == [0.25]


def test_a_fake_clock_moves_only_when_told() -> None:
    """now() and monotonic() stand still until advance() or sleep()."""
    clock = FakeClock(100.0)
    assert (clock.now(), clock.monotonic()) == (100.0, 100.0)
    clock.advance(5)
    clock.sleep(2.5)
    assert (clock.now(), clock.monotonic()) == (107.5, 107.5)
    assert clock.slept == [2.5]
    assert clock.skew() == 0


def test_a_fake_clock_does_not_go_back() -> None:
    """A negative advance is ignored, as no real clock of ours steps back."""
    clock = FakeClock(100.0)
    clock.advance(-10)
    clock.sleep(-10)
    assert clock.now() == 100.0


def test_a_fake_clock_loses_no_step_between_threads() -> None:
    """Advances from many threads all count."""
    clock = FakeClock(0.0)
    start = threading.Barrier(4)

    def push() -> None:
        start.wait()
        for _ in range(500):
            clock.advance(1)

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == 2000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_800_000_000.25, "2027-01-15T08:00:00.250000Z"),
        (1_800_000_000.9999999, "2027-01-15T08:00:01.000000Z"),
        (-0.5, "1969-12-31T23:59:59.500000Z"),
    ],
)
def test_iso_is_utc_to_the_microsecond(seconds: float, text: str) -> None:
    """iso() gives ISO 8601 in UTC, which reads back as the same moment."""
    assert iso(seconds) == text
    assert datetime.fromisoformat(text).tzinfo == UTC


@given(st.lists(st.floats(-1e9, 4e9) | st.floats(0, 3), min_size=1, max_size=8))
def test_stamps_are_iso_texts(moments: list[float]) -> None:
    """Whatever was asked before, the text is the moment's, to half a microsecond."""
    stamps = Stamps()
    for seconds in moments:
        text = stamps.iso(seconds)
        assert len(text) == len(iso(seconds))
        assert text.endswith("Z")
        shown = datetime.fromisoformat(text) - datetime.fromtimestamp(0, UTC)
        assert abs(shown.total_seconds() - seconds) < 0.000_001


@pytest.mark.parametrize("seconds", [0.0, -0.0, 0.25, 9.999_999_9, -0.5, 1_800_000_009.999_999_8])
def test_a_stamp_rounds_as_iso_does(seconds: float) -> None:
    """The last moment of ten seconds is the first of the next, before the Epoch as well."""
    stamps = Stamps()
    assert stamps.iso(seconds) == iso(seconds)
    assert stamps.iso(seconds) == iso(seconds)


class Database:
    """A database whose clock is some seconds off the machine's, and which may be gone."""

    def __init__(self, machine: Machine, off: float | None) -> None:
        self.machine = machine
        self.off = off
        self.asked = 0
        self.error: Exception | None = None

    def time(self) -> float | None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return None if self.off is None else self.machine.wall + self.off


def test_a_ledger_clock_goes_by_the_database(machine: Machine) -> None:
    """The first answer already is the database's, whatever the machine says."""
    for off in (180.0, -180.0):
        clock = LedgerClock(Database(machine, off).time)
        assert clock.now() == pytest.approx(machine.wall + off)
        machine.pass_time(7)
        machine.wall += 3600  # somebody sets the machine's clock
        assert clock.now() == pytest.approx(machine.wall - 3600 + off)
        machine.wall -= 3600
        assert clock.skew() == pytest.approx(off)


def test_the_database_is_asked_again_now_and_then(machine: Machine) -> None:
    """Asked for each time it is told to, but not more often than it is told."""
    database = Database(machine, 10.0)
    clock = LedgerClock(database.time)
    clock.now(), clock.now()
    clock.refresh(10.0)
    assert database.asked == 1
    machine.pass_time(11)
    database.off = 12.0
    clock.refresh(10.0)
    assert database.asked == 2
    assert clock.now() == pytest.approx(machine.wall + 12.0)


def test_a_slow_answer_is_asked_for_again(machine: Machine) -> None:
    """The first one connects: half of that time would be an error of the clock."""
    database = Database(machine, 10.0)
    delays = [4.0, 0.0]

    def time() -> float | None:
        machine.pass_time(delays.pop(0))
        return database.time()

    clock = LedgerClock(time)
    assert clock.now() == pytest.approx(machine.wall + 10.0)
    assert delays == []


def test_an_answer_that_is_no_number_is_none(machine: Machine) -> None:
    """Time goes on by the machine's clock, as while the database is away."""
    clock = LedgerClock(lambda: float("nan"))
    assert clock.now() == pytest.approx(machine.wall)


def test_a_forked_process_can_ask(machine: Machine) -> None:
    """Though its parent was asking at the moment of the fork."""
    clock = LedgerClock(Database(machine, 10.0).time)
    with clock._lock:
        _in_child(clock)
        assert clock.now() == pytest.approx(machine.wall + 10.0)


def test_whoever_keeps_a_ledger_asks_again(machine: Machine) -> None:
    """A worker with nothing to do and a process that only schedules follow the database too."""
    database = Database(machine, 10.0)
    sandbox = sandbox_for_tests(clock=LedgerClock(database.time))
    sandbox.clock.now()
    for asked, keep in enumerate((sandbox.delivery.keep, sandbox.scheduler.run_once), 2):
        machine.pass_time(11)
        keep()
        assert database.asked == asked


def test_a_database_set_back_lets_time_stand_still(machine: Machine) -> None:
    """A fail-over to a server that is behind reopens no window: time waits for it."""
    database = Database(machine, 0.0)
    clock = LedgerClock(database.time)
    before = clock.now()
    database.off = -60.0
    clock.refresh()
    machine.pass_time(20)
    assert clock.now() == before
    assert clock.ahead() == pytest.approx(40.0)
    machine.pass_time(50)
    assert clock.now() == pytest.approx(machine.wall - 60.0)
    assert clock.ahead() == 0.0


def test_a_database_without_a_clock_is_not_asked_again(machine: Machine) -> None:
    """Where there is one machine, its own clock counts."""
    database = Database(machine, None)
    clock = LedgerClock(database.time)
    assert clock.now() == machine.wall
    machine.pass_time(3600)
    clock.refresh()
    assert clock.now() == machine.wall
    assert (database.asked, clock.is_corrected, clock.skew()) == (1, False, 0.0)


def test_a_database_out_of_reach_is_asked_again_later(machine: Machine) -> None:
    """Meanwhile time is the machine's, and nobody waits for each answer."""
    database = Database(machine, 60.0)
    database.error = OSError("gone")
    clock = LedgerClock(database.time)
    assert (clock.now(), clock.now()) == (machine.wall, machine.wall)
    assert database.asked == 1
    database.error = None
    machine.pass_time(11)
    assert clock.now() == pytest.approx(machine.wall + 60.0)


def test_inside_a_transaction_the_database_is_not_asked(machine: Machine) -> None:
    """The store refuses; the next answer may ask again."""
    database = Database(machine, 60.0)
    database.error = RuntimeError("nested")
    clock = LedgerClock(database.time)
    assert clock.now() == machine.wall
    database.error = None
    assert clock.now() == pytest.approx(machine.wall + 60.0)
