"""The command line, as processes: from the rehearsal to the last call, and all that goes wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs
from tests.support.program import COMMAND, Program

from gonogo.cli.exits import Exit
from gonogo.records import CallFilter, State
from gonogo.store.port import Transaction
from gonogo.store.sqlite import SqliteStore

APP = """
import os, sys
from pathlib import Path
from gonogo import Limit, Rejected, SandboxOrchestrator

print("chatter of the application")
sandbox = SandboxOrchestrator("sqlite:///ops.db", worker_interval=0.1, drain=20)


@sandbox.action(
    "payment",
    key="payment:{invoice}",
    irreversible=True,
    limits=[Limit("cents", 1_000_000, per="1d", cost="{cents}")],
)
def pay(invoice: str, cents: int) -> str:
    if invoice == "REFUSED":
        raise Rejected("closed account")
    if invoice == "LOST":
        raise TimeoutError("no reply")
    if invoice == "SLOW":
        Path("began").open("w").close()
        Path("go").open().read()
    return f"paid {invoice}"


@sandbox.action(
    "gift",
    irreversible=True,
    key="gift:{to}",
    needs_approval=True,
    limits=[Limit("gifts", 3, per="day", key="{to}")],
)
def give(to: str) -> None: ...


def payday(*invoices: str, cents: int = 100) -> None:
    print("chatter of the job")
    for invoice in invoices:
        pay(invoice, cents)


async def later(invoice: str) -> None:
    pay(invoice, 1)


def broken() -> None:
    pay("INV-1", 1)
    raise RuntimeError("lost password=hunter2")


def make() -> SandboxOrchestrator:
    return sandbox


def wrong() -> int:
    return 3
"""

WHO = ("--by", "ops@example.com", "--reason", "a test")


@pytest.fixture
def bare(tmp_path: Path) -> Program:
    """Without a ledger."""
    (tmp_path / "app.py").write_text(APP)
    return Program(tmp_path)


@pytest.fixture
def gonogo(bare: Program) -> Program:
    bare.make_ledger()
    return bare


def rehearsed(gonogo: Program, *arguments: str) -> str:
    return gonogo("rehearse", "app:payday", *arguments, "--json").json["id"]


def applied(gonogo: Program, *invoices: str) -> str:
    plan = rehearsed(gonogo, *invoices)
    assert gonogo("approve", plan, *WHO, "--yes").code == Exit.OK
    assert gonogo("apply", plan).code == Exit.OK
    return plan


def in_doubt(gonogo: Program) -> str:
    applied(gonogo, "LOST")
    assert gonogo("worker", "--until-idle", "--patience", "0.1s").code == Exit.UNKNOWN
    (call,) = gonogo("calls", "list", "--state", "unknown", "--json").json
    return call["id"]


def enqueued(gonogo: Program, to: str) -> str:
    """The id of a gift that waits for its approval."""
    python = [COMMAND[0], "-c", f"import app; print(app.give.enqueue({to!r}).id)"]
    run = subprocess.run(
        python, cwd=gonogo.folder, env=gonogo.env, capture_output=True, text=True, check=True
    )
    return run.stdout.split()[-1]


# the course of a plan


def test_a_plan_goes_from_the_rehearsal_to_the_last_call(gonogo: Program) -> None:
    """Rehearse, approve, apply, work: each says what it did, and only its data on stdout."""
    plan = gonogo("rehearse", "--name", "march", "app:payday", "INV-1", "REFUSED", "cents=250")
    assert plan.code == Exit.OK
    assert "would perform payment: 2 calls, cents 500" in plan.out
    assert "chatter" not in plan.out
    assert plan.err.count("chatter of the job") == 1
    plan_id = plan.out.splitlines()[0].split()[2]

    approved = gonogo("approve", plan_id, *WHO, "--yes", "--json")
    assert approved.json["state"] == "approved"
    assert approved.json["approved_by"] == "ops@example.com"
    assert approved.json["effect"] == "nothing happens until it is applied"

    worker = gonogo.start("worker", "--json")
    assert worker.stderr is not None
    while "worker" not in worker.stderr.readline():
        pass
    applied = gonogo("apply", plan_id, "--wait", "--timeout", "40s", "--json")
    assert applied.code == Exit.FAILED
    assert applied.json["states"] == {"succeeded": 1, "failed": 1}
    worker.send_signal(signal.SIGTERM)
    out, _ = worker.communicate(timeout=30)
    assert worker.returncode == Exit.OK
    assert '"succeeded":1,"failed":1,"unknown":0' in out


def test_an_incomplete_plan_has_a_status_of_its_own(gonogo: Program) -> None:
    """A job that raises leaves an incomplete plan, shown without secrets, that nobody approves."""
    done = gonogo("rehearse", "app:broken", "--json")
    assert done.code == Exit.INCOMPLETE
    assert done.json["state"] == "incomplete"
    assert "hunter2" not in done.out + done.err
    refused = gonogo("approve", done.json["id"], *WHO, "--yes", "--json")
    assert refused.code == Exit.REFUSED
    assert refused.out == ""
    assert refused.error["error"] == "PlanError"


def test_an_async_job_is_rehearsed_too(gonogo: Program) -> None:
    """A coroutine function is awaited."""
    assert gonogo("rehearse", "app:later", "INV-1", "--json").json["size"] == 1


@pytest.mark.parametrize(
    ("arguments", "amounts"),
    [
        (["INV-1", "007", "cents=5"], [("INV-1", 5), ("007", 5)]),
        (['["INV-1"]', '{"cents": 7}'], [("INV-1", 7)]),
        (["INV-1"], [("INV-1", 100)]),
    ],
)
def test_a_jobs_arguments_are_what_its_annotations_say(
    gonogo: Program, arguments: list[str], amounts: list[tuple[str, int]]
) -> None:
    """Text stays text where text is declared, numbers become numbers, JSON is taken as it is."""
    calls = gonogo("rehearse", "app:payday", *arguments, "--json").json["calls"]
    assert [(c["args"]["invoice"], c["args"]["cents"]) for c in calls] == amounts


@pytest.mark.parametrize("arguments", [["cents=much"], ["nobody=1"], ["{"]])
def test_arguments_that_do_not_fit_the_job_are_a_usage_error(
    gonogo: Program, arguments: list[str]
) -> None:
    """The job is not begun with arguments it cannot take."""
    done = gonogo("rehearse", "app:payday", *arguments)
    assert done.code == Exit.USAGE
    assert "chatter of the job" not in done.err


def test_a_plan_that_was_given_up_is_listed_and_never_applied(gonogo: Program) -> None:
    """A discarded plan stays to be read, and cannot be approved."""
    plan = rehearsed(gonogo, "INV-1")
    assert gonogo("plan", "discard", plan, *WHO).out.startswith("discarded: plan 'payday'")
    (listed,) = gonogo("plan", "list", "--state", "discarded", "--json").json
    assert listed["id"] == plan
    assert gonogo("approve", plan, *WHO, "--yes").code == Exit.REFUSED
    assert "payment:INV-1" in gonogo("plan", "show", plan, "--all").out


def test_a_call_that_needs_approval_is_approved_by_its_id(gonogo: Program) -> None:
    """`approve` takes the id of a single call as well, and a worker then performs it."""
    call = enqueued(gonogo, "Ann")
    rehearsed(gonogo, "INV-1")
    assert f"call      {call} gift:Ann waits for a yes: gonogo approve\n" in gonogo("status").out
    (waiting,) = gonogo("status", "--json").json["calls_waiting"]
    assert waiting == {"id": call, "action": "gift", "key": "gift:Ann"}
    done = gonogo("approve", call, *WHO, "--yes")
    assert gonogo("status", "--json").json["calls_waiting"] == []
    assert "gift (gift:Ann) is pending; it did not happen, and a worker will perform it" in done.out
    assert gonogo("worker", "--once", "--json").json["succeeded"] == 1
    assert gonogo("worker", "--once", "--json").json["succeeded"] == 0


def test_without_a_terminal_nothing_is_approved_by_silence(gonogo: Program) -> None:
    """Where nobody can be asked, --yes must be said; so must who and why, everywhere."""
    plan = rehearsed(gonogo, "INV-1")
    assert gonogo("approve", plan, *WHO).code == Exit.USAGE
    assert gonogo("approve", plan, "--reason", "x", "--yes").code == Exit.USAGE
    assert gonogo("approve", plan, "--by", " ", "--reason", "x", "--yes").code == Exit.USAGE
    assert gonogo("plan", "list", "--state", "approved", "--json").json == []
    done = gonogo("approve", plan, "--reason", "x", "--yes", "--json", GONOGO_BY="ann")
    assert done.json["approved_by"] == "ann"


def test_what_stands_in_the_way_of_applying_is_the_next_command(gonogo: Program) -> None:
    """Neither a plan without approval nor an approval without a terminal leaves one to search."""
    plan = rehearsed(gonogo, "INV-1")
    approve = f"gonogo approve {plan} --by WHO --reason WHY"
    assert gonogo("apply", plan).err.endswith(f"\nNext: {approve}\n")
    assert gonogo("approve", plan, *WHO).err.endswith(f"\nNext: {approve} --yes\n")


def test_who_applied_is_not_made_up(gonogo: Program) -> None:
    """Only somebody who was named is recorded as the one who applied a plan."""
    unsaid, said = rehearsed(gonogo, "INV-1"), rehearsed(gonogo, "INV-2")
    for plan in (unsaid, said):
        gonogo("approve", plan, *WHO, "--yes")
    assert gonogo("apply", unsaid, "--json").json["applied_by"] is None
    assert gonogo("apply", said, "--json", GONOGO_BY="bo").json["applied_by"] == "bo"


def test_all_of_a_plan_can_be_read_with_its_arguments(gonogo: Program) -> None:
    """What a long plan leaves out is named with the command that shows it, amounts and all."""
    invoices = [f"INV-{n:03}" for n in range(60)]
    plan = gonogo("rehearse", "app:payday", *invoices, "--name", "nov")
    assert "payment:INV-001  cents 100" in plan.out
    assert "left out: 10 new; all: gonogo plan show " in plan.out
    whole = gonogo("plan", "show", "nov", "--all").out
    assert 'payment:INV-059  cents 100  {"cents": 100, "invoice": "INV-059"}' in whole
    assert whole.count("payment:INV-") == 60
    calls = gonogo("plan", "show", "nov", "--json").json["calls"]
    assert calls[0]["uses"] == {"cents": 100, "payment": 1}


def test_a_plan_that_a_limit_stretches_says_so_when_it_is_approved(gonogo: Program) -> None:
    """Also where nobody is asked, the approver learns what goes out later."""
    plan = rehearsed(gonogo, *(f"INV-{n}" for n in range(101)))
    done = gonogo("approve", plan, *WHO, "--yes")
    assert (
        "1 of its calls goes out by itself later, when there is room; first payment:INV-100"
        in done.err
    )
    assert "SANDBOX_PAYMENT_LIMIT" in done.err


def test_a_ledger_in_memory_has_no_next_command(gonogo: Program) -> None:
    """What ends with the command cannot be approved by another one."""
    code = APP.replace('"sqlite:///ops.db", ', "")
    (gonogo.folder / "brief.py").write_text(code)
    done = gonogo("--app", "brief:sandbox", "rehearse", "brief:payday", "INV-1")
    assert "ends with this command" in done.err
    assert "Next:" not in done.err
    assert '{"cents": 100, "invoice": "INV-1"}' in done.out


# waiting and working


def test_waiting_ends_at_its_time_and_leaves_the_calls(gonogo: Program) -> None:
    """Without a worker the wait says so, ends when its time is over, and takes nothing back."""
    plan = rehearsed(gonogo, "INV-1")
    gonogo("approve", plan, *WHO, "--yes")
    done = gonogo("apply", plan, "--wait", "--timeout", "0.1s", "--json")
    assert done.code == Exit.UNFINISHED
    assert done.json["states"] == {"pending": 1}
    assert "no worker is alive" in done.err


def test_an_interrupted_wait_leaves_the_calls(gonogo: Program) -> None:
    """Ctrl-C ends the waiting, with its own status; what was applied stays applied."""
    plan = rehearsed(gonogo, "INV-1")
    gonogo("approve", plan, *WHO, "--yes")
    waiting = gonogo.start("apply", plan, "--wait")
    assert waiting.stderr is not None
    while "no worker is alive" not in waiting.stderr.readline():
        pass
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == Exit.INTERRUPTED
    assert "Traceback" not in err
    assert gonogo("plan", "show", plan, "--json").json["state"] == "applied"


def test_a_call_that_a_dead_process_claimed_is_not_passed_over(gonogo: Program) -> None:
    """A worker that ends before its lease is over says so, by its status too.

    One that was asked for a single call does not wait for others.
    """
    plan = gonogo("rehearse", "app:payday", "INV-1", "--json").json["id"]
    gonogo("approve", plan, *WHO, "--yes")
    gonogo("apply", plan)
    claim = "import app; assert app.sandbox.delivery.claim() is not None"
    subprocess.run([sys.executable, "-c", claim], cwd=gonogo.folder, env=gonogo.env, check=True)
    done = gonogo("worker", "--until-idle", "--patience", "0.1s", "--json")
    assert (done.code, done.json["left"]) == (Exit.UNFINISHED, 1)
    assert "left: 1 in the hands of other processes" in done.err
    assert gonogo("worker", "--once").code == Exit.OK


def test_sigterm_lets_a_worker_end_what_it_has_begun(gonogo: Program) -> None:
    """A worker that is told to stop settles the call under way and takes no other."""
    for pipe in ("began", "go"):
        os.mkfifo(gonogo.folder / pipe)
    applied(gonogo, "SLOW", "INV-2")
    worker = gonogo.start("worker", "--threads", "1", "--json")
    (gonogo.folder / "began").read_text()
    worker.send_signal(signal.SIGTERM)
    (gonogo.folder / "go").write_text("go")
    out, err = worker.communicate(timeout=30)
    assert worker.returncode == Exit.OK, err
    assert '"drained":true' in out
    states = {c["key"]: c["state"] for c in gonogo("calls", "list", "--json").json}
    assert states["payment:SLOW"] == "succeeded"


@pytest.mark.parametrize(
    ("stop", "go", "told"),
    [
        (("halt", "payment"), ("resume", "payment"), "payment is halted by ops@example.com since"),
        (("hold",), ("release",), "what is irreversible is held by ops@example.com since"),
        (
            ("queues", "pause", "default"),
            ("queues", "resume", "default"),
            "queue 'default' is paused by ops@example.com since",
        ),
    ],
)
def test_what_is_stopped_is_told_where_somebody_decides_or_waits(
    gonogo: Program, stop: tuple[str, ...], go: tuple[str, ...], told: str
) -> None:
    """Whoever looks at a plan, approves, applies or works is told who, and how it goes on."""
    plan = rehearsed(gonogo, "INV-1", "INV-2")
    gonogo(*stop, *WHO)
    note = f"note: {told}"
    shown = gonogo("plan", "show", plan)
    assert note in shown.err
    assert f"; gonogo {' '.join(go)} lets it go\n" in shown.err
    (one,) = gonogo("plan", "show", plan, "--json").json["stopped"]
    assert (one["actor"], one["calls"]) == ("ops@example.com", 2)
    assert note in gonogo("approve", plan, *WHO, "--yes").err
    waited = gonogo("apply", plan, "--wait", "--timeout", "0.1s")
    assert note in waited.err
    idle = ("worker", "--until-idle", "--patience", "0.1s")
    for worker in (idle, ("worker", "--once")):
        idled = gonogo(*worker)
        assert (idled.code, idled.out) == (Exit.UNFINISHED, "nothing was performed\n")
        assert f"stopped: 2 due, but {told}" in idled.err
    (kept,) = gonogo(*idle, "--json").json["stopped"]
    assert (kept["calls"], kept["why"].startswith(told)) == (2, True)
    gonogo(*go, *WHO)
    assert (gonogo(*idle).code, "note" in gonogo("plan", "show", plan).err) == (Exit.OK, False)


def test_a_worker_says_that_the_lock_keeps_what_nobody_approved(gonogo: Program) -> None:
    """Jobs that were queued while unlocked are due, and refused."""
    gonogo("arm", *WHO)
    python = [COMMAND[0], "-c", "import app; app.pay.enqueue('INV-1', 1)"]
    subprocess.run(python, cwd=gonogo.folder, env=gonogo.env, capture_output=True, check=True)
    gonogo("lock", *WHO)
    for worker in (("worker", "--until-idle", "--patience", "0.1s"), ("worker", "--once")):
        idled = gonogo(*worker)
        assert (idled.code, idled.out) == (Exit.UNFINISHED, "nothing was performed\n")
        assert "stopped: 1 due, but the sandbox is locked (dry-run)" in idled.err


def test_a_worker_says_what_was_refused_and_why(gonogo: Program) -> None:
    """What is due and refused was not done, so that neither the words nor the status say so."""
    bank = "from app import sandbox\n"
    bank += (
        "sandbox.readiness_checker.register_check('bank', lambda: (False, 'the bank is down'))\n"
    )
    (gonogo.folder / "bank.py").write_text(bank)
    applied(gonogo, "INV-1")
    idle = ("worker", "--until-idle", "--patience", "0.1s")
    for worker in (idle, ("worker", "--once")):
        idled = gonogo("--app", "bank:sandbox", *worker)
        assert (idled.code, idled.out) == (Exit.UNFINISHED, "nothing was performed\n")
        assert "refused: 1 due; the first is payment (payment:INV-1): " in idled.err
        assert "the bank is down" in idled.err
        make_due(gonogo)
    (refused,) = gonogo("--app", "bank:sandbox", *idle, "--json").json["refused"]
    assert (refused["calls"], "the bank is down" in refused["why"]) == (1, True)
    make_due(gonogo)
    assert gonogo(*idle, "--json").json["refused"] == []


def make_due(gonogo: Program) -> None:
    """The calls that were refused, and put off for a while, are due again."""
    store = SqliteStore(f"sqlite:///{gonogo.folder}/ops.db")

    def work(tx: Transaction) -> None:
        for call in tx.calls.find(CallFilter(states=(State.PENDING,))):
            tx.calls.replace(call, structs.replace(call, run_at=0.0))

    store.write(work)
    store.close()


def test_a_worker_takes_only_from_its_queues(gonogo: Program) -> None:
    """--queues names where jobs are taken from."""
    applied(gonogo, "INV-1")
    idle = ("worker", "--until-idle", "--patience", "0.1s", "--json")
    assert gonogo(*idle, "--queues", "mail").json["succeeded"] == 0
    assert gonogo(*idle, "--queues", "mail, default").json["succeeded"] == 1


def test_looking_performs_nothing(gonogo: Program) -> None:
    """A worker that the application starts when it is imported is stopped by other commands."""
    code = "from app import sandbox\nsandbox.initialize()\n"
    code += "def look() -> None:\n    print('works:', sandbox.worker.is_running)\n"
    (gonogo.folder / "eager.py").write_text(code)
    assert "works: False" in gonogo("--app", "eager:sandbox", "rehearse", "eager:look").err


# what is in doubt


def test_an_unknown_call_is_resolved_by_a_person(gonogo: Program) -> None:
    """It says that it may have happened, and what it is after the person's word; only once."""
    call = in_doubt(gonogo)
    assert "position       call 1 of its plan\n" in gonogo("calls", "show", call).out
    shown = gonogo("calls", "show", call, "--json").json
    assert (shown["state"], shown["happened"]) == ("unknown", "maybe")
    assert shown["attempts"][0]["fault"]["type"] == "TimeoutError"
    assert "nobody heard whether it happened" in gonogo("calls", "explain", call).out
    assert "may or may not" in gonogo("calls", "explain", call, "--json").json["sentences"][-2]
    cancelled = gonogo("cancel", call, *WHO, "--json")
    assert cancelled.code == Exit.UNKNOWN
    assert cancelled.error["happened"] == "maybe"

    done = gonogo("resolve", call, "landed", *WHO, "--result", '"paid"', "--json")
    assert (done.json["state"], done.json["effect"]) == ("succeeded", "it happened")
    assert done.json["result"] == "paid"
    again = gonogo("resolve", call, "absent", *WHO, "--json")
    assert again.code == Exit.REFUSED
    assert again.error["key"] == "payment:LOST"


def test_waiting_for_a_call_in_doubt_has_a_status_of_its_own(gonogo: Program) -> None:
    """A call that waits for a person is not waited for."""
    plan = rehearsed(gonogo, "LOST", "INV-1")
    gonogo("approve", plan, *WHO, "--yes")
    worker = gonogo.start("worker")
    done = gonogo("apply", plan, "--wait", "--timeout", "40s")
    worker.send_signal(signal.SIGINT)
    worker.communicate(timeout=30)
    assert done.code == Exit.UNKNOWN
    assert "1 succeeded, 1 unknown; what is unknown may have happened" in done.out
    assert "the time to wait is over" not in done.out


def test_calls_are_filtered_and_paged(gonogo: Program) -> None:
    """Every filter must match; pages follow each other by the last id."""
    plan = applied(gonogo, "INV-1", "INV-2", "INV-3")
    everything = gonogo("calls", "list", "--json").json
    first = gonogo("calls", "list", "--limit", "2", "--json")
    assert f"--before {first.json[-1]['id']}" in first.err
    second = gonogo("calls", "list", "--limit", "2", "--before", first.json[-1]["id"], "--json")
    assert first.json + second.json == everything
    found = gonogo("calls", "list", "--plan", plan, "--key", "payment:INV-2", "--json").json
    assert [c["args"]["invoice"] for c in found] == ["INV-2"]
    about = found[0]["correlation_id"]
    assert gonogo("calls", "list", "--correlation", about, "--json").json == found
    assert gonogo("calls", "list", "--action", "gift", "--json").json == []
    assert gonogo("calls", "list", "--state", "nonsense").code == Exit.USAGE


def test_a_pending_call_is_cancelled(gonogo: Program) -> None:
    """Cancelling says that it did not happen, and what the reason is."""
    applied(gonogo, "INV-1")
    (call,) = gonogo("calls", "list", "--json").json
    done = gonogo("cancel", call["id"], *WHO)
    assert done.out == "cancelled: payment (payment:INV-1) is cancelled; it did not happen\n"


def test_an_overtaken_plan_is_not_shown_as_approved(gonogo: Program) -> None:
    """Neither in the list nor in the status, and whoever approves one is told."""
    second, third = rehearsed(gonogo, "INV-1"), rehearsed(gonogo, "INV-1", "INV-2")
    assert gonogo("approve", second, *WHO, "--yes").code == Exit.OK
    first = applied(gonogo, "INV-1")
    listed = {plan["id"]: plan["standing"] for plan in gonogo("plan", "list", "--json").json}
    assert listed == {first: "applied", second: "overtaken", third: "overtaken"}
    assert re.search(rf"^{second} +overtaken ", gonogo("plan", "list").out, re.MULTILINE)
    assert f"plan      {second} payday is overtaken\n" in gonogo("status").out
    done = gonogo("approve", third, *WHO, "--yes")
    assert "note: overtaken: 1 of its calls has lost its key to other calls since" in done.err
    assert gonogo("plan", "show", third, "--json").json["overtaken"] == 1


def test_the_rest_of_a_plan_is_cancelled(gonogo: Program) -> None:
    """With one command, which says what it left alone; of a call or of a plan, not of both."""
    plan = applied(gonogo, "INV-1", "INV-2", "INV-3", "INV-1")
    assert gonogo("worker", "--once").code == Exit.OK
    done = gonogo("cancel", "--plan", "payday", *WHO)
    assert done.out == f"cancelled: 2 calls of plan {plan}; left alone: 1 succeeded\n"
    again = gonogo("cancel", "--plan", plan[:20], *WHO, "--json").json
    assert again == {"plan": plan, "cancelled": 0, "left": {"succeeded": 1, "cancelled": 2}}
    ready = rehearsed(gonogo, "INV-4")
    refused = gonogo("cancel", "--plan", ready, *WHO)
    assert refused.code == Exit.REFUSED
    assert f"gonogo plan discard {ready}" in refused.err
    for wrong in ([], [plan, "--plan", plan]):
        assert gonogo("cancel", *wrong, *WHO).code == Exit.USAGE


# the verdict and the switches


def test_the_verdict_is_the_status(gonogo: Program) -> None:
    """0 only on GO; NO-GO and HOLD differ, and a hold wins."""
    go = gonogo("check", "--group", "call", "--json")
    assert (go.code, go.json["verdict"]) == (Exit.OK, "GO")
    no_go = gonogo("check")
    assert no_go.code == Exit.NO_GO
    assert no_go.out.splitlines()[-1] == "NO-GO: worker_running, heartbeat_active"
    gonogo("hold", *WHO)
    assert gonogo("check", "--group", "call").code == Exit.HOLD
    gonogo("release", *WHO)
    assert gonogo("check", "--group", "call").code == Exit.OK
    assert gonogo("check", "--group", "cal").code == Exit.CONFIGURATION


def test_a_halt_of_everything_is_a_hold(gonogo: Program) -> None:
    """A job that asks for the verdict first does not begin; a halted action is listed."""
    gonogo("halt", "payment", *WHO)
    listed = gonogo("check", "--group", "call")
    assert listed.code == Exit.OK
    assert re.search(r"^NO +halt:payment +halted by ops@example.com: a test", listed.out, re.M)
    gonogo("halt", *WHO)
    halted = gonogo("check", "--group", "call")
    assert (halted.code, halted.out.splitlines()[-1]) == (Exit.HOLD, "HOLD: halt")
    assert "verdict   HOLD: halt" in gonogo("status").out
    gonogo("resume", *WHO)
    assert gonogo("check", "--group", "call").code == Exit.OK


def test_switches_say_what_they_did_and_are_recorded(gonogo: Program) -> None:
    """Arm, lock, halt and resume change what runs, and stand in the decisions with their reason."""
    assert gonogo("arm", "--for", "10m", *WHO, "--json").json["control"]["name"] == "armed"
    assert "LIVE: unlocked" in gonogo("status").out
    gonogo("plan", "discard", rehearsed(gonogo, "INV-1"), *WHO)
    assert "calls     1 planned and never queued\n" in gonogo("status").out
    gonogo("lock", *WHO)
    assert gonogo("status", "--json").json["dry_run"] is True
    assert gonogo("halt", "payment", *WHO).out.startswith("halted: payment is refused until")
    assert gonogo("resume", "gift", *WHO).code == Exit.NOT_FOUND
    assert gonogo("resume", "payment", *WHO).code == Exit.OK
    slip = gonogo("halt", "paymnt", *WHO).out
    assert "BUT this application has no action 'paymnt': did you mean payment?" in slip
    told = gonogo("decisions", "--json").json
    assert [d["what"] for d in told] == [
        "halt",
        "resume",
        "halt",
        "locked",
        "plan discarded",
        "armed",
    ]
    assert {d["actor"] for d in told} == {"ops@example.com"}
    (one,) = gonogo("decisions", "--subject", "halt:paymnt", "--json").json
    assert one["reason"] == "a test"


def test_a_switch_that_stands_is_not_shortened(gonogo: Program) -> None:
    """Refused, with who and the remedy; one as long is written; nothing set, nothing ended."""
    assert gonogo("halt", "payment", *WHO).code == Exit.OK
    shorter = gonogo("halt", "payment", "--for", "2s", *WHO, "--json")
    assert (shorter.code, shorter.error["remedy"]) == (Exit.REFUSED, "gonogo resume payment")
    assert "payment is halted by ops@example.com since" in shorter.error["message"]
    assert gonogo("halt", "payment", *WHO).code == Exit.OK
    gonogo("hold", *WHO)
    assert gonogo("hold", "--for", "2s", *WHO).code == Exit.REFUSED
    assert gonogo("release", *WHO).code == Exit.OK
    nothing = gonogo("release", *WHO)
    assert (nothing.code, nothing.out) == (Exit.NOT_FOUND, "")
    assert "nothing is held, nothing was changed" in nothing.err


def test_alerts_are_listed_acknowledged_and_resolved(gonogo: Program) -> None:
    """A resolved alert leaves the list, and can still be found."""
    in_doubt(gonogo)
    (alert,) = gonogo("alerts", "list", "--severity", "critical", "--json").json
    acked = gonogo("alerts", "ack", alert["id"][:30], *WHO, "--json").json
    assert acked["state"] == "acknowledged"
    assert "is resolved" in gonogo("alerts", "resolve", alert["id"], *WHO).out
    assert gonogo("alerts", "list", "--json").json == []
    assert len(gonogo("alerts", "list", "--all", "--json").json) == 1
    assert gonogo("alerts", "ack", "nobody", *WHO).code == Exit.NOT_FOUND
    late = gonogo("alerts", "resolve", alert["id"][:30], *WHO)
    assert late.code == Exit.REFUSED
    assert f"alert {alert['id']} on 'payment' is resolved by ops@example.com" in late.err


def test_limits_show_use_and_those_that_workers_set(gonogo: Program) -> None:
    """The limits of the settings are in force for workers, so they are shown and rehearsed."""
    applied(gonogo, "INV-1")
    gonogo("worker", "--once")
    used = {limit["resource"]: limit for limit in gonogo("limits", "--json").json}
    assert (used["cents"]["current_actions"], used["payment"]["max_actions"]) == (100, 100)
    (gifts,) = gonogo("limits", "gifts", "--key", "Ann", "--json").json
    assert (gifts["current_actions"], gifts["key"]) == (0, "Ann")
    assert re.search(r"by key +3 +this day \(UTC\)\n", gonogo("limits", "gifts").out)
    assert gonogo("limits", "nothing").code == Exit.NOT_FOUND


# how output and errors travel


def test_piped_lists_are_plain_and_one_line_a_row(gonogo: Program) -> None:
    """A pipe gets no colour and no wrapping, however long a line; nor control characters."""
    long = "INV-" + "9" * 150
    applied(gonogo, long, "ESC\x1b[31m")
    done = gonogo("calls", "list", FORCE_COLOR="1")
    lines = done.out.splitlines()
    assert len(lines) == 3
    assert any(f"payment:{long}" in line for line in lines)
    assert "\x1b" not in done.out
    assert "ESC\\x1b[31m" in done.out


def test_json_is_taken_before_and_after_the_command(gonogo: Program) -> None:
    """Shared options stand wherever they come to mind."""
    assert gonogo("--json", "plan", "list").out == "[]\n"
    assert gonogo("plan", "--json", "list").out == "[]\n"
    assert gonogo("plan", "list", "--json").out == "[]\n"


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_reader_that_leaves_ends_it_quietly(gonogo: Program, json: list[str]) -> None:
    """`gonogo ... | head` prints no error."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "limits", *json],
        cwd=gonogo.folder,
        env=gonogo.env,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (Exit.PIPE, "chatter of the application\n")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["calls", "show", "nobody"], Exit.NOT_FOUND),
        (["plan", "show", "nobody"], Exit.NOT_FOUND),
        (["apply", "nobody"], Exit.NOT_FOUND),
        (["approve", "nobody", *WHO, "--yes"], Exit.NOT_FOUND),
        (["plan", "discard", "nobody", *WHO], Exit.NOT_FOUND),
        (["resolve", "nobody", "absent", *WHO], Exit.NOT_FOUND),
        (["cancel", "nobody", *WHO], Exit.NOT_FOUND),
        (["apply", "nobody", "--timeout", "1s"], Exit.USAGE),
        (["resolve", "nobody", "landed", *WHO, "--result", "{"], Exit.USAGE),
        (["worker", "--once", "--until-idle"], Exit.USAGE),
        (["nonsense"], Exit.USAGE),
        (["calls"], Exit.USAGE),
    ],
)
def test_errors_are_json_beside_the_data(gonogo: Program, command: list[str], code: Exit) -> None:
    """With --json an error is one object on stderr, and stdout stays empty."""
    done = gonogo(*command, "--json")
    assert (done.code, done.out) == (code, "")
    assert {"error", "message", "happened", "action", "key", "call_id"} <= set(done.error)
    assert done.error["exit_code"] == code


# the application


@pytest.mark.parametrize(
    ("app", "says"),
    [
        (None, "into gonogo.toml or [tool.gonogo]"),
        ("app", "not of the form module:attribute"),
        ("missing:sandbox", "there is no module 'missing'"),
        ("app.sub:sandbox", "there is no module 'app.sub'"),
        ("app:nothing", "there is no 'nothing' in app"),
        ("app:pay", "of type Action: it must be a SandboxOrchestrator"),
        ("app:wrong", "app:wrong() returned 3, of type int"),
        ("app:payday.x", "there is no 'x' in payday"),
        ("raises:sandbox", "importing raises raised ZeroDivisionError"),
        ("leaves:sandbox", "importing leaves raised SystemExit"),
        ("needs:sandbox", "No module named 'not_installed'"),
        ("typo:sandbox", "SyntaxError"),
    ],
)
def test_an_application_that_cannot_be_loaded_is_explained(
    gonogo: Program, app: str | None, says: str
) -> None:
    """The message names what is missing; there is no traceback unless it is asked for."""
    for name, code in {
        "raises": "1 / 0",
        "leaves": "raise SystemExit(0)",
        "needs": "import not_installed",
        "typo": "def",
    }.items():
        (gonogo.folder / f"{name}.py").write_text(code)
    done = Program(gonogo.folder, app)("status")
    assert done.code == Exit.CONFIGURATION
    assert says in done.err
    assert "Traceback" not in done.err
    if app == "raises:sandbox":
        assert "raises.py:1)" in done.err
        assert "Traceback" in gonogo("--app", app, "--debug", "status").err


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", '[tool.gonogo]\napp = "app:make"\n'),
        ("gonogo.toml", 'app = "app:make"\n'),
        ("gonogo.toml", '[gonogo]\napp = "app:make"\nmax_workers = 2\n'),
    ],
)
def test_a_file_names_the_application(gonogo: Program, file: str, text: str) -> None:
    """Without option and variable the project's file says which application it is."""
    (gonogo.folder / file).write_text(text)
    assert Program(gonogo.folder, None)("plan", "list", "--json").out == "[]\n"
    (gonogo.folder / file).write_text(text.replace('"', ""))
    assert Program(gonogo.folder, None)("plan", "list").code == Exit.CONFIGURATION


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gonogo = 3\n", "gonogo.toml: [gonogo] must be a table"),
        ("[gonogo]\napp = 5\n", "gonogo.toml: app must be a text such as"),
        ("[gonogo]\napp = ''\n", "gonogo.toml: app must be a text such as"),
    ],
)
def test_a_file_that_names_no_application_is_not_passed_over(
    gonogo: Program, text: str, says: str
) -> None:
    """Another file may name another application, and another ledger."""
    (gonogo.folder / "pyproject.toml").write_text('[tool.gonogo]\napp = "app:make"\n')
    (gonogo.folder / "gonogo.toml").write_text(text)
    done = Program(gonogo.folder, None)("plan", "list")
    assert done.code == Exit.CONFIGURATION
    assert says in done.err


def test_a_ledger_out_of_reach_is_the_stores_error(gonogo: Program) -> None:
    """It is told apart from a wrong command and a wrong application."""
    (gonogo.folder / "ops.db").write_text("not a database, and longer than its header " * 9)
    done = gonogo("calls", "list", "--json")
    assert done.code == Exit.STORE
    assert done.error["error"] == "StoreUnavailable"


# the schema


def test_the_schema_is_managed_without_an_application(bare: Program) -> None:
    """`db` takes a URL, or the environment's, or the application's; passwords stay hidden."""
    alone = Program(bare.folder, None)
    assert alone("db", "status").code == Exit.CONFIGURATION
    url = "sqlite:///other.db"
    assert alone("db", "status", "--url", url, "--json").json["current"] is None
    assert not (bare.folder / "other.db").exists()
    assert alone("db", "upgrade", "--json", SANDBOX_DB_URL=url).json["pending"] == []
    assert alone("db", "status", "--url", url, "--json").json["current"] is not None
    assert "no ledger yet" in bare("db", "status").out
    lost = alone("db", "status", "--url", "postgresql://ops:hunter2@127.0.0.1:1/x")
    assert lost.code == Exit.STORE
    assert "hunter2" not in lost.err


def test_the_version_and_every_help_text_can_be_read(gonogo: Program) -> None:
    """Each command explains itself with an example."""
    assert gonogo("--version").out.startswith("gonogo ")
    for command in (["--help"], ["apply", "--help"], ["db", "upgrade", "-h"]):
        done = gonogo(*command)
        assert done.code == Exit.OK
        assert "Example:\n    gonogo" in done.out


def test_the_documented_statuses_are_the_real_ones() -> None:
    """The page lists every exit status, and none that does not exist."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", page.read_text(), re.MULTILINE)
    assert [(int(number), name) for number, name in rows] == [(e.value, e.name) for e in Exit]
