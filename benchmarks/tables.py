"""Results as text for a terminal, and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.measure import Result, Target
from benchmarks.summary import REACHED, verdict


def terminal(result: Result) -> Iterator[str]:
    """The lines of one result."""
    yield f"{result.title}  [{result.settings}; {result.rounds} rounds]"
    ours = _ours(result)
    for name, median, least, most in result.rows():
        show = result.unit(name).show
        figures = f"{show(median):>14}  ({show(least)} – {show(most)})"
        ratio = "" if ours is None else f"{median / ours:10.3g} × ours"
        yield f"  {name:<34}{figures:<48}{ratio}"
    for name, why in result.failed.items():
        yield f"  {name:<34}not measured: {why[:300]}"
    for target, ratio in result.verdicts():
        yield f"    {verdict(target, ratio):<8} {_sentence(result, target, ratio)}"


def page(result: Result) -> Iterator[str]:
    """The same in Markdown."""
    yield f"### {result.title}"
    yield ""
    yield f"{result.settings}; {result.rounds} rounds."
    yield ""
    ours = _ours(result)
    head = "" if ours is None else " × ours |"
    yield f"| | median | least – most |{head}"
    yield f"|---|--:|--:|{'--:|' if head else ''}"
    for name, median, least, most in result.rows():
        show = result.unit(name).show
        ratio = "" if ours is None else f" {median / ours:.3g} |"
        yield f"| {name} | {show(median)} | {show(least)} – {show(most)} |{ratio}"
    for name, why in result.failed.items():
        yield f"| {name} | not measured: {why[:200]} | |{' |' if head else ''}"
    yield ""
    for target, ratio in result.verdicts():
        yield f"- **{verdict(target, ratio)}**: {_sentence(result, target, ratio)}"
    yield ""


def missed(results: Iterable[Result]) -> list[str]:
    """The targets that were not reached."""
    return [
        f"{result.title}: {_sentence(result, target, ratio)}"
        for result in results
        for target, ratio in result.verdicts()
        if verdict(target, ratio) != REACHED
    ]


def _sentence(result: Result, target: Target, ratio: float | None) -> str:
    unit = result.unit(target.ours)
    got = "not measured" if ratio is None else target.got(ratio, unit)
    return f"{target.ours}: {got} (asked: {target.asked(unit)})"


def _ours(result: Result) -> float | None:
    """The median of our row, where it is the only one."""
    found = [median for name, median, *_ in result.rows() if name.startswith("gonogo")]
    return found[0] if len(found) == 1 else None
