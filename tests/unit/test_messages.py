"""Errors name the action, the key and what to do next."""

from __future__ import annotations

import pytest
from tests.support.scene import WHO, Provider, Sandboxes, drain, payment

from gonogo.errors import (
    ConfigurationError,
    DryRunBlocked,
    Halted,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Refused,
)
from gonogo.limits import Limit
from gonogo.records import State
from gonogo.writing import alone

CENTS = Limit("pay.cents", 150, per="1d", cost="{cents}")


def test_a_direct_call_that_a_limit_refuses_is_named(sandboxes: Sandboxes) -> None:
    """The limit alone knows of no action and no key."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox, limits=[CENTS])
    pay("A")
    with pytest.raises(
        RateLimited, match=r"^pay \(pay:B\) was not performed: Rate limit.*'pay.cents'.*try again"
    ) as refused:
        pay("B")
    assert (refused.value.action, refused.value.key) == ("pay", "pay:B")


def test_a_job_that_a_limit_refuses_is_not_named_in_its_own_note(sandboxes: Sandboxes) -> None:
    """Its note stands beside its name."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox, limits=[CENTS])
    pay("A")
    job = pay.enqueue("B")
    drain(sandbox)
    assert (job.call().note or "").startswith("Rate limit exceeded")


def test_a_cost_that_cannot_be_is_named_with_its_call(sandboxes: Sandboxes) -> None:
    """Where the arguments came from is found by the key."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox, limits=[CENTS])
    with pytest.raises(ConfigurationError) as wrong:
        pay("A", -5)
    told = str(wrong.value)
    assert told.startswith("pay (pay:A) was not performed: action 'pay': limit 'pay.cents': cost")
    assert "not -5; mend the arguments" in told
    assert (wrong.value.action, wrong.value.key) == ("pay", "pay:A")


def test_a_halt_names_the_key(sandboxes: Sandboxes) -> None:
    """It says which of many calls did not happen."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox)
    sandbox.halt("pay", **WHO)
    with pytest.raises(Halted, match=r"^pay \(pay:A\) was not performed: Halted by ann") as refused:
        pay("A")
    assert refused.value.key == "pay:A"


def test_what_needs_approval_is_not_advised_to_be_unlocked(sandboxes: Sandboxes) -> None:
    """Unlocking would not do: the call itself wants a yes."""
    sandbox = sandboxes()
    pay = payment(sandbox, needs_approval=True)
    with pytest.raises(DryRunBlocked, match="Enqueue it and have the call approved") as refused:
        pay("A")
    assert "arm(" not in str(refused.value)
    with pytest.raises(DryRunBlocked, match=r"arm\("):
        payment(sandbox, name="other")("A")


def test_what_was_done_before_is_not_told_as_never_done(sandboxes: Sandboxes) -> None:
    """The lock refuses the call at hand; that its effect is there already is said with it."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox)
    pay("A")
    (paid,) = sandbox.calls()
    sandbox.lock(**WHO)
    done = (
        rf"An earlier call with this key, {paid.id}, succeeded at 2027-01-15 08:00:00Z\. Rehearse"
    )
    for asked in (pay, pay.enqueue):
        with pytest.raises(DryRunBlocked, match=done):
            asked("A")
        with pytest.raises(DryRunBlocked, match=r"^pay \(pay:B\)") as refused:
            asked("B")
        assert "earlier call" not in str(refused.value)


def test_what_may_have_been_done_before_is_told_with_the_refusal(sandboxes: Sandboxes) -> None:
    """Of an unknown one nobody may read that it was not performed."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider)
    provider.script = [TimeoutError("no reply")]
    with pytest.raises(OutcomeUnknown):
        pay("A")
    pay.enqueue("B")
    sandbox.lock(**WHO)
    with pytest.raises(
        DryRunBlocked, match=r"An earlier call .* is unknown, and may have happened"
    ):
        pay("A")
    with pytest.raises(DryRunBlocked, match=r"An earlier call with this key, \w+, is pending\. "):
        pay("B")


def test_resolving_what_is_not_in_doubt_says_what_to_do(sandboxes: Sandboxes) -> None:
    """One under way may become unknown, and when that is known is told."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    pay = payment(sandbox)
    with pytest.raises(NotFound, match="gonogo calls list --state unknown"):
        sandbox.resolve("abc", "landed", **WHO)
    with pytest.raises(NotFound, match="gonogo calls list"):
        sandbox.call("abc")
    job = pay.enqueue("A")
    claimed = sandbox.delivery.claim()
    assert claimed is not None
    alone(sandbox.store, sandbox.delivery._beginning(claimed))
    ends = r"pay \(pay:A\), call .* is dispatched, not unknown: .* once its lease is over, at 20"
    with pytest.raises(Refused, match=ends) as refused:
        sandbox.resolve(job, "landed", **WHO)
    assert (refused.value.happened, job.state()) == ("maybe", State.DISPATCHED)
