"""Readiness: silence is never permission."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError, NotReady, Refused, StoreUnavailable
from gonogo.events import EventBus
from gonogo.governor import GovernorEnforcer
from gonogo.halts import set_halt
from gonogo.readiness import SandboxReadinessChecker
from gonogo.records import Control, Verdict
from gonogo.store.memory import MemoryStore

SOON = 5.0  # seconds; how long a test waits for a signal that comes at once


class Switch:
    """A check whose answer the test sets, and which counts how often it is asked."""

    def __init__(self, answer: object = True) -> None:
        self.answer = answer
        self.asked = 0

    def __call__(self) -> object:
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Hanging(Switch):
    """A check that does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> object:
        self.begun.set()
        self.let_go.wait(SOON)
        return super().__call__()


class CutOffStore(MemoryStore):
    """A ledger that can be cut off."""

    broken = False

    def read(self, work: Any) -> Any:
        if self.broken:
            raise StoreUnavailable("no such host")
        return super().read(work)

    def write(self, work: Any, *, durable: bool = True) -> Any:
        if self.broken:
            raise StoreUnavailable("no such host")
        return super().write(work, durable=durable)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def checker(clock: FakeClock) -> SandboxReadinessChecker:
    return SandboxReadinessChecker(clock=clock)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    check = Hanging()
    yield check
    check.let_go.set()


def test_with_nothing_registered_the_component_objects_to_nothing(
    checker: SandboxReadinessChecker,
) -> None:
    """The component alone says GO."""
    assert checker.is_ready()
    assert checker.evaluate().verdict is Verdict.GO
    assert checker.run_all_checks() == {}
    checker.require("call", "payment", "INV-7")


@pytest.mark.parametrize(
    ("answer", "ok", "evidence"),
    [
        (True, True, "ok"),
        ((True, "12 ms"), True, "12 ms"),
        (False, False, "the check said no"),
        ((False, "disk full"), False, "disk full"),
        ((1, "almost"), False, "almost"),
        (None, False, "the check answered NoneType, not True"),
        (1, False, "the check answered int, not True"),
        ("ok", False, "the check answered str, not True"),
        ((True, "a", "b"), False, "the check answered tuple, not True"),
        (ValueError("token=abc is bad"), False, "ValueError: token=[secret] is bad"),
        (SystemExit(), False, "SystemExit"),
    ],
    ids=repr,
)
def test_only_true_is_ready(
    checker: SandboxReadinessChecker, answer: object, ok: bool, evidence: str
) -> None:
    """Anything but exactly True within the time limit is NO-GO, with the reason as evidence."""
    checker.register_check("check", Switch(answer))
    readiness = checker.evaluate()
    assert readiness.verdict is (Verdict.GO if ok else Verdict.NO_GO)
    assert [(line.name, line.ok, line.evidence) for line in readiness.evidence] == [
        ("check", ok, evidence)
    ]
    assert checker.is_ready() is ok


def test_one_failing_check_is_enough(checker: SandboxReadinessChecker) -> None:
    """All critical checks must be well; every one is asked and reported."""
    checker.register_check("good", Switch())
    checker.register_check("bad", Switch(False))
    assert checker.run_all_checks() == {"good": True, "bad": False}
    assert not checker.is_ready()


def test_a_check_that_is_not_critical_changes_nothing(checker: SandboxReadinessChecker) -> None:
    """It is reported as failing, and the verdict stays GO."""
    checker.register_check("nice to have", Switch(False), critical=False)
    assert checker.evaluate().verdict is Verdict.GO
    assert checker.run_all_checks() == {"nice to have": False}


def test_groups_gate_different_things(checker: SandboxReadinessChecker) -> None:
    """A check speaks for its groups; by default for direct calls and for workers."""
    checker.register_check("both", Switch())
    checker.register_check("worker only", Switch(False), groups=["worker"])
    assert checker.is_ready("call")
    assert not checker.is_ready("worker")
    assert not checker.is_ready()
    assert checker.run_all_checks("call") == {"both": True}


def test_a_mistyped_group_is_an_error_and_no_go(checker: SandboxReadinessChecker) -> None:
    """A group that nobody knows has no failing checks, and must not be GO for that."""
    checker.register_check("check", Switch(), groups=["nightly"])
    assert checker.is_ready("nightly")
    assert checker.is_ready("call")
    with pytest.raises(ConfigurationError, match="'cal' is not known"):
        checker.require("cal", "payment", None)


def test_a_check_that_hangs_is_no_go(checker: SandboxReadinessChecker, hanging: Hanging) -> None:
    """No answer in time is NO-GO; while it hangs it is not started again or waited for."""
    checker.register_check("hanging", hanging, timeout=0.01)
    readiness = checker.evaluate()
    assert readiness.verdict is Verdict.NO_GO
    assert readiness.evidence[0].hung
    assert readiness.evidence[0].evidence == "no answer within 0.01 s"
    before = threading.active_count()
    for _ in range(20):
        assert not checker.is_ready()
    assert threading.active_count() <= before
    assert hanging.asked == 0


def test_a_late_answer_does_not_count(checker: SandboxReadinessChecker, hanging: Hanging) -> None:
    """What arrives after the time limit is thrown away, also when it is cached; a new run is
    what counts."""
    checker.register_check("hanging", hanging, timeout=0.01, cache=60)
    assert not checker.is_ready()
    run = checker.checks["hanging"]._run
    hanging.let_go.set()
    assert run is not None
    assert run._done.wait(SOON)
    assert hanging.asked == 1
    assert checker.is_ready()
    assert hanging.asked == 2


def test_a_hung_check_does_not_silence_the_others(
    checker: SandboxReadinessChecker, hanging: Hanging
) -> None:
    """The verdict names the hung one and has the answers of the rest."""
    checker.register_check("hanging", hanging, timeout=0.01)
    checker.register_check("fine", Switch())
    assert checker.run_all_checks() == {"hanging": False, "fine": True}


def test_checks_run_at_the_same_time(checker: SandboxReadinessChecker) -> None:
    """Three checks that wait for each other all succeed."""
    meeting = threading.Barrier(3)
    for name in ("one", "two", "three"):
        checker.register_check(name, lambda: meeting.wait(SOON) >= 0)
    assert checker.is_ready()


@pytest.mark.parametrize("answer", [True, False])
def test_an_answer_is_used_again_while_it_is_fresh(
    checker: SandboxReadinessChecker, clock: FakeClock, answer: bool
) -> None:
    """A good or bad answer holds for cache seconds, and is asked for anew after them."""
    check = Switch(answer)
    checker.register_check("check", check, cache=10)
    assert [checker.is_ready() for _ in range(3)] == [answer] * 3
    clock.advance(9.9)
    checker.is_ready()
    assert check.asked == 1
    clock.advance(0.1)
    checker.is_ready()
    assert check.asked == 2


def test_an_answer_is_not_used_again_unless_asked_for(checker: SandboxReadinessChecker) -> None:
    """Without cache every verdict asks."""
    check = Switch()
    checker.register_check("check", check)
    for _ in range(3):
        checker.is_ready()
    assert check.asked == 3


def test_one_check_without_cache_makes_the_verdict_fresh_each_time(
    checker: SandboxReadinessChecker,
) -> None:
    """A GO is remembered only as long as its most short-lived answer."""
    slow, quick = Switch(), Switch()
    checker.register_check("slow", slow, cache=60)
    checker.register_check("quick", quick)
    for _ in range(3):
        checker.require("call")
    assert (slow.asked, quick.asked) == (1, 3)
    quick.answer = False
    with pytest.raises(NotReady):
        checker.require("call")


def test_many_callers_share_one_run_of_an_expired_check(
    checker: SandboxReadinessChecker, hanging: Hanging
) -> None:
    """While one thread waits for the answer others wait for the same run."""
    checker.register_check("check", hanging, cache=60, timeout=SOON)
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(checker.is_ready())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert hanging.begun.wait(SOON)
    hanging.let_go.set()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8
    assert hanging.asked == 1


def test_a_new_check_counts_at_once(checker: SandboxReadinessChecker) -> None:
    """A GO that is remembered does not outlive the registration of another check."""
    checker.register_check("old", Switch(), cache=60)
    checker.require("call")
    checker.register_check("new", Switch(False))
    assert not checker.is_ready("call")
    assert checker.unregister("new")
    assert not checker.unregister("new")
    assert checker.is_ready("call")
    assert list(checker.checks) == ["old"]


def test_a_refusal_names_everything_one_needs(checker: SandboxReadinessChecker) -> None:
    """The error names action, key, failing critical checks with evidence, and the remedy."""
    checker.register_check("database", Switch((False, "disk full")))
    checker.register_check("worker", Switch(False))
    checker.register_check("mail", Switch((False, "slow")), critical=False)
    with pytest.raises(NotReady) as caught:
        checker.require("call", "payment", "INV-7")
    message = str(caught.value)
    for part in ("'payment'", "'INV-7'", "NO-GO", "database: disk full", "worker:", "call again"):
        assert part in message
    assert "mail" not in message
    assert (caught.value.action, caught.value.key) == ("payment", "INV-7")
    assert caught.value.happened == "no"


def test_the_status_is_plain_and_complete(checker: SandboxReadinessChecker) -> None:
    """The keys that people read, with counts, and the evidence in full."""
    checker.register_check("good", Switch())
    checker.register_check("bad", Switch((False, "why")))
    status = checker.get_status()
    evidence = status.pop("evidence")
    assert status == {
        "is_ready": False,
        "verdict": "NO-GO",
        "last_check": "2027-01-15T08:00:00.000000Z",
        "checks": {"good": True, "bad": False},
        "total_checks": 2,
        "passed_checks": 1,
        "failed_checks": 1,
    }
    assert [(line["name"], line["ok"], line["evidence"]) for line in evidence] == [
        ("good", True, "ok"),
        ("bad", False, "why"),
    ]


@pytest.mark.parametrize(
    "register",
    [
        lambda checker: checker.register_check("", bool),
        lambda checker: checker.register_check("hold", bool),
        lambda checker: checker.register_check("check", None),
        lambda checker: checker.register_check("check", bool, timeout=-1),
        lambda checker: checker.register_check("check", bool, cache=-1),
        lambda checker: checker.register_check("check", bool, cache=float("nan")),
        lambda checker: checker.register_check("check", bool, groups="call"),
        lambda checker: checker.register_check("check", bool, groups=()),
    ],
)
def test_a_check_that_makes_no_sense_is_refused(
    checker: SandboxReadinessChecker, register: Callable[[SandboxReadinessChecker], None]
) -> None:
    """It has a name of its own, a function, a time limit, and groups as a list."""
    with pytest.raises(ConfigurationError):
        register(checker)
    assert checker.checks == {}


# A person says stop


def test_a_hold_wins_over_every_check(checker: SandboxReadinessChecker) -> None:
    """HOLD whatever the checks say; who and why is the first line of the evidence."""
    checker.register_check("good", Switch(), cache=60)
    checker.require("call")
    checker.hold(by="ana", reason="bank is migrating")
    readiness = checker.evaluate("call")
    assert readiness.verdict is Verdict.HOLD
    assert readiness.evidence[0].evidence == "held by ana: bank is migrating"
    with pytest.raises(NotReady, match=r"HOLD.*held by ana: bank is migrating.*release the hold"):
        checker.require("call", "payment", "INV-7")
    assert checker.run_all_checks() == {"good": True}
    status = checker.get_status()
    assert (status["is_ready"], status["verdict"], status["total_checks"]) == (False, "HOLD", 1)


def test_a_release_ends_a_hold(checker: SandboxReadinessChecker) -> None:
    """After it the checks decide again."""
    checker.hold(by="ana", reason="bank is migrating")
    checker.release(by="ben", reason="bank is back")
    checker.require("call")
    checker.release(by="ben", reason="once more does no harm")


def test_a_hold_ends_by_itself_when_it_was_given_an_end(
    checker: SandboxReadinessChecker, clock: FakeClock
) -> None:
    """until is the first moment at which it no longer holds."""
    checker.hold(by="ana", reason="lunch", until=clock.now() + 60)
    clock.advance(59)
    assert checker.evaluate().verdict is Verdict.HOLD
    clock.advance(1)
    assert checker.evaluate().verdict is Verdict.GO


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("ana", ""), (" ", "why"), ("ana", "\n")])
def test_somebody_holds_for_a_reason(
    checker: SandboxReadinessChecker, by: str, reason: str
) -> None:
    """Who and why must be said, to hold and to release."""
    for verb in (checker.hold, checker.release):
        with pytest.raises(ConfigurationError):
            verb(by=by, reason=reason)
    assert checker.is_ready()


def test_a_hold_must_end_in_the_future(checker: SandboxReadinessChecker, clock: FakeClock) -> None:
    """An end that is over would be a hold that never was."""
    with pytest.raises(ConfigurationError):
        checker.hold(by="ana", reason="why", until=clock.now())


def test_a_hold_is_kept_on_the_ledger_and_recorded(clock: FakeClock) -> None:
    """Another checker on the same ledger holds, too; who decided what is on record."""
    store = MemoryStore()
    mine = SandboxReadinessChecker(clock=clock, store=store)
    mine.hold(by="ana", reason="bank is migrating", until=clock.now() + 3600)
    other = SandboxReadinessChecker(clock=clock, store=store)
    assert other.evaluate().verdict is Verdict.HOLD
    other.release(by="ben", reason="bank is back")
    assert other.is_ready()
    decisions = store.read(lambda tx: tx.decisions.of("readiness"))
    assert [(d.what, d.actor, d.reason) for d in decisions] == [
        ("hold", "ana", "bank is migrating"),
        ("release", "ben", "bank is back"),
    ]


def test_another_process_sees_a_hold_within_the_hold_cache(clock: FakeClock) -> None:
    """A GO is believed at most hold_cache seconds without a look at the ledger."""
    store = MemoryStore()
    mine = SandboxReadinessChecker(clock=clock, store=store, hold_cache=1.0)
    other = SandboxReadinessChecker(clock=clock, store=store)
    mine.register_check("good", Switch(), cache=3600)
    mine.require("call")
    other.hold(by="ana", reason="why")
    clock.advance(1.0)
    with pytest.raises(NotReady):
        mine.require("call")


def test_a_hold_that_cannot_be_read_is_no_go(clock: FakeClock) -> None:
    """A guard that cannot look says no."""
    store = CutOffStore()
    checker = SandboxReadinessChecker(clock=clock, store=store)
    checker.require("call")
    store.broken = True
    clock.advance(1.0)
    with pytest.raises(NotReady, match=r"NO-GO.*ledger does not say"):
        checker.require("call")
    store.broken = False
    checker.require("call")


def test_a_hold_that_cannot_be_written_holds_here(clock: FakeClock) -> None:
    """Who said stop is told of the failure, and this process stops all the same until released."""
    store = CutOffStore()
    checker = SandboxReadinessChecker(clock=clock, store=store)
    store.broken = True
    with pytest.raises(StoreUnavailable):
        checker.hold(by="ana", reason="why")
    store.broken = False
    clock.advance(60)
    assert checker.evaluate().verdict is Verdict.HOLD
    checker.release(by="ana", reason="never mind")
    assert checker.is_ready()


def test_a_release_that_cannot_be_written_releases_nothing(clock: FakeClock) -> None:
    """The hold stays until its end is on record."""
    store = CutOffStore()
    checker = SandboxReadinessChecker(clock=clock, store=store)
    checker.hold(by="ana", reason="why")
    store.broken = True
    with pytest.raises(StoreUnavailable):
        checker.release(by="ben", reason="done")
    store.broken = False
    assert checker.evaluate().verdict is Verdict.HOLD


def test_a_verdict_under_way_is_not_remembered_past_a_hold(
    checker: SandboxReadinessChecker, hanging: Hanging
) -> None:
    """A GO whose checks were asked before the hold does not open the fast path after it."""
    checker.register_check("slow", hanging, cache=3600, timeout=SOON)
    thread = threading.Thread(target=checker.evaluate, args=("call",))
    thread.start()
    assert hanging.begun.wait(SOON)
    checker.hold(by="ana", reason="why")
    hanging.let_go.set()
    thread.join()
    with pytest.raises(NotReady):
        checker.require("call")


def test_a_caller_can_check_a_hold_in_its_own_transaction(
    checker: SandboxReadinessChecker, clock: FakeClock
) -> None:
    """require_not_held refuses on the controls it is given, and only while they are active."""
    control = Control(
        name="hold", actor="ana", reason="why", set_at=clock.now(), until=clock.now() + 10
    )
    checker.require_not_held({})
    checker.require_not_held({"armed": control})
    with pytest.raises(NotReady, match="held by ana"):
        checker.require_not_held({"hold": control}, "payment", "INV-7")
    clock.advance(10)
    checker.require_not_held({"hold": control})


def test_a_halt_of_everything_is_a_hold(clock: FakeClock) -> None:
    """It is told before the checks, and `require` leaves it to who refuses halted actions."""
    store = MemoryStore()
    checker = SandboxReadinessChecker(clock=clock, store=store)
    checker.register_check("good", Switch(), cache=60)
    assert checker.is_ready()
    store.write(lambda tx: set_halt(tx, None, "ana", "wrong file", clock.now() + 60, clock.now()))
    readiness = checker.evaluate()
    assert (readiness.verdict, readiness.failing[0].name) == (Verdict.HOLD, "halt")
    assert "everything is halted by ana" in readiness.evidence[0].evidence
    assert not checker.is_ready()
    assert checker.get_status()["total_checks"] == 1
    checker.require("call")
    clock.advance(60)
    assert checker.is_ready()


def test_whether_it_is_ready_is_known_while_its_verdict_is_fresh(clock: FakeClock) -> None:
    """The ledger is asked once. A switch of this process counts at once, another a second later."""
    store, events = CutOffStore(), EventBus()
    checker = SandboxReadinessChecker(clock=clock, store=store, events=events)
    checker.register_check("good", Switch(), cache=60)
    governor = GovernorEnforcer(clock=clock, store=store, events=events)
    assert checker.is_ready()
    store.broken = True
    assert checker.is_ready(), "nobody looks"
    store.broken = False
    governor.halt(by="ana", reason="wrong file")
    assert not checker.is_ready()
    governor.resume(by="ana", reason="mended")
    assert checker.is_ready()
    store.write(lambda tx: set_halt(tx, None, "ana", "wrong file", None, clock.now()))
    assert checker.is_ready()
    clock.advance(1.0)
    assert not checker.is_ready()


def test_a_halted_action_is_told_and_changes_no_verdict(clock: FakeClock) -> None:
    """Everything else may go on."""
    store = MemoryStore()
    checker = SandboxReadinessChecker(clock=clock, store=store)
    store.write(lambda tx: set_halt(tx, "pay", "ana", "wrong file", None, clock.now()))
    readiness = checker.evaluate()
    assert (readiness.verdict, readiness.evidence[0].name) == (Verdict.GO, "halt:pay")
    assert checker.run_all_checks() == {}
    with pytest.raises(ConfigurationError):
        checker.register_check("halt:pay", Switch())


def test_a_ledger_that_does_not_say_what_is_halted_is_a_no_go(clock: FakeClock) -> None:
    """A guard that cannot look says no."""
    store = CutOffStore()
    checker = SandboxReadinessChecker(clock=clock, store=store)
    assert checker.is_ready()
    store.broken = True
    assert checker.evaluate().verdict is Verdict.NO_GO
    assert not checker.is_ready()


class Slow(MemoryStore):
    """A ledger whose first write waits for the second one, which may then be ``cut`` off."""

    def __init__(self, *, cut: bool) -> None:
        super().__init__()
        self.begun, self.let_go = threading.Event(), threading.Event()
        self._cut = cut
        self._writes = 0

    def write(self, work: Any, *, durable: bool = True) -> Any:
        self._writes += 1
        if self._writes == 1:
            self.begun.set()
            self.let_go.wait(SOON)
        elif self._writes == 2:
            self.let_go.set()
            self.first.join(SOON)
            if self._cut:
                raise StoreUnavailable("cut off")
        return super().write(work, durable=durable)

    def hold_first(self, checker: SandboxReadinessChecker, until: float | None) -> None:
        """Begin to write a hold in another thread."""
        say = partial(checker.hold, by="Ann", reason="first", until=until)
        self.first = threading.Thread(target=say)
        self.first.start()
        assert self.begun.wait(SOON)


def test_a_hold_that_is_refused_leaves_nothing_of_another_made_meanwhile(clock: FakeClock) -> None:
    """Once another process has released the one that stands, this one says GO again."""
    store = Slow(cut=False)
    here = SandboxReadinessChecker(clock=clock, store=store)
    store.hold_first(here, None)
    with pytest.raises(Refused, match="lasts longer"):
        here.hold(by="Bo", reason="second", until=clock.now() + 60)
    assert here.evaluate().verdict is Verdict.HOLD
    SandboxReadinessChecker(clock=clock, store=store).release(by="Cy", reason="over")
    clock.advance(2.0)
    assert here.evaluate().verdict is Verdict.GO


@pytest.mark.parametrize("seconds", [10.0, None])
def test_a_hold_that_cannot_be_kept_outlives_another_made_meanwhile(
    clock: FakeClock, seconds: float | None
) -> None:
    """What a person said counts here, whatever the ledger has of others."""
    store = Slow(cut=True)
    here = SandboxReadinessChecker(clock=clock, store=store)
    store.hold_first(here, None if seconds is None else clock.now() + seconds)
    with pytest.raises(StoreUnavailable):
        here.hold(by="Bo", reason="second")
    SandboxReadinessChecker(clock=clock, store=store).release(by="Cy", reason="over")
    clock.advance(11.0)
    assert here.evaluate().verdict is Verdict.HOLD
    here.release(by="Bo", reason="over")
    assert here.evaluate().verdict is Verdict.GO
