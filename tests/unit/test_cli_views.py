"""Records for people: what a process does is a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from gonogo.cli.views import doing, liveness
from gonogo.records import Beat

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


def test_a_process_is_silent_after_a_lease() -> None:
    """Until then it counts as alive."""
    beat = Beat(name="host:1", kind="worker", at=100.0)
    assert liveness(beat, 129.0, 30.0) == "alive"
    assert liveness(beat, 130.0, 30.0) == "silent"
