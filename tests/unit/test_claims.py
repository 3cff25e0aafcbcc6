"""Claims: in batches, in turn, from the queues that run, past the actions that have no room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.scene import WHO, Sandboxes

from gonogo.action import Action
from gonogo.errors import ConfigurationError
from gonogo.limits import Concurrency, Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State


def action(sandbox: SandboxOrchestrator, name: str, done: list[str], **declared: Any) -> Any:
    """A harmless action that notes what it was given."""

    @sandbox.action(name, irreversible=False, **declared)
    def act(text: str) -> None:
        done.append(f"{name} {text}")

    return act


def spent(arguments: Mapping[str, Any]) -> int:
    """The cost of a call of such an action: the number that its text is."""
    return int(arguments["text"])


def states(sandbox: SandboxOrchestrator) -> dict[str, int]:
    return {state.value: count for state, count in sandbox.counts().items()}


def drain(sandbox: SandboxOrchestrator) -> None:
    while sandbox.worker.run_once():
        pass


def test_a_batch_is_claimed_for_the_free_hands(locked: SandboxOrchestrator) -> None:
    """One transaction claims as many calls as there are hands; no more than that are taken."""
    act = action(locked, "act", [])
    act.enqueue_many([(str(n),) for n in range(5)])
    first = locked.delivery.claim(3)
    assert states(locked) == {"claimed": 3, "pending": 2}
    others = [locked.delivery.claim(3), locked.delivery.claim(3)]
    assert states(locked) == {"claimed": 3, "pending": 2}
    assert len({call.id for call in [first, *others] if call is not None}) == 3


def test_what_no_thread_begins_is_given_back(sandboxes: Sandboxes) -> None:
    """A call that was claimed for a thread which stayed busy goes back, and costs no attempt."""
    sandbox = sandboxes()
    act = action(sandbox, "act", [])
    act.enqueue_many([("a",), ("b",)])
    begun = sandbox.delivery.claim(2)
    sandbox.delivery.keep()
    assert states(sandbox) == {"claimed": 2}
    sandboxes.clock.advance(1.5)
    sandbox.delivery.keep()
    assert states(sandbox) == {"claimed": 1, "pending": 1}
    (waiting,) = sandbox.calls(states=(State.PENDING,))
    assert (waiting.attempt, waiting.owner) == (0, None)
    assert begun is not None
    assert waiting.id != begun.id


def test_who_leaves_gives_back_what_no_thread_began(locked: SandboxOrchestrator) -> None:
    """Leaving, a process keeps nothing of a batch."""
    act = action(locked, "act", [])
    act.enqueue_many([("a",), ("b",), ("c",)])
    locked.delivery.claim(3)
    locked.delivery.leave()
    assert states(locked) == {"pending": 3}
    for call in locked.calls():
        locked.jobs.cancel(call.id, **WHO)
    assert locked.delivery.idle()


def test_a_child_gives_back_nothing_of_its_parents(sandboxes: Sandboxes) -> None:
    """What a process claimed before it forked is for the parent to begin, or to give back."""
    sandbox = sandboxes()
    act = action(sandbox, "act", [])
    act.enqueue_many([("a",), ("b",)])
    sandbox.delivery.claim(2)
    sandboxes.clock.advance(1.5)
    sandbox.pipeline.owner.name = "the child"
    sandbox.delivery.keep()
    sandbox.delivery.leave()
    assert states(sandbox) == {"claimed": 2}


def test_a_flood_of_one_action_starves_no_other(locked: SandboxOrchestrator) -> None:
    """One thread serves the actions in turn, whatever was queued first."""
    done: list[str] = []
    flood, rare = action(locked, "flood", done), action(locked, "rare", done)
    flood.enqueue_many([(str(n),) for n in range(50)])
    rare.enqueue_many([(str(n),) for n in range(3)])
    drain(locked)
    assert max(done.index(f"rare {n}") for n in range(3)) < 6
    assert len(done) == 53


@pytest.mark.parametrize(
    "declared",
    [{"limits": [Limit("units", 1, per="1h")]}, {"concurrency": Concurrency(1, name="slot")}],
)
def test_an_action_without_room_is_passed_over(
    sandboxes: Sandboxes, declared: dict[str, Any]
) -> None:
    """Once one of its calls was refused the others are left in peace for a second."""
    sandbox = sandboxes()
    done: list[str] = []
    full, free = action(sandbox, "full", done, **declared), action(sandbox, "free", done)
    if "concurrency" in declared:
        other = action(sandbox, "other", [], **declared)
        other.enqueue("x")
        claimed = sandbox.delivery.claim()
        assert claimed is not None
        sandbox.pipeline.admit(
            other, other.parameters.bind(("x",), {}), claimed, lease=60, group="worker"
        )
    else:
        full("0")
    full.enqueue_many([(str(n),) for n in range(1, 9)])
    drain(sandbox)
    refused = [call for call in sandbox.calls(action="full") if call.note]
    assert len(refused) == 1
    free.enqueue("1")
    drain(sandbox)
    assert done[-1] == "free 1"
    pause = sandbox.delivery.next_due()
    assert pause is not None
    assert 0 < pause <= 1


def test_a_key_without_room_holds_up_only_its_own_calls(sandboxes: Sandboxes) -> None:
    """A limit that counts by key has room for others, so the action is not passed over."""
    sandbox = sandboxes()
    done: list[str] = []
    act: Action[..., Any] = action(
        sandbox, "act", done, limits=[Limit("units", 1, per="1h", key="{text}")]
    )
    act("a")
    act.enqueue_many([("a",), ("b",), ("c",)])
    drain(sandbox)
    assert sorted(done) == ["act a", "act b", "act c"]


def test_a_dear_call_without_room_holds_up_no_cheaper_one(sandboxes: Sandboxes) -> None:
    """What is left of a budget is spent on what fits, however many wait that do not."""
    sandbox = sandboxes()
    done: list[str] = []
    act = action(sandbox, "act", done, limits=[Limit("cents", 1000, per="1d", cost=spent)])
    act("900")
    act.enqueue_many([*(("500",) for _ in range(70)), ("60",), ("40",)])
    drain(sandbox)
    assert done == ["act 900", "act 60", "act 40"]


def test_a_spent_budget_is_asked_once_a_second(sandboxes: Sandboxes) -> None:
    """Nothing fits, whatever it costs, so the action is passed over as one of fixed costs is."""
    sandbox = sandboxes()
    act = action(sandbox, "act", [], limits=[Limit("cents", 1000, per="1d", cost=spent)])
    act("1000")
    act.enqueue_many([("5",), ("6",), ("7",)])
    drain(sandbox)
    assert len([call for call in sandbox.calls(action="act") if call.note]) == 1


# paused queues


def test_nothing_is_taken_from_a_paused_queue(sandboxes: Sandboxes) -> None:
    """A pause holds in every process on the ledger until it ends; other queues go on."""
    sandbox = sandboxes(queues="default,mail")
    done: list[str] = []
    act, mail = action(sandbox, "act", done), action(sandbox, "mail", done, queue="mail")
    sandbox.pause("mail", **WHO)
    act.enqueue("1")
    mail.enqueue("1")
    drain(sandbox)
    assert done == ["act 1"]
    assert sandbox.delivery.next_due() is None
    assert sandbox.delivery.idle()
    assert sandbox.unpause("mail", **WHO)
    assert not sandbox.unpause("mail", **WHO)
    drain(sandbox)
    assert done == ["act 1", "mail 1"]


def test_a_pause_ends_by_itself(sandboxes: Sandboxes) -> None:
    """A pause with an end needs nobody to end it."""
    sandbox = sandboxes()
    done: list[str] = []
    action(sandbox, "act", done).enqueue("1")
    sandbox.pause("default", until=sandboxes.clock.now() + 60, **WHO)
    drain(sandbox)
    assert done == []
    sandboxes.clock.advance(60)
    drain(sandbox)
    assert done == ["act 1"]


def test_queues_show_their_backlog_and_who_paused_them(locked: SandboxOrchestrator) -> None:
    """What waits where, and who stopped what, is there to see."""
    action(locked, "mail", [], queue="mail").enqueue("1")
    locked.pause("reports", **WHO)
    found = locked.queues()
    assert {name: queue.pending for name, queue in found.items()} == {
        "default": 0,
        "mail": 1,
        "reports": 0,
    }
    paused = found["reports"].paused
    assert paused is not None
    assert (paused.actor, paused.reason) == (WHO["by"], WHO["reason"])
    assert [decision.what for decision in locked.decisions()] == ["pause"]


@pytest.mark.parametrize(
    ("queue", "who"),
    [("", WHO), ("mail", {**WHO, "by": ""}), ("mail", {**WHO, "reason": " "})],
)
def test_a_pause_needs_a_queue_and_who_and_why(
    locked: SandboxOrchestrator, queue: str, who: dict[str, str]
) -> None:
    """Without them nothing is paused."""
    with pytest.raises(ConfigurationError):
        locked.pause(queue, **who)
    assert locked.store.read(lambda tx: tx.controls.all()) == {}
