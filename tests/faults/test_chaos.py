"""Everything that `make chaos` does for long, once: kills, zombies, restarts, poison."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults import scenarios
from tests.faults.scenarios import Finding
from tests.support import shop
from tests.support.restarting import restarting_postgres
from tests.support.servers import ServerMissing

from gonogo.testing import Boundary, crash_test

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@pytest.fixture(autouse=True)
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side's books, empty."""
    monkeypatch.setenv("SHOP_BOOKS", str(tmp_path / "books"))


def assert_sound(finding: Finding) -> None:
    """Nothing twice, nothing lost, nothing that must not be."""
    assert finding.wrong == ()
    row = finding.row
    assert (row.duplicates, row.lost, row.contradicted) == (0, 0, 0)


def test_limits_hold_under_random_kills(url: str) -> None:
    """The rate, the budget to the cent, and the slots: a dead worker's are freed once."""
    finding = scenarios.kills_at_random(url, kills=5, processes=2, seed=20_270_115)
    assert_sound(finding)
    assert finding.faults == 5


@pytest.mark.parametrize("place", [Boundary.AFTER_CLAIM, Boundary.EFFECT_HAPPENED])
def test_a_zombie_overwrites_nothing(url: str, place: Boundary) -> None:
    """Stopped past its lease, it wakes up to find its work done by another, and leaves it so."""
    finding = scenarios.zombie(url, place)
    assert_sound(finding)
    assert len(shop.books()) == 1


def test_poison_stops_at_its_attempt_limit(url: str) -> None:
    """A job that kills its process is tried as often as it may be, and then ends."""
    assert_sound(scenarios.poison(url))


def test_a_commit_whose_acknowledgement_is_lost(postgres_url: str) -> None:
    """Jobs and direct calls, each of them done once, whichever side loses the commit."""
    finding = scenarios.cut_commits(postgres_url, cuts=8, seed=3)
    assert_sound(finding)
    assert finding.faults == 16


def test_a_full_disk(tmp_path: Path) -> None:
    """What cannot be written is not done, and goes on when there is room."""
    assert_sound(scenarios.full_disk(tmp_path / "ledger.db", calls=300))


def test_what_died_is_recovered_within_its_lease(url: str) -> None:
    """By another process, a moment after the lease ends."""
    assert_sound(scenarios.recovery(url, lease=2.0))


def test_a_server_that_restarts(request: pytest.FixtureRequest) -> None:
    """Stopped and crashed under load, the server loses nobody's work."""
    request.getfixturevalue("postgres_server")  # skips where there is none
    try:
        with restarting_postgres() as server:
            assert_sound(scenarios.restarts(server, times=2, seed=7, pause=1.0, calls=60))
    except ServerMissing as missing:
        pytest.skip(f"no server for this test: PostgreSQL: {missing}")


@pytest.mark.parametrize(
    ("action", "places"),
    [
        ("pay", ("inside-apply", "after-admit", "inside-settle", "inside-resolve")),
        ("pay_blindly", ("effect-happened",)),
    ],
)
def test_killed_at_boundaries_on_postgresql(
    postgres_url: str, action: str, places: tuple[str, ...]
) -> None:
    """Of each kind of action: wherever it dies, nothing twice that must not be, nothing lost."""
    report = crash_test(
        *(f"tests.support.shop:{action}", shop.times, scenarios.invoices()),
        boundaries=places,
        random_kills=2 if action == "pay" else 0,
        db_url=postgres_url,
        lease=1.0,
    )
    report.assert_safe()
    assert all(row.kills for row in report.rows if row.boundary not in ("none", "random"))
