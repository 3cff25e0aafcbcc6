"""Which calls are begun together, and settled together: those that take next to no time."""

from __future__ import annotations

from gonogo.pace import Durations
from gonogo.pipeline import Pipeline
from gonogo.records import AHEAD, Call
from gonogo.underway import fitting

MOST_TOGETHER = 128
TOGETHER = 0.004
"""Calls that are begun together at most, and seconds that their code takes in all."""


class Company:
    """Who may share a commit with whom, by what is declared and by experience.

    Attributes:
        durations: how long the code of each action takes; whoever performs it says.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.durations = Durations()

    def is_apart(self, call: Call) -> bool:
        """Whether code of the user's runs before it is admitted, or hears of the last one first."""
        if not self._pipeline.events.quick:
            return True
        action = self._pipeline.actions.get(call.action)
        if action is None:
            return False
        checks = action.policy.irreversible and not self._pipeline.readiness.knows_go("worker")
        return action.runs_code_first or checks

    def seconds(self, call: Call) -> float | None:
        """Seconds that it will take, if it may be begun together with others.

        A death of this process uses up an attempt of each, so that is the first of several.
        """
        action = self._pipeline.actions.get(call.action)
        if action is None or not action.policy.repeatable or action.policy.irreversible:
            return None
        first = call.attempt == (call.note != AHEAD) and call.max_attempts > 1
        if not first or action.policy.concurrency or self.is_apart(call):
            return None
        takes = self.durations.of(call.action)
        return None if takes is None else max(takes, TOGETHER / MOST_TOGETHER)

    def first_few(self, claimed: list[Call]) -> list[Call]:
        """Those that can be begun in the commit that claims them.

        Only one action among them uses limits, and those behind the first the same ones: many that
        lock limits as the queue has it meet those of another process that come the other way.
        """
        if not claimed or self.is_apart(claimed[0]):
            return []
        limited = {claimed[0].action} if self._is_limited(claimed[0]) else set[str]()

        def seconds(call: Call) -> float | None:
            takes = self.seconds(call)
            if takes is None or not self._is_limited(call):
                return takes
            limited.add(call.action)
            fixed = self._pipeline.actions[call.action].has_fixed_charges
            return takes if fixed and len(limited) == 1 else None

        return fitting(claimed, seconds, TOGETHER)

    def _is_limited(self, call: Call) -> bool:
        action = self._pipeline.actions.get(call.action)
        declared = action is not None and bool(action.policy.limits)
        return declared or self._pipeline.governor.has_limit(call.action)
