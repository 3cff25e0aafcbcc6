"""The scheduler: one call a tick, whoever ticks; what is missed, refused or paused is told."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from tests.support.scene import SOON, WHO, Provider, Sandboxes, payment

from gonogo.errors import ConfigurationError, NotFound, StoreUnavailable
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State

MINUTE = 60.0


def alerts(sandbox: SandboxOrchestrator) -> list[str]:
    """The reasons of the alerts about schedules."""
    found = sandbox.alert_system.alerts
    return [alert["reason"] for alert in found if alert["task"].startswith("schedule ")]


def audit(sandbox: SandboxOrchestrator, **declared: Any) -> list[str]:
    """Declare ``audit``, every minute; returns what its calls were given."""
    seen: list[str] = []

    @sandbox.action("audit", irreversible=False)
    def act(at: str) -> None:
        seen.append(at)

    given = {"every": MINUTE, "arguments": lambda tick: {"at": f"{tick.at:.0f}"}, **declared}
    sandbox.schedule("audit", act, **given)
    return seen


def work(sandbox: SandboxOrchestrator) -> None:
    while sandbox.worker.run_once():
        pass


def test_a_tick_makes_one_call(sandboxes: Sandboxes) -> None:
    """The call is made when it is due, with the tick's arguments, and is found by its tick."""
    sandbox = sandboxes()
    seen = audit(sandbox)
    start = sandboxes.clock.now()
    assert sandbox.scheduler.run_once() == pytest.approx(5.0)
    assert sandbox.calls() == []
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    sandbox.scheduler.run_once()
    work(sandbox)
    assert seen == [f"{start + MINUTE:.0f}"]
    (call,) = sandbox.calls()
    status = sandbox.schedules()["audit"]
    assert call.correlation_id.startswith("schedule:audit@")
    assert (status.schedule.last_call, status.state) == (call.id, State.SUCCEEDED)
    assert status.schedule.next_at == start + 2 * MINUTE
    assert alerts(sandbox) == []


def test_two_schedulers_make_one_call(tmp_path: Any) -> None:
    """Of two that see the same tick one makes the call; the other finds it made."""
    sandboxes = Sandboxes("sqlite", tmp_path)
    one, other = sandboxes(), sandboxes()
    audit(one), audit(other)
    for sandbox in (one, other):
        sandbox.scheduler.run_once()
    sandboxes.clock.advance(MINUTE)
    both = threading.Barrier(2)

    def tick(sandbox: SandboxOrchestrator) -> None:
        both.wait(SOON)
        sandbox.scheduler.run_once()

    threads = [threading.Thread(target=tick, args=(s,)) for s in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(one.calls()) == 1
    sandboxes.close()


@pytest.mark.parametrize(
    ("catch_up", "away", "made", "missed"),
    [
        ("one", 10.5, 1, 9),
        ("all", 10.5, 10, 9),
        ("skip", 10.5, 1, 9),
        ("skip", 11.99, 0, 11),
        ("one", 11.99, 1, 11),
        ("one", 1.5, 1, 0),
    ],
)
def test_what_nobody_was_there_for(
    sandboxes: Sandboxes, catch_up: str, away: float, made: int, missed: int
) -> None:
    """Missed ticks are counted and told once; how many are made up for is the policy's."""
    sandbox = sandboxes()
    seen = audit(sandbox, catch_up=catch_up, grace=50.0)
    sandbox.scheduler.run_once()
    sandboxes.clock.advance(away * MINUTE)
    sandbox.scheduler.run_once()
    work(sandbox)
    assert len(seen) == len(set(seen)) == made
    assert sandbox.schedules()["audit"].schedule.missed == missed
    assert set(alerts(sandbox)) == ({"ticks were missed"} if missed else set())


def test_ticks_within_the_grace_that_get_no_call_are_told(sandboxes: Sandboxes) -> None:
    """Three are due at once: the last is made, and that the others are not is no secret."""
    sandbox = sandboxes()
    seen = audit(sandbox, every=15.0, grace=60.0)
    sandbox.scheduler.run_once()
    sandboxes.clock.advance(50.0)
    sandbox.scheduler.run_once()
    work(sandbox)
    assert len(seen) == 1
    assert sandbox.schedules()["audit"].schedule.missed == 2
    assert alerts(sandbox) == ["ticks were missed"]


@pytest.mark.parametrize("when", ["declared", "resumed"])
def test_a_repeated_hour_repeats_no_tick(sandboxes: Sandboxes, when: str) -> None:
    """In the second pass of an hour a tick of the first one is over, and is not made again."""
    clock = sandboxes.clock
    second_pass = 1824944400.0  # 31 October 2027, 02:00 in winter time
    start = second_pass - 5400.0 if when == "resumed" else second_pass + 600.0
    clock.advance(start - clock.now())
    sandbox = sandboxes()
    seen = audit(sandbox, every=None, cron="30 2 * * *", tz="Europe/Paris", catch_up="one")
    sandbox.scheduler.run_once()
    if when == "resumed":  # it is 01:30 in summer time
        clock.advance(3600.0)
        sandbox.scheduler.run_once()
        clock.advance(2400.0)  # 02:10 in winter time
        sandbox.timetable.pause("audit", **WHO)
        sandbox.timetable.resume("audit", **WHO)
    sandbox.scheduler.run_once()
    work(sandbox)
    assert len(seen) == (when == "resumed")
    assert sandbox.schedules()["audit"].schedule.missed == 0


def test_a_change_in_a_pause_leaves_the_pause(tmp_path: Any) -> None:
    """Declared anew while it is paused for a while, it goes on after that and makes up nothing."""
    sandboxes = Sandboxes("sqlite", tmp_path)
    first = sandboxes()
    audit(first)
    first.scheduler.run_once()
    first.timetable.pause("audit", until=sandboxes.clock.now() + 10.5 * MINUTE, **WHO)
    second = sandboxes()
    seen = audit(second, every=2 * MINUTE)
    second.scheduler.run_once()
    sandboxes.clock.advance(11.0 * MINUTE)
    second.scheduler.run_once()
    assert (seen, second.schedules()["audit"].schedule.missed) == ([], 0)
    sandboxes.clock.advance(1.0 * MINUTE)
    second.scheduler.run_once()
    work(second)
    assert len(seen) == 1
    sandboxes.close()


def test_a_schedule_that_another_version_left_is_told(tmp_path: Any) -> None:
    """It declared it last and went: whoever is left says that nobody ticks it."""
    sandboxes = Sandboxes("sqlite", tmp_path)
    new, old = sandboxes(), sandboxes()
    audit(new, every=2 * MINUTE)
    new.scheduler.run_once()
    audit(old)
    old.scheduler.run_once()
    new.scheduler.start()
    assert new.scheduler.check()[0]
    sandboxes.clock.advance(2 * MINUTE + 1.0)
    new.scheduler.run_once()
    well, why = new.scheduler.check()
    assert (well, new.calls()) == (False, [])
    assert "another version declared it last" in why
    sandboxes.close()


def test_a_change_loses_no_tick_that_was_due(tmp_path: Any) -> None:
    """Nobody had made it yet: the new version makes it, and says that it is late."""
    sandboxes = Sandboxes("sqlite", tmp_path)
    old, new = sandboxes(), sandboxes()
    audit(old, every=10 * MINUTE)
    old.scheduler.run_once()
    sandboxes.clock.advance(15 * MINUTE)
    seen = audit(new, every=60 * MINUTE)
    new.scheduler.run_once()
    work(new)
    assert len(seen) == 1
    assert new.schedules()["audit"].schedule.missed == 1
    assert alerts(new) == ["ticks were missed"]
    sandboxes.close()


def test_a_ledger_that_refuses_one_schedule_takes_the_others(tmp_path: Any) -> None:
    """What cannot be written stays due and is told; those after it tick."""
    sandboxes = Sandboxes("sqlite", tmp_path)
    sandbox = sandboxes()
    seen = audit(sandbox)
    act = sandbox.action("aaa", irreversible=False)(lambda: None)
    sandbox.schedule("aaa", act, every=MINUTE)
    sandbox.scheduler.run_once()
    take = sandbox.scheduler._take

    def refuse(declared: Any, *rest: Any) -> Any:
        if declared.name == "aaa":
            raise StoreUnavailable("no")
        return take(declared, *rest)

    sandbox.scheduler._take = refuse  # type: ignore[method-assign] # of this one object
    sandboxes.clock.advance(MINUTE)
    with pytest.raises(StoreUnavailable, match="no"):
        sandbox.scheduler.run_once()
    work(sandbox)
    assert len(seen) == 1
    sandboxes.close()


def test_only_an_action_of_the_sandbox_can_be_scheduled(sandboxes: Sandboxes) -> None:
    """A plain function, or an action declared elsewhere, would stop all the others."""
    sandbox, other = sandboxes(), SandboxOrchestrator()
    foreign = other.action("act", irreversible=False)(lambda: None)
    for wrong in (foreign, lambda: None, None):
        with pytest.raises(ConfigurationError, match="not an action of this sandbox"):
            sandbox.schedule("act", wrong, every=60)  # type: ignore[arg-type] # that is the point


def test_arguments_that_end_the_process_refuse_their_tick(sandboxes: Sandboxes) -> None:
    """A function of the user's that calls exit() does not starve the schedules after it."""
    sandbox = sandboxes()
    seen = audit(sandbox)
    act = sandbox.action("aaa", irreversible=False)(lambda: None)
    sandbox.schedule("aaa", act, every=MINUTE, arguments=lambda tick: sys.exit(3))
    sandbox.scheduler.run_once()
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    work(sandbox)
    assert len(seen) == 1
    assert alerts(sandbox) == ["a tick was refused"]


def test_a_refused_tick_is_over_and_told(sandboxes: Sandboxes) -> None:
    """A locked sandbox refuses the tick of a payment: an alert says so, and the next one comes."""
    sandbox = sandboxes()
    provider = Provider()
    pay = payment(sandbox, provider, key="payroll:{invoice}")
    sandbox.schedule("payday", pay, every=MINUTE, arguments=lambda t: {"invoice": f"{t.at:.0f}"})
    sandbox.scheduler.run_once()
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    assert sandbox.calls() == []
    assert alerts(sandbox) == ["a tick was refused"]
    assert "refused" in (sandbox.schedules()["payday"].schedule.note or "")
    sandbox.arm(**WHO)
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    work(sandbox)
    assert len(provider.book) == 1
    assert sandbox.schedules()["payday"].schedule.note is None


def test_arguments_that_fail_are_told(sandboxes: Sandboxes) -> None:
    """A function of the tick that raises stops no other schedule."""
    sandbox = sandboxes()

    def bad(tick: object) -> dict[str, Any]:
        raise LookupError("no such month")

    act = sandbox.action("bad", irreversible=False)(lambda: None)
    sandbox.schedule("bad", act, every=MINUTE, arguments=bad)
    seen = audit(sandbox)
    sandbox.scheduler.run_once()
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    work(sandbox)
    assert len(seen) == 1
    assert "no such month" in (sandbox.schedules()["bad"].schedule.note or "")


def test_a_taken_key_is_told(sandboxes: Sandboxes) -> None:
    """A tick whose key was used before queues nothing new, and says which call has it."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox, key="once:{invoice}")
    sandbox.schedule("payday", pay, every=MINUTE, arguments={"invoice": "A"})
    sandbox.scheduler.run_once()
    for _ in range(2):
        sandboxes.clock.advance(MINUTE)
        sandbox.scheduler.run_once()
    (call,) = sandbox.calls()
    assert alerts(sandbox) == ["a tick made no new call"]
    assert call.id in (sandbox.schedules()["payday"].schedule.note or "")


def test_a_pause_lets_ticks_pass(sandboxes: Sandboxes) -> None:
    """What is paused makes no call and misses nothing; resumed, it goes on from there."""
    sandbox = sandboxes()
    seen = audit(sandbox)
    sandbox.scheduler.run_once()
    sandbox.timetable.pause("audit", **WHO)
    sandboxes.clock.advance(10 * MINUTE)
    sandbox.scheduler.run_once()
    status = sandbox.schedules()["audit"]
    assert (status.paused.actor, status.late) == (WHO["by"], 0.0)
    assert sandbox.timetable.resume("audit", **WHO)
    assert not sandbox.timetable.resume("audit", **WHO)
    sandbox.scheduler.run_once()
    assert sandbox.calls() == []
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    work(sandbox)
    assert len(seen) == 1
    assert sandbox.schedules()["audit"].schedule.missed == 0
    assert [decision.what for decision in sandbox.decisions()] == ["resume", "pause"]


def test_a_pause_may_end_by_itself(sandboxes: Sandboxes) -> None:
    """After ``until`` the ticks go on, and none before it is made up for."""
    sandbox = sandboxes()
    audit(sandbox)
    sandbox.scheduler.run_once()
    end = sandboxes.clock.now() + 5.5 * MINUTE
    sandbox.timetable.pause("audit", **WHO, until=end)
    sandboxes.clock.advance(5.6 * MINUTE)
    sandbox.scheduler.run_once()
    assert sandbox.calls() == []
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    assert len(sandbox.calls()) == 1


def test_a_pause_comes_before_a_tick_that_is_under_way(sandboxes: Sandboxes) -> None:
    """Who was about to make a call finds the schedule paused, and makes none."""
    sandbox = sandboxes()

    def arguments(tick: object) -> dict[str, str]:
        sandbox.timetable.pause("audit", **WHO)
        return {"at": "now"}

    audit(sandbox, arguments=arguments)
    sandbox.scheduler.run_once()
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    assert sandbox.calls() == []


def test_run_now_makes_the_call_and_keeps_the_ticks(sandboxes: Sandboxes) -> None:
    """A person may run a schedule at once; who and why are recorded with the call."""
    sandbox = sandboxes()
    seen = audit(sandbox)
    sandbox.scheduler.run_once()
    before = sandbox.schedules()["audit"].schedule.next_at
    handle = sandbox.timetable.run_now("audit", **WHO)
    work(sandbox)
    assert len(seen) == 1
    assert sandbox.schedules()["audit"].schedule.next_at == before
    (said,) = sandbox.decisions()
    assert (said.what, said.actor, said.detail["call"]) == ("run", WHO["by"], handle.id)
    with pytest.raises(ConfigurationError, match="not declared in this process"):
        sandbox.timetable.run_now("payday", **WHO)


def test_what_is_forgotten_ticks_no_more(sandboxes: Sandboxes) -> None:
    """It is gone until a process that declares it starts."""
    sandbox = sandboxes()
    audit(sandbox)
    sandbox.scheduler.run_once()
    sandbox.timetable.forget("audit", **WHO)
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    assert (sandbox.calls(), sandbox.schedules()) == ([], {})
    with pytest.raises(NotFound, match="there are: none"):
        sandbox.timetable.forget("audit", **WHO)


@pytest.mark.parametrize("switch", ["pause", "resume", "run_now", "forget"])
def test_every_switch_asks_who_and_why(sandboxes: Sandboxes, switch: str) -> None:
    """Without who and why nothing is changed, and nothing is run."""
    sandbox = sandboxes()
    audit(sandbox)
    sandbox.scheduler.run_once()
    with pytest.raises(ConfigurationError, match="who"):
        getattr(sandbox.timetable, switch)("audit", by="", reason="x")
    assert sandbox.calls() == []
    if switch in ("pause", "resume", "forget"):
        with pytest.raises(NotFound, match="there are: audit"):
            getattr(sandbox.timetable, switch)("nowhere", **WHO)


def test_the_last_to_start_says_when(tmp_path: Any) -> None:
    """A deploy changes a schedule: processes that declare it otherwise leave it alone."""
    sandboxes = Sandboxes("sqlite", tmp_path)
    old, new = sandboxes(), sandboxes()
    audit(old), audit(new, every=2 * MINUTE)
    old.scheduler.run_once()
    new.scheduler.run_once()
    for _ in range(3):
        sandboxes.clock.advance(MINUTE)
        old.scheduler.run_once()
    assert old.calls() == []
    new.scheduler.run_once()
    assert len(new.calls()) == 1
    assert new.schedules()["audit"].schedule.spec == "every 120"
    sandboxes.close()


def test_a_restart_keeps_the_ticks(tmp_path: Any) -> None:
    """Declaring the same again moves nothing: what was due while nobody ran is made up for."""
    sandboxes = Sandboxes("sqlite", tmp_path)
    first = sandboxes()
    audit(first)
    first.scheduler.run_once()
    due = first.schedules()["audit"].schedule.next_at
    first.cleanup()
    sandboxes.clock.advance(1.5 * MINUTE)
    second = sandboxes()
    audit(second)
    second.scheduler.run_once()
    assert second.schedules()["audit"].schedule.last_at == due
    sandboxes.close()


def test_an_overdue_schedule_is_told_by_every_heartbeat(tmp_path: Any) -> None:
    """When no process that declares it runs, any other one says so, and raises an alert."""
    sandboxes = Sandboxes("sqlite", tmp_path)
    gone, watching = sandboxes(), sandboxes()
    audit(gone)
    gone.scheduler.run_once()
    gone.cleanup()
    assert watching.heartbeat.beat_once().ok
    for _ in range(20):
        sandboxes.clock.advance(10.0)
        pulse = watching.heartbeat.beat_once()
    said = {check.name: check.evidence for check in pulse.checks if not check.ok}
    assert "audit is overdue by 2m" in said["schedules_on_time"]
    (alert,) = watching.alert_system.alerts
    assert (alert["task"], alert["severity"]) == ("heartbeat", "error")
    assert "audit" in str(alert["context"])
    sandboxes.close()


def test_a_running_sandbox_ticks(sandboxes: Sandboxes) -> None:
    """`initialize` starts the scheduler, its heartbeat asks it, `cleanup` ends it."""
    sandbox = sandboxes()
    done = threading.Event()
    act = sandbox.action("act", irreversible=False)(lambda: done.set())
    sandbox.schedule("act", act, every=MINUTE)
    with sandbox:
        for _ in range(100):  # until it has declared itself
            if sandbox.schedules():
                break
            threading.Event().wait(0.05)
        sandboxes.clock.advance(MINUTE)
        sandbox.scheduler.wake()
        assert done.wait(SOON)
        checks = {check.name: check for check in sandbox.heartbeat.beat_once().checks}
        assert checks["scheduler"].ok
        assert "next: act at" in checks["scheduler"].evidence
        assert any(t.name == "gonogo-scheduler" for t in threading.enumerate())
    assert not sandbox.scheduler.is_running
    assert sandbox.scheduler.check() == (False, "the scheduler does not run")


def test_without_schedules_there_is_no_thread(sandboxes: Sandboxes) -> None:
    """Who declares none pays for none."""
    with sandboxes() as sandbox:
        assert not sandbox.scheduler.is_running


def test_a_name_is_declared_once(sandboxes: Sandboxes) -> None:
    """Two schedules of one name would take each other's ticks."""
    sandbox = sandboxes()
    audit(sandbox)
    with pytest.raises(ConfigurationError, match="declared twice"):
        sandbox.schedule("audit", sandbox.actions["audit"], every=5)


def test_a_scheduled_call_that_needs_approval_waits(sandboxes: Sandboxes) -> None:
    """The tick queues it; a person's yes lets it run."""
    sandbox = sandboxes()
    pay = payment(sandbox, needs_approval=True)
    sandbox.schedule("payday", pay, every=MINUTE, arguments={"invoice": "A"})
    sandbox.scheduler.run_once()
    sandboxes.clock.advance(MINUTE)
    sandbox.scheduler.run_once()
    (call,) = sandbox.calls()
    assert call.state is State.PLANNED
    sandbox.approve(call.id, **WHO)
    work(sandbox)
    assert sandbox.call(call.id).state is State.SUCCEEDED
