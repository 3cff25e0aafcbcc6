"""Sandboxes and events for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from gonogo.clock import Clock, FakeClock
from gonogo.events import Event
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.settings import Settings
from gonogo.store.port import Store


def sandbox_for_tests(
    *, clock: Clock | None = None, store: Store | None = None, **settings: Any
) -> SandboxOrchestrator:
    """A live sandbox in memory: no environment, no file, no jitter, time stands still.

    Args:
        clock: a `FakeClock` of its own unless given.
        store: the ledger, for instance a `FaultyStore`.
        settings: fields of `Settings`; ``dry_run=True`` locks it.
    """
    wanted = Settings().replaced({"dry_run": False, **settings}, "as an argument")
    return SandboxOrchestrator(
        settings=wanted, clock=clock or FakeClock(), random=lambda: 0.5, store=store
    )


@contextmanager
def capture_events(
    sandbox: SandboxOrchestrator, names: Iterable[str] | None = None
) -> Iterator[list[Event]]:
    """The events of the block, oldest first: all of them, or those of ``names``."""
    heard: list[Event] = []
    end = sandbox.events.subscribe(heard.append, names=names)
    try:
        yield heard
    finally:
        end()
