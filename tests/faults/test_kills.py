"""Killed anywhere, a worker pays nothing twice and forgets nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import shop

from gonogo.testing import crash_test

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

# Some of each kind; `make chaos` kills at all of them.
SAFE = ("inside-enqueue", "inside-apply", "after-claim", "inside-admit")
DOUBTFUL = ("after-admit", "effect-happened", "inside-settle")
HARMLESS = ("after-settle", "after-retry")
RECOVERY = ("inside-recover", "after-recover")
EVIDENCE = ("after-look", "verifier-answered", "inside-resolve")


@pytest.fixture(autouse=True)
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side's books, empty."""
    monkeypatch.setenv("SHOP_BOOKS", str(tmp_path / "books"))


def invoices() -> Iterator[tuple[str]]:
    return ((f"INV-{n}",) for n in itertools.count())


def test_with_a_verifier_every_doubt_is_settled() -> None:
    """Wherever it dies, in recovery and while evidence is looked for too, each is paid once."""
    places = SAFE + DOUBTFUL + HARMLESS + RECOVERY + EVIDENCE
    report = crash_test(
        *("tests.support.shop:pay", shop.times, invoices()),
        boundaries=places,
        random_kills=2,
        seed=7,
        lease=1.0,
    )
    report.assert_safe()
    rows = {row.boundary: row for row in report.rows}
    second = {*RECOVERY, *EVIDENCE}
    assert {place: row.kills for place, row in rows.items()} == {
        **{place: 2 if place in second else 1 for place in places},
        "none": 0,
        "random": 2,
    }
    assert (report.total.duplicates, report.total.unknown, report.total.failed) == (0, 0, 0)
    assert [place for place in DOUBTFUL if not rows[place].verified] == []
    assert [place for place in SAFE if rows[place].verified] == []


def test_without_a_verifier_every_doubt_is_surfaced() -> None:
    """What was not admitted runs again; what was not settled is unknown, once, with its alert."""
    places = ("after-claim", *DOUBTFUL, "after-recover")
    report = crash_test(
        *("tests.support.shop:pay_blindly", shop.times, invoices()),
        boundaries=places,
        random_kills=0,
        lease=1.0,
    )
    report.assert_safe()
    rows = {row.boundary: row.unknown for row in report.rows}
    in_doubt = {*DOUBTFUL, "after-recover"}
    assert rows == {place: int(place in in_doubt) for place in ("none", *places)}


def test_what_is_repeatable_runs_again() -> None:
    """With the same key, so that the other side knows it: done once, and nobody has to look."""
    places = ("effect-happened", "inside-recover")
    report = crash_test(
        "tests.support.shop:pay_known", shop.times, invoices(), boundaries=places, random_kills=0
    )
    report.assert_safe()
    assert (report.total.duplicates, report.total.unknown, report.total.failed) == (0, 0, 0)
    assert report.total.kills == 3


def test_what_shares_commits_is_done_once() -> None:
    """Killed at random between calls that are settled and admitted together: nothing twice."""
    report = crash_test(
        *("tests.support.shop:jot", shop.times, invoices()),
        boundaries=("inside-settle", "after-settle"),
        random_kills=8,
        seed=20_261_126,
        lease=1.0,
    )
    report.assert_safe()
    assert (report.total.duplicates, report.total.unknown, report.total.failed) == (0, 0, 0)
