"""A worker of calls that take no time: ``python -m tests.support.stamper URL BOOK [THREADS]``.

It stamps numbers into the book, and dies of the one that is `POISON`. It ends when nothing is left.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from gonogo.action import Action
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import OPEN

POISON = 600
ATTEMPTS = 4


def open_stamper(url: str, book: Path, threads: int = 1) -> tuple[SandboxOrchestrator, Action]:  # type: ignore[type-arg] # of any
    """A sandbox with the one action."""
    sandbox = SandboxOrchestrator(
        url, dry_run=False, worker_interval=0.2, lease=1.0, max_workers=threads
    )
    page = os.open(book, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    @sandbox.action("stamp", irreversible=False)
    def stamp(number: int) -> int:
        if number == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(page, f"{number}\n".encode())
        return number

    return sandbox, stamp


def main(url: str, book: str, threads: str = "1") -> None:
    """Work until nothing is left."""
    sandbox, _ = open_stamper(url, Path(book), int(threads))
    while any(sandbox.counts().get(state) for state in OPEN):
        sandbox.run(until_idle=1.0)
        sandbox.clock.sleep(0.1)  # what a dead process had in hand is free when its lease ends


if __name__ == "__main__":
    main(*sys.argv[1:])
