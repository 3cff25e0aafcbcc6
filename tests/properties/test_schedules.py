"""Schedules: whoever ticks and whenever, each tick is made as often as its policy says."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.support.scene import Sandboxes

from gonogo.orchestrator import SandboxOrchestrator
from gonogo.schedule import Rhythm

ZONES = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"])
LINES = st.sampled_from(
    ["0 9 * * MON-FRI", "*/7 * * * *", "30 2 * * *", "*/30 2 * * *", "0 0 29 2 *", "15 1 1 * *"]
)
TIMES = st.floats(1_750_000_000, 1_900_000_000)
INTERVAL = 60.0


@given(LINES, ZONES, TIMES)
def test_the_last_tick_is_the_one_before_the_next(line: str, tz: str, at: float) -> None:
    """Looking back and looking ahead agree, on every side of every change of the clocks."""
    rhythm = Rhythm("test", cron=line, every=None, tz=tz)
    last = rhythm.last_until(at, 0.0)
    assert last <= at < rhythm.after(last, 0.0)
    assert rhythm.after(at, 0.0) == rhythm.after(last, 0.0)


CHANGES = st.sampled_from(
    [
        ("Europe/Paris", 1_792_890_000),  # 25 October 2026, 01:00 UTC: the hour from 2 comes twice
        ("Europe/Paris", 1_774_746_000),  # 29 March 2026: it does not come
        ("America/New_York", 1_793_512_800),  # 1 November 2026, 06:00 UTC
        ("America/New_York", 1_772_953_200),  # 8 March 2026
    ]
)


@given(LINES, CHANGES, st.integers(-240, 240), st.integers(0, 59))
def test_ticks_come_in_order_where_the_clocks_change(
    line: str, change: tuple[str, int], minutes: int, seconds: int
) -> None:
    """The next tick is never one that has been, wherever in a repeated hour one looks."""
    tz, turn = change
    at = turn + minutes * 60.0 + seconds
    rhythm = Rhythm("test", cron=line, every=None, tz=tz)
    last = rhythm.last_until(at, 0.0)
    following = rhythm.after(at, 0.0)
    assert last <= at < following
    assert rhythm.after(last, 0.0) == following
    assert rhythm.last_until(following - 1.0, 0.0) == last


@given(st.floats(1.0, 1e6), TIMES, st.floats(0, 1e7))
def test_every_has_one_grid(every: float, anchor: float, later: float) -> None:
    """The next tick is after the instant, and at most one interval away."""
    rhythm = Rhythm("test", cron=None, every=every, tz="UTC")
    at = anchor + later
    following = rhythm.after(at, anchor)
    assert at < following <= at + every * (1 + 1e-6) + 1e-3
    last = rhythm.last_until(at, anchor)
    assert last <= at
    assert rhythm.after(last, anchor) == following


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 400.0)), min_size=1, max_size=25))
def test_every_tick_has_one_call(rounds: list[tuple[int, float]]) -> None:
    """With ``all`` and any number of schedulers that look at any time, no tick is left out."""
    with tempfile.TemporaryDirectory() as folder:
        sandboxes = Sandboxes("sqlite", Path(folder))
        members = [_member(sandboxes) for _ in range(3)]
        start = sandboxes.clock.now()
        members[0].scheduler.run_once()
        for who, pause in rounds:
            sandboxes.clock.advance(pause)
            members[who].scheduler.run_once()
        due = int((sandboxes.clock.now() - start) // INTERVAL)
        calls = members[0].calls(limit=1000)
        ticks = sorted(call.correlation_id or "" for call in calls)
        assert len(ticks) == len(set(ticks)) == due
        sandboxes.close()


def _member(sandboxes: Sandboxes) -> SandboxOrchestrator:
    sandbox = sandboxes()
    act = sandbox.action("act", irreversible=False)(lambda: None)
    sandbox.schedule("act", act, every=INTERVAL, catch_up="all", grace=1e6)
    return sandbox
