"""Which calls are begun together, and settled together: those that take next to no time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
        """Those that can be begun in the commit that claims them."""
        if not claimed or self.is_apart(claimed[0]):
            return []
        return fitting(self._while_limits_agree(claimed), self.seconds, TOGETHER)

    def _while_limits_agree(self, calls: Iterable[Call]) -> Iterator[Call]:
        """The first calls, as long as those behind the first lock no limits but the same ones.

        Many that lock limits as the queue has it meet those of another process that come the other
        way.
        """
        locks = None
        for place, call in enumerate(calls):
            action = self._pipeline.actions.get(call.action)
            declares = action is not None and bool(action.policy.limits)
            if declares or self._pipeline.governor.has_limit(call.action):
                same = action is not None and action.has_fixed_charges
                if place and not (same and locks in {None, call.action}):
                    return
                locks = call.action
            yield call
