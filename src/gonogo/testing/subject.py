"""What a crash test is about: the action, its calls, and the other side's books."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gonogo.action import Action
from gonogo.errors import ConfigurationError
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.targets import resolve
from gonogo.testing.child import Seen
from gonogo.testing.report import Row

Probe = Callable[[Mapping[str, Any]], int]
Given = tuple[Any, ...] | Mapping[str, Any]

_NO_EFFECT = frozenset({State.FAILED, State.CANCELLED, State.DISCARDED})


class Subject:
    """The action under test. ``take`` and ``judge`` may be called from any thread."""

    def __init__(
        self,
        action: str | Action[..., Any],
        probe: str | Probe,
        calls: Iterable[Given],
    ) -> None:
        self.target = action if isinstance(action, str) else _target_of(action)
        found = resolve(self.target)
        if not isinstance(found, Action):
            raise ConfigurationError(
                f"{self.target} is {found!r:.100}, not an action: name what @sandbox.action(...) "
                "declared"
            )
        self.action: Action[..., Any] = found
        _require_idle(found)
        asked = resolve(probe) if isinstance(probe, str) else probe
        if not callable(asked):
            raise ConfigurationError(
                f"the probe {probe!r} is not callable: give a function that takes a call's "
                "arguments and returns how often they had their effect"
            )
        self._probe: Probe = asked
        self._calls = iter(calls)
        self._mutex = threading.Lock()
        self._taken: set[str] = set()

    def take(self, count: int, *, at_least: int | None = None) -> tuple[str, ...]:
        """The next ``count`` calls, their arguments in JSON.

        Raises `ConfigurationError` when there are not enough, or the books have one already.
        """
        with self._mutex:
            texts = [self._text(row) for _, row in zip(range(count), self._calls, strict=False)]
            if len(texts) < (count if at_least is None else at_least):
                raise ConfigurationError(
                    f"crash test of {self.target}: {len(self._taken)} calls are not enough. Give a "
                    "generator that never ends: ((f'INV-{n}', 100) for n in itertools.count())"
                )
        for text in texts:
            if times := self.count(text):
                raise ConfigurationError(
                    f"crash test of {self.target}: before it began the books had {text} "
                    f"{times} times: give calls that are new to the other side"
                )
        return tuple(texts)

    def _text(self, row: Given) -> str:
        bind = self.action.parameters.bind
        text = (bind((), row) if isinstance(row, Mapping) else bind(tuple(row), {})).text
        if text in self._taken:
            raise ConfigurationError(
                f"crash test of {self.target}: {text} is among the calls twice; each must be new"
            )
        self._taken.add(text)
        return text

    def count(self, text: str) -> int:
        """How often the call with these arguments happened, by the other side's books."""
        times = self._probe(self.action.parameters.load(text).values)
        if type(times) is not int or times < 0:
            raise ConfigurationError(
                f"the probe returned {times!r}: it must say how often, as a whole number from 0"
            )
        return times

    def judge(
        self,
        boundary: str,
        calls: Sequence[str],
        seen: Iterable[Seen],
        *,
        kills: int,
        killed_at: float | None,
    ) -> tuple[Row, list[str]]:
        """Hold what the ledger says of ``calls`` against the books."""
        known = {one.args: one for one in seen}
        found = [_verdict(known.get(text), self.count(text)) for text in calls]
        told = [
            f"{boundary}: {text} {what}"
            for text, (_, what) in zip(calls, found, strict=True)
            if what and (self.action.policy.irreversible or not what.startswith("happened "))
        ]
        columns = [column for column, _ in found]
        ends = [one.settled_at for one in known.values() if one.over and one.settled_at]
        slowest = None if killed_at is None or not ends else max(0.0, max(ends) - killed_at)
        row = Row(
            boundary=boundary,
            kills=kills,
            calls=len(calls),
            duplicates=sum(max(0, self.count(text) - 1) for text in calls),
            lost=columns.count("lost"),
            contradicted=columns.count("contradicted"),
            failed=columns.count("failed"),
            unknown=columns.count("unknown"),
            verified=sum(one.verified for one in known.values()),
            slowest=slowest,
        )
        return row, told


def _verdict(seen: Seen | None, times: int) -> tuple[str, str]:
    """The column a call counts in, and what to say of it where it must not be."""
    if times > 1:
        return "duplicate", f"happened {times} times"
    if seen is None:
        return "lost", "is not in the ledger"
    if seen.state is State.SUCCEEDED:
        return ("", "") if times else ("lost", "succeeded, says the ledger; the books lack it")
    if seen.state in _NO_EFFECT:
        if times:
            return "contradicted", f"happened, and the ledger has it as {seen.state.value}"
        return "failed", ""
    if seen.state is State.UNKNOWN:
        return ("unknown", "") if seen.alerted else ("lost", "is unknown, and no alert says so")
    return "lost", f"stopped moving: it is {seen.state.value} ({seen.note or 'no note'})"


def _target_of(action: Action[..., Any]) -> str:
    """Where a fresh process finds ``action``."""
    fn = action.fn
    target = f"{fn.__module__}:{fn.__qualname__}"
    module = sys.modules.get(fn.__module__)
    if fn.__module__ == "__main__" or getattr(module, fn.__qualname__, None) is not action:
        raise ConfigurationError(
            f"action {action.name!r} cannot be found again by a fresh process: give its import "
            "path, such as 'payouts.actions:pay', instead of the action itself"
        )
    return target


def _require_idle(action: Action[..., Any]) -> None:
    """Refuse a module that starts its worker when imported: it would work on the real ledger."""
    module = sys.modules.get(action.fn.__module__)
    for value in list(vars(module).values()) if module else ():
        if isinstance(value, SandboxOrchestrator) and value.worker.is_running:
            raise ConfigurationError(
                f"importing {action.fn.__module__} starts a worker, which would carry out real "
                "jobs in the processes that are killed: start it in a main program instead"
            )
