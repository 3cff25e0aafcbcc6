"""The measuring itself: fair rounds, honest verdicts, nothing hidden."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from benchmarks import tables
from benchmarks.measure import EACH, RATE, Effort, Measure, Result, Scene, Target, play, repeated

EFFORT = Effort(rounds=3, full=False, seed=1)


def played(scene: Scene, effort: Effort = EFFORT) -> Result:
    @contextmanager
    def stage(_: Effort) -> Iterator[Scene]:
        yield scene

    return play(stage, effort)


def steady(*seconds: float) -> Measure:
    """A measure that gives these one after the other."""
    given = iter(seconds)
    return lambda: next(given)


def test_every_contender_is_measured_in_every_round_in_turn() -> None:
    """Whoever goes first changes, so that no place in the round is anybody's advantage."""
    order: list[str] = []
    contenders: dict[str, Measure] = {
        name: lambda name=name: order.append(name) or 1.0  # type: ignore[misc] # called for its effect
        for name in "abc"
    }
    played(Scene("t", "s", contenders))
    rounds = [order[at : at + 3] for at in range(0, len(order), 3)]
    assert rounds[1:] == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


def test_the_first_round_does_not_count() -> None:
    """It loads code and fills caches."""
    result = played(Scene("t", "s", {"a": steady(99.0, 1.0, 2.0, 3.0)}))
    assert result.samples == {"a": [1.0, 2.0, 3.0]}


def test_a_ratio_is_of_one_round() -> None:
    """A machine that is slow for a while is slow for both."""
    scene = Scene(
        "t",
        "s",
        {"ours": steady(0, 1.0, 10.0, 2.0), "theirs": steady(0, 2.0, 20.0, 4.0)},
        [Target("ours", "theirs", 0.5)],
    )
    ((_, ratio),) = played(scene).verdicts()
    assert ratio == 0.5


@pytest.mark.parametrize(("most", "verdict"), [(1.0, "reached"), (0.5, "reached"), (0.4, "MISSED")])
def test_a_loss_is_said(most: float, verdict: str) -> None:
    """In the table, in the page and in the list at the end."""
    scene = Scene(
        "t", "s", {"ours": lambda: 1.0, "theirs": lambda: 2.0}, [Target("ours", "theirs", most)]
    )
    result = played(scene)
    assert any(verdict in line for line in tables.terminal(result))
    assert any(verdict in line for line in tables.page(result))
    assert bool(tables.missed([result])) == (verdict == "MISSED")


def test_a_contender_that_fails_is_named_and_the_others_go_on() -> None:
    """What could not be compared counts as missed."""

    def broken() -> float:
        raise RuntimeError("no server")

    scene = Scene(
        "t", "s", {"theirs": broken, "ours": lambda: 1.0}, [Target("ours", "theirs", 1.0)]
    )
    result = played(scene)
    assert result.failed == {"theirs": "RuntimeError: no server"}
    assert result.samples == {"ours": [1.0, 1.0, 1.0]}
    assert any("no server" in line for line in tables.terminal(result))
    assert any("no server" in line for line in tables.page(result))
    assert tables.missed([result])


def test_figures_of_one_round_have_rows_of_their_own() -> None:
    """As the percentiles of a latency."""
    measured = {"p50": 1.0, "p95": 2.0}
    result = played(Scene("t", "s", {"ours": lambda: measured}, [Target("ours p95", None, 1.5)]))
    assert set(result.samples) == {"ours p50", "ours p95"}
    ((_, worst),) = result.verdicts()
    assert worst == 2.0
    assert tables.missed([result])


def test_repeated_work_never_sees_a_number_twice() -> None:
    """A key that was used before would be replayed, not performed."""
    seen: list[int] = []
    measure = repeated(seen.append, 4)
    measure()
    measure()
    assert seen == list(range(8))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target("a", "b", 0.1), "at least 10 × as fast as b"),
        (Target("a", "b", 1.3), "at most 1.3 × the time of b"),
        (Target("a", None, 0.002), "at most 2 ms"),
    ],
)
def test_targets_are_put_in_words(target: Target, words: str) -> None:
    """As whoever asked for them would say it."""
    assert target.asked(EACH) == words


def test_units_are_what_people_read() -> None:
    """Times by their size, rates by the second."""
    assert [EACH.show(value) for value in (2.0, 0.0031, 4.2e-6, 3e-9)] == [
        *("2 s", "3.1 ms", "4.2 µs", "3 ns")
    ]
    assert RATE.show(0.0005) == "2,000/s"
