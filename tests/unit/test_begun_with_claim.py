"""Calls that are begun in the commit that claims them, when one among them cannot be."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.scene import SOON, WHO, Sandboxes, reminder

from gonogo.crew import Crew
from gonogo.orchestrator import SandboxOrchestrator


@pytest.fixture(autouse=True)
def collected_when_the_test_says() -> Iterator[None]:
    """Garbage is collected at a known moment, as it may be at any."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def one_behind_is_unfit(sandbox: SandboxOrchestrator, sandboxes: Sandboxes, send: Any) -> str:
    """A call that is fine, and one behind it whose deadline passed; the id of the first."""
    fine = reminder(sandbox, send)
    late = reminder(sandbox, lambda text: None, name="late", deadline=5.0, priority=-1)
    for name in ("remind", "late"):
        sandbox.delivery._company.durations.note(name, 0.0)
    late.enqueue("late")
    sandboxes.clock.advance(6)
    handle = fine.enqueue("fine")
    sandbox.delivery._pace.note(sandbox.clock.monotonic(), 2)
    return handle.id


def test_a_call_whose_batch_was_taken_back_stays_held(shared: Sandboxes) -> None:
    """Its lease is renewed while it is performed, whenever garbage is collected."""
    sandbox = shared(lease=10.0)
    held: list[Any] = []

    def send(text: str) -> None:
        gc.collect()
        held.extend(sandbox.delivery._hand.held)

    fine = one_behind_is_unfit(sandbox, shared, send)
    sandbox.worker._run(None, lambda: True)
    assert fine in held


def test_nothing_of_a_batch_that_was_taken_back_locks_later(shared: Sandboxes) -> None:
    """Garbage may be collected while the mutex is held, in the thread that holds it."""
    sandbox = shared(lease=10.0)
    one_behind_is_unfit(sandbox, shared, lambda text: None)

    class Held(dict[str, Any]):
        def update(self, *given: Any) -> None:  # type: ignore[override]
            gc.collect()
            super().update(*given)

    sandbox.delivery._hand._held = Held()
    thread = threading.Thread(target=sandbox.worker._run, args=(None, lambda: True), daemon=True)
    thread.start()
    thread.join(SOON / 4)
    assert not thread.is_alive()


def test_a_switch_stops_what_is_lined_up_after_it(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while other threads look for what is begun: nothing begins once it is thrown."""
    sandbox, sent = sandboxes(), list[str]()
    remind = reminder(sandbox, sent.append)
    remind.enqueue_many([(text,) for text in "abcd"])
    sandbox.delivery._company.durations.note("remind", 0.0)
    sandbox.delivery._pace.note(sandbox.clock.monotonic(), 4)
    hand, begin_soon = sandbox.delivery._hand, sandbox.delivery._hand.begin_soon

    def carry_out() -> None:
        work: Any = hand.next_begun()
        while work is not None:
            work = sandbox.delivery.carry_on(work, more=lambda: True)

    def late(begun: Any, now: float, **more: Any) -> Any:
        sandbox.halt("remind", **WHO)
        lined_up = begin_soon(begun, now, **more)
        other = threading.Thread(target=carry_out)
        other.start()
        other.join(SOON)
        return lined_up

    monkeypatch.setattr(hand, "begin_soon", late)
    sandbox.delivery.begin(lambda: 1, ahead=True)
    assert sent == []


def test_one_job_is_carried_out_at_most(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no more is wanted, however many threads are free."""
    sandbox, sent = sandboxes(), list[str]()
    reminder(sandbox, sent.append).enqueue_many([(text,) for text in "abcd"])
    sandbox.delivery._company.durations.note("remind", 0.0)
    monkeypatch.setattr(Crew, "idle", property(lambda crew: 4))
    assert sandbox.worker.run_once()
    assert sent == ["a"]
