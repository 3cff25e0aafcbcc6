"""The course of a direct call: replay by type, evidence, waiting, and callers that are stopped."""

from __future__ import annotations

import enum
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict

import attrs
import pytest
from tests.support.sandboxes import arm, only, used

from gonogo.backoff import Retry
from gonogo.clock import FakeClock
from gonogo.context import current
from gonogo.conversation import Conversation
from gonogo.errors import ConfigurationError, InFlight, OutcomeUnknown, ResultUnavailable
from gonogo.evidence import Evidence, absent, cannot_tell, landed
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Outcome, State
from gonogo.signals import NotApplied, Rejected

# replay in the type that the function declares


@dataclass
class Payment:
    """A dataclass with what money needs."""

    amount: Decimal
    on: date


@attrs.define
class Parcel:
    """An attrs class."""

    weight: int


class Row(TypedDict):
    """A typed dictionary."""

    day: date


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


def a_payment() -> Payment:
    return Payment(Decimal("1.10"), date(2026, 2, 28))


def a_decimal() -> Decimal:
    return Decimal("0.10")


def a_date() -> date:
    return date(2026, 2, 28)


def an_enum() -> Colour:
    return Colour.RED


def some_bytes() -> bytes:
    return b"\x00\xff"


def a_parcel() -> Parcel:
    return Parcel(3)


def a_row() -> Row:
    return {"day": date(2026, 2, 28)}


def by_number() -> dict[int, set[str]]:
    return {2: {"b", "a"}, 10: set()}


def nothing() -> None:
    return None


MAKERS = [
    *(a_payment, a_decimal, a_date, an_enum, some_bytes, a_parcel, a_row, by_number, nothing),
]


@pytest.mark.parametrize("make", MAKERS, ids=[m.__name__ for m in MAKERS])
def test_a_replay_has_the_declared_type(sandbox: SandboxOrchestrator, make: Any) -> None:
    """What is replayed equals what was returned, in the type of the return annotation."""
    act = sandbox.action("act", key="k", irreversible=True)(make)
    first, again = act.call(), act.call()
    assert again.replayed
    assert again.value == first.value
    assert type(again.value) is type(first.value)


def test_a_result_that_was_not_kept_is_said_to_be(sandbox: SandboxOrchestrator) -> None:
    """A replay without a result says that the effect happened."""
    act = sandbox.action("act", key="k", irreversible=True)(object)
    assert type(act()) is object
    with pytest.raises(ResultUnavailable) as caught:
        act()
    assert caught.value.happened == "yes"


def test_a_result_of_an_older_type_is_plain(sandbox: SandboxOrchestrator) -> None:
    """When the annotation no longer fits what is stored, the plain JSON is replayed."""
    act = sandbox.action("act", key="k", irreversible=True)(a_payment)
    act()
    sandbox.pipeline.actions.clear()
    newer = sandbox.action("act", key="k", irreversible=True)(some_bytes)
    assert newer() == {"amount": "1.10", "on": "2026-02-28"}


# evidence on a direct call


class Bank:
    """A bank whose first reply is lost, and which can be asked."""

    def __init__(self, sandbox: SandboxOrchestrator, answer: Any = None) -> None:
        self.sent: list[str] = []
        self.asked = 0
        self.answer = answer

        @sandbox.action(
            "pay",
            key="{invoice}",
            irreversible=True,
            verify_after=60,
            limits=[Limit("units", 100, per="1h")],
        )
        def pay(invoice: str) -> str:
            self.sent.append(invoice)
            if len(self.sent) == 1:
                raise TimeoutError("reply lost")
            return "paid"

        @pay.verify
        def look(call: Any) -> Any:
            self.asked += 1
            assert call.key == call.arguments["invoice"]
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer

        self.pay = pay
        with pytest.raises(OutcomeUnknown):
            pay("A")


def test_an_effect_that_landed_is_replayed(sandbox: SandboxOrchestrator) -> None:
    """The verifier says landed: its result is replayed, and nothing is sent again."""
    bank = Bank(sandbox, landed("receipt 7"))
    receipt = bank.pay.call("A")
    assert (receipt.value, receipt.replayed) == ("receipt 7", True)
    assert (bank.sent, used(sandbox)) == (["A"], 1)


def test_absent_is_believed_after_verify_after_only(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """Before that the request may still arrive; after it the call runs again, charged once."""
    bank = Bank(sandbox, absent())
    fake_clock.advance(59.0)
    with pytest.raises(OutcomeUnknown):
        bank.pay("A")
    assert bank.sent == ["A"]

    fake_clock.advance(1.0)
    receipt = bank.pay.call("A")
    assert (receipt.value, receipt.replayed) == ("paid", False)
    assert (bank.sent, used(sandbox)) == (["A", "A"], 1)
    assert sorted(c.state.value for c in sandbox.calls(action="pay")) == ["failed", "succeeded"]


@pytest.mark.parametrize(
    "answer",
    [cannot_tell(), OSError("the bank is closed"), SystemExit(), None, True, "landed"],
    ids=["cannot tell", "raises", "exits", "none", "true", "text"],
)
def test_what_is_no_evidence_changes_nothing(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock, answer: Any
) -> None:
    """A verifier that cannot tell, fails or answers nonsense leaves the call unknown."""
    bank = Bank(sandbox, answer)
    fake_clock.advance(600.0)
    with pytest.raises(OutcomeUnknown):
        bank.pay("A")
    assert (bank.asked, bank.sent, used(sandbox)) == (1, ["A"], 1)
    assert only(sandbox).held


def test_a_hanging_verifier_is_bounded(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier that never answers costs its time limit, and the call stays unknown."""
    bank = Bank(sandbox, cannot_tell())
    forever = threading.Event()
    bank.pay.verify(lambda call: forever.wait())
    doubts = getattr(sandbox.recovery, "doubts", sandbox.recovery)
    for name in ("_timeout", "_verify_timeout"):
        for owner in {
            id(o): o for o in (doubts, sandbox.recovery, *vars(doubts).values())
        }.values():
            if hasattr(owner, name):
                monkeypatch.setattr(owner, name, 0.02)
    fake_clock.advance(3600.0)
    try:
        with pytest.raises(OutcomeUnknown):
            bank.pay("A")
    finally:
        forever.set()
    assert bank.sent == ["A"]


def test_evidence_is_one_of_three() -> None:
    """Each answer says what it found, and why."""
    assert landed(7).result == 7
    assert [e.finding for e in (landed(), absent(), cannot_tell())] == [
        "landed",
        "absent",
        "cannot_tell",
    ]
    assert all(isinstance(e, Evidence) and e.reason for e in (landed(), absent(), cannot_tell()))


# waiting for a call in flight


def test_waiting_for_the_first_caller(sandbox: SandboxOrchestrator) -> None:
    """With ``in_flight="wait"`` the second caller gets the first one's result, replayed."""
    entered, leave = threading.Event(), threading.Event()
    slept = threading.Event()

    @sandbox.action("pay", key="k", irreversible=True, in_flight="wait", timeout=None)
    def pay() -> str:
        entered.set()
        assert leave.wait(10)
        return "paid"

    def sleep(seconds: float) -> None:
        slept.set()
        leave.wait(0.001)

    sandbox.clock.sleep = sleep  # type: ignore[method-assign]  # the clock stands still
    got: list[Any] = []
    callers = [threading.Thread(target=lambda: got.append(pay.call())) for _ in range(2)]
    callers[0].start()
    assert entered.wait(10)
    callers[1].start()
    assert slept.wait(10)
    leave.set()
    for caller in callers:
        caller.join(10)
    assert sorted((r.value, r.replayed) for r in got) == [("paid", False), ("paid", True)]


def test_waiting_ends(sandbox: SandboxOrchestrator, fake_clock: FakeClock) -> None:
    """A caller waits as long as its own time-out, then the key is in flight."""
    refused = []

    @sandbox.action("pay", key="k", irreversible=True, in_flight="wait", timeout=5)
    def pay() -> None:
        begun = fake_clock.now()
        with pytest.raises(InFlight):
            pay()
        refused.append(fake_clock.now() - begun)

    pay()
    assert 4 < refused[0] <= 5


def test_the_dead_callers_key_is_recovered(
    sandbox: SandboxOrchestrator, fake_clock: FakeClock
) -> None:
    """A direct call that died waiting for its retry is cancelled, and the next caller performs."""

    ran = []

    @sandbox.action("pay", key="k", irreversible=True)
    def pay() -> str:
        ran.append(1)
        if len(ran) == 1:
            raise NotApplied
        return "paid"

    bound = pay.parameters.bind((), {})
    steps = Conversation(sandbox.pipeline, pay, bound).run()
    step = next(steps)
    steps.send(sandbox.pipeline.perform(pay, step.call, bound))  # it sleeps now, and never wakes
    assert only(sandbox).state is State.PENDING
    with pytest.raises(InFlight):
        pay()

    fake_clock.advance(3600.0)
    assert pay() == "paid"
    assert sorted(c.state.value for c in sandbox.calls(action="pay")) == ["cancelled", "succeeded"]
    steps.close()


# callers that are stopped


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_stop_inside_the_effect_is_settled_first(
    sandbox: SandboxOrchestrator, stop: type[BaseException]
) -> None:
    """Ctrl-C in the middle of the effect: unknown in the ledger, then on its way."""

    @sandbox.action("pay", key="k", irreversible=True, limits=[Limit("units", 9, per="1h")])
    def pay() -> None:
        raise stop

    with pytest.raises(stop) as caught:
        pay()
    call = only(sandbox)
    assert (call.state, call.held, used(sandbox)) == (State.UNKNOWN, True, 1)
    assert "unknown" in caught.value.__notes__[0]


def test_a_stop_of_a_repeatable_call_is_not_retried(sandbox: SandboxOrchestrator) -> None:
    """Who asks the program to stop does not want another attempt."""
    ran = []

    @sandbox.action("look", irreversible=False)
    def look() -> None:
        ran.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look()
    assert (len(ran), only(sandbox, "look").state) == (1, State.FAILED)


def test_a_stop_between_attempts_withdraws_the_call(
    sandbox: SandboxOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while waiting for the retry: it did not happen, its key and units are free at once."""

    @sandbox.action("pay", key="k", irreversible=True, limits=[Limit("units", 9, per="1h")])
    def pay() -> None:
        raise NotApplied

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sandbox.clock, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pay()
    call = only(sandbox)
    assert (call.state, call.outcome, call.held) == (State.FAILED, Outcome.NOT_APPLIED, False)
    assert used(sandbox) == 0


# nested


def test_actions_nest(sandbox: SandboxOrchestrator) -> None:
    """An action may call another: two calls, one correlation id, each with its own context."""
    seen = []

    @sandbox.action("inner", key="k", irreversible=True)
    def inner() -> str:
        seen.append((current().action, current().correlation_id))
        return "in"

    @sandbox.action("outer", key="k", irreversible=True)
    def outer() -> str:
        value = inner()
        seen.append((current().action, current().correlation_id))
        return value

    assert outer() == "in"
    assert [name for name, _ in seen] == ["inner", "outer"]
    assert len({correlation for _, correlation in seen}) == 1
    assert {c.state for c in sandbox.calls()} == {State.SUCCEEDED}


def test_the_failure_of_an_inner_call_is_classified(sandbox: SandboxOrchestrator) -> None:
    """What an inner call is known not to have done says nothing about the outer one."""

    @sandbox.action("inner", key="k", irreversible=True, retry=Retry(max_retries=0))
    def inner() -> None:
        raise Rejected("no")

    @sandbox.action("outer", key="k", irreversible=True)
    def outer() -> None:
        inner()

    with pytest.raises(OutcomeUnknown):
        outer()
    assert only(sandbox, "inner").outcome is Outcome.REJECTED
    assert only(sandbox, "outer").state is State.UNKNOWN


# processes

RACER = """
import sys
from gonogo.errors import InFlight
from gonogo.orchestrator import SandboxOrchestrator
ledger, log = sys.argv[1:]
sandbox = SandboxOrchestrator(f"sqlite:///{ledger}", dry_run=False)
@sandbox.action("pay", key="pay:{invoice}", irreversible=True)
def pay(invoice: str) -> str:
    with open(log, "a") as file:
        file.write(invoice + chr(10))
    return invoice
print("ready", flush=True)
sys.stdin.readline()
for n in range(25):
    try:
        assert pay(f"INV-{n}") == f"INV-{n}"
    except InFlight:
        pass
sandbox.cleanup()
"""


def test_one_execution_across_processes(tmp_path: Path) -> None:
    """Four processes on one SQLite file call the same 25 keys: each effect is there once."""
    arm(SandboxOrchestrator(f"sqlite:///{tmp_path}/ledger.db")).cleanup()
    command = [sys.executable, "-c", RACER, f"{tmp_path}/ledger.db", f"{tmp_path}/log"]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.communicate("go\n", timeout=60)
    assert [racer.returncode for racer in racers] == [0] * 4
    effects = (tmp_path / "log").read_text().split()
    assert sorted(effects) == sorted(f"INV-{n}" for n in range(25))


def test_costs_are_asked_for_outside_of_the_transaction(sandbox: SandboxOrchestrator) -> None:
    """A user's cost function may use the ledger itself: no transaction is open around it."""
    seen: list[int] = []

    def cost(arguments: Any) -> int:
        seen.append(len(sandbox.calls()))
        return 1

    @sandbox.action("fetch", irreversible=False, limits=[Limit("x", 5, per="1h", cost=cost)])
    def fetch() -> None: ...

    fetch()
    assert seen == [0]


def test_a_broken_cost_refuses_only_what_would_run(sandbox: SandboxOrchestrator) -> None:
    """A failing cost function stops a new call, and not the recorded answer of an old one."""
    broken = False

    def cost(arguments: Any) -> int:
        if broken:
            raise ValueError("no price")
        return 1

    @sandbox.action(
        "fetch", irreversible=False, key="f:{n}", limits=[Limit("x", 5, per="1h", cost=cost)]
    )
    def fetch(n: int) -> int:
        return n

    assert fetch(1) == 1
    broken = True
    assert fetch.call(1).replayed
    with pytest.raises(ConfigurationError, match="no price"):
        fetch(2)
