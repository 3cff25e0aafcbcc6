"""A switch that stands is never shortened by another, and each end of one is the end of one."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.sandboxes import FaultySandbox
from tests.support.scene import WHO, Provider, Sandboxes, drain, payment, reminder

from gonogo.clock import FakeClock
from gonogo.errors import Refused, StoreUnavailable
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.readiness import SandboxReadinessChecker
from gonogo.records import Decision, Verdict

BEN = {"by": "ben", "reason": "fraud suspected"}
CID = {"by": "cid", "reason": "quick look"}
SWITCHES: dict[str, tuple[Any, Any, str, str]] = {
    "halt": (
        lambda s, **w: s.halt("pay", **w),
        lambda s: s.resume("pay", **WHO),
        "pay is halted by ben",
        "gonogo resume pay",
    ),
    "halt of everything": (
        lambda s, **w: s.halt(**w),
        lambda s: s.resume(**WHO),
        "everything is halted by ben",
        "gonogo resume",
    ),
    "hold": (
        lambda s, **w: s.hold(**w),
        lambda s: s.release(**WHO),
        "what is irreversible is held by ben",
        "gonogo release",
    ),
    "pause": (
        lambda s, **w: s.pause("default", **w),
        lambda s: s.unpause("default", **WHO),
        "queue 'default' is paused by ben",
        "gonogo queues resume default",
    ),
}
every_switch = pytest.mark.parametrize("switch", SWITCHES)


def last(sandbox: SandboxOrchestrator) -> Decision:
    return sandbox.decisions()[0]


@every_switch
@pytest.mark.parametrize("lasts", [None, 3600.0])
def test_a_shorter_one_never_ends_one_that_stands(
    sandboxes: Sandboxes, switch: str, lasts: float | None
) -> None:
    """It is refused with who, why and the remedy; what is stopped stays, nothing is recorded."""
    set_it, _, who, remedy = SWITCHES[switch]
    sandbox, clock, provider = sandboxes(), sandboxes.clock, Provider()
    sandbox.arm(**WHO)
    payment(sandbox, provider).enqueue("A")
    set_it(sandbox, until=None if lasts is None else clock.now() + lasts, **BEN)
    before = sandbox.decisions()
    with pytest.raises(Refused, match="nothing was changed") as refused:
        set_it(sandbox, until=clock.now() + 2, **CID)
    assert who in str(refused.value)
    assert "fraud suspected" in str(refused.value)
    assert refused.value.remedy == remedy
    clock.advance(3)
    drain(sandbox)
    assert (provider.book, sandbox.decisions()) == ([], before)


def test_an_end_in_whole_seconds_is_told(sandboxes: Sandboxes) -> None:
    """A time is a number, be it an int or a float."""
    sandbox, clock = sandboxes(), sandboxes.clock
    sandbox.arm(**WHO)
    call = payment(sandbox).enqueue("A")
    clock.advance(1)
    sandbox.halt("pay", **BEN, until=int(clock.now()) + 60)
    thrown = "2027-01-15 08:00:01Z: pay was halted by ben, until 2027-01-15 08:01:01Z: "
    assert f"{thrown}fraud suspected." in call.explain()


@every_switch
def test_one_that_lasts_as_long_or_longer_replaces_it(sandboxes: Sandboxes, switch: str) -> None:
    """The decision says whose it replaced; one whose time is over is replaced by nobody."""
    set_it, *_ = SWITCHES[switch]
    sandbox, clock = sandboxes(), sandboxes.clock
    first = clock.now() + 60
    set_it(sandbox, until=first, **BEN)
    assert "replaced" not in last(sandbox).detail
    for until in (first, first + 60, None, None):
        set_it(sandbox, until=until, **CID)
    chain = [made.detail["replaced"] for made in sandbox.decisions()[:4]]
    assert [one["until"] for one in chain] == [None, first + 60, first, first]
    assert chain[-1] == {**BEN, "until": first}


@every_switch
def test_after_its_time_a_shorter_one_is_as_good_as_any(sandboxes: Sandboxes, switch: str) -> None:
    """What is over stands in nobody's way, and is not named as replaced."""
    set_it, *_ = SWITCHES[switch]
    sandbox, clock = sandboxes(), sandboxes.clock
    set_it(sandbox, until=clock.now() + 60, **BEN)
    clock.advance(60)
    set_it(sandbox, until=clock.now() + 1, **CID)
    assert (last(sandbox).actor, "replaced" in last(sandbox).detail) == ("cid", False)


@every_switch
def test_only_what_stands_can_be_ended(sandboxes: Sandboxes, switch: str) -> None:
    """With nothing set, or after its time, ending gives false and records nothing."""
    set_it, end_it, *_ = SWITCHES[switch]
    sandbox, clock = sandboxes(), sandboxes.clock
    assert end_it(sandbox) is False
    set_it(sandbox, until=clock.now() + 60, **BEN)
    clock.advance(60)
    before = sandbox.decisions()
    assert end_it(sandbox) is False
    assert sandbox.decisions() == before
    set_it(sandbox, **BEN)
    assert end_it(sandbox) is True


def test_the_pause_of_a_schedule_is_not_shortened(sandboxes: Sandboxes) -> None:
    """Its next tick stays where the longer pause put it."""
    sandbox, clock = sandboxes(), sandboxes.clock
    sandbox.schedule("audit", reminder(sandbox, str), every="1m", arguments={"text": "a"})
    sandbox.scheduler.run_once()
    sandbox.timetable.pause("audit", until=clock.now() + 3600, **BEN)
    before = sandbox.schedules()
    with pytest.raises(Refused, match="schedule 'audit' is paused by ben") as refused:
        sandbox.timetable.pause("audit", until=clock.now() + 2, **CID)
    assert refused.value.remedy == "gonogo schedules resume audit"
    assert sandbox.schedules() == before
    sandbox.timetable.pause("audit", **CID)
    assert last(sandbox).detail["replaced"]["by"] == "ben"


def test_a_hold_without_a_ledger_is_not_shortened(fake_clock: FakeClock) -> None:
    """A checker that stands alone keeps the same rules."""
    checker = SandboxReadinessChecker(clock=fake_clock)
    assert checker.release(**WHO) is False
    checker.hold(**BEN)
    with pytest.raises(Refused, match="held by ben"):
        checker.hold(until=fake_clock.now() + 2, **CID)
    fake_clock.advance(3)
    assert checker.evaluate().verdict is Verdict.HOLD
    checker.hold(**CID)
    assert checker.release(**WHO) is True
    assert checker.evaluate().verdict is Verdict.GO


def test_a_hold_that_could_not_be_written_is_not_shortened(fake_clock: FakeClock) -> None:
    """This process keeps it until it is released, whatever shorter one is written later."""
    sandbox = FaultySandbox(clock=fake_clock)
    checker = sandbox.readiness_checker
    sandbox.faulty.fail_next()
    with pytest.raises(StoreUnavailable):
        checker.hold(**BEN)
    checker.hold(until=fake_clock.now() + 2, **CID)
    fake_clock.advance(3)
    assert checker.evaluate("call").verdict is Verdict.HOLD
    assert checker.release(**WHO) is True
