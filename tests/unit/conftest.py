"""Fixtures of the unit tests: a clock, and a live sandbox on each ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.sandboxes import STORES, arm, make_sandbox
from tests.support.scene import WHO, Sandboxes

from gonogo.clock import FakeClock
from gonogo.orchestrator import SandboxOrchestrator


@pytest.fixture(params=STORES)
def sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock
) -> Iterator[SandboxOrchestrator]:
    """A live sandbox whose clock is ``fake_clock``."""
    made = arm(make_sandbox(request.param, tmp_path, fake_clock))
    yield made
    made.cleanup()


@pytest.fixture(params=STORES)
def sandboxes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sandboxes]:
    """Makes locked sandboxes on one kind of ledger, with a clock of their own."""
    made = Sandboxes(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Sandboxes]:
    """Makes locked sandboxes that share one SQLite file, as processes do."""
    made = Sandboxes("sqlite", tmp_path)
    yield made
    made.close()


@pytest.fixture
def locked(sandboxes: Sandboxes) -> SandboxOrchestrator:
    """A sandbox as it is at first: in dry-run."""
    return sandboxes()


@pytest.fixture
def armed(locked: SandboxOrchestrator) -> SandboxOrchestrator:
    """The same sandbox, unlocked for an hour."""
    locked.arm(**WHO)
    return locked
