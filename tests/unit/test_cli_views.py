"""Records for people: what a process does is a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from gonogo.cli.views import did, doing, liveness
from gonogo.records import Beat, Call, State
from gonogo.settings import Settings

IDLE = {"running": 0, "queues": "default,mail", "asked_at": 95.0}


@pytest.mark.parametrize(
    ("kind", "detail", "sentence"),
    [
        ("worker", IDLE, "waits for calls of default, mail; had last asked for some 5s before"),
        ("worker", {**IDLE, "running": 1}, "performs 1 call of default, mail"),
        ("worker", {**IDLE, "running": 2, "queues": "mail"}, "performs 2 calls of mail"),
        ("heartbeat", {"checks": {"a": True}}, "finds all well"),
        ("heartbeat", {"checks": {"a": False, "b": True}}, "finds fault with a"),
        ("heartbeat", {"checks": {}}, "finds all well"),
        ("other", {"place": 3}, "place 3"),
    ],
)
def test_what_a_process_does_is_a_sentence(
    kind: str, detail: dict[str, Any], sentence: str
) -> None:
    """No field names and no clock readings."""
    assert doing(Beat(name="host:1", kind=kind, at=100.0, detail=detail)) == sentence


def test_what_a_process_performs_is_named() -> None:
    """Action, key, and for how long; the first of them are, and the others counted."""
    beat = Beat(name="host:1", kind="worker", at=100.0, detail={**IDLE, "running": 9})
    calls = [
        Call(
            id=f"{number}",
            action="pay",
            key=f"pay:{number}" if number else None,
            state=State.DISPATCHED,
            created_at=0.0,
            dispatched_at=60.0 + number,
        )
        for number in range(5)
    ]
    first = "performs pay (0) for 42s"
    assert doing(beat, calls[:1], 102.0) == first
    three = f"{first}, pay (pay:1) for 41s, pay (pay:2) for 40s"
    assert doing(beat, calls[:3], 102.0) == three
    assert doing(beat, calls, 102.0) == f"{three}, 2 more"


def test_what_a_silent_process_did_is_told_in_the_past() -> None:
    """When its calls began; of a worker that has no call of its own any more, nothing."""
    worker = Beat(name="host:1", kind="worker", at=100.0, detail={**IDLE, "running": 6})
    call = Call(
        id="1",
        action="pay",
        key="pay:1",
        state=State.DISPATCHED,
        created_at=0.0,
        dispatched_at=60.0,
    )
    assert did(worker, [call], 200.0) == "was last seen performing pay (pay:1) begun 2m 20s ago"
    assert did(worker, [], 200.0) == ""
    heartbeat = Beat(name="host:1", kind="heartbeat", at=100.0, detail={"checks": {"a": True}})
    assert did(heartbeat, [], 200.0) == "when last heard of: finds all well"


def test_each_process_is_silent_by_its_own_measure() -> None:
    """A heartbeat beats every ten seconds, whatever the lease of a call is."""
    settings = Settings(lease=3.0, heartbeat_timeout=30.0)

    def told(kind: str, ago: float) -> str:
        return liveness(Beat(name="host:1", kind=kind, at=100.0 - ago), 100.0, settings)

    assert [told("worker", 2.9), told("worker", 3.0)] == ["alive", "silent"]
    assert [told("heartbeat", 29.9), told("heartbeat", 30.0)] == ["alive", "silent"]
