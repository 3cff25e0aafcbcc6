"""Alerts whose matter is over resolve themselves; nothing is closed on a guess."""

from __future__ import annotations

import pytest
from tests.support.scene import WHO, Provider, Sandboxes, drain, payment, reminder

from gonogo.backoff import Retry
from gonogo.closings import MOST
from gonogo.errors import Halted
from gonogo.evidence import absent
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.settlement import FOR_GOOD, NOT_DONE, REJECTED
from gonogo.signals import NotApplied, Rejected


def open_alerts(sandbox: SandboxOrchestrator) -> list[str]:
    return [a["reason"] for a in sandbox.alert_system.alerts if a["state"] != "resolved"]


def look(sandboxes: Sandboxes, sandbox: SandboxOrchestrator) -> list[str]:
    """What is open after a worker's next round."""
    sandboxes.clock.advance(61)
    sandbox.delivery.maintain()
    return open_alerts(sandbox)


def test_the_alert_about_a_halt_ends_with_it(sandboxes: Sandboxes) -> None:
    """At once where somebody ends it; within a minute where it ends by itself; not before."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay, mail = payment(sandbox), reminder(sandbox, lambda text: None)
    sandbox.halt("pay", **WHO)
    sandbox.halt("remind", **WHO, until=sandboxes.clock.now() + 100)
    for act in (pay, mail):
        with pytest.raises(Halted):
            act("A")
    assert look(sandboxes, sandbox) == ["refused: Halted"] * 2
    sandbox.halt(**WHO)
    sandbox.resume("pay", **WHO)
    assert len(open_alerts(sandbox)) == 2, "everything is"
    sandbox.resume(**WHO)
    assert open_alerts(sandbox) == ["refused: Halted"]
    assert look(sandboxes, sandbox) == []
    (last, *_) = sandbox.decisions()
    assert (last.what, last.actor) == ("alert.resolved", "gonogo")
    assert last.reason == "it is not halted any more"


@pytest.mark.parametrize(
    ("error", "reason"), [(NotApplied("busy"), NOT_DONE), (Rejected("closed"), REJECTED)]
)
def test_the_alert_about_failures_ends_when_all_were_made_good(
    sandboxes: Sandboxes, error: Exception, reason: str
) -> None:
    """By calls with the same keys that succeeded; as long as one is missing it stays."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO, seconds=86_400)
    pay = payment(sandbox, provider, retry=Retry(max_retries=0))
    provider.script = [error, error]
    failed = pay.enqueue_many([("A",), ("B",)])
    drain(sandbox)
    assert look(sandboxes, sandbox) == [reason]
    for handle in failed:
        assert look(sandboxes, sandbox) == [reason]
        if reason == REJECTED:
            sandbox.resolve(handle, "absent", **WHO)
            assert look(sandboxes, sandbox) == [reason]
        pay.enqueue(handle.call().key.removeprefix("pay:"))
        drain(sandbox)
    assert look(sandboxes, sandbox) == []
    assert provider.book == ["A", "B"]


def test_of_a_failure_without_a_key_a_person_says_that_it_is_over(sandboxes: Sandboxes) -> None:
    """Another call that succeeds need not be the same."""
    sandbox, script = sandboxes(), [NotApplied("busy")]

    def send(text: str) -> None:
        if script:
            raise script.pop()

    remind = reminder(sandbox, send, retry=Retry(max_retries=0))
    remind.enqueue("A")
    drain(sandbox)
    remind.enqueue("A")
    drain(sandbox)
    assert look(sandboxes, sandbox) == [NOT_DONE]


def test_nothing_is_closed_that_cannot_be_seen(sandboxes: Sandboxes) -> None:
    """Of failures that were forgotten, or are too many, a person says that they are over."""
    sandbox, provider = sandboxes(retention=120.0), Provider()
    sandbox.arm(**WHO, seconds=86_400)
    pay = payment(sandbox, provider, retry=Retry(max_retries=0))
    provider.script = [NotApplied("busy")]
    pay.enqueue("A")
    drain(sandbox)
    for _ in range(4):
        assert look(sandboxes, sandbox) == [NOT_DONE]
    assert sandbox.calls() == []
    (alert,) = sandbox.alert_system.alerts
    sandbox.alert_system.resolve(alert["id"], **WHO)
    rows = [(f"{number}",) for number in range(MOST + 1)]
    provider.script = [NotApplied("busy")] * len(rows)
    for _ in range(2):
        pay.enqueue_many(rows)
        drain(sandbox)
    assert len(provider.book) == MOST + 1
    assert look(sandboxes, sandbox) == [NOT_DONE]


@pytest.mark.parametrize("way", ["too late", "absent"])
def test_an_alert_ends_though_time_goes_on_while_it_is_raised(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """It is as old as the failure that it tells of, so that the failure is found again."""
    clock, now = sandboxes.clock, sandboxes.clock.now

    def ticking() -> float:
        clock.advance(0.001)
        return now()

    monkeypatch.setattr(clock, "now", ticking)
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO, seconds=86_400)
    once = {"retry": Retry(max_retries=0), "deadline": 60.0}
    pay = payment(sandbox, provider, verify_after=0.0, **once)
    if way == "absent":
        pay.verify(lambda call: absent())
        provider.script = [TimeoutError("no answer")]
        handle = pay.enqueue("A")
        drain(sandbox)
        assert sandbox.recovery.verify(pay, handle.call()).state is State.FAILED
    else:
        pay.enqueue_in(50, "A")
        clock.advance(60)
        drain(sandbox)
    assert open_alerts(sandbox) == [NOT_DONE if way == "absent" else FOR_GOOD]
    pay.enqueue("A")
    drain(sandbox)
    assert provider.book == ["A"]
    assert look(sandboxes, sandbox) == []


def test_each_alert_is_looked_at_by_itself(sandboxes: Sandboxes) -> None:
    """One of another severity that tells of more is not closed with its neighbour."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, retry=Retry(max_retries=0))
    provider.script = [NotApplied("busy")]
    for _ in range(2):
        sandbox.alert_system.alert("pay", NOT_DONE, "critical")
    for _ in range(2):
        pay.enqueue("A")
        drain(sandbox)
    assert provider.book == ["A"]
    assert look(sandboxes, sandbox) == [NOT_DONE]
    resolved = [a for a in sandbox.alert_system.alerts if a["state"] == "resolved"]
    assert [a["severity"] for a in resolved] == ["error"]


def test_a_failure_told_of_a_moment_after_it_is_not_taken_for_another_ones(
    sandboxes: Sandboxes,
) -> None:
    """An alert raised after its commit still is about its own call."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO, seconds=86_400)
    pay = payment(sandbox, provider, retry=Retry(max_retries=0), deadline=5.0)
    late = pay.enqueue("late")
    sandbox.events.subscribe(
        lambda _: sandboxes.clock.advance(0.01), names=("call.withdrawn",), quick=True
    )
    sandboxes.clock.advance(6)
    drain(sandbox)
    assert (open_alerts(sandbox), late.call().state) == ([FOR_GOOD], State.FAILED)
    provider.script = [NotApplied("busy")]
    for _ in range(2):
        pay.enqueue("other")
        drain(sandbox)
    assert provider.book == ["other"]
    assert look(sandboxes, sandbox) == [FOR_GOOD]
    pay.enqueue("late")
    drain(sandbox)
    assert look(sandboxes, sandbox) == []
