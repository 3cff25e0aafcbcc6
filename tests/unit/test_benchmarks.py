"""The benchmarks hold together: what is listed can be played, and what was measured is kept.

Nothing is timed here, and no peer has to be installed.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks import __main__ as bench
from benchmarks import scenes, summary, tables
from benchmarks.measure import (
    EACH,
    MEGABYTES,
    NUMBER,
    Effort,
    Measure,
    Result,
    Scene,
    Stage,
    Target,
    Together,
    play,
)

ROOT = Path(bench.__file__).parent.parent


def declared(module: str) -> list[str]:
    """The names of a module's ``SCENES``, as they are written there: its peers may be missing."""
    tree = ast.parse((ROOT / "benchmarks" / f"{module}.py").read_text())
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "SCENES"
    )
    assert isinstance(table, ast.Dict)
    return [key.value for key in table.keys if isinstance(key, ast.Constant)]


@pytest.mark.parametrize("module", scenes.MODULES)
def test_what_is_listed_is_what_a_module_has(module: str) -> None:
    """No scene is listed in vain, and none is forgotten."""
    assert declared(module) == list(scenes.MODULES[module])


def test_every_module_with_scenes_is_listed() -> None:
    """A new file of scenes is played."""
    files = (ROOT / "benchmarks").glob("*.py")
    have = {file.stem for file in files if "\nSCENES: dict[str, Stage]" in file.read_text()}
    assert have == set(scenes.MODULES)
    assert len(set(scenes.NAMES)) == len(scenes.NAMES)


def stage(*rows: str, targets: tuple[Target, ...] = ()) -> Stage:
    @contextmanager
    def made(_: Effort) -> Iterator[Scene]:
        contenders: dict[str, Measure] = {row: lambda: 2.0 for row in rows}
        yield Scene(f"Of {rows[0]}", "s", contenders, list(targets), NUMBER)

    return made


def played(*rows: str, targets: tuple[Target, ...] = ()) -> Result:
    return play(stage(*rows, targets=targets), Effort(2, full=False, seed=1))


@pytest.mark.parametrize("target", [Target("ours", "theirs p95", 1), Target("our", None, 1)])
def test_a_target_names_rows_there_are(target: Target) -> None:
    """One that was misspelt would never be missed."""
    with pytest.raises(LookupError, match="which is no row of"):
        played("ours", "theirs", targets=(target,))


def test_who_is_watched_together_is_watched_once_a_round() -> None:
    """Each is given the figures of the same seconds, and in the next round those of others."""
    rounds = iter([{"a": {"x": 1.0}, "b": {"x": 2.0}}, {"a": {"x": 3.0}, "b": {"x": 4.0}}])
    together = Together(lambda: next(rounds))
    a, b = together.of("a"), together.of("b")
    assert [a(), b(), b(), a()] == [{"x": 1.0}, {"x": 2.0}, {"x": 4.0}, {"x": 3.0}]


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **stages: Stage | BaseException) -> int:
    """``make bench`` with these scenes, of which an exception is raised in its place."""

    def found(name: str) -> Stage:
        wanted = stages[name]
        if isinstance(wanted, BaseException):
            raise wanted
        return wanted

    files = ["--page", str(tmp_path / "page.md"), "--json", str(tmp_path / "all.json")]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--rounds", "1", *files])
    monkeypatch.setattr(scenes, "chosen", lambda _, full: list(stages))
    monkeypatch.setattr(scenes, "stage", found)
    monkeypatch.setattr(bench.signal, "signal", lambda *_: None)  # these are the tests' own
    return bench.main()


def test_a_scene_that_cannot_be_set_does_not_keep_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server or a peer may be missing; the run says so, and does not end well."""
    status = run(monkeypatch, tmp_path, one=ImportError("no peer"), two=stage("gonogo", "peer"))
    assert status == 1
    said = capsys.readouterr().out
    assert "one: not measured: ImportError: no peer" in said
    assert said.endswith("not measured: one\n")
    assert "Not measured: one." in (tmp_path / "page.md").read_text()
    assert json.loads((tmp_path / "all.json").read_text())["samples"]["Of gonogo"]


def test_what_takes_minutes_to_tell_anything_is_left_to_a_full_run() -> None:
    """A quick run is quick, a full one has all there is, and who names a scene plays it."""
    quick, full = scenes.chosen(None, full=False), scenes.chosen(None, full=True)
    assert tuple(full) == scenes.NAMES
    assert set(full) - set(quick) == scenes.LONG
    assert scenes.chosen(["steady"], full=False) == ["steady.sqlite", "steady.postgres"]


def test_what_was_measured_before_an_interrupt_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An hour of measuring must not be lost in its last minute."""
    (tmp_path / "page.md").write_text(f"Before.\n\n{bench.HEADING}\n\nOld.\n")
    status = run(monkeypatch, tmp_path, one=stage("gonogo", "peer"), two=KeyboardInterrupt())
    assert status == 130
    page = (tmp_path / "page.md").read_text()
    assert page.startswith(f"Before.\n\n{bench.HEADING}\n")
    assert "| one | gonogo: 2 | peer: 2 | 1 × as much |" in page
    assert "Old." not in page
    assert "1 scene in" in capsys.readouterr().out
    assert json.loads((tmp_path / "all.json").read_text())["samples"] == {
        "Of gonogo": {"gonogo": [2.0], "peer": [2.0]}
    }


def test_a_scene_that_hangs_is_given_up() -> None:
    """The rest of a long run goes on."""
    never = iter(int, 1)
    with pytest.raises(TimeoutError, match="not over after"), bench._at_most(0.01):
        for _ in never:
            pass


def test_one_table_shows_all_scenes() -> None:
    """Each target with its verdict, peers of whom nothing is asked, and the worst of many alike."""
    asked = (
        Target("gonogo a", "gonogo b", 0.5),
        Target("gonogo c", "gonogo b", 0.5),
        Target("gonogo a", "peer a", 1.0),
        Target("gonogo b", None, 3.0),
    )
    rows = ("gonogo a", "gonogo b", "gonogo c", "peer a", "peer b", "floor")
    found = summary.lines({"scene": played(*rows, targets=asked)})
    assert [line.cells for line in found] == [
        ("scene", "gonogo a: 2", "peer a: 2", "1 × as much", "at most 1 ×", "reached"),
        ("scene", "gonogo b: 2", "", "", "at most 3", "reached"),
        *[
            (
                *("scene", "gonogo a: 2 (worst of 2)", "gonogo b: 2"),
                *("1 × as fast", "at least 2 ×", "MISSED"),
            )
        ],
        ("scene", "gonogo b: 2", "peer b: 2", "1 × as much", "", ""),
    ]
    assert len(list(summary.terminal(found))) == 1 + len(found)
    assert "**MISSED**" in "\n".join(summary.page(found))


def test_a_row_may_be_told_in_a_unit_of_its_own() -> None:
    """Seconds and bytes of one process stand in one table, and in one target each."""

    @contextmanager
    def made(_: Effort) -> Iterator[Scene]:
        asked = [Target("gonogo, memory", None, 3e6), Target("gonogo, time", None, 3.0)]
        contenders: dict[str, Measure] = {"gonogo,": lambda: {"memory": 2e6, "time": 2.0}}
        yield Scene("Of both", "s", contenders, asked, EACH, {"memory": MEGABYTES})

    result = play(made, Effort(2, full=False, seed=1))
    (memory, time) = summary.lines({"scene": result})
    assert memory.cells[1:5] == ("gonogo, memory: 2.0 MB", "", "", "at most 3.0 MB")
    assert time.cells[1:5] == ("gonogo, time: 2 s", "", "", "at most 3 s")
    assert "2.0 MB  (2.0 MB – 2.0 MB)" in "\n".join(tables.terminal(result))
    assert "| gonogo, memory | 2.0 MB |" in "\n".join(tables.page(result))


def test_the_words_of_the_makefile_and_the_pages_name_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a page says to type is understood, and plays something."""
    texts = [(ROOT / name).read_text() for name in ("Makefile", "docs/performance.md")]
    said = re.findall(r"make bench BENCH=\"([^\"]+)\"", texts[1])
    said += re.findall(r"`((?:--full )?--only [^`]+)`", texts[1])
    said += re.findall(r"-m benchmarks(?! *\.)(.*?)\$\(BENCH\)", texts[0])
    assert len(said) > 4
    for words in said:
        monkeypatch.setattr(sys, "argv", ["benchmarks", *words.split()])
        options = bench._options()
        assert all(scenes.chosen([start], full=options.full) for start in options.only or []), words
