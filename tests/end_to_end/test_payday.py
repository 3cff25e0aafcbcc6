"""The whole payday in processes of its own: killed, continued, repeated, never paid twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from examples.payday import payouts
from examples.payday.books import Books
from examples.payday.children import ROOT
from examples.payday.mailbox import Folder
from examples.payday.make_payouts import FILE
from examples.payday.provider import FAULTS

ROWS = 40
SEED = 182  # meets every fault within the rows, and is soon over
REFUSED = {"INV-26-0036"}  # by the provider's fraud check, for good

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


def demo(state: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo on the first rows of the list; its output comes as plain lines."""
    command = [sys.executable, "-u", "-m", "examples.payday.demo", "--state", str(state)]
    return subprocess.Popen(
        [*command, "--rows", str(ROWS), "--seed", str(SEED), *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(run: subprocess.Popen[str]) -> str:
    """Wait for the demo to end well; returns what it printed."""
    output, _ = run.communicate()
    assert run.returncode == 0, output
    return output


def ordered() -> set[str]:
    return {payout.invoice for payout in payouts.read(FILE, rows=ROWS).payouts}


def paid(state: Path) -> Counter[str]:
    """Invoice → how often the provider booked it."""
    books = Books(state / "provider.db")
    try:
        return Counter(booking["reference"] for booking in books.payments())
    finally:
        books.close()


def confirmed(state: Path) -> Counter[str]:
    """Invoice → how many confirmations the mail server received."""
    return Counter(message.invoice for message in Folder(state / "mail").messages())


def expect_everything_once(state: Path) -> None:
    once = dict.fromkeys(ordered() - REFUSED, 1)
    assert paid(state) == once
    assert confirmed(state) == once


def test_every_invoice_is_paid_once_and_a_second_run_pays_nothing(tmp_path: Path) -> None:
    """With every fault and a worker killed, each invoice is paid and confirmed exactly once."""
    first = finish(demo(tmp_path / "state"))

    assert "was killed (SIGKILL) during payment:" in first
    assert all(fault in first for fault in (*FAULTS, "refused"))
    assert "The books agree." in first
    expect_everything_once(tmp_path / "state")

    second = finish(demo(tmp_path / "state"))

    assert "Nothing is left to do" in second
    expect_everything_once(tmp_path / "state")


@pytest.mark.parametrize("moment", ["2  Rehearse", "3  Perform", "was killed"])
def test_killed_at_any_moment_it_continues_and_pays_once(tmp_path: Path, moment: str) -> None:
    """SIGKILL of the demo, and with it of all its processes, loses and repeats nothing."""
    state = tmp_path / "state"
    run = demo(state)
    assert run.stdout is not None
    assert any(moment in line for line in run.stdout)
    run.send_signal(signal.SIGKILL)
    run.communicate()

    finish(demo(state))

    expect_everything_once(state)


def test_fresh_forgets_the_run_before(tmp_path: Path) -> None:
    """``--fresh`` begins with an empty ledger and empty books, even over a broken ledger."""
    state = tmp_path / "state"
    (state / "mail").mkdir(parents=True)
    (state / "ledger.db").write_text("not a database")

    finish(demo(state, "--fresh"))

    expect_everything_once(state)
