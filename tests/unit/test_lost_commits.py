"""A commit that fails, or whose acknowledgement is lost: nothing happens twice, nothing is lost.

Every step is made to fail both ways, once. Then the ledger heals, leases end, whoever asked asks
again, and the other side's books are looked into.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.support.scene import Provider, payment

from gonogo.action import Action
from gonogo.backoff import Retry
from gonogo.errors import GonogoError, OutcomeUnknown, PlanError, StoreUnavailable
from gonogo.evidence import absent, landed
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.signals import NotApplied
from gonogo.testing import Boundary, FakeClock, FaultyStore, Step, Write, instrument
from gonogo.testing import sandbox_for_tests as make

WHO = {"by": "ann", "reason": "a test"}
LIMIT = 1000


class Scene:
    """A sandbox on a faulty ledger, an action that can be verified, and the other side."""

    def __init__(self, **declared: Any) -> None:
        self.store = FaultyStore()
        self.clock = FakeClock()
        self.sandbox: SandboxOrchestrator = make(clock=self.clock, store=self.store)
        self.provider = Provider()
        policy = {"verify_after": 1.0, "retry": Retry(max_retries=5), **declared}
        self.pay: Action[..., Any] = payment(self.sandbox, self.provider, **policy)
        self.pay.verify(
            lambda call: (
                landed("found") if call.arguments["invoice"] in self.provider.book else absent()
            )
        )

    def work(self) -> None:
        """One round of a worker and its keeper; what the ledger refuses is for the next one."""
        for round_of in (
            self.sandbox.worker.run_once,
            self.sandbox.delivery.keep,
            self.sandbox.recovery.run_once,
        ):
            try:
                round_of()
            except StoreUnavailable:
                pass

    def settle(self) -> None:
        """Let a day pass in which the ledger is well."""
        self.store.heal()
        for _ in range(40):
            self.clock.advance(40.0)
            self.work()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def once(store: FaultyStore, moves: Any, *, after_commit: bool) -> list[Write]:
    """Let the first write that ``moves`` says yes to fail; the writes that did."""
    failed: list[Write] = []

    def rule(write: Write) -> bool:
        if failed or not moves(write):
            return False
        failed.append(write)
        return True

    store.fail_when(rule, after_commit=after_commit)
    return failed


MOVES: dict[str, Any] = {
    "enqueue": lambda write: write.moves_to("pending") and write.moves[0][0] is None,
    "claim": lambda write: write.moves_to("claimed"),
    "admit": lambda write: write.moves_to("dispatched"),
    "settle": lambda write: write.moves_to("succeeded"),
    "keep": lambda write: not write.moves,
}


@pytest.mark.parametrize("after_commit", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", MOVES)
def test_a_job_is_done_once(scene: Scene, step: str, after_commit: bool) -> None:
    """Whichever write of a job's life fails, either way, it is paid once and ends as succeeded."""
    failed = once(scene.store, MOVES[step], after_commit=after_commit)
    try:
        scene.pay.enqueue("A")
    except StoreUnavailable:
        scene.pay.enqueue("A")  # the caller asks again: the key makes it one job
    for _ in range(3):
        scene.work()
    assert len(failed) == 1, "the fault was never met"
    scene.settle()
    assert scene.sandbox.counts() == {State.SUCCEEDED: 1}
    assert scene.provider.book == ["A"]


@pytest.mark.parametrize("after_commit", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["admit", "settle"])
def test_a_direct_call_is_done_once(scene: Scene, step: str, after_commit: bool) -> None:
    """A caller who hears an error and calls again, early and late, has it done once."""
    failed = once(scene.store, MOVES[step], after_commit=after_commit)
    with pytest.raises(GonogoError) as caught:
        scene.pay("A")
    assert len(failed) == 1
    happened = "maybe" if step == "settle" else "no"
    assert caught.value.happened == happened
    try:
        scene.pay("A")
    except GonogoError:
        scene.settle()
        try:
            scene.pay("A")
        except OutcomeUnknown:
            scene.settle()
            scene.pay("A")
    assert scene.provider.book == ["A"]
    assert scene.sandbox.counts()[State.SUCCEEDED] == 1


def broken(scene: Scene, place: str) -> list[Boundary]:
    """Let the first passing of ``place`` be an error of the ledger; what was passed so."""
    met: list[Boundary] = []

    def reach(boundary: Boundary) -> None:
        if boundary.value == place and not met:
            met.append(boundary)
            raise StoreUnavailable("the connection broke")

    instrument(scene.sandbox, reach)
    return met


@pytest.mark.parametrize("when", ["inside", "after"])
@pytest.mark.parametrize("step", [Step.RECOVER, Step.LOOK, Step.RESOLVE])
@pytest.mark.parametrize("landed_there", [False, True])
def test_what_is_in_doubt_is_settled_once(
    scene: Scene, step: Step, when: str, landed_there: bool
) -> None:
    """Recovery and evidence that cannot be written are taken up again, and end in the truth."""
    wanted = "succeeded" if landed_there else "dispatched"
    scene.store.fail_when(lambda write: write.moves_to(wanted), after_commit=not landed_there)
    scene.pay.enqueue("A")
    scene.work()
    scene.store.heal()
    assert scene.sandbox.counts() == {State.DISPATCHED: 1}
    met = broken(scene, f"{when}-{step}")
    scene.settle()
    assert len(met) == 1
    assert scene.sandbox.counts() == {State.SUCCEEDED: 1}
    assert scene.provider.book == ["A"]


@pytest.mark.parametrize("when", ["inside", "after"])
def test_a_retry_that_cannot_be_written_is_not_a_loss(scene: Scene, when: str) -> None:
    """Putting back what did not happen fails: it is found later, asked about, and done once."""
    scene.provider.script = [NotApplied("busy")]
    met = broken(scene, f"{when}-retry")
    scene.pay.enqueue("A")
    scene.work()
    assert len(met) == 1
    scene.settle()
    assert scene.sandbox.counts() == {State.SUCCEEDED: 1}
    assert scene.provider.book == ["A"]


@pytest.mark.parametrize("when", ["inside", "after"])
def test_a_refusal_that_cannot_be_written_is_not_a_loss(scene: Scene, when: str) -> None:
    """A claimed call that is refused and cannot be put back waits for its lease, and is done."""
    met = broken(scene, f"{when}-release")
    scene.pay.enqueue("A")
    scene.sandbox.lock(**WHO)
    scene.work()
    assert len(met) == 1
    scene.sandbox.arm(**WHO)
    scene.settle()
    assert scene.provider.book == ["A"]
    assert scene.sandbox.counts() == {State.SUCCEEDED: 1}


@pytest.mark.parametrize("when", ["inside", "after"])
@pytest.mark.parametrize("step", [Step.APPROVE, Step.APPLY])
def test_a_plan_is_applied_once(scene: Scene, step: Step, when: str) -> None:
    """A person who hears an error and tries again queues the plan's calls once, or is told why."""
    met = broken(scene, f"{when}-{step}")
    with scene.sandbox.rehearse("payday") as plan:
        scene.pay.enqueue_many([("A",), ("B",)])
    for decide in (
        lambda: scene.sandbox.approve(plan, **WHO),
        lambda: scene.sandbox.apply(plan),
    ):
        try:
            decide()
        except StoreUnavailable:
            if when == "inside":
                decide()
            else:
                with pytest.raises(PlanError, match=r"is (approved|applied)"):
                    decide()
    assert len(met) == 1
    for _ in range(4):
        scene.work()
    assert Counter(scene.provider.book) == {"A": 1, "B": 1}


@pytest.mark.parametrize("when", ["inside", "after"])
def test_a_persons_word_counts_once(scene: Scene, when: str) -> None:
    """A resolution whose commit failed can be given again; one that stands is not overwritten."""
    scene.pay.verifier = None
    scene.store.fail_when(lambda write: write.moves_to("succeeded"))
    handle = scene.pay.enqueue("A")
    scene.work()
    scene.settle()
    assert handle.state() is State.UNKNOWN
    met = broken(scene, f"{when}-resolve")
    with pytest.raises(StoreUnavailable):
        scene.sandbox.resolve(handle, "landed", result="paid A", **WHO)
    assert len(met) == 1
    if when == "inside":
        scene.sandbox.resolve(handle, "landed", result="paid A", **WHO)
    else:
        with pytest.raises(GonogoError, match="unknown"):
            scene.sandbox.resolve(handle, "retry", **WHO)
    scene.settle()
    assert (handle.state(), handle.result()) == (State.SUCCEEDED, "paid A")
    assert scene.provider.book == ["A"]


def test_units_are_counted_once_whatever_fails() -> None:
    """However often commits fail around it, one effect uses one unit of its limit."""
    for step in ("claim", "admit", "settle"):
        for after_commit in (False, True):
            scene = Scene(limits=[Limit("units", LIMIT, per="30d")])
            failed = once(scene.store, MOVES[step], after_commit=after_commit)
            scene.pay.enqueue("A")
            for _ in range(3):
                scene.work()
            assert len(failed) == 1
            scene.settle()
            assert scene.provider.book == ["A"]
            used = scene.sandbox.governor.get_status("units")["current_actions"]
            assert used == 1, (step, after_commit)
