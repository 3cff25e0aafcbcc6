"""The process that is killed, driven line by line by its parent.

It takes the user's action off the sandbox that declared it and puts it on one of its own, so that
nothing of the user's ledger is opened. Each line of input is a command in JSON, each answered by a
line; the end of the input is the end of the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from gonogo.action import Action
from gonogo.boundaries import Boundary
from gonogo.context import current
from gonogo.logs import correlation
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import TERMINAL, Call, PlanState, State
from gonogo.secrets import describe
from gonogo.settings import Settings
from gonogo.signals import NotApplied
from gonogo.store.port import Store
from gonogo.targets import resolve
from gonogo.testing.boundaries import instrument

VERIFIER = 2.0
"""Seconds a verifier may take, at least: a look that died with its process is made again then."""

_ANSWERED = 0.2
"""Seconds in which the answer to a command is out."""

MOST = 1_000_000
WHO = {"by": "the crash test", "reason": "a call of the crash test"}


class Order(Struct, frozen=True, kw_only=True):
    """What kind of process this is, and the boundary at which it dies.

    With ``stops`` it is stopped there (SIGSTOP) instead, once, and goes on when it is told to.
    """

    target: str
    url: str
    lease: float
    threads: int = 1
    boundary: str | None = None
    fails_first: bool = False
    stops: bool = False


class Command(Struct, frozen=True, kw_only=True):
    """What to do: ``enqueue`` (make jobs of ``calls``, unless they are jobs already), ``work``
    (begin), ``look`` (say how the trial's calls are) or ``count`` (say how many there are at all).
    """

    do: str
    trial: str = ""
    calls: tuple[str, ...] = ()
    planned: bool = False


class Seen(Struct, frozen=True, kw_only=True):
    """A call as the ledger has it: its arguments in JSON, and how far it is.

    ``alerted`` says whether an alert about its action stands in the ledger.
    """

    args: str
    state: State
    over: bool
    verified: bool
    alerted: bool
    settled_at: float | None
    note: str | None


class Answer(Struct, frozen=True, kw_only=True):
    """What became of a command."""

    error: str | None = None
    calls: tuple[Seen, ...] = ()
    counts: dict[State, int] = {}


def adopt(sandbox: SandboxOrchestrator, action: Action[..., Any]) -> None:
    """Move ``action``, and those declared beside it, which it may call, to ``sandbox``."""
    beside: dict[str, Action[..., Any]] = action._runner._pipeline.actions  # type: ignore[attr-defined]  # it is a Router
    for one in beside.values():
        one._runner = sandbox._router
        for limit in one.policy.limits:
            sandbox.governor.declare(limit)
        sandbox.pipeline.actions[one.name] = one
    sandbox.delivery.queues = tuple({one.policy.queue for one in beside.values()})


class Child:
    """One life of the process, up to where it is to die."""

    def __init__(self, order: Order) -> None:
        self._action: Action[..., Any] = resolve(order.target)
        self._sandbox = SandboxOrchestrator(
            settings=Settings().replaced(
                {
                    "db_url": order.url,
                    "dry_run": False,
                    "lease": order.lease,
                    "max_workers": order.threads,
                    "worker_interval": 0.05,
                },
                "of the crash test",
            )
        )
        adopt(self._sandbox, self._action)
        self._sandbox.recovery._doubts._timeout = max(VERIFIER, order.lease)
        if order.fails_first:
            self._action.fn = failing_first(self._action)
        if order.boundary is not None:
            instrument(self._sandbox, dying(order, self._sandbox.store))

    def obey(self, command: Command) -> Answer:
        """Carry out one command."""
        if command.do == "enqueue":
            with correlation(command.trial):
                self._enqueue(command)
        elif command.do == "work":
            self._sandbox.worker.start()
        elif command.do == "count":
            return Answer(counts=self._sandbox.counts())
        else:
            return Answer(calls=tuple(self._see(call) for call in self._of(command.trial)))
        return Answer()

    def _of(self, trial: str) -> list[Call]:
        return self._sandbox.calls(correlation_id=trial, limit=MOST)

    def _enqueue(self, command: Command) -> None:
        if command.planned:
            self._plan(command)
        elif not self._of(command.trial):
            self._make(command)
        for call in self._of(command.trial):
            if call.state is State.PLANNED and call.plan_id is None:
                self._sandbox.approve(call.id, **WHO)

    def _make(self, command: Command) -> None:
        load = self._action.parameters.load
        self._action.enqueue_many([load(text).values for text in command.calls])

    def _plan(self, command: Command) -> None:
        """Go on where an earlier process of the trial died: rehearse, approve, apply."""
        sandbox = self._sandbox

        def plans(*states: PlanState) -> list[str]:
            return [p.id for p in sandbox.plans(*states, limit=MOST) if p.name == command.trial]

        if not plans():
            with sandbox.rehearse(command.trial):
                self._make(command)
        for plan in plans(PlanState.READY):
            sandbox.approve(plan, **WHO)
        for plan in plans(PlanState.APPROVED):
            sandbox.apply(plan)

    def _see(self, call: Call) -> Seen:
        decisions, alerts = self._sandbox.store.read(
            lambda tx: (tx.decisions.of(call.id), tx.alerts.find(task=call.action, limit=1))
        )
        nobody_to_ask = self._action.verifier is None
        return Seen(
            args=call.args,
            state=call.state,
            over=call.state in TERMINAL or (call.state is State.UNKNOWN and nobody_to_ask),
            verified=any(d.actor.startswith("verify of ") for d in decisions),
            alerted=bool(alerts),
            settled_at=call.settled_at,
            note=call.note,
        )


def dying(order: Order, store: Store) -> Callable[[Boundary], None]:
    """What kills, or stops, this process at its boundary."""
    first = threading.Lock()
    boundary = Boundary(order.boundary or "")

    def reach(reached: Boundary) -> None:
        if reached is not boundary or not first.acquire(blocking=False):
            return
        if order.stops:
            _stop(store)
        else:
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()

    return reach


def _stop(store: Store) -> None:
    """Stop here, when the parent has its answer and no thread is in the middle of a commit.

    A process that is stopped inside a commit to SQLite keeps the lock, and every other one waits.
    """
    threading.Event().wait(_ANSWERED)
    commits: threading.Lock = getattr(store, "_io", threading.Lock())
    with commits:  # the signal is for this thread, or it would go on until another one has it
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def failing_first(action: Action[..., Any]) -> Callable[..., Any]:
    """The action's function, whose first attempt ends before it begins."""
    fn = action.fn

    def fails_first(*args: Any, **kwargs: Any) -> Any:
        if current().attempt == 1:
            raise NotApplied("the crash test let the first attempt fail before it began")
        return fn(*args, **kwargs)

    return fails_first


def main() -> None:
    """Obey until the input ends. What users' code prints goes to standard error."""
    out = os.dup(1)
    os.dup2(2, 1)

    def say(answer: Answer) -> None:
        os.write(out, msgspec.json.encode(answer) + b"\n")

    child: Child | None = None
    for line in sys.stdin.buffer:
        try:
            if child is None:
                child = Child(msgspec.json.decode(line, type=Order))
                answer = Answer()
            else:
                answer = child.obey(msgspec.json.decode(line, type=Command))
        except Exception as error:  # noqa: BLE001 - the parent raises it
            answer = Answer(error=describe(error))
        say(answer)
    os._exit(0)
