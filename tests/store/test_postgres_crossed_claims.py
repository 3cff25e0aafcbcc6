"""PostgreSQL alone: what is begun with its claim locks nothing that others lock the other way."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.support.scene import SOON

from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.store.postgres_errors import Crossed
from gonogo.store.sql_limits import SqlLimits


@pytest.mark.timeout(60)
def test_workers_that_claim_do_not_cross(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each begins calls of the same two customers, in opposite orders."""
    crossed, both = list[None](), threading.Barrier(2)
    reserve, init = SqlLimits.reserve, Crossed.__init__
    reserved = threading.local()

    def meeting(self: Any, *given: Any) -> Any:
        result = reserve(self, *given)
        if not getattr(reserved, "once", False):  # each holds its first row
            reserved.once = True
            try:
                both.wait(2)
            except threading.BrokenBarrierError:
                pass
        return result

    def noted(self: Any, *given: Any) -> None:
        crossed.append(None)
        init(self, *given)

    sandboxes = []
    for queue in ("one", "two"):
        sandbox = SandboxOrchestrator(postgres_url, dry_run=False, queues=queue)

        @sandbox.action(
            "remind",
            irreversible=False,
            queue=queue,
            limits=[Limit("api", 1000, per="1h", key="{customer}")],
        )
        def remind(customer: str) -> None: ...

        sandbox.delivery._company.durations.note("remind", 0.0)
        for customer in "ab" if queue == "one" else "ba":
            remind.enqueue(customer)
        sandbox.delivery._pace.note(sandbox.clock.monotonic(), 1000)
        sandboxes.append(sandbox)
    monkeypatch.setattr(SqlLimits, "reserve", meeting)
    monkeypatch.setattr(Crossed, "__init__", noted)
    threads = [
        threading.Thread(target=sandbox.delivery.begin, args=(lambda: 1,), kwargs={"ahead": True})
        for sandbox in sandboxes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    for sandbox in sandboxes:
        sandbox.cleanup()
    assert crossed == []
