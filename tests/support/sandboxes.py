"""Sandboxes for tests: on each ledger, on a clock that obeys, and on a ledger that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gonogo.clock import FakeClock
from gonogo.errors import StoreUnavailable
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Call
from gonogo.store.port import Store, Transaction

T = TypeVar("T")

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


class FaultyStore:
    """A store that refuses the writes ``fails`` says yes to, as a full disk would."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fails: Callable[[bool], bool] = lambda durable: False

    @property
    def shared(self) -> bool:
        return self._store.shared

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        if self.fails(durable):
            raise StoreUnavailable("the disk is full")
        return self._store.write(work, durable=durable)

    def read(self, work: Callable[[Transaction], T]) -> T:
        return self._store.read(work)

    def time(self) -> float | None:
        return self._store.time()

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        return self._store.listen(wake)

    def close(self) -> None:
        self._store.close()


class FaultySandbox(SandboxOrchestrator):
    """A sandbox whose ledger can be made to fail: ``sandbox.faulty.fails = …``."""

    faulty: FaultyStore

    def _open_store(self) -> Store:
        self.faulty = FaultyStore(super()._open_store())
        return self.faulty
