"""gonogo."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.pg.queue import Begun
from gonogo import SandboxOrchestrator
from gonogo.action import Action
from gonogo.records import OPEN


def declare(sandbox: SandboxOrchestrator, begun: Begun) -> Action[..., None]:
    @sandbox.action("touch", irreversible=False)
    def touch(number: int) -> None:
        begun()

    return touch


class Ours:
    """Calls in the ledger."""

    def __init__(self, url: str) -> None:
        self._sandbox = SandboxOrchestrator(url, dry_run=False)
        self._touch = declare(self._sandbox, lambda: None)
        self._touch.enqueue(0).cancel(by="benchmark", reason="it made the tables")

    def put(self, number: int) -> object:
        return self._touch.enqueue(number)

    def put_many(self, numbers: Sequence[int]) -> object:
        return self._touch.enqueue_many({"number": number} for number in numbers)

    def left(self) -> int:
        counts = self._sandbox.counts()
        return sum(counts.get(state, 0) for state in OPEN)

    def close(self) -> None:
        self._sandbox.cleanup()


def work(url: str, begun: Begun, hands: int) -> None:
    sandbox = SandboxOrchestrator(url, dry_run=False, max_workers=hands)
    declare(sandbox, begun)
    sandbox.initialize()
    begun()
    sandbox.run()
