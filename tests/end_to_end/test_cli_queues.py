"""Queues and workers on the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs
from tests.support.program import Program, with_ledger

from gonogo.cli.exits import Exit
from gonogo.ids import new_id
from gonogo.records import NEVER, Beat, Call, State
from gonogo.store.sqlite import SqliteStore

APP = """
from gonogo import SandboxOrchestrator

sandbox = SandboxOrchestrator("sqlite:///ops.db", queues="default,mail")


@sandbox.action("mail", irreversible=False, queue="mail")
def mail(to: str) -> None: ...


def queue_some() -> None:
    mail.enqueue_many([("a",), ("b",)])


if __name__ == "__main__":
    queue_some()
"""

WHO = ("--by", "ops@example.com", "--reason", "a test")


@pytest.fixture
def gonogo(tmp_path: Path) -> Program:
    return with_ledger(tmp_path, APP)


def test_a_queue_is_paused_and_resumed(gonogo: Program) -> None:
    """A paused queue keeps its jobs, says by whom, and gives them to a worker when resumed."""
    subprocess.run([sys.executable, "app.py"], cwd=gonogo.folder, env=gonogo.env, check=True)
    assert gonogo("queues", "pause", "mail", "--for", "1h", *WHO).code == Exit.OK
    assert gonogo("worker", "--until-idle", "--patience", "0.1s").code == Exit.UNFINISHED
    (default, mail) = gonogo("queues", "list", "--json").json
    assert (default["queue"], default["pending"], default["paused"]) == ("default", 0, None)
    assert (mail["pending"], mail["paused"]["actor"]) == (2, "ops@example.com")
    assert "a test" in gonogo("queues", "list").out
    assert gonogo("queues", "resume", "mail", *WHO).code == Exit.OK
    assert "2 succeeded" in gonogo("worker", "--until-idle", "--patience", "0.1s").out


def test_what_is_not_paused_cannot_be_resumed(gonogo: Program) -> None:
    """Resuming a queue that runs says which ones are paused."""
    done = gonogo("queues", "resume", "mail", *WHO)
    assert done.code == Exit.NOT_FOUND
    assert "paused: none" in done.err


def test_the_processes_on_a_ledger_are_listed(gonogo: Program) -> None:
    """Without any there is nothing to list, and that is no error."""
    done = gonogo("workers")
    assert (done.code, done.out) == (Exit.OK, "")
    assert gonogo("workers", "--json").json == []


def test_a_process_that_died_is_silent_in_both_lists(gonogo: Program) -> None:
    """Neither shows a dead worker as if it lived, or performed what it has no more."""
    store = SqliteStore(f"sqlite:///{gonogo.folder}/ops.db")
    dead = Beat(name="host:1", kind="worker", at=0.0, detail={"queues": "mail", "running": 1})
    store.write(lambda tx: tx.beats.put(dead))
    store.close()
    assert re.search(r"^worker +host:1, .* ago, silent$", gonogo("status").out, re.MULTILINE)
    assert gonogo("status", "--json").json["processes"][0]["state"] == "silent"
    listed = gonogo("workers").out
    assert re.search(r"^worker +host:1 +silent +\S+ \S+ ago$", listed, re.MULTILINE)


def test_what_a_worker_performs_is_listed_with_its_name(gonogo: Program) -> None:
    """The ledger knows which calls it has begun, the oldest first; of a silent one in the past."""
    store = SqliteStore(f"sqlite:///{gonogo.folder}/ops.db")
    worker = Beat(name="host:1", kind="worker", at=0.0, detail={"queues": "mail", "running": 2})
    begun = [
        Call(
            id=new_id(at),
            action="payment",
            key=f"payment:{at:.0f}",
            state=State.DISPATCHED,
            created_at=at,
            dispatched_at=at,
            owner="host:1",
            lease_until=NEVER,
        )
        for at in (2_000.0, 1_000.0)
    ]
    store.write(lambda tx: (tx.beats.put(worker), tx.calls.insert_many(begun)))
    store.close()
    begins = r"payment \(payment:1000\) {0} \d+d.*, payment \(payment:2000\) {0} \d+d"
    last = f" was last seen performing {begins.format('begun')}.* ago$"
    assert re.search(last, gonogo("workers").out.rstrip())
    (listed,) = gonogo("workers", "--json").json
    assert [one["key"] for one in listed["performing"]] == ["payment:1000", "payment:2000"]
    store = SqliteStore(f"sqlite:///{gonogo.folder}/ops.db")
    store.write(lambda tx: tx.beats.put(structs.replace(worker, at=NEVER)))
    store.close()
    assert re.search(f" performs {begins.format('for')}", gonogo("workers").out)


def test_a_slip_of_the_keyboard_is_told(gonogo: Program) -> None:
    """A queue that nobody knows, a name that cannot be shown, an end that never comes."""
    unknown = gonogo("queues", "pause", "mial", *WHO)
    assert unknown.code == Exit.OK
    assert "no call waits in a queue 'mial'" in unknown.err
    for wrong in (("q\x1b[31m\nx",), ("q\udcff",), ("mail", "--for", "999999999d")):
        refused = gonogo("queues", "pause", *wrong, *WHO)
        assert refused.code == Exit.USAGE, refused
        assert "\x1b" not in refused.err
