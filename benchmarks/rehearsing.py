"""One rehearsal in this process, from its first call to its last queued job: ``rehearsing N``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gonogo import Limit, SandboxOrchestrator


def main(calls: int) -> None:
    """Write the seconds of each step, and the resident peak in bytes at the plan and the end."""
    sandbox = SandboxOrchestrator("sqlite:///rehearsal.db")

    @sandbox.action(
        "payment",
        key="payment:{invoice}",
        irreversible=True,
        limits=[
            Limit("payment", 10 * calls, per="1h"),
            Limit("payment.cents", 10**6 * calls, per="1d", cost="{cents}"),
        ],
    )
    def pay(invoice: str, cents: int) -> str:
        return invoice

    sandbox.counts()
    seconds: dict[str, float] = {}
    with _timed(seconds, "rehearse and plan"), sandbox.rehearse("payday") as plan:
        for i in range(calls):
            pay(f"INV-{i:07}", 100 + i % 9000)
    with _timed(seconds, "print"):
        text = str(plan)
    planned = _peak()
    with _timed(seconds, "approve"):
        sandbox.approve(plan, by="ops@example.com", reason="matches the invoices")
    with _timed(seconds, "apply"):
        handles = sandbox.apply(plan)
    assert len(handles) == calls
    assert f"{calls:,} calls" in text
    weighed = {"planned, memory": planned, "applied, memory": _peak()}
    print(json.dumps(seconds | weighed))


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - began


def _peak() -> int:
    """Of this program: what `getrusage` tells begins with what its parent had."""
    with Path("/proc/self/status").open() as status:
        sizes = dict(line.split(":", 1) for line in status)
    return int(sizes["VmHWM"].split()[0]) * 1024


if __name__ == "__main__":
    main(int(sys.argv[1]))
