"""Which ledger the command line works on, and that none is made by accident."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.end_to_end.test_cli import APP, WHO
from tests.support.program import Program

from gonogo.cli.exits import Exit


@pytest.fixture
def gonogo(tmp_path: Path) -> Program:
    (tmp_path / "app.py").write_text(APP)
    return Program(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("check", "--group", "call"),
        ("calls", "list"),
        ("apply", "01a2"),
        ("halt", *WHO),
    ],
)
def test_looking_makes_no_ledger(gonogo: Program, words: tuple[str, ...]) -> None:
    """A ledger that is somewhere else is not taken for an empty one; the path that was meant is."""
    done = gonogo(*words, "--json")
    assert done.code == Exit.STORE
    assert f"there is no ledger at sqlite:///{gonogo.folder}/ops.db" in done.error["message"]
    assert not (gonogo.folder / "ops.db").exists()


def test_a_database_without_a_ledger_is_left_as_it_is(gonogo: Program) -> None:
    """A file that was only touched is no ledger either."""
    (gonogo.folder / "ops.db").touch()
    assert gonogo("status").code == Exit.STORE
    assert (gonogo.folder / "ops.db").read_bytes() == b""


def test_what_makes_a_ledger_says_so_once(gonogo: Program) -> None:
    """The first rehearsal tells where the new ledger lies; the next finds it there."""
    told = f"there is no ledger at sqlite:///{gonogo.folder}/ops.db yet"
    assert told in gonogo("rehearse", "app:payday", "INV-1").err
    assert told not in gonogo("rehearse", "app:payday", "INV-1").err


def test_plans_and_what_is_done_to_them_name_the_ledger(gonogo: Program) -> None:
    """Whoever approves sees on which ledger."""
    place = f"ledger sqlite:///{gonogo.folder}/ops.db"
    made = gonogo("rehearse", "app:payday", "INV-1")
    assert f"  {place}\n" in made.out
    plan = made.out.split()[2]
    assert gonogo("plan", "show", plan, "--json").json["ledger"] == place.removeprefix("ledger ")
    assert place in gonogo("approve", plan, *WHO, "--yes").err
    assert place in gonogo("apply", plan).err
