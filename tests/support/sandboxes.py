"""Sandboxes for tests: on each ledger, on a clock that obeys, and on a ledger that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gonogo.clock import FakeClock
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Call
from gonogo.store.port import Store
from gonogo.testing import FaultyStore

STORES = ("memory", "sqlite")
MONTH = 30 * 86_400.0


def make_sandbox(kind: str, folder: Path, clock: FakeClock, **options: Any) -> SandboxOrchestrator:
    """A locked sandbox on an empty ledger; jitter is off, because chance always says one half."""
    url = None if kind == "memory" else f"sqlite:///{folder}/ledger.db"
    return SandboxOrchestrator(url, clock=clock, random=lambda: 0.5, **options)


def arm(sandbox: SandboxOrchestrator) -> SandboxOrchestrator:
    """The sandbox, live."""
    sandbox.arm(by="ann", reason="a test", seconds=MONTH)
    return sandbox


def only(sandbox: SandboxOrchestrator, action: str = "pay") -> Call:
    """The one call of ``action`` in the ledger."""
    (call,) = sandbox.calls(action=action)
    return call


def used(sandbox: SandboxOrchestrator, limit: str = "units") -> int:
    """Units of ``limit`` in use now."""
    units: int = sandbox.governor.get_status(limit)["current_actions"]
    return units


class FaultySandbox(SandboxOrchestrator):
    """A sandbox whose ledger can be made to fail: ``sandbox.faulty.fail_when(…)``."""

    faulty: FaultyStore

    def _open_store(self) -> Store:
        self.faulty = FaultyStore(super()._open_store())
        return self.faulty
