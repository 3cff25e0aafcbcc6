"""Watching the calls of a plan until they have ended, with a progress bar on a terminal."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from gonogo.cli.base import Session
from gonogo.cli.exits import Exit, exit_of_states
from gonogo.records import NEVER, TERMINAL, Call, State

POLL = 0.3

Show = Callable[[int, str], None]


class End(NamedTuple):
    """How the wait ended."""

    exit: Exit
    states: dict[str, int]
    sentence: str


def wait_for(session: Session, plan_id: str, queued: set[str], timeout: float | None) -> End:
    """Wait until the ``queued`` calls of a plan move no more, at most ``timeout`` seconds.

    A call that waits for a person does not move, nor one that waits for such a call.
    """
    sandbox = session.sandbox
    give_up = None if timeout is None else sandbox.clock.monotonic() + timeout
    _hint_at_workers(session)
    with _progress(session, len(queued)) as show:
        while True:
            of_plan = sandbox.store.read(lambda tx: tx.calls.of_plan(plan_id))
            calls = [call for call in of_plan if call.id in queued]
            moving = [call for call in calls if _moves(call)]
            show(len(calls) - len(moving), _sentence(calls))
            late = give_up is not None and sandbox.clock.monotonic() >= give_up
            if not moving or late:
                return _end(calls, late=bool(moving))
            sandbox.clock.sleep(POLL)


def _end(calls: list[Call], *, late: bool) -> End:
    states = Counter(call.state.value for call in calls)
    code = exit_of_states({call.state for call in calls})
    if late and code in {Exit.OK, Exit.FAILED}:
        code = Exit.UNFINISHED
    sentence = _sentence(calls)
    if states[State.UNKNOWN]:
        sentence += "; what is unknown may have happened: gonogo calls list --state unknown"
    if late:
        sentence += "; the time to wait is over, the workers go on"
    return End(code, dict(states), sentence)


def _moves(call: Call) -> bool:
    return call.state not in TERMINAL and not call.waits and call.run_at < NEVER


def _sentence(calls: list[Call]) -> str:
    counts = Counter(call.state for call in calls)
    return ", ".join(f"{counts[s]:,} {s.value}" for s in State if counts[s]) or "nothing to do"


def _hint_at_workers(session: Session) -> None:
    check = session.sandbox.readiness_checker.checks.get("worker_running")
    if check is not None and not check.ask().ok:
        session.out.note("note: no worker is alive on this ledger; start one with gonogo worker")


@contextmanager
def _progress(session: Session, total: int) -> Iterator[Show]:
    if session.out.json or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda done, text: None
        return
    from rich.console import Console  # noqa: PLC0415 - only terminals pay for it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 - same

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda done, text: progress.update(task, completed=done, description=text)
