"""The crash test itself: it sees what is wrong, and leaves the user's ledger alone."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import shop

from gonogo.errors import ConfigurationError
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.testing import Boundary, crash_test, soak
from gonogo.testing.crash import places_of
from gonogo.testing.subject import Subject

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]


def invoices() -> Iterator[tuple[str]]:
    return ((f"INV-{n}",) for n in itertools.count())


@pytest.fixture(autouse=True)
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The other side's books, empty."""
    monkeypatch.setenv("SHOP_BOOKS", str(tmp_path / "books"))
    return tmp_path / "books"


def killed(action: str, *places: str, **options: Any) -> Any:
    """The report on an action of the shop."""
    wanted = {"boundaries": places, "random_kills": 0, "lease": 1.0, **options}
    return crash_test(f"tests.support.shop:{action}", shop.times, invoices(), **wanted)


def test_repeatable_that_is_not_is_found_out() -> None:
    """An effect that is declared repeatable, and is not, happens twice, and the report says so."""
    report = killed("pay_again", "effect-happened")
    assert (report.ok, report.total.duplicates) == (False, 1)
    assert "happened 2 times" in report.findings[0]
    with pytest.raises(AssertionError, match="NOT SAFE: pay_again"):
        report.assert_safe()


def test_a_verifier_that_denies_is_found_out() -> None:
    """A verifier that says absent of what landed makes it happen again."""
    report = killed("pay_with_a_lie", "effect-happened")
    assert (report.ok, report.total.duplicates, report.total.verified) == (False, 1, 1)


def test_a_verifier_that_hopes_is_found_out() -> None:
    """A verifier that says landed of what never happened loses it."""
    report = killed("pay_with_hope", "after-admit")
    assert (report.ok, report.total.lost, report.total.verified) == (False, 1, 1)
    assert "the books lack it" in str(report)


def test_what_may_happen_twice_is_safe_when_it_does() -> None:
    """A reversible action may be performed again: its duplicates are counted and are no failure."""
    report = killed("remind", "effect-happened")
    assert (report.ok, report.total.duplicates, report.findings) == (True, 1, ())


def test_a_boundary_that_is_never_reached_is_said() -> None:
    """Nobody died, so nothing is proven: not safe, and the row says so."""
    report = killed("pay", "after-tick")
    assert not report.ok
    assert "after-tick *" in str(report)


def test_time_that_is_over_is_said() -> None:
    """What was not tried is no proof."""
    report = killed("pay", "after-admit", timeout=0.001)
    assert not report.ok
    assert "the time was over before 2 trials" in report.findings[0]


def test_the_probe_must_not_know_the_calls() -> None:
    """Calls the books have already would be mistaken for duplicates, so they are refused."""
    shop.enter("INV-3")
    with pytest.raises(ConfigurationError, match="new to the other side"):
        killed("pay", "after-admit")


@pytest.mark.parametrize(
    ("action", "probe", "calls", "why"),
    [
        ("tests.support.shop:books", shop.times, [], "not an action"),
        ("tests.support.shop:nobody", shop.times, [], "no 'nobody'"),
        ("tests.support.shop:pay", "tests.support.shop:sandbox", [], "not callable"),
        ("tests.support.shop:pay", shop.times, [("A",)], "not enough"),
        ("tests.support.shop:pay", shop.times, [("A",), ("A",)], "twice"),
        ("tests.support.shop:pay", lambda arguments: "many", invoices(), "as a whole number"),
    ],
)
def test_what_does_not_fit_is_refused(action: str, probe: Any, calls: Any, why: str) -> None:
    """A mistake in the question is a `ConfigurationError`, and nothing is killed."""
    with pytest.raises(ConfigurationError, match=why):
        crash_test(action, probe, calls)


def test_a_process_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    """What the action's module says when it breaks in a fresh process reaches the caller."""
    code = "import sys; from tests.support.shop import *\nif 'pytest' not in sys.modules: 1 / 0\n"
    module = tmp_path / "broken_in_children.py"
    module.write_text(code)
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
            crash_test("broken_in_children:pay", shop.times, invoices(), boundaries=[])
    finally:
        sys.path.remove(str(tmp_path))


def test_the_action_itself_will_do() -> None:
    """An action that a fresh process can import need not be spelled; one that cannot must be."""
    assert Subject(shop.pay, shop.times, invoices()).target == "tests.support.shop:pay"
    sandbox = SandboxOrchestrator()
    hidden = sandbox.action("hidden", irreversible=False)(lambda: None)
    with pytest.raises(ConfigurationError, match="give its import path"):
        crash_test(hidden, shop.times, [])


def test_a_ledger_in_use_is_refused(tmp_path: Path) -> None:
    """Workers are killed on it, so a ledger that has calls is not touched; an empty one will do."""
    url = f"sqlite:///{tmp_path}/own.db"
    report = killed("pay", "after-admit", db_url=url)
    assert report.ok, report
    with pytest.raises(ConfigurationError, match="a database of its own"):
        killed("pay", "after-admit", db_url=url)


def test_from_the_command_line(tmp_path: Path) -> None:
    """``gonogo crash-test`` prints the report, and its status says whether it is safe."""

    def run(action: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [
            *(sys.executable, "-m", "gonogo", "crash-test", f"tests.support.shop:{action}"),
            *("--probe", "tests.support.shop:times", "--random", "0", "--lease", "1s", *more),
        ]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )

    done = run("pay", "--at", "after-admit", "T-{n}", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["ok"], document["total"]["kills"]) == (True, 1)

    calls = tmp_path / "calls.json"
    calls.write_text(json.dumps([[f"U-{n}"] for n in range(20)] + [{"invoice": "a"}, ["b"]]))
    done = run("pay_again", "--at", "effect-happened", "--calls", str(calls))
    assert done.returncode == 11, done.stderr
    assert "NOT SAFE: pay_again" in done.stdout

    assert run("pay", "the same").returncode == 2
    assert run("pay", "--at", "nowhere", "T-{n}").returncode == 3


def test_every_boundary_but_those_of_others_is_tried() -> None:
    """A full test of an action with a verifier leaves out only ticks and refusals."""
    left_out = {
        *("before-tick", "inside-tick", "after-tick"),
        *("before-release", "inside-release", "after-release"),
    }
    everywhere = {place.value for place in Boundary}
    assert {place.value for place in places_of(shop.pay)} == everywhere - left_out
    assert not {place.value for place in places_of(shop.pay_blindly)} & {"verifier-asked"}


def test_a_soak_kills_as_often_as_it_is_told() -> None:
    """Under load what happened twice is counted as well, and makes it fail."""
    report = soak(
        "tests.support.shop:pay_again", shop.times, invoices(), kills=3, processes=2, lease=1.0
    )
    assert (report.total.kills, report.total.lost) == (3, 0)
    assert report.total.duplicates == len(shop.books()) - len(set(shop.books()))
    assert report.ok is (report.total.duplicates == 0)
