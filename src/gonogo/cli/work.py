"""``worker``: carry out what was queued, until told to stop."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from gonogo.cli.base import Command, Session, duration, pass_session
from gonogo.cli.exits import Exit, exit_of_states
from gonogo.cli.stopped import Kept, kept_back, turned_away
from gonogo.durations import spell_time
from gonogo.lines import clean
from gonogo.records import Call, State
from gonogo.targets import users_code

if TYPE_CHECKING:
    from gonogo.events import Event
    from gonogo.orchestrator import SandboxOrchestrator

_ENDS = (State.SUCCEEDED, State.FAILED, State.UNKNOWN)
_RESOLVED = "resolved"
_OPEN = (State.PENDING, State.CLAIMED, State.DISPATCHED, State.UNKNOWN)
MOST_LISTED = 10_000
"""Calls that are told apart at most; of more in doubt only the number is known."""


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

    Then it takes no more, ends what is under way, and leaves. With --until-idle or --once it exits
    with 9 when a call that it performed or looked into is unknown, with 12 when one of its queues
    is due and stopped by a halt, a hold, a pause or the lock, or was refused, or with --until-idle
    is left in the hands of another process, with 11 when one that it performed failed.
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
    tally = Tally(sandbox)
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
    counts = tally.counts()
    left = [] if once else _held_by_others(sandbox)
    performed = once and any(counts.values())
    kept = [] if performed else kept_back(sandbox)
    refused = [] if performed else tally.refused()
    _tell(session, counts, left, kept, refused, drained=drained)
    if until_idle or once:
        return _exit(counts, ended=drained and not (left or kept or refused))
    return Exit.OK if drained else Exit.UNFINISHED


def _tell(
    session: Session,
    counts: dict[str, int],
    left: list[Call],
    kept: list[Kept],
    refused: list[Kept],
    *,
    drained: bool,
) -> None:
    sandbox = session.sandbox
    told = ", ".join(f"{n:,} {state}" for state, n in counts.items() if n and state != _RESOLVED)
    told = told or ("nothing was performed" if kept or refused else "nothing was due")
    if by_evidence := counts[_RESOLVED]:
        told += f"; {by_evidence:,} settled by evidence or a decision"
    if not drained:
        told += "; calls that had not ended in time are left to their leases"
    document = {"worker": sandbox.owner, "drained": drained, "left": len(left), **counts}
    document["stopped"] = [one._asdict() for one in kept]
    document["refused"] = [one._asdict() for one in refused]
    session.out.data(document, [told])
    for one in kept:
        session.out.note(clean(f"stopped: {one.calls:,} due, but {one.why}"))
    for one in refused:
        session.out.note(clean(f"refused: {one.calls:,} due; the first is {one.why}"))
    if left:
        leases = max(call.lease_until or 0.0 for call in left)
        session.out.note(
            f"left: {len(left):,} in the hands of other processes; of those that died, a worker "
            f"takes care once their leases are over, at {spell_time(leases)}"
        )
    if remaining := _remaining(sandbox):
        session.out.note(f"in the ledger: {remaining}; see gonogo calls list")


def _exit(counts: dict[str, int], *, ended: bool) -> Exit:
    """As `gonogo apply --wait` ends: unknown first, then what is left, then failures."""
    states = {State(name) for name, n in counts.items() if n and name != _RESOLVED}
    code = exit_of_states(states)
    return code if ended or code is Exit.UNKNOWN else Exit.UNFINISHED


def _held_by_others(sandbox: SandboxOrchestrator) -> list[Call]:
    """Claimed or begun calls of this worker's queues, of which it knows no end."""
    held = sandbox.calls(states=(State.CLAIMED, State.DISPATCHED), limit=MOST_LISTED)
    others = [call for call in held if call.owner != sandbox.owner]
    return [call for call in others if call.queue in sandbox.delivery.queues]


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


class Tally:
    """Calls that were performed, recovered or resolved here, by the state they came to rest in."""

    def __init__(self, sandbox: SandboxOrchestrator) -> None:
        self._sandbox = sandbox
        self._mutex = threading.Lock()
        self._ends: Counter[str] = Counter()
        self._doubts: dict[str, None] = {}
        self._refused: dict[str, None] = {}
        self._resolved = 0
        names = ("call.settled", "call.recovered", "call.withdrawn", "call.resolved")
        sandbox.events.subscribe(self._hear, names, quick=True)
        turns = ("call.refused", "call.retry_scheduled")
        sandbox.events.subscribe(self._hear_refusal, turns, quick=True)

    def _hear_refusal(self, event: Event) -> None:
        call_id = str(event.call_id)
        with self._mutex:
            if event.name != "call.refused":  # it was begun since
                self._refused.pop(call_id, None)
            elif len(self._refused) < MOST_LISTED:
                self._refused[call_id] = None

    def _hear(self, event: Event) -> None:
        state, call_id = str(event.detail["state"]), str(event.call_id)
        with self._mutex:
            self._resolved += event.name == "call.resolved"
            self._doubts.pop(call_id, None)
            if state == State.UNKNOWN and len(self._doubts) < MOST_LISTED:
                self._doubts[call_id] = None
            elif state != State.PENDING:
                self._ends[state] += 1

    def refused(self) -> list[Kept]:
        """How many queued calls were refused and wait for another try, and why the first was.

        What a switch or the lock keeps is left out; see `kept_back`.
        """
        with self._mutex:
            refused = list(self._refused)
        return turned_away(self._sandbox, refused)

    def counts(self) -> dict[str, int]:
        """How many calls are in each state now, and how many were ``resolved``.

        What was in doubt is looked up: its own late result may have settled it.
        """
        with self._mutex:
            ends, doubts, resolved = self._ends.copy(), list(self._doubts), self._resolved
        found = self._sandbox.store.read(lambda tx: [tx.calls.get(one) for one in doubts])
        ends.update(call.state.value for call in found if call is not None)
        return {state.value: 0 for state in _ENDS} | dict(ends) | {_RESOLVED: resolved}
