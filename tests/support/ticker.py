"""A process that ticks: ``python -m tests.support.ticker URL [NOW [BOUNDARY]]``.

Without ``NOW`` it ticks and works every second until it is told to stop. With it, its clock stands
there, it looks once, and it kills itself at the boundary if one is named.
"""

from __future__ import annotations

import os
import signal
import sys

from gonogo.boundaries import Boundary
from gonogo.clock import Clock, FakeClock
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.schedule import Tick
from gonogo.testing import instrument

EVERY = 60.0


def open_ticker(url: str, every: float, clock: Clock | None = None) -> SandboxOrchestrator:
    """A sandbox with one schedule, each tick of which enters its instant."""
    sandbox = SandboxOrchestrator(url, clock=clock, dry_run=False, worker_interval=0.2, lease=2.0)

    @sandbox.action("enter", key="enter:{at}", irreversible=True)
    def enter(at: str) -> str:
        return at

    def arguments(tick: Tick) -> dict[str, str]:
        return {"at": f"{tick.at:.3f}"}

    sandbox.schedule("enter", enter, every=every, arguments=arguments, catch_up="all")
    return sandbox


def main(url: str, now: str = "", boundary: str = "") -> None:
    """Tick as told."""
    if not now:
        open_ticker(url, 1.0).run()
        return
    sandbox = open_ticker(url, EVERY, FakeClock(float(now)))
    place = Boundary(boundary) if boundary else None

    def reach(reached: Boundary) -> None:
        if reached is place:
            os.kill(os.getpid(), signal.SIGKILL)

    instrument(sandbox, reach)
    sandbox.scheduler.run_once()
    sandbox.cleanup()


if __name__ == "__main__":
    main(*sys.argv[1:])
