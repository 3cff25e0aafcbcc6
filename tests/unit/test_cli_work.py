"""What a worker of the command line says at its end."""

from __future__ import annotations

from tests.support.scene import WHO, Provider, Sandboxes, payment

from gonogo.cli.work import _count, _remaining
from gonogo.evidence import landed
from gonogo.records import Call, State
from gonogo.writing import alone


def test_what_it_recovered_and_resolved_is_counted(sandboxes: Sandboxes) -> None:
    """A worker that performed nothing, but settled what a dead one left, was not idle."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, verify_after=5.0)
    pay.verify(lambda call: landed("found"))
    handle = pay.enqueue("A")
    call = sandbox.delivery.claim()
    assert isinstance(call, Call)
    alone(sandbox.store, sandbox.delivery._beginning(call))
    counts = _count(sandbox)
    assert _remaining(sandbox) == "1 dispatched"

    sandboxes.clock.advance(30)
    sandbox.recovery.run_once()
    assert (handle.state(), counts["unknown"], counts["resolved"]) == (State.UNKNOWN, 1, 0)
    sandboxes.clock.advance(5)
    assert sandbox.recovery.run_once() == 1
    assert (handle.state(), counts["unknown"], counts["resolved"]) == (State.SUCCEEDED, 1, 1)
    assert (counts["succeeded"], _remaining(sandbox)) == (0, "")
