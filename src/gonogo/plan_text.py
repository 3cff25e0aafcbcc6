"""A plan as text for people and pipes; no terminal needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gonogo.durations import spell_time
from gonogo.records import Call, PlanRecord

MOST_LINES = 50


def render(
    plan: PlanRecord,
    calls: Sequence[Call],
    verdicts: Mapping[str, int],
    totals: Mapping[str, Mapping[str, int]],
    ledger: str,
) -> str:
    """The plan's head, its totals, its problems, and the calls (shortened in the middle)."""
    lines = [
        f"Plan {plan.name!r}  {plan.id}  {plan.state.value.upper()}",
        f"  expires {spell_time(plan.expires_at)}   digest {plan.digest[:19]}…",
        f"  ledger {ledger}",
        "  " + (", ".join(f"{n} {v}" for v, n in sorted(verdicts.items())) or "no calls"),
    ]
    for action, sums in totals.items():
        units = "".join(f", {row} {n:,}" for row, n in sums.items() if row != "calls")
        calls_of = f"{sums['calls']:,} {'call' if sums['calls'] == 1 else 'calls'}"
        lines.append(f"  would perform {action}: {calls_of}{units}")
    lines += [f"  ! {problem}" for problem in plan.problems]
    if calls:
        lines.append("")
    lines += _table(calls)
    return "\n".join(lines)


def _table(calls: Sequence[Call]) -> list[str]:
    shown = list(calls) if len(calls) <= MOST_LINES else _notable(calls)
    name = max((len(call.key or call.action) for call in shown), default=0)
    lines = []
    last = -1
    for call in shown:
        at = call.position or 0
        if at > last + 1:
            lines.append(f"        … {at - last - 1} more")
        last = at
        note = f"  {call.note}" if call.note else ""
        lines.append(
            f"  {at + 1:>5} {call.verdict or '':<12} {call.key or call.action:<{name}}{note}"
        )
    if calls and last < len(calls) - 1:
        lines.append(f"        … {len(calls) - 1 - last} more")
    return lines


def _notable(calls: Sequence[Call]) -> list[Call]:
    """The first and last few, and between them what a person has to look at."""
    head, tail = list(calls[:10]), list(calls[-5:])
    middle = [call for call in calls[10:-5] if call.verdict not in {"new", "done"}]
    return head + middle[: MOST_LINES - 15] + tail
