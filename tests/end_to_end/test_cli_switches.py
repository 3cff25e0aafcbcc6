"""Switches of the command line: what is let go, and what another one stops all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.program import Program, with_ledger

from gonogo.cli.exits import Exit
from gonogo.records import Control
from gonogo.store.sqlite import SqliteStore

APP = """
from gonogo import SandboxOrchestrator

sandbox = SandboxOrchestrator("sqlite:///ops.db")


@sandbox.action("payment", irreversible=True, key="payment:{invoice}")
def pay(invoice: str) -> None: ...


@sandbox.action("mail", irreversible=False, queue="mail")
def mail(text: str) -> None: ...
"""

WHO = ("--by", "ops@example.com", "--reason", "a test")
ALL = "everything is halted by ops@example.com since "


@pytest.fixture
def gonogo(tmp_path: Path) -> Program:
    return with_ledger(tmp_path, APP)


@pytest.mark.parametrize(
    ("on", "off", "over", "stands", "remedy"),
    [
        (
            [("halt", "payment"), ("halt",)],
            ("resume", "payment"),
            "resumed: the halt of payment is over, BUT ",
            ALL,
            "gonogo resume",
        ),
        (
            [("halt",), ("halt", "mail")],
            ("resume",),
            "resumed: the halt of everything is over, BUT ",
            "mail is halted by ",
            "gonogo resume mail",
        ),
        (
            [("halt", "payment"), ("hold",)],
            ("resume", "payment"),
            "resumed: the halt of payment is over, BUT ",
            "what is irreversible is held by ",
            "gonogo release",
        ),
        (
            [("hold",), ("halt",)],
            ("release",),
            "released: the hold is over, BUT ",
            ALL,
            "gonogo resume",
        ),
        (
            [("halt",)],
            ("arm",),
            "armed: irreversible calls need no plan until ",
            ALL,
            "gonogo resume",
        ),
        (
            [("queues", "pause", "mail"), ("halt",)],
            ("queues", "resume", "mail"),
            "resumed: the pause of mail is over, BUT ",
            ALL,
            "gonogo resume",
        ),
        (
            [("queues", "pause", "other"), ("halt", "payment")],
            ("queues", "resume", "other"),
            "resumed: the pause of other is over, BUT ",
            "payment is halted by ops@example.com since ",
            "gonogo resume payment",
        ),
    ],
)
def test_what_another_switch_still_stops_is_told(
    gonogo: Program,
    on: list[tuple[str, ...]],
    off: tuple[str, ...],
    over: str,
    stands: str,
    remedy: str,
) -> None:
    """Who lets something go hears what stands in its way, who set that, and how it is ended."""
    for switch in on:
        assert gonogo(*switch, *WHO).code == Exit.OK
    done = gonogo(*off, *WHO)
    assert done.code == Exit.OK
    assert done.out.startswith(over)
    assert f"BUT {stands}" in done.out
    assert done.out.endswith(f": a test; {remedy} lets it go\n")


def test_what_stands_is_data_as_well(gonogo: Program) -> None:
    """A script finds the switches that stand in ``stopped``."""
    for switch in (("halt",), ("halt", "payment"), ("halt", "mail")):
        gonogo(*switch, *WHO)
    done = gonogo("resume", *WHO, "--json").json
    assert [one["name"] for one in done["stopped"]] == ["halt:mail", "halt:payment"]
    assert gonogo("resume", "mail", *WHO, "--json").json["stopped"] == []


def test_what_concerns_others_is_not_told(gonogo: Program) -> None:
    """Neither another action's halt, nor a hold where nothing irreversible is let go."""
    for switch in (("halt", "payment"), ("halt", "mail"), ("hold",), ("queues", "pause", "mail")):
        gonogo(*switch, *WHO)
    gonogo("resume", "payment", *WHO)
    assert gonogo("release", *WHO).out == "released: the checks give the verdict again\n"
    gonogo("hold", *WHO)
    assert gonogo("resume", "mail", *WHO).out == "resumed: mail is no longer refused\n"
    resumed = gonogo("queues", "resume", "mail", *WHO).out
    assert resumed == "resumed: calls are taken from mail again\n"


def test_a_halt_whose_time_is_over_is_not_listed(gonogo: Program) -> None:
    """Its row may still be in the ledger, but nothing is refused by it."""
    store = SqliteStore(f"sqlite:///{gonogo.folder}/ops.db")
    over = Control(name="halt:payment", actor="ops", reason="a test", set_at=1.0, until=2.0)
    store.write(lambda tx: tx.controls.put(over))
    store.close()
    done = gonogo("resume", "payment", *WHO)
    assert done.code == Exit.NOT_FOUND
    assert "payment is not halted, nothing was changed; halted: nothing" in done.err
    gonogo("halt", *WHO)
    assert "; halted: everything" in gonogo("resume", "payment", *WHO).err
    resumed = gonogo("resume", *WHO)
    assert resumed.out == "resumed: everything is no longer refused\n"
