"""A plan as text for people and pipes; no terminal needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import TypedDict

from gonogo.durations import spell_time
from gonogo.lines import clean
from gonogo.records import Call, PlanRecord, PlanState, State

MOST_LINES = 50
"""Calls of a long plan that are shown; more only where more need a look."""

FIRST = 5
"""Calls of each verdict that are shown before any verdict gets more."""

_QUIET = (
    *("new", "waits", "dispatched", "claimed", "pending", "in_flight"),
    *("cancelled", "succeeded", "duplicate", "done"),
)
"""Verdicts and states that may be left out of a long plan: those first that come last."""


class Total(TypedDict):
    """How many calls, and the units that they take by limit row."""

    calls: int
    uses: dict[str, int]


def render(
    plan: PlanRecord,
    calls: Sequence[Call],
    verdicts: Mapping[str, int],
    totals: Mapping[str, Total],
    *,
    uses: Sequence[Mapping[str, int]] = (),
    whole: Callable[[Call], str] | None = None,
    ledger: str | None = None,
    overtaken: int = 0,
) -> str:
    """The plan's head, its totals, its problems, and the calls.

    Of a long plan calls are left out that need no look, unless ``whole`` is given: then all are
    there, each with what it says.

    Args:
        uses: what each call takes of its limits; see `gonogo.plan.Plan.uses`.
        ledger: where the plan is kept.
        overtaken: how many of its calls have lost their keys to others since.
    """
    applied = plan.state is PlanState.APPLIED
    lines = [
        f"Plan {plan.name!r}  {plan.id}  {plan.state.value.upper()}",
        f"  expires {spell_time(plan.expires_at)}   digest {plan.digest[:19]}…",
        f"  {'rehearsed: ' if applied else ''}{spell_counts(verdicts) or 'no calls'}",
    ]
    if ledger is not None:
        lines.insert(2, f"  ledger {ledger}")
    if applied:
        lines.append(f"  now: {spell_counts(states(calls)) or 'nothing of it was queued'}")
    else:
        lines += [f"  would perform {line}" for line in spell_totals(totals)]
    lines += [f"  {line}" for line in spell_waiting(calls)]
    lines += [f"  ! {problem}" for problem in plan.problems]
    lines += [f"  ! {line}" for line in spell_overtaken(overtaken)]
    if calls:
        lines.append("")
    shown = set(range(len(calls))) if whole else _shown(calls)
    lines += _table(calls, shown, uses, whole)
    if left_out := _counts(call for at, call in enumerate(calls) if at not in shown):
        lines += ["", f"  left out: {left_out}; all: gonogo plan show {plan.id} --all"]
    return "\n".join(map(clean, lines))


def states(calls: Sequence[Call]) -> dict[str, int]:
    """Of the calls that were queued: how many are in each state."""
    return dict(Counter(call.state.value for call in calls if _was_queued(call)))


def spell_counts(verdicts: Mapping[str, int]) -> str:
    """``1 duplicate, 2 new``."""
    return ", ".join(f"{n:,} {verdict}" for verdict, n in sorted(verdicts.items()))


def spell_totals(totals: Mapping[str, Total]) -> Iterator[str]:
    """Of each action ``payment: 2 calls, payment.cents 21,000``."""
    for action, total in totals.items():
        units = "".join(f", {row} {n:,}" for row, n in total["uses"].items())
        yield f"{action}: {total['calls']:,} {'call' if total['calls'] == 1 else 'calls'}{units}"


def spell_waiting(calls: Sequence[Call]) -> Iterator[str]:
    """That some calls will go out later, where there are such, and what the first waits for."""
    waiting = [call for call in calls if _waits(call)]
    if waiting:
        goes = "goes out by itself" if len(waiting) == 1 else "go out by themselves"
        first = f"{waiting[0].key or waiting[0].action}: {waiting[0].note or 'no room now'}"
        yield f"{len(waiting):,} of its calls {goes} later, when there is room; first {first}"


def _waits(call: Call) -> bool:
    """Whether there was no room for it when that was last looked at."""
    if call.state is State.PENDING:
        return call.verdict == "waits" and call.note is not None
    return call.verdict == "waits" and call.state is State.PLANNED


def spell_overtaken(calls: int) -> Iterator[str]:
    """That a plan cannot be applied because so many of its calls lost their keys; else nothing."""
    if calls:
        lost = (
            "1 of its calls has lost its key" if calls == 1 else f"{calls:,} have lost their keys"
        )
        yield f"overtaken: {lost} to other calls since, so it cannot be applied: rehearse again"


def _shown(calls: Sequence[Call]) -> set[int]:
    """Where the calls stand that are shown: all that need a look, and the first of the others."""
    if len(calls) <= MOST_LINES:
        return set(range(len(calls)))
    urgent = {at for at, call in enumerate(calls) if _standing(call) not in _QUIET}
    counters = {verdict: count() for verdict in _QUIET}
    ranked = sorted(
        (next(counters[verdict]) >= FIRST, _QUIET.index(verdict), at)
        for at, call in enumerate(calls)
        if (verdict := _standing(call)) in counters
    )
    room = max(MOST_LINES - len(urgent), FIRST)
    return urgent | {at for _, _, at in ranked[:room]}


def _table(
    calls: Sequence[Call],
    shown: set[int],
    uses: Sequence[Mapping[str, int]],
    whole: Callable[[Call], str] | None,
) -> list[str]:
    name = max((len(calls[at].key or calls[at].action) for at in shown), default=0)
    units = {at: _units(calls[at], uses[at]) for at in shown} if uses else {}
    unit = max(map(len, units.values()), default=0)
    lines = []
    next_one = 0
    for at in [*sorted(shown), len(calls)]:
        if at > next_one:
            lines.append(f"        … {_counts(calls[next_one:at])}")
        if at < len(calls):
            call = calls[at]
            row = f"  {at + 1:>5} {_standing(call):<12} {call.key or call.action:<{name}}"
            more = [units.get(at, "").rjust(unit)] if unit else []
            more += [whole(call)] if whole else []
            lines.append("  ".join([row, *more, call.note or ""]).rstrip())
        next_one = at + 1
    return lines


def _units(call: Call, used: Mapping[str, int]) -> str:
    """``cents 12,000``; that a limit counts the call itself needs no saying."""
    told = {row: n for row, n in used.items() if (row, n) != (call.action, 1)}
    return ", ".join(f"{row} {n:,}" for row, n in told.items())


def _counts(calls: Iterator[Call] | Sequence[Call]) -> str:
    return spell_counts(Counter(map(_standing, calls)))


def _standing(call: Call) -> str:
    """What became of a call that was queued; the verdict of any other."""
    return call.state.value if _was_queued(call) else call.verdict or "new"


def _was_queued(call: Call) -> bool:
    return call.state not in {State.PLANNED, State.DISCARDED}
