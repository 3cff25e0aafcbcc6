"""What users test with: a sandbox for tests, its events, a ledger that fails, boundaries told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.scene import Provider, drain, payment

from gonogo.boundaries import Boundary, Step, after, before, inside
from gonogo.errors import (
    ConfigurationError,
    DryRunBlocked,
    NotReady,
    OutcomeUnknown,
    StoreUnavailable,
)
from gonogo.events import Event
from gonogo.evidence import landed
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.signals import NotApplied
from gonogo.testing import (
    FakeClock,
    FaultyStore,
    Write,
    capture_events,
    instrument,
    sandbox_for_tests,
)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def faulty(store: FaultyStore) -> SandboxOrchestrator:
    """A live sandbox on ``store``."""
    return sandbox_for_tests(store=store)


# a sandbox for tests


def test_it_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's sandbox is in memory and live, whatever the machine it runs on is set up for."""
    monkeypatch.setenv("SANDBOX_DB_URL", "postgresql://prod.example.com/ops")
    sandbox = sandbox_for_tests()
    assert not sandbox.store.shared
    assert payment(sandbox)("A") == "paid A"


def test_it_takes_settings_and_a_clock() -> None:
    """Time is the test's, and each setting can be said, the lock too."""
    clock = FakeClock(start=1000.0)
    sandbox = sandbox_for_tests(clock=clock, dry_run=True, lease=7.0)
    assert (sandbox.clock.now(), sandbox.settings.lease) == (1000.0, 7.0)
    with pytest.raises(DryRunBlocked):
        payment(sandbox)("A")


def test_events_of_the_block_are_captured(faulty: SandboxOrchestrator) -> None:
    """What happens in the block is heard, in order, and nothing after it."""
    pay = payment(faulty)
    with capture_events(faulty) as heard, capture_events(faulty, ["call.settled"]) as settled:
        pay("A")
    pay("B")
    assert [event.name for event in heard] == ["call.admitted", "call.settled"]
    assert [event.name for event in settled] == ["call.settled"]
    assert all(isinstance(event, Event) for event in heard)


# a ledger that fails


def test_failing_before_the_commit_writes_nothing(
    faulty: SandboxOrchestrator, store: FaultyStore
) -> None:
    """The next write fails and nothing of it is there; the one after it succeeds."""
    pay = payment(faulty)
    store.fail_next()
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        pay.enqueue("A")
    assert (faulty.counts(), store.failures) == ({}, 1)
    pay.enqueue("A")
    assert faulty.counts() == {State.PENDING: 1}


def test_failing_after_the_commit_writes_all(
    faulty: SandboxOrchestrator, store: FaultyStore
) -> None:
    """The acknowledgement is lost: the caller hears an error, and the job is there."""
    store.fail_next(after_commit=True)
    with pytest.raises(StoreUnavailable, match="acknowledgement was lost"):
        payment(faulty).enqueue("A")
    assert faulty.counts() == {State.PENDING: 1}


@pytest.mark.parametrize("after_commit", [False, True])
def test_it_fails_the_writes_a_test_names(
    faulty: SandboxOrchestrator, store: FaultyStore, after_commit: bool
) -> None:
    """A predicate sees what each write moves; the writes it says yes to fail until told to end."""
    pay = payment(faulty)
    end = store.fail_when(lambda write: write.moves_to("succeeded"), after_commit=after_commit)
    with pytest.raises(OutcomeUnknown, match="could not be written"):
        pay("A")
    kept = State.SUCCEEDED if after_commit else State.DISPATCHED
    assert faulty.counts() == {kept: 1}
    end()
    assert pay("B") == "paid B"


def test_a_write_says_what_it_moves(faulty: SandboxOrchestrator, store: FaultyStore) -> None:
    """New calls come from nowhere; a state that stays is no move."""
    writes: list[Write] = []
    store.after_write = writes.append
    pay = payment(faulty)
    pay.enqueue("A")
    drain(faulty)
    moves = [move for write in writes for move in write.moves]
    assert moves == [
        (None, State.PENDING),
        (State.PENDING, State.CLAIMED),
        (State.CLAIMED, State.DISPATCHED),
        (State.DISPATCHED, State.SUCCEEDED),
    ]
    assert not Write(number=1, durable=True, moves=((State.UNKNOWN,) * 2,)).moves_to("unknown")


def test_an_outage_lasts_until_it_is_healed(
    faulty: SandboxOrchestrator, store: FaultyStore
) -> None:
    """While the ledger is down nothing can be read, written or performed."""
    provider = Provider()
    pay = payment(faulty, provider)
    store.down = True
    with pytest.raises(NotReady, match="out of reach"):
        pay("A")
    for attempt in (faulty.counts, lambda: pay.enqueue("B")):
        with pytest.raises(StoreUnavailable):
            attempt()
    assert provider.book == []
    store.heal()
    clock: Any = faulty.clock
    clock.advance(60.0)  # the verdict is remembered for a moment
    assert pay("A") == "paid A"


def test_a_write_can_be_held_up(faulty: SandboxOrchestrator, store: FaultyStore) -> None:
    """The hooks run around every write, so that a test can delay one."""
    order: list[str] = []
    pay = payment(faulty)
    store.before_write = lambda write: order.append(f"{write.number} begins")
    store.after_write = lambda write: order.append(f"{write.number} ended")
    pay("A")
    assert order == ["1 begins", "1 ended", "2 begins", "2 ended"]


def test_the_outside_is_that_of_the_store_inside(store: FaultyStore) -> None:
    """What a faulty store does not make fail is left to the store it wraps."""
    assert not store.shared
    assert store.time() is None
    store.listen(lambda queue: None).end()
    with pytest.raises(ConfigurationError):
        store.join(object(), lambda tx: None, lambda: None)
    store.down = True
    with pytest.raises(StoreUnavailable):
        store.join(object(), lambda tx: None, lambda: None)
    store.close()


# boundaries


def test_each_step_has_its_boundaries() -> None:
    """Every step is a transaction with a before, an inside and an after; all names are used."""
    named = {place for step in Step if step is not Step.RETRY for place in _around(step)}
    named |= {inside(Step.RETRY), after(Step.RETRY)}  # until it is judged, it is a settlement
    around_code = {
        *(Boundary.EFFECT_BEGINS, Boundary.EFFECT_HAPPENED, Boundary.PERFORMED),
        *(Boundary.VERIFIER_ASKED, Boundary.VERIFIER_ANSWERED),
    }
    assert named | around_code == set(Boundary)


def _around(step: Step) -> set[Boundary]:
    return {before(step), inside(step), after(step)}


def reached(sandbox: SandboxOrchestrator) -> list[str]:
    """The boundaries that the sandbox passes from now on."""
    found: list[str] = []
    instrument(sandbox, lambda boundary: found.append(str(boundary)))
    return found


WORKED = [
    *("before-claim", "inside-claim", "after-claim", "before-admit", "inside-admit"),
    *("after-admit", "effect-begins", "effect-happened", "performed"),
    *("before-settle", "inside-settle", "after-settle"),
]


def test_a_job_passes_its_boundaries_in_order(sandbox: SandboxOrchestrator) -> None:
    """From the queue to its end, on every ledger; an idle look claims nothing."""
    pay = payment(sandbox)
    found = reached(sandbox)
    pay.enqueue("A")
    drain(sandbox)
    queued = ["before-enqueue", "inside-enqueue", "after-enqueue"]
    assert found == [*queued, *WORKED, "before-claim"]


def test_an_async_action_passes_them_too(faulty: SandboxOrchestrator) -> None:
    """The effect of a coroutine has its marks, in the running loop and in a worker."""

    @faulty.action("send", key="send:{to}", irreversible=True)
    async def send(to: str) -> str:
        return f"sent to {to}"

    found = reached(faulty)
    assert asyncio.run(send.acall("a")).value == "sent to a"
    assert found == [mark for mark in WORKED if not mark.endswith("claim")]


def test_a_retry_is_told_from_an_end(faulty: SandboxOrchestrator) -> None:
    """A settlement that puts the call back has boundaries of its own."""
    provider = Provider()
    provider.script = [NotApplied("busy")]
    pay = payment(faulty, provider)
    pay.enqueue("A")
    found = reached(faulty)
    drain(faulty)
    assert found[-4:] == ["before-settle", "inside-retry", "after-retry", "before-claim"]
    assert "effect-happened" not in found


def test_recovery_and_evidence_have_theirs(faulty: SandboxOrchestrator) -> None:
    """A call in doubt: recovered, looked into, its verifier asked, resolved."""
    pay = payment(faulty, verify_after=0.0)
    pay.verify(lambda call: landed("yes"))
    pay.enqueue("A")
    store: Any = faulty.store
    store.fail_when(lambda write: write.moves_to("succeeded"))
    drain(faulty)
    store.heal()
    clock: Any = faulty.clock
    clock.advance(100.0)
    found = reached(faulty)
    while faulty.recovery.run_once():
        clock.advance(1.0)
    steps = [f"{when}-{step}" for step in ("recover", "look") for when in _WHEN]
    asked = ["verifier-asked", "verifier-answered"]
    assert found == [*steps, *asked, *(f"{when}-resolve" for when in _WHEN)]


_WHEN = ("before", "inside", "after")


def test_plans_and_refusals_have_theirs(faulty: SandboxOrchestrator) -> None:
    """Approving, applying, keeping and putting back are steps as well."""
    pay = payment(faulty)
    found = reached(faulty)
    with faulty.rehearse("payday") as plan:
        pay.enqueue("A")
    faulty.approve(plan, by="ann", reason="a test")
    faulty.apply(plan)
    faulty.governor.set_limit("pay", 1)
    assert faulty.governor.check_limit("pay")[0]
    faulty.worker.run_once()
    faulty.delivery.keep()
    for step in ("approve", "apply", "release", "keep"):
        assert [place for place in found if place.endswith(f"-{step}")] == [
            f"{when}-{step}" for when in _WHEN
        ]
    assert "inside-admit" not in found, "a refusal, and its alert, admit nothing"


def test_raising_inside_rolls_back_and_after_does_not(faulty: SandboxOrchestrator) -> None:
    """What ``reach`` raises is raised where it was reached."""
    pay = payment(faulty)
    wanted = [Boundary.INSIDE_ENQUEUE, Boundary.AFTER_ENQUEUE]

    def reach(boundary: Boundary) -> None:
        if wanted and boundary is wanted[0]:
            wanted.pop(0)
            raise ZeroDivisionError

    instrument(faulty, reach)
    with pytest.raises(ZeroDivisionError):
        pay.enqueue("A")
    assert faulty.counts() == {}
    with pytest.raises(ZeroDivisionError):
        pay.enqueue("A")
    assert faulty.counts() == {State.PENDING: 1}
