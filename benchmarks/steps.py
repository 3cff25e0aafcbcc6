"""Steps of the interpreter and calls of functions, counted: the same on every machine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any


@dataclass(frozen=True)
class Steps:
    """By function (``module:name``): bytecode instructions, and how often it was entered.

    A generator is entered each time it goes on.
    """

    steps: dict[str, float]
    calls: dict[str, float]

    def by_module(self) -> Steps:
        """The same, summed up."""
        return Steps(_modules(self.steps), _modules(self.calls))


def counted(work: Callable[[], object], times: int) -> Steps:
    """What ``work`` makes this thread do in Python, divided by ``times``."""
    steps: Counter[CodeType] = Counter()
    calls: Counter[CodeType] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            steps[frame.f_code] += 1
        elif event == "call":
            calls[frame.f_code] += 1
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return Steps(_named(steps, times), _named(calls, times))


def _named(counts: Counter[CodeType], times: int) -> dict[str, float]:
    named: Counter[str] = Counter()
    for code, count in counts.items():
        named[f"{_module(code.co_filename)}:{code.co_qualname}"] += count
    return {name: count / times for name, count in named.most_common()}


def _module(path: str) -> str:
    """``store.sql_calls`` of ours, ``psycopg.cursor`` of others."""
    for root in ("/src/gonogo/", "/site-packages/", "/benchmarks/"):
        if root in path:
            inside = path.rpartition(root)[2].removesuffix(".py").replace("/", ".")
            return f"benchmarks.{inside}" if "benchmarks" in root else inside
    return path.rpartition("/")[2].removesuffix(".py")


def _modules(counts: dict[str, float]) -> dict[str, float]:
    summed: Counter[str] = Counter()
    for name, count in counts.items():
        summed[name.partition(":")[0]] += count  # type: ignore[assignment] # counts are shares here
    return dict(summed.most_common())
