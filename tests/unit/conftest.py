"""The sandboxes of the tests of the upper half: each rule holds on both ledgers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.sandboxes import WHO, Sandboxes

from gonogo.orchestrator import SandboxOrchestrator


@pytest.fixture(params=["memory", "sqlite"])
def sandboxes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sandboxes]:
    """Makes sandboxes on one kind of ledger."""
    made = Sandboxes(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Sandboxes]:
    """Makes sandboxes that share one SQLite file, as processes do."""
    made = Sandboxes("sqlite", tmp_path)
    yield made
    made.close()


@pytest.fixture
def sandbox(sandboxes: Sandboxes) -> SandboxOrchestrator:
    """A locked sandbox."""
    return sandboxes()


@pytest.fixture
def armed(sandbox: SandboxOrchestrator) -> SandboxOrchestrator:
    """The same sandbox, unlocked for an hour."""
    sandbox.arm(**WHO)
    return sandbox
