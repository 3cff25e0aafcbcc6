"""The state machine of a call: what `advance` allows, and what any course of events preserves."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gonogo.backoff import Retry
from gonogo.clock import FakeClock
from gonogo.conversation import Conversation
from gonogo.errors import GonogoError
from gonogo.evidence import absent, cannot_tell, landed
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import TERMINAL, TRANSITIONS, Call, IllegalTransition, State, advance
from gonogo.signals import Cancel, NotApplied, Rejected, Snooze

STATES = list(State)


def call_in(state: State) -> Call:
    return Call(id="1", action="pay", state=state, created_at=0.0)


@given(st.sampled_from(STATES), st.lists(st.sampled_from(STATES), max_size=30))
def test_a_walk_reaches_legal_states_only(start: State, wishes: list[State]) -> None:
    """However a call is pushed, every move it makes is in the table, and no other is made."""
    call = call_in(start)
    for wish in wishes:
        if wish in TRANSITIONS[call.state]:
            call = advance(call, wish)
            assert call.state is wish
        else:
            with pytest.raises(IllegalTransition, match=f"{call.state.value} → {wish.value}"):
                advance(call, wish)


def test_every_state_has_its_moves() -> None:
    """The table is complete; what is over stays over; all is reached from planned or pending."""
    assert set(TRANSITIONS) == set(State)
    assert {state for state, moves in TRANSITIONS.items() if not moves} == TERMINAL
    reached, edge = {State.PLANNED}, [State.PLANNED]
    while edge:
        edge = [s for state in edge for s in TRANSITIONS[state] if s not in reached]
        reached.update(edge)
    assert reached == set(State)


@pytest.mark.parametrize("target", [State.CANCELLED, State.CLAIMED, State.DISPATCHED])
def test_the_unknown_leaves_by_evidence_alone(target: State) -> None:
    """An unknown call is never cancelled, claimed or dispatched: it succeeds, fails or waits."""
    with pytest.raises(IllegalTransition):
        advance(call_in(State.UNKNOWN), target)


# a model of the world beside the ledger


@dataclasses.dataclass
class Act:
    """What the next attempt does: whether the effect lands, and what the caller hears."""

    lands: bool
    says: BaseException | None


ACTS = {
    "landed": Act(True, None),
    "reply lost": Act(True, TimeoutError("reply lost")),
    "request lost": Act(False, TimeoutError("request lost")),
    "refused": Act(False, ConnectionRefusedError("refused")),
    "not applied": Act(False, NotApplied("later", retry_after=5.0)),
    "rejected": Act(False, Rejected("no")),
    "snoozed": Act(False, Snooze(10.0)),
    "cancelled": Act(False, Cancel()),
    "interrupted": Act(True, KeyboardInterrupt()),
}
OVER = TERMINAL | {State.UNKNOWN}
KEYS = ["A", "B", "C", "D", "E"]


class World(RuleBasedStateMachine):
    """One sandbox, one provider that never lies, callers and workers that die anywhere."""

    @initialize()
    def open(self) -> None:
        self.clock = FakeClock()
        self.sandbox = SandboxOrchestrator(clock=self.clock, random=lambda: 0.5)
        self.effects: list[str] = []
        self.plan: list[str] = []
        self.dead: list[Any] = []
        self.sandbox.arm(by="ann", reason="a test", seconds=30 * 86_400)
        self.pay = self.sandbox.action(
            "pay",
            key="{invoice}",
            irreversible=True,
            retry=Retry(max_retries=2),
            timeout=10,
            verify_after=15,
            limits=[Limit("units", 1_000_000, per="30d")],
        )(self.effect)
        self.pay.verify(self.look)

    def effect(self, invoice: str) -> str:
        act = ACTS[self.plan.pop(0) if self.plan else "landed"]
        if act.lands:
            self.effects.append(invoice)
        if act.says is not None:
            raise act.says
        return invoice

    def look(self, call: Any) -> Any:
        if self.blind:
            return cannot_tell()
        return landed(call.key) if call.key in self.effects else absent()

    blind = False

    @rule(plan=st.lists(st.sampled_from(sorted(ACTS)), max_size=4))
    def script(self, plan: list[str]) -> None:
        """Decide how the next attempts go."""
        self.plan = plan

    @rule(key=st.sampled_from(KEYS))
    def direct(self, key: str) -> None:
        """Somebody calls the action and lives to see the answer."""
        try:
            assert self.pay(key) == key
        except (GonogoError, KeyboardInterrupt):
            pass
        else:
            assert key in self.effects

    @rule(key=st.sampled_from(KEYS), steps=st.integers(1, 3), lands=st.booleans())
    def dies(self, key: str, steps: int, lands: bool) -> None:
        """A caller dies: before the effect, after it, or waiting for its retry."""
        bound = self.pay.parameters.bind((key,), {})
        course = Conversation(self.sandbox.pipeline, self.pay, bound).run()
        try:
            step = next(course)
            for _ in range(steps - 1):
                call = getattr(step, "call", None)
                answer = call and self.sandbox.pipeline.perform(self.pay, call, bound)
                step = course.send(answer)
        except (GonogoError, KeyboardInterrupt, StopIteration):
            return
        if hasattr(step, "call") and lands:
            self.effects.append(key)
        self.dead.append(course)  # never heard of again, not even by its garbage

    @rule(key=st.sampled_from(KEYS))
    def enqueue(self, key: str) -> None:
        """A job for the same effect."""
        try:
            self.pay.enqueue(key)
        except GonogoError:
            pass

    @rule()
    def work(self) -> None:
        """A worker takes the next job."""
        self.sandbox.worker.run_once()

    @rule(key=st.sampled_from(KEYS), lands=st.booleans(), admitted=st.booleans())
    def worker_dies(self, key: str, lands: bool, admitted: bool) -> None:
        """A worker claims a job and dies: before admission, or in the effect."""
        self.enqueue(key)
        now = self.clock.now()
        claimed = self.sandbox.store.write(
            lambda tx: tx.calls.claim(
                owner="dead", queues=("default",), now=now, lease_until=now + 30, limit=1
            )
        )
        for call in claimed if admitted else ():
            bound = self.pay.parameters.load(call.args)
            self.sandbox.pipeline.admit(self.pay, bound, call, lease=30, group="worker")
            if lands:
                self.effects.append(str(call.key))

    @rule(seconds=st.sampled_from([1.0, 20.0, 60.0, 60.0]), blind=st.booleans())
    def recover(self, seconds: float, blind: bool) -> None:
        """Later: a round of recovery, by a verifier that can or cannot see."""
        self.clock.advance(seconds)
        self.blind = blind
        self.sandbox.recovery.run_once()
        self.blind = False

    @invariant()
    def no_effect_is_there_twice(self) -> None:
        """Whatever died, retried, recovered or was asked again: one effect for each key."""
        if hasattr(self, "effects"):
            assert all(self.effects.count(key) <= 1 for key in KEYS), self.effects

    @invariant()
    def usage_is_what_calls_hold(self) -> None:
        """The units in use are those of the reservations in the ledger, no more, no fewer."""
        if hasattr(self, "sandbox"):
            held = sum(r.cost for c in self.sandbox.calls(limit=1000) for r in c.reservations)
            assert self.sandbox.governor.get_status("units")["current_actions"] == held

    @invariant()
    def keys_are_held_as_the_state_says(self) -> None:
        """A key is held while its call is open, unknown, succeeded or rejected; by one call."""
        if not hasattr(self, "sandbox"):
            return
        calls = self.sandbox.calls(limit=1000)
        for call in calls:
            rejected = call.outcome is not None and call.outcome.value == "rejected"
            assert call.held == (
                call.state not in TERMINAL or call.state is State.SUCCEEDED or rejected
            ), call
        held = [call.key for call in calls if call.held]
        assert len(held) == len(set(held))

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every effect that is there has a call that says so, or that it may be."""
        if hasattr(self, "sandbox"):
            calls = self.sandbox.calls(limit=1000)
            for key in set(self.effects):
                states = {call.state for call in calls if call.key == key}
                assert states & {State.SUCCEEDED, State.UNKNOWN, State.DISPATCHED}, (key, states)


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("acts", list(itertools.product(sorted(ACTS), repeat=2)), ids="-".join)
def test_two_attempts_in_every_combination(acts: tuple[str, str]) -> None:
    """For any two attempts: at most one effect, and the answer never denies one that is there."""
    world = World()
    world.open()
    world.script([*acts, "refused", "refused"])
    happened = "yes"
    try:
        world.pay("A")
    except GonogoError as error:
        happened = error.happened
    except KeyboardInterrupt:
        happened = "maybe"
    world.no_effect_is_there_twice()
    world.usage_is_what_calls_hold()
    world.keys_are_held_as_the_state_says()
    world.nothing_is_lost()
    assert happened != ("no" if world.effects else "yes")
