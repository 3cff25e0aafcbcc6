"""Keys without a ledger: claims that end in their place, whoever looks and whatever interrupts."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import CodeType, FrameType
from typing import Any

import pytest

from gonogo.clock import FakeClock
from gonogo.errors import EffectRejected, InFlight, OutcomeUnknown
from gonogo.idempotency import IdempotencyManager
from gonogo.memory_keys import MemoryKeys
from gonogo.signals import NotApplied, Rejected

KEY = "k"


@pytest.fixture
def keys(fake_clock: FakeClock) -> IdempotencyManager:
    return IdempotencyManager(60, clock=fake_clock, in_flight="raise", lease_seconds=30)


def fail_with(error: BaseException) -> Callable[[], Any]:
    """Work that raises ``error``."""

    def work() -> Any:
        raise error

    return work


def at_each_step(codes: set[CodeType], do: Callable[[int], None], run: Callable[[], Any]) -> None:
    """Run ``run``, and ``do(n)`` before the n-th step of the interpreter inside ``codes``."""
    steps = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps += 1
            do(steps)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(
    ("work", "end"),
    [
        (lambda: "done", "done"),
        (fail_with(Rejected("no")), EffectRejected),
        (fail_with(ValueError("lost")), OutcomeUnknown),
    ],
)
def test_who_looks_never_sees_half_an_end(
    keys: IdempotencyManager, work: Callable[[], Any], end: object
) -> None:
    """At every step of the interpreter a key is still in flight, or all that follows is there."""
    seen: list[object] = []

    def look(_: int) -> None:
        cached, states = keys.get_cached_result(KEY), keys.seen_operations
        try:
            seen.append(keys.process_idempotent(KEY, lambda: "twice"))
        except (InFlight, EffectRejected, OutcomeUnknown) as error:
            seen.append(type(error))
        assert keys.is_duplicate(KEY)
        assert cached == ("done" if seen[-1] == "done" else None)
        assert (states == {KEY: "dispatched"}) == (seen[-1] is InFlight)

    def run() -> None:
        with suppress(Rejected, ValueError):
            keys.process_idempotent(KEY, work)

    at_each_step({MemoryKeys.succeed.__code__, MemoryKeys._end.__code__}, look, run)
    turn = seen.index(end)
    assert turn > 0
    assert seen == [InFlight] * turn + [end] * (len(seen) - turn)


def test_an_interrupt_anywhere_keeps_no_lock_and_runs_nothing_twice(fake_clock: FakeClock) -> None:
    """Work that was interrupted as it ended has succeeded, or is unknown when its lease is over."""
    ends = set()
    for place in range(1, 500):
        keys = IdempotencyManager(60, clock=fake_clock, lease_seconds=30)

        def interrupt(step: int, place: int = place) -> None:
            if step == place:
                raise KeyboardInterrupt

        try:
            at_each_step(
                {MemoryKeys.succeed.__code__, MemoryKeys._release.__code__},
                interrupt,
                lambda keys=keys: keys.process_idempotent(KEY, lambda: "done"),
            )
        except KeyboardInterrupt:
            pass
        else:
            break
        other = threading.Thread(target=keys.clear_expired, daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive()
        fake_clock.advance(31)
        try:
            ends.add(keys.process_idempotent(KEY, lambda: "twice"))
        except OutcomeUnknown as error:
            ends.add(type(error))
    else:
        pytest.fail("it never came to its end")
    assert ends == {"done", OutcomeUnknown}


@pytest.mark.parametrize("error", [None, Rejected(), NotApplied(), ValueError()])
def test_what_somebody_was_told_is_unknown_stays_so(
    fake_clock: FakeClock, error: BaseException | None
) -> None:
    """Work that ends as another caller finds its lease over: what that one is told, all are."""
    for _ in range(50):
        keys = IdempotencyManager(60, clock=fake_clock, lease_seconds=30)
        barrier = threading.Barrier(2)

        def late(barrier: threading.Barrier = barrier) -> str:
            fake_clock.advance(31)
            barrier.wait(10)
            if error is not None:
                raise error
            return "late"

        def run(keys: IdempotencyManager = keys, late: Callable[[], str] = late) -> None:
            with suppress(Rejected, NotApplied, ValueError):
                keys.process_idempotent(KEY, late)

        first = threading.Thread(target=run)
        first.start()
        barrier.wait(10)
        told = ask(keys)
        first.join()
        assert ask(keys) == told


def ask(keys: IdempotencyManager) -> object:
    """What a second caller is told."""
    try:
        return keys.process_idempotent(KEY, lambda: "anew")
    except (EffectRejected, OutcomeUnknown) as error:
        return type(error)
