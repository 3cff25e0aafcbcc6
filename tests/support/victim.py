"""A worker's main program, as users write it: ``python -m tests.support.victim FOLDER``.

The other side is a file, ``book``, to which every effect appends a line. Each effect says so and
waits for a line of input; the program says when it begins to drain.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gonogo.action import Action
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.settings import Settings


class Book:
    """The other side: lines in a file, appended whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "book"

    def enter(self, invoice: str) -> None:
        file = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        try:
            os.write(file, f"{invoice}\n".encode())
        finally:
            os.close(file)

    def lines(self) -> list[str]:
        return self.path.read_text().split() if self.path.exists() else []


def open_sandbox(folder: Path, **settings: Any) -> SandboxOrchestrator:
    """The sandbox on the folder's ledger."""
    url = f"sqlite:///{folder}/ledger.db"
    return SandboxOrchestrator(
        settings=Settings().replaced({"db_url": url, **settings}, "in a test")
    )


def declare(
    sandbox: SandboxOrchestrator, folder: Path, effect: Callable[[str], None] | None = None
) -> Action[..., str]:
    """The irreversible action ``pay``."""
    book = Book(folder)

    @sandbox.action("pay", key="pay:{invoice}", irreversible=True, timeout=30.0)
    def pay(invoice: str) -> str:
        (effect or book.enter)(invoice)
        return f"paid {invoice}"

    return pay


def serve_until_told(folder: Path) -> int:
    """Work until a signal comes."""

    def say_when_it_drains() -> None:
        sandbox.worker._stop.wait()
        print("draining", flush=True)

    def effect(invoice: str) -> None:
        threading.Thread(target=say_when_it_drains, daemon=True).start()
        print(f"performing {invoice}", flush=True)
        sys.stdin.readline()
        Book(folder).enter(invoice)

    sandbox = open_sandbox(folder, worker_interval=0.05)
    declare(sandbox, folder, effect)
    return 0 if sandbox.run() else 3


if __name__ == "__main__":
    sys.exit(serve_until_told(Path(sys.argv[1])))
