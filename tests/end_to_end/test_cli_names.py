"""How people name plans, calls and commands: by ids or less, by names, keys and guesses."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from tests.end_to_end.test_cli import APP, WHO, enqueued, in_doubt, rehearsed
from tests.support.program import COMMAND, Program, with_ledger

from gonogo.cli.exits import Exit


@pytest.fixture
def gonogo(tmp_path: Path) -> Program:
    return with_ledger(tmp_path, APP)


def test_a_plan_is_named_by_its_name_or_the_beginning_of_its_id(gonogo: Program) -> None:
    """The newest of a name is shown; whoever decides must mean one plan alone."""
    older, newer = (
        rehearsed(gonogo, "INV-1", "--name", "nov"),
        rehearsed(gonogo, "INV-2", "--name", "nov"),
    )
    assert gonogo("plan", "show", "nov", "--json").json["id"] == newer
    assert gonogo("plan", "show", older[:20], "--json").json["id"] == older
    short = gonogo("plan", "show", older[:7])
    assert short.code == Exit.NOT_FOUND
    assert "must have 8 characters" in short.err
    both = gonogo("approve", "nov", *WHO, "--yes")
    assert both.code == Exit.REFUSED
    assert older in both.err
    assert newer in both.err
    gonogo("plan", "discard", older, *WHO)
    assert gonogo("approve", "nov", *WHO, "--yes", "--json").json["id"] == newer
    rehearsed(gonogo, "INV-3", "--name", "nov")
    assert gonogo("apply", "nov", "--json").json["id"] == newer
    (call,) = gonogo("calls", "list", "--plan", newer[:20], "--json").json
    assert call["key"] == "payment:INV-2"


def test_a_call_is_named_by_its_key_or_the_beginning_of_its_id(gonogo: Program) -> None:
    """The call that holds the key is meant, however many others were planned with it since."""
    call = in_doubt(gonogo)
    rehearsed(gonogo, "LOST")
    assert gonogo("calls", "show", "payment:LOST", "--json").json["id"] == call
    assert "unknown" in gonogo("calls", "explain", call[:20]).out
    done = gonogo("resolve", "payment:LOST", "absent", *WHO, "--json")
    assert (done.json["id"], done.json["state"]) == (call, "failed")
    rehearsed(gonogo, "LOST")
    assert gonogo("calls", "show", "payment:LOST", "--json").json["state"] == "planned"


def test_a_key_of_several_actions_is_not_guessed_at(gonogo: Program) -> None:
    """Where two actions hold the same key, both calls are listed."""
    code = '\n@sandbox.action("bonus", irreversible=True, key="gift:{to}", needs_approval=True)\n'
    with (gonogo.folder / "app.py").open("a") as app:
        app.write(code + "def award(to: str) -> None: ...\n")
    call = enqueued(gonogo, "Ann")
    assert gonogo("approve", "gift:Ann", *WHO, "--yes", "--json").json["id"] == call
    python = [COMMAND[0], "-c", "import app; app.award.enqueue('Ann')"]
    subprocess.run(python, cwd=gonogo.folder, env=gonogo.env, capture_output=True, check=True)
    refused = gonogo("cancel", "gift:Ann", *WHO)
    assert refused.code == Exit.REFUSED
    assert "(bonus, gift:Ann, planned)" in refused.err
    assert f"{call} (gift, gift:Ann, pending)" in refused.err


def test_a_beginning_that_a_plan_and_a_call_share_approves_neither(gonogo: Program) -> None:
    """Where nobody can tell which of the two is meant, nothing is approved."""
    call, plan = enqueued(gonogo, "Ann"), rehearsed(gonogo, "INV-1")
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(call, plan, strict=True))
    shared = "".join(digit for digit, _ in pairs)
    refused = gonogo("approve", shared, *WHO, "--yes")
    assert refused.code in {Exit.REFUSED, Exit.NOT_FOUND}  # made further apart, it is too short
    assert gonogo("plan", "list", "--state", "approved", "--json").json == []


def test_what_is_not_there_names_where_to_look(gonogo: Program) -> None:
    """A filter on what does not exist is an error, not an empty list."""
    for command, remedy in [
        (["calls", "explain", "payment:INV-0"], "gonogo calls list"),
        (["plan", "show", "nov"], "gonogo plan list"),
        (["approve", "nov", *WHO, "--yes"], "gonogo plan list"),
        (["calls", "list", "--plan", "nope"], "gonogo plan list"),
        (["calls", "list", "--action", "paymnt"], "gonogo calls list"),
    ]:
        done = gonogo(*command)
        assert done.code == Exit.NOT_FOUND
        assert done.err.endswith(f"\nNext: {remedy}\n")
    assert "there are gift, payment" in done.err


@pytest.mark.parametrize(
    ("guessed", "meant"),
    [
        (["plans"], "gonogo plan list"),
        (["explain", "ID"], "gonogo calls explain ID"),
        (["aply", "ID"], "gonogo apply ID"),
        (["plan", "approve", "ID"], "gonogo approve ID"),
        (["calls", "lsit"], "gonogo calls list"),
        (["workers", "list"], "gonogo workers"),
        (["decisions", "list"], "gonogo decisions"),
        (["alerts", "acknowledge", "ID"], "gonogo alerts ack ID"),
    ],
)
def test_a_guessed_command_is_told_the_right_one(
    gonogo: Program, guessed: list[str], meant: str
) -> None:
    """A slip is a usage error that names what was meant."""
    done = gonogo(*guessed)
    assert done.code == Exit.USAGE
    assert "did you mean" in done.err
    assert done.err.endswith(f"\nNext: {meant}\n")
