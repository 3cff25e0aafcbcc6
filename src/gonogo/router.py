"""The fork in the road: inside a rehearsal calls are recorded, outside they are performed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gonogo.action import Action, Given
from gonogo.arguments import Bound, TaintedArgument
from gonogo.batches import in_row, shown
from gonogo.context import running
from gonogo.errors import ConfigurationError, DryRunBlocked, Refused
from gonogo.handle import Handle, JobOptions
from gonogo.jobs import Jobs
from gonogo.pipeline import Pipeline, Receipt
from gonogo.planner import Planner
from gonogo.rehearsal import Rehearsal


class Router:
    """Takes what actions are asked to do to the rehearsal in progress, or to the pipeline."""

    def __init__(self, pipeline: Pipeline, jobs: Jobs, planner: Planner) -> None:
        self._pipeline = pipeline
        self._jobs = jobs
        self._planner = planner

    def now(self) -> float:
        """Epoch seconds."""
        return self._pipeline.clock.now()

    def call(self, action: Action[..., Any], given: Given) -> Receipt:
        """Perform it, or record it; a reversible action is performed in a rehearsal too."""
        rehearsal = self._rehearsal(action)
        if rehearsal is None:
            return self._pipeline.call(action, self._bind(action, given))
        bound = self._bind_or_record(rehearsal, action, given)
        if isinstance(bound, Receipt):
            return bound
        if not action.policy.irreversible:
            return self._pipeline.call(action, bound)
        return self._recorded(rehearsal, action, given, bound)

    async def acall(self, action: Action[..., Any], given: Given) -> Receipt:
        """`call` for async code."""
        rehearsal = self._rehearsal(action)
        if rehearsal is None:
            return await self._pipeline.acall(action, self._bind(action, given))
        bound = self._bind_or_record(rehearsal, action, given)
        if isinstance(bound, Receipt):
            return bound
        if not action.policy.irreversible:
            return await self._pipeline.acall(action, bound)
        return self._recorded(rehearsal, action, given, bound)

    def enqueue(
        self, action: Action[..., Any], rows: Sequence[Given], options: JobOptions
    ) -> list[Handle]:
        """Make jobs, or record them."""
        rehearsal = self._rehearsal(action, queues=True)
        if rehearsal is None:
            return self._jobs.enqueue(action, self._bind_all(action, rows), options)
        return rehearsal.queued(action, rows, options)

    def _bind_or_record(
        self, rehearsal: Rehearsal, action: Action[..., Any], given: Given
    ) -> Bound | Receipt:
        """The arguments; or, where nobody can know them yet, the record that says so."""
        try:
            with rehearsal.locating(action, given):
                return action.parameters.bind(given.args, given.kwargs)
        except TaintedArgument as error:
            call = rehearsal.tainted(action, error)
            return Receipt(value=rehearsal.unknown(call), call_id=call.id, attempts=0)

    def _recorded(
        self, rehearsal: Rehearsal, action: Action[..., Any], given: Given, bound: Bound
    ) -> Receipt:
        with rehearsal.locating(action, given):
            value, call, replayed = rehearsal.direct(action, bound)
        return Receipt(value=value, call_id=call.id, replayed=replayed, attempts=call.attempt)

    def _rehearsal(self, action: Action[..., Any], *, queues: bool = False) -> Rehearsal | None:
        """The rehearsal this code runs in.

        While one is on, what it would record is refused from a thread that did not inherit it: an
        irreversible call, and every job. It may well be the rehearsed job's own, and then doing it
        would be the accident that a rehearsal exists to prevent.
        """
        rehearsal = self._planner.current
        stray = rehearsal is None and self._planner.active and not running()
        if stray and (queues or action.policy.irreversible):
            self._planner.stray(action.name)
            raise DryRunBlocked(
                f"{action.name} was not performed: a rehearsal is on in this process and this "
                "thread is not part of it. Start the job's threads with gonogo.carry(fn), or "
                "rehearse in a process of its own",
                action=action.name,
            )
        return rehearsal

    def _bind_all(self, action: Action[..., Any], rows: Sequence[Given]) -> list[Bound]:
        bound: list[Bound] = []
        try:
            for given in rows:
                bound.append(self._bind(action, given))
        except (ConfigurationError, Refused) as error:
            at = len(bound)
            in_row(error, at + 1, len(rows), shown(action, rows[at]))
            raise
        return bound

    def _bind(self, action: Action[..., Any], given: Given) -> Bound:
        try:
            return action.parameters.bind(given.args, given.kwargs)
        except TaintedArgument as error:
            raise Refused(
                f"{action.name} was not performed: {error}, a value made up by a rehearsal",
                action=action.name,
            ) from error
