"""What becomes of a result: late, after recovery, after a re-run; and of the calls that wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.sandboxes import only, used

from gonogo.backoff import Retry
from gonogo.clock import FakeClock
from gonogo.context import current
from gonogo.errors import EffectFailed, OutcomeUnknown
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Call, Outcome, State
from gonogo.signals import NotApplied, Rejected, Snooze

Meanwhile = Callable[[SandboxOrchestrator, Call], None]


def silent(sandbox: SandboxOrchestrator, fake_clock: FakeClock) -> Call:
    """Let the lease of the one call run out, and recovery find it."""
    fake_clock.advance(100.0)
    return sandbox.recovery.recover(only(sandbox))


def alerts(sandbox: SandboxOrchestrator, reason: str = "after the claim was lost") -> list[str]:
    """Severities of the alerts whose reason has these words."""
    found = sandbox.alert_system.get_alerts()
    return [alert["severity"] for alert in found if reason in alert["reason"]]


def test_a_late_result_settles_its_own_unknown(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """Recovery called it unknown; then the same attempt returned: that is the proof."""

    @sandbox.action(
        "pay",
        key="{invoice}",
        irreversible=True,
        limits=[Limit("units", 100, per="1h", cost=10)],
    )
    def pay(invoice: str) -> str:
        assert silent(sandbox, fake_clock).state is State.UNKNOWN
        current().spend("units", 4)
        return "paid"

    assert pay("A") == "paid"
    call = only(sandbox)
    assert (call.state, call.outcome, call.held) == (State.SUCCEEDED, Outcome.SUCCEEDED, True)
    assert used(sandbox) == 4
    assert pay.call("A").replayed
    assert alerts(sandbox) == ["warning"]


def test_a_late_rejection_gives_the_budget_back(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """A late no is as good as one in time: refunded, and replayed to the next caller."""

    @sandbox.action(
        "pay", key="{invoice}", irreversible=True, limits=[Limit("units", 100, per="1h")]
    )
    def pay(invoice: str) -> str:
        silent(sandbox, fake_clock)
        raise Rejected("closed")

    for _ in range(2):
        with pytest.raises(EffectFailed, match="closed"):
            pay("A")
    assert (only(sandbox).outcome, used(sandbox)) == (Outcome.REJECTED, 0)


def test_a_late_error_proves_nothing(sandbox: SandboxOrchestrator, fake_clock: FakeClock) -> None:
    """What was unknown stays unknown when the late answer is no answer either."""

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str) -> str:
        silent(sandbox, fake_clock)
        raise TimeoutError

    with pytest.raises(OutcomeUnknown):
        pay("A")
    assert only(sandbox).state is State.UNKNOWN


def test_an_error_after_proof_answers_with_the_proof(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """The caller heard a time-out, while a person found that it landed: that is the answer."""

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str) -> str:
        call = silent(sandbox, fake_clock)
        sandbox.resolve(call.id, "landed", by="ann", reason="on the statement", result="seen")
        raise TimeoutError

    receipt = pay.call("A")
    assert (receipt.value, receipt.replayed) == ("seen", True)


def resolved_absent(sandbox: SandboxOrchestrator, call: Call) -> None:
    sandbox.resolve(call.id, "absent", by="ann", reason="not there")


def run_again(sandbox: SandboxOrchestrator, call: Call) -> None:
    sandbox.resolve(call.id, "retry", by="ann", reason="not there")
    assert sandbox.worker.run_once()
    assert only(sandbox).state is State.SUCCEEDED


def begun_again(sandbox: SandboxOrchestrator, call: Call) -> None:
    sandbox.resolve(call.id, "retry", by="ann", reason="not there")
    sandbox.store.write(
        lambda tx: tx.calls.claim(
            owner="w2",
            queues=("default",),
            now=sandbox.clock.now(),
            lease_until=sandbox.clock.now() + 30,
            limit=1,
        )
    )


@pytest.mark.parametrize("meanwhile", [resolved_absent, run_again, begun_again])
def test_a_late_success_that_contradicts_is_critical(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock, meanwhile: Meanwhile
) -> None:
    """It was taken for absent, perhaps done again, and then the first one landed: call a person.

    The caller still gets its value: the effect it asked for happened.
    """
    ran = []

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str) -> str:
        ran.append(invoice)
        if len(ran) == 1:
            meanwhile(sandbox, silent(sandbox, fake_clock))
        return f"paid {len(ran)}"

    assert pay("A").startswith("paid")
    assert alerts(sandbox) == ["critical"]


def test_a_late_success_spares_the_second_run(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """A call that waits to run again ends when its given-up attempt turns out to have landed."""
    ran = []

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str) -> str:
        ran.append(invoice)
        call = silent(sandbox, fake_clock)
        sandbox.resolve(call.id, "retry", by="ann", reason="not there")
        return "paid"

    assert pay("A") == "paid"
    assert not sandbox.worker.run_once()
    assert (len(ran), only(sandbox).state) == (1, State.SUCCEEDED)
    assert alerts(sandbox) == ["warning"]


def test_a_late_rejection_against_a_landing_is_critical(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """Evidence said landed and the other side said no: one of them is wrong."""

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str) -> str:
        call = silent(sandbox, fake_clock)
        sandbox.resolve(call.id, "landed", by="ann", reason="on the statement")
        raise Rejected

    pay("A")
    assert alerts(sandbox) == ["critical"]


def test_a_late_result_is_kept_in_the_history(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """Both lines stay: that the attempt went silent, and what it brought when it came back."""

    @sandbox.action("pay", key="{invoice}", irreversible=True)
    def pay(invoice: str) -> None:
        silent(sandbox, fake_clock)

    pay("A")
    call = only(sandbox)
    lines = sandbox.store.read(lambda tx: tx.attempts.of(call.id))
    assert [(line.attempt, line.outcome) for line in lines] == [
        (1, Outcome.UNKNOWN),
        (1, Outcome.SUCCEEDED),
    ]
    assert "late" in str(lines[1].note)


# the calls that wait


def test_who_waits_is_freed_by_success_and_ended_by_failure(sandbox: SandboxOrchestrator) -> None:
    """Success lets the waiting calls run; an end without success ends them, and theirs."""

    @sandbox.action("step", irreversible=False, key="{n}", retry=Retry(max_retries=0))
    def step(n: int) -> int:
        if n == 1:
            raise NotApplied
        return n

    good = step.enqueue(0)
    after_good = step.enqueue(10, after=good)
    bad = step.enqueue(1)
    after_bad = step.enqueue(11, after=bad)
    after_after = step.enqueue(12, after=after_bad)
    while sandbox.worker.run_once():
        pass

    assert [h.call().state.value for h in (good, after_good, bad, after_bad, after_after)] == [
        "succeeded",
        "succeeded",
        "failed",
        "cancelled",
        "cancelled",
    ]


def test_a_result_that_cannot_be_kept_still_succeeded(sandbox: SandboxOrchestrator) -> None:
    """What has no JSON form, or too much of it, is not kept; the call succeeded and warns."""
    things: list[Any] = [object(), float("nan"), "x" * 1_100_000, {1: object()}]

    @sandbox.action("pay", key="{n}", irreversible=True)
    def pay(n: int) -> Any:
        return things[n]

    for n, thing in enumerate(things):
        assert pay(n) is thing
    for call in sandbox.calls(action="pay"):
        assert (call.state, call.result) == (State.SUCCEEDED, None)
        assert "not kept" in str(call.note)
    assert alerts(sandbox, "not kept") == ["warning"]


@pytest.mark.parametrize("signal", [Snooze(1e15), NotApplied(retry_after=1e300)])
def test_no_call_is_put_off_for_ever(sandbox: SandboxOrchestrator, signal: Exception) -> None:
    """Whatever a provider asks for, a call comes back within a year and a day."""

    @sandbox.action("fetch", irreversible=False)
    def fetch() -> None:
        raise signal

    handle = fetch.enqueue()
    assert sandbox.worker.run_once()
    call = handle.call()
    assert call.state is State.PENDING
    assert call.run_at - sandbox.clock.now() <= 366 * 86_400
