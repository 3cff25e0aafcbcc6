"""Sandboxes whose time, chance and other side obey the test."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gonogo.action import Action
from gonogo.clock import FakeClock
from gonogo.errors import GonogoError
from gonogo.jobs import Handle
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.settings import Settings

SOON = 10.0
"""Seconds a test waits for a signal that comes at once."""

WHO = {"by": "ann@example.com", "reason": "checked the books"}

Script = list[Any]


class Sandboxes:
    """Makes sandboxes of one kind; those of kind ``sqlite`` stand on the same ledger.

    On SQLite each of them is to the ledger what another process would be.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.url = f"sqlite:///{folder}/ledger.db" if kind == "sqlite" else None
        self.clock = FakeClock()
        self._made: list[SandboxOrchestrator] = []

    def __call__(self, **overrides: Any) -> SandboxOrchestrator:
        settings = Settings().replaced({"db_url": self.url} if self.url else {}, "in a test")
        sandbox = SandboxOrchestrator(
            settings=settings,
            clock=self.clock,
            random=lambda: 0.5,
            **{"drain": SOON, **overrides},
        )
        self._made.append(sandbox)
        return sandbox

    def close(self) -> None:
        for sandbox in self._made:
            sandbox.cleanup()


class Provider:
    """The other side: performs, unless its script says what happens instead.

    ``script`` is consumed one entry an attempt: an exception is raised before the effect, a
    callable is run with the invoice and its answer returned, anything else is returned.
    """

    def __init__(self) -> None:
        self.book: list[str] = []
        self.script: Script = []

    def pay(self, invoice: str) -> Any:
        """The effect."""
        step = self.script.pop(0) if self.script else None
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            return step(invoice)
        self.book.append(invoice)
        return f"paid {invoice}" if step is None else step


def payment(
    sandbox: SandboxOrchestrator,
    provider: Provider | None = None,
    name: str = "pay",
    **declared: Any,
) -> Action[..., Any]:
    """An irreversible action that pays an invoice at ``provider``."""
    side = provider or Provider()
    policy = {"irreversible": True, "key": name + ":{invoice}", "timeout": 30.0, **declared}

    @sandbox.action(name, **policy)
    def pay(invoice: str, cents: int = 100) -> Any:
        return side.pay(invoice)

    return pay


def reminder(
    sandbox: SandboxOrchestrator, fn: Callable[[str], Any], name: str = "remind", **declared: Any
) -> Action[..., Any]:
    """A reversible action that does ``fn`` with its text."""

    @sandbox.action(name, irreversible=False, **declared)
    def remind(text: str) -> Any:
        return fn(text)

    return remind


def drain(sandbox: SandboxOrchestrator, most: int = 1000) -> int:
    """Carry out what is due now, in this thread; returns how many jobs that were."""
    for done in range(most):
        if not sandbox.worker.run_once():
            return done
    raise AssertionError(f"still busy after {most} jobs")


def story(handle: Handle) -> str:
    """What `explain` tells, as one text."""
    return "\n".join(handle.explain())


def refuses(
    sandbox: SandboxOrchestrator,
    error: type[Exception],
    match: str,
    said: list[str] | None = None,
) -> None:
    """Nothing is performed, every way in says why, and nothing but gonogo's errors comes out.

    Args:
        said: gets the errors, with their tracebacks.
    """
    provider = Provider()
    pay = payment(sandbox, provider)
    ways: list[Any] = [
        lambda: pay("new"),
        lambda: pay.enqueue("new"),
        lambda: sandbox.arm(**WHO),
        lambda: sandbox.worker.run_once(),
        lambda: sandbox.worker.keep_once(),
    ]
    for way in ways:
        with pytest.raises(GonogoError) as caught:
            way()
        if said is not None:
            said += traceback.format_exception(caught.value)
    with pytest.raises(error, match=match):
        sandbox.arm(**WHO)
    assert provider.book == []
    assert not sandbox.is_ready()
    sandbox.cleanup()
