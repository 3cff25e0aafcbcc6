"""The command line on a terminal: it asks, it draws, and it is quiet about colour when told to."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.end_to_end.test_cli import APP, WHO, rehearsed
from tests.support.program import Program, with_ledger

from gonogo.cli.exits import Exit


@pytest.fixture
def gonogo(tmp_path: Path) -> Program:
    return with_ledger(tmp_path, APP)


def test_a_person_is_shown_the_totals_and_asked(gonogo: Program) -> None:
    """Only a yes approves; a no changes nothing and is told apart."""
    plan = rehearsed(gonogo, "INV-1", "INV-2", "cents=250")
    no = gonogo.on_terminal("approve", plan, *WHO, answer="n\n")
    assert no.code == Exit.REFUSED
    assert "will perform payment: 2 calls, cents 500" in no.out
    assert gonogo("plan", "list", "--state", "approved", "--json").json == []
    yes = gonogo.on_terminal("approve", plan, *WHO, answer="y\n")
    assert yes.code == Exit.OK
    assert len(gonogo("plan", "list", "--state", "approved", "--json").json) == 1


def test_tables_keep_what_is_copied_whole(gonogo: Program) -> None:
    """On a narrow terminal ids and keys are on one line all the same."""
    rehearsed(gonogo, "INV-" + "1" * 60)
    (call,) = gonogo("calls", "list", "--json").json
    shown = gonogo.on_terminal("calls", "list", COLUMNS="60")
    (row,) = [line for line in shown.out.splitlines() if call["id"] in line]
    assert call["key"] in row


def test_colour_is_for_those_who_want_it(gonogo: Program) -> None:
    """NO_COLOR and a dumb terminal are heeded."""
    assert "\x1b[32m" in gonogo.on_terminal("check", "--group", "call").out
    assert "\x1b[32m" not in gonogo.on_terminal("check", "--group", "call", NO_COLOR="1").out
    assert "\x1b" not in gonogo.on_terminal("check", "--group", "call", TERM="dumb").out


def test_waiting_draws_a_bar(gonogo: Program) -> None:
    """The progress of an applied plan is to be seen while it is waited for."""
    plan = rehearsed(gonogo, "INV-1")
    gonogo("approve", plan, *WHO, "--yes")
    shown = gonogo.on_terminal("apply", plan, "--wait", "--timeout", "0.5s")
    assert shown.code == Exit.UNFINISHED
    assert "0/1" in shown.out
    assert "1 pending" in shown.out
