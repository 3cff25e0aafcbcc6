"""``worker``: carry out what was queued, until told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from gonogo.cli.base import Command, Session, duration, pass_session
from gonogo.cli.exits import Exit
from gonogo.records import State
from gonogo.targets import users_code

if TYPE_CHECKING:
    from gonogo.events import Event
    from gonogo.orchestrator import SandboxOrchestrator

_ENDS = (State.SUCCEEDED, State.FAILED, State.UNKNOWN)
_OPEN = (State.PENDING, State.CLAIMED, State.DISPATCHED, State.UNKNOWN)


@click.command(cls=Command, example="gonogo worker --threads 4 --queues default,mail")
@click.option("--threads", type=click.IntRange(1, 1000), help="Else as the application's settings.")
@click.option("--queues", metavar="NAMES", help="Separated by commas; else as the settings say.")
@click.option("--until-idle", is_flag=True, help="End when there is nothing to do.")
@click.option(
    "--patience",
    type=duration,
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="With --until-idle: what becomes due within that time is waited for.",
)
@click.option("--once", is_flag=True, help="Carry out one due job at most, and end.")
@pass_session
def worker(
    session: Session,
    threads: int | None,
    queues: str | None,
    until_idle: bool,
    patience: float,
    once: bool,
) -> Exit:
    """Carry out queued calls, until SIGTERM or Ctrl-C.

    Then it takes no more, ends what is under way, and leaves.
    """
    if once and (until_idle or threads):
        raise click.UsageError("--once goes without --until-idle and --threads")
    sandbox = session.open(make=True)
    if threads is not None:
        sandbox.worker.max_workers = threads
    if queues is not None:
        names = tuple(name.strip() for name in queues.split(",") if name.strip())
        if not names:
            raise click.BadParameter("name at least one queue", param_hint="--queues")
        sandbox.delivery.queues = names
    if sandbox.settings.log_json is None:
        sandbox.logger.configure(json=session.out.json, level="info")
    counts = _count(sandbox)
    where = ", ".join(sandbox.delivery.queues)
    hands = 1 if once else sandbox.worker.max_workers
    session.out.note(
        f"worker {sandbox.owner}: {hands} {'thread' if hands == 1 else 'threads'} on {where}"
    )
    with users_code():
        if once:
            drained = _once(sandbox)
        else:
            drained = sandbox.run(until_idle=patience if until_idle else None)
    told = ", ".join(f"{n:,} {state}" for state, n in counts.items() if n) or "nothing was due"
    left = "" if drained else "; calls that had not ended in time are left to their leases"
    session.out.data({"worker": sandbox.owner, "drained": drained, **counts}, [f"{told}{left}"])
    if remaining := _remaining(sandbox):
        session.out.note(f"in the ledger: {remaining}; see gonogo calls list")
    return Exit.OK if drained else Exit.UNFINISHED


def _remaining(sandbox: SandboxOrchestrator) -> str:
    """What has not ended: of a dead worker until its lease is over, later, or for a person."""
    counts = sandbox.counts()
    return ", ".join(f"{counts[state]:,} {state.value}" for state in _OPEN if counts.get(state))


def _once(sandbox: SandboxOrchestrator) -> bool:
    """One job in this thread; its lease is kept by another one, and signals wait for its end."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(sandbox.delivery.lease / 3):
            sandbox.worker.keep_once()

    keeper = threading.Thread(target=keep, name="gonogo-keeper", daemon=True)
    with _signals_wait():
        keeper.start()
        try:
            sandbox.delivery.maintain()
            sandbox.worker.run_once()
        finally:
            ended.set()
            keeper.join()
            sandbox.delivery.leave()
    return True


@contextmanager
def _signals_wait() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _count(sandbox: SandboxOrchestrator) -> dict[str, int]:
    """How often calls came to each state, by being performed, recovered or resolved here."""
    counts = {state.value: 0 for state in _ENDS} | {"resolved": 0}
    mutex = threading.Lock()

    def count(event: Event) -> None:
        told = "resolved" if event.name == "call.resolved" else str(event.detail["state"])
        with mutex:
            counts[told] = counts.get(told, 0) + 1

    names = ("call.settled", "call.recovered", "call.resolved")
    sandbox.events.subscribe(count, names, quick=True)
    return counts
