"""A program to be killed: carries out a ledger's jobs, and dies where it is told to.

    python -m tests.support.victim FOLDER KIND PLACE NTH      dies at the NTH passing of PLACE
    python -m tests.support.victim FOLDER KIND nursery        forks a worker for each line it reads
    python -m tests.support.victim FOLDER KIND serve          a worker's main program; each effect
                                                              says so and waits for a line;
                                                              it says when it begins to drain

The other side is a file, ``book``, to which every effect appends a line. Places are patched into
this process alone, so that nothing of it costs anybody else anything:

    claim admitted effect-begins effect-happened performed settled verify
    write:A>B       inside the transaction that moves a call from state A to state B
    approve apply   inside the transaction, after its last row
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gonogo.action import Action
from gonogo.clock import Clock
from gonogo.evidence import absent, landed
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Call
from gonogo.settings import Settings

KINDS = ("verified", "unverified", "repeatable")


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


class Places:
    """Where to die: at the ``nth`` passing of ``name``."""

    def __init__(self, name: str, nth: int) -> None:
        self.name = name
        self._left = nth

    def __call__(self, name: str) -> None:
        if name == self.name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                threading.Event().wait()


def open_sandbox(
    folder: Path, *, clock: Clock | None = None, **settings: Any
) -> SandboxOrchestrator:
    """The sandbox on the folder's ledger."""
    url = f"sqlite:///{folder}/ledger.db"
    return SandboxOrchestrator(
        settings=Settings().replaced({"db_url": url, **settings}, "in a test"), clock=clock
    )


def declare(
    sandbox: SandboxOrchestrator,
    folder: Path,
    kind: str,
    place: Callable[[str], None] = lambda name: None,
    effect: Callable[[str], None] | None = None,
    verify_after: float = 0.0,
) -> Action[..., str]:
    """The action ``pay`` of one of `KINDS`."""
    book = Book(folder)

    @sandbox.action(
        "pay",
        key="pay:{invoice}",
        irreversible=kind != "repeatable",
        verify_after=verify_after,
        timeout=30.0,
    )
    def pay(invoice: str) -> str:
        place("effect-begins")
        (effect or book.enter)(invoice)
        place("effect-happened")
        return f"paid {invoice}"

    if kind == "verified":

        @pay.verify
        def _(call: Any) -> Any:
            place("verify")
            found = call.arguments["invoice"] in book.lines()
            return landed("found in the book") if found else absent()

    return pay


def patch(sandbox: SandboxOrchestrator, place: Places) -> None:
    """Make the places of this process known."""
    from gonogo.store.sql_calls import SqlCalls

    replace = SqlCalls.replace

    def replaced(calls: SqlCalls, before: Call, after: Call) -> bool:
        won = replace(calls, before, after)
        place(f"write:{before.state}>{after.state}")
        return won

    SqlCalls.replace = replaced  # type: ignore[method-assign]  # this process is made to die of it
    _after(sandbox.delivery, "claim", place, "claim")
    _after(sandbox.delivery, "perform", place, "settled")
    _after(sandbox.pipeline.performer, "run", place, "performed")
    _before(sandbox.pipeline.performer, "run", place, "admitted")
    _after(sandbox.planner, "_decide", place, "decided")


def _after(owner: Any, name: str, place: Places, where: str) -> None:
    fn = getattr(owner, name)

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = fn(*args, **kwargs)
        place(where)
        return result

    setattr(owner, name, wrapped)


def _before(owner: Any, name: str, place: Places, where: str) -> None:
    fn = getattr(owner, name)

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        place(where)
        return fn(*args, **kwargs)

    setattr(owner, name, wrapped)


def work(folder: Path, kind: str, place: Places) -> None:
    """Apply what is approved, approve what is ready, recover, and carry out what is due."""
    from gonogo.clock import FakeClock, SystemClock
    from gonogo.records import PlanState

    hour = 3600.0 if (folder / "later").exists() else 0.0
    sandbox = open_sandbox(folder, clock=FakeClock(SystemClock().now() + hour))
    declare(sandbox, folder, kind, place)
    patch(sandbox, place)
    for plan in sandbox.store.read(lambda tx: tx.plans.find(states=[PlanState.READY])):
        sandbox.approve(plan.id, by="ann", reason="a test")
    for plan in sandbox.store.read(lambda tx: tx.plans.find(states=[PlanState.APPROVED])):
        sandbox.apply(plan.id)
    while sandbox.recovery.run_once() or sandbox.worker.run_once():
        pass
    sandbox.cleanup()


def nursery(folder: Path, kind: str) -> None:
    """Fork a worker for each line of input and print its id; imports are paid for once."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    import gonogo.store.sqlite  # noqa: F401 - before the fork, once for all

    for line in sys.stdin:
        seed = int(line)
        child = os.fork()
        if child == 0:
            toil(folder, kind, seed)
            os._exit(0)
        print(child, flush=True)


def toil(folder: Path, kind: str, seed: int) -> None:
    """Work with two threads until somebody kills this process."""
    chance = random.Random(seed)
    book = Book(folder)
    nobody = threading.Event()

    def effect(invoice: str) -> None:
        nobody.wait(chance.random() / 200)
        book.enter(invoice)
        nobody.wait(chance.random() / 200)

    sandbox = open_sandbox(folder, max_workers=2, worker_interval=0.05, lease=2.0)
    declare(sandbox, folder, kind, effect=effect, verify_after=3.0)
    sandbox.worker.start()
    nobody.wait()


def serve_until_told(folder: Path, kind: str) -> int:
    """A worker's main program, as users write it."""

    def say_when_it_drains() -> None:
        sandbox.worker._stop.wait()
        print("draining", flush=True)

    def effect(invoice: str) -> None:
        threading.Thread(target=say_when_it_drains, daemon=True).start()
        print(f"performing {invoice}", flush=True)
        sys.stdin.readline()
        Book(folder).enter(invoice)

    sandbox = open_sandbox(folder, worker_interval=0.05)
    declare(sandbox, folder, kind, effect=effect)
    return 0 if sandbox.run() else 3


if __name__ == "__main__":
    where, what, how, *more = sys.argv[1:]
    if how == "nursery":
        nursery(Path(where), what)
    elif how == "serve":
        sys.exit(serve_until_told(Path(where), what))
    else:
        work(Path(where), what, Places(how, int(more[0])))
