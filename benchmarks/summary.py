"""One table over all scenes: ours beside each peer and floor, what came of it and was asked."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.measure import Result, Target, Unit

OURS = "gonogo"
HEAD = ("scene", "ours", "beside", "ours is", "asked", "")
REACHED, MISSED, UNKNOWN = "reached", "MISSED", "unknown"


@dataclass(frozen=True)
class Line:
    """One comparison; nothing is ``asked`` of most peers, and then there is no verdict."""

    scene: str
    ours: str
    beside: str
    ratio: str
    asked: str = ""
    verdict: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.scene, self.ours, self.beside, self.ratio, self.asked, self.verdict)


def lines(results: Mapping[str, Result]) -> list[Line]:
    """The comparisons of all results, by the names of their scenes."""
    return [line for name, result in results.items() for line in _of(name, result)]


def terminal(found: Iterable[Line]) -> Iterator[str]:
    """The table in columns."""
    rows = [HEAD, *(line.cells for line in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def page(found: Iterable[Line]) -> Iterator[str]:
    """The table in Markdown."""
    yield f"| {' | '.join(HEAD)} |"
    yield "|---|---|---|--:|--:|---|"
    for line in found:
        *cells, verdict = line.cells
        yield f"| {' | '.join(cells)} | {f'**{verdict}**' if verdict == MISSED else verdict} |"


def verdict(target: Target, ratio: float | None) -> str:
    """Reached, missed, or unknown where a side was not measured."""
    if ratio is None:
        return UNKNOWN
    return REACHED if ratio <= target.most else MISSED


def _of(name: str, result: Result) -> Iterator[Line]:
    """A scene's targets, and then its other rows beside ours."""
    alike: dict[float, list[tuple[Target, float | None]]] = {}
    for target, ratio in result.verdicts():
        if target.theirs is not None and target.theirs.startswith(OURS):
            alike.setdefault(target.most, []).append((target, ratio))
        else:
            yield _asked(name, result, target, ratio)
    for targets in alike.values():
        target, ratio = max(targets, key=lambda each: _badness(each[1]))
        yield _asked(name, result, target, ratio, len(targets))
    named = {(target.ours, target.theirs) for target in result.targets}
    for row in result.samples:
        ours = None if row.startswith(OURS) else _beside(row, result)
        if ours is not None and (ours, row) not in named:
            yield _unasked(name, result, ours, row)


def _badness(ratio: float | None) -> float:
    return float("inf") if ratio is None else ratio


def _asked(name: str, result: Result, target: Target, ratio: float | None, alike: int = 1) -> Line:
    """``alike``: so many have the same asked of them, of which this is the worst."""
    alone, unit = target.theirs is None, result.unit(target.ours)
    got = "not measured" if ratio is None else "" if alone else target.got(ratio, unit)
    return Line(
        name,
        _shown(target.ours, result) + (f" (worst of {alike})" if alike > 1 else ""),
        "" if target.theirs is None else _shown(target.theirs, result),
        got,
        target.asked(unit) if alone else target.limit,
        verdict(target, ratio),
    )


def _unasked(name: str, result: Result, ours: str, row: str) -> Line:
    pairs = zip(result.samples[ours], result.samples[row], strict=False)
    ratios = [mine / theirs for mine, theirs in pairs if theirs]
    ratio = _words(statistics.median(ratios), result.unit(ours)) if ratios else "not to be divided"
    return Line(name, _shown(ours, result), _shown(row, result), ratio)


def _words(ratio: float, unit: Unit) -> str:
    return f"{1 / ratio:.3g} × as fast" if unit.timed and 0 < ratio < 1 else unit.times(ratio)


def _beside(row: str, result: Result) -> str | None:
    """Our row that tells the same of us: the one that ends alike, or the only one there is."""
    ours = [name for name in result.samples if name.startswith(OURS)]
    ends = [name for name in ours if row.endswith(name.removeprefix(OURS) or "\0")]
    if ends:
        return max(ends, key=len)
    return ours[0] if len(ours) == 1 else None


def _shown(row: str, result: Result) -> str:
    samples = result.samples.get(row)
    return f"{row}: {result.unit(row).show(statistics.median(samples))}" if samples else row
