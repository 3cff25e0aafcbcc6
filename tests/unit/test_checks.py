"""What a sandbox says of the workers elsewhere: alive means that they ask for work."""

from __future__ import annotations

from tests.support.scene import Sandboxes

from gonogo.orchestrator import SandboxOrchestrator


def says(sandbox: SandboxOrchestrator) -> tuple[bool, str]:
    """What the check ``worker_running`` finds."""
    result = sandbox.readiness_checker.checks["worker_running"].ask()
    return result.ok, str(result.evidence)


def test_a_worker_that_asks_for_work_is_alive(shared: Sandboxes) -> None:
    """A worker of another process counts while it beats and asks."""
    here, elsewhere = shared(), shared()
    assert says(here) == (False, "no worker on this ledger is alive; gonogo worker starts one")
    elsewhere.delivery.claim()
    elsewhere.delivery.keep()
    assert says(here) == (True, "1 elsewhere")


def test_a_worker_that_only_beats_is_not(shared: Sandboxes) -> None:
    """A process whose threads ask for nothing any more is up and of no use, whatever it hears."""
    here, elsewhere = shared(), shared()
    elsewhere.delivery.claim()
    shared.clock.advance(60)
    elsewhere.worker._heard(None)
    elsewhere.delivery.keep()
    ok, evidence = says(here)
    assert not ok
    assert "none of them asks for work" in evidence


def test_a_worker_that_looks_out_is_alive(shared: Sandboxes) -> None:
    """A thread that asks when something will be due need not claim to be of use."""
    here, elsewhere = shared(), shared()
    elsewhere.delivery.claim()
    shared.clock.advance(60)
    elsewhere.delivery.keep()
    elsewhere.worker._pause()
    elsewhere.delivery.keep()
    assert says(here) == (True, "1 elsewhere")


def test_a_worker_that_is_busy_need_not_ask(shared: Sandboxes) -> None:
    """While it carries out a long job a worker is well."""
    here, elsewhere = shared(), shared()

    @elsewhere.action("note", irreversible=False)
    def note() -> None: ...

    note.enqueue()
    assert elsewhere.delivery.claim() is not None
    shared.clock.advance(20)
    elsewhere.delivery.keep()
    shared.clock.advance(20)
    elsewhere.delivery.keep()
    assert says(here) == (True, "1 elsewhere")
