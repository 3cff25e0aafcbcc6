"""Schedules on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.program import Program

from gonogo.cli.exits import Exit

APP = """
from gonogo import SandboxOrchestrator

sandbox = SandboxOrchestrator("sqlite:///ops.db", dry_run=False)


@sandbox.action("report", irreversible=False)
def report() -> None: ...


sandbox.schedule("daily", report, cron="0 9 * * *", tz="Europe/Paris")

if __name__ == "__main__":
    sandbox.scheduler.run_once()
"""

WHO = ("--by", "ops@example.com", "--reason", "a test")


@pytest.fixture
def gonogo(tmp_path: Path) -> Program:
    (tmp_path / "app.py").write_text(APP)
    program = Program(tmp_path)
    subprocess.run([sys.executable, "app.py"], cwd=tmp_path, env=program.env, check=True)
    return program


def test_a_schedule_is_looked_at_and_paused(gonogo: Program) -> None:
    """The list says when it runs next, and who paused it; resuming says when it ticks again."""
    (daily,) = gonogo("schedules", "list", "--json").json
    assert (daily["name"], daily["spec"], daily["paused"]) == ("daily", "cron 0 9 * * *", None)
    assert "0 9 * * * Europe/Paris" in gonogo("schedules", "list").out
    assert gonogo("schedules", "pause", "daily", "--for", "1d", *WHO).code == Exit.OK
    (daily,) = gonogo("schedules", "list", "--json").json
    assert daily["paused"]["actor"] == "ops@example.com"
    assert "a test" in gonogo("schedules", "list").out
    resumed = gonogo("schedules", "resume", "daily", *WHO)
    assert "next at" in resumed.out
    assert gonogo("schedules", "resume", "daily", *WHO).code == Exit.NOT_FOUND


def test_a_schedule_is_run_now_and_forgotten(gonogo: Program) -> None:
    """Its call waits for a worker; a schedule that is not there is named with those that are."""
    run = gonogo("schedules", "run", "daily", *WHO, "--json").json
    assert run["new"]
    assert "1 succeeded" in gonogo("worker", "--until-idle", "--patience", "0.1s").out
    missing = gonogo("schedules", "forget", "dayly", *WHO)
    assert missing.code == Exit.NOT_FOUND
    assert "there are: daily" in missing.err
    assert gonogo("schedules", "forget", "daily", *WHO).code == Exit.OK
    assert gonogo("schedules", "list", "--json").json == []


def test_what_no_worker_has_started_is_named(tmp_path: Path) -> None:
    """A schedule is in the ledger once a worker has looked at it; until then the list says why."""
    (tmp_path / "app.py").write_text(APP)
    program = Program(tmp_path)
    program.make_ledger()
    listed = program("schedules", "list")
    assert "no schedules" in listed.err
    assert "no worker has started them: daily" in listed.err
