"""Contenders side by side in interleaved rounds, and what is to be reached.

Every round measures each contender once, in an order that turns with the round, so that whatever
else the machine does falls on all of them. What counts is the ratio within a round; reported is its
median. A lone time says little on a machine that is shared.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

Measure = Callable[[], float | Mapping[str, float]]
"""One round: seconds of one operation, or several figures by name."""


@dataclass(frozen=True)
class Effort:
    """How much is done: rounds, and whether the long versions are wanted."""

    rounds: int
    full: bool
    seed: int

    @property
    def few(self) -> int:
        """Rounds of a scene in which one takes seconds."""
        return min(self.rounds, self.of(3, 5))

    def of(self, quick: int, full: int) -> int:
        """The one or the other number, as this effort wants it."""
        return full if self.full else quick


@dataclass(frozen=True)
class Target:
    """``ours`` takes at most ``most`` times as long as ``theirs``; or at most ``most``.

    Attributes:
        ours, theirs: rows of the scene.
        most: a ratio, or where there are no ``theirs`` the unit of the row (seconds, bytes …).
    """

    ours: str
    theirs: str | None
    most: float

    def ratios(self, samples: Mapping[str, list[float]]) -> list[float]:
        """One for each round in which both were measured."""
        if self.theirs is None:
            return samples.get(self.ours, [])
        pairs = zip(samples.get(self.ours, []), samples.get(self.theirs, []), strict=False)
        return [ours / theirs for ours, theirs in pairs]

    def asked(self, unit: Unit) -> str:
        """The target in words."""
        if self.theirs is None:
            return f"at most {unit.show(self.most)}"
        if self.most < 1:
            return f"at least {1 / self.most:.3g} × as fast as {self.theirs}"
        return f"at most {self.most:.3g} × {'the time' if unit.timed else 'that'} of {self.theirs}"

    @property
    def limit(self) -> str:
        """The ratio that is asked, alone."""
        return f"at least {1 / self.most:.3g} ×" if self.most < 1 else f"at most {self.most:.3g} ×"

    def got(self, ratio: float, unit: Unit) -> str:
        """What came of it, in the same words."""
        if self.theirs is None:
            return unit.show(ratio)
        return f"{1 / ratio:.3g} × as fast" if self.most < 1 else unit.times(ratio)


@dataclass(frozen=True)
class Unit:
    """How a figure is shown, and whether it is a time."""

    show: Callable[[float], str]
    timed: bool = False

    def times(self, ratio: float) -> str:
        """A ratio in words."""
        return f"{ratio:.3g} × {'the time' if self.timed else 'as much'}"


def _time(seconds: float) -> str:
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:,.3g} {name}"
    return f"{seconds * 1e9:,.3g} ns"


EACH = Unit(_time, timed=True)
RATE = Unit(lambda seconds: f"{1 / seconds:,.0f}/s", timed=True)
MEGABYTES = Unit(lambda value: f"{value / 1e6:,.1f} MB")
NUMBER = Unit(lambda value: f"{value:,.3g}")


@dataclass
class Scene:
    """A table: who is measured doing the same, and what is to be reached.

    Attributes:
        settings: what makes the contenders equal: durability, sizes, processes.
        contenders: by name, each with its measure of one round.
        unit: of every row; but those that end like one of `units` have its unit.
        rounds: how many, where the effort's number does not fit.
        fresh: every round warms itself, so that the first counts like the others.
    """

    title: str
    settings: str
    contenders: dict[str, Measure]
    targets: list[Target] = field(default_factory=list)
    unit: Unit = EACH
    units: Mapping[str, Unit] = field(default_factory=dict)
    rounds: int | None = None
    fresh: bool = False


Stage = Callable[[Effort], AbstractContextManager[Scene]]
"""Sets a scene and takes it down again."""


def seconds_each(work: Callable[[int], object], times: int) -> float:
    """Seconds of one ``work(i)``, averaged over ``times``."""
    began = time.perf_counter()
    for i in range(times):
        work(i)
    return (time.perf_counter() - began) / times


def repeated(work: Callable[[int], object], times: int) -> Measure:
    """A round of ``times`` times ``work``; the numbers go on from round to round."""
    numbers: Iterator[range] = (range(n, n + times) for n in range(0, 1 << 62, times))

    def measure() -> float:
        these = next(numbers)
        began = time.perf_counter()
        for i in these:
            work(i)
        return (time.perf_counter() - began) / times

    return measure


class Together:
    """Contenders that are watched over the same seconds, each with figures of its own.

    Args:
        watch: one round of all of them, by name.
    """

    def __init__(self, watch: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        self._watch = watch
        self._found: dict[str, Mapping[str, float]] = {}

    def of(self, name: str) -> Measure:
        """The figures of one of them; who is asked a second time begins a new round."""

        def measure() -> Mapping[str, float]:
            if name not in self._found:
                self._found = dict(self._watch())
            return self._found.pop(name)

        return measure


class Result:
    """What a scene's rounds gave."""

    def __init__(self, scene: Scene) -> None:
        self.title = scene.title
        self.settings = scene.settings
        self._unit, self._units = scene.unit, scene.units
        self.targets = scene.targets
        self.samples: dict[str, list[float]] = {}
        self.rounds = 0
        self.failed: dict[str, str] = {}

    def add(self, name: str, measured: float | Mapping[str, float]) -> None:
        figures = measured if isinstance(measured, Mapping) else {"": measured}
        for figure, value in figures.items():
            self.samples.setdefault(f"{name} {figure}".strip(), []).append(value)

    def unit(self, row: str) -> Unit:
        """What the figures of this row are told in."""
        return next((u for end, u in self._units.items() if row.endswith(end)), self._unit)

    def rows(self) -> list[tuple[str, float, float, float]]:
        """Name, median, smallest and largest, in the order of measuring."""
        return [(n, statistics.median(s), min(s), max(s)) for n, s in self.samples.items()]

    def verdicts(self) -> list[tuple[Target, float | None]]:
        """Each target with the median of its ratios; ``None`` where a side was not measured."""
        ratios = [(target, target.ratios(self.samples)) for target in self.targets]
        return [(target, statistics.median(found) if found else None) for target, found in ratios]

    def check(self) -> None:
        """`LookupError` where a target names a row that nobody measured and nobody failed at."""
        for target in self.targets:
            for row in filter(None, (target.ours, target.theirs)):
                if row not in self.samples and not any(map(row.startswith, self.failed)):
                    raise LookupError(f"a target names {row!r}, which is no row of {self.title!r}")


def play(stage: Stage, effort: Effort) -> Result:
    """Set the scene, measure every contender in every round, and take it down.

    A contender that fails is left out of the rounds that follow and named in the result; the
    others go on. The first round is not counted, unless each is fresh: it loads and fills caches.
    Raises `LookupError` after the first one that counts where a target names a row there is not.
    """
    with stage(effort) as scene:
        result = Result(scene)
        names = list(scene.contenders)
        result.rounds = scene.rounds or effort.rounds
        result.samples = {}
        for turn in range(0 if scene.fresh or result.rounds == 1 else -1, result.rounds):
            for place in range(len(names)):
                name = names[(place + turn) % len(names)]
                if name in result.failed:
                    continue
                gc.collect()
                try:
                    measured = scene.contenders[name]()
                except Exception as error:
                    result.failed[name] = f"{type(error).__name__}: {error}"
                    continue
                if turn >= 0:
                    result.add(name, measured)
            if turn == 0:
                result.check()
        order = {name: place for place, name in enumerate(names)}
        result.samples = dict(sorted(result.samples.items(), key=lambda row: _place(row[0], order)))
        return result


def _place(row: str, order: Mapping[str, int]) -> int:
    return max((place for name, place in order.items() if row.startswith(name)), default=0)
