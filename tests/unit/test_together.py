"""Settlements and admissions in one commit: each has its own fate."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import pytest
from msgspec import Struct, structs
from tests.support.scene import SOON, WHO, Provider, Sandboxes, drain, payment, reminder

from gonogo.company import TOGETHER
from gonogo.crew import Crew
from gonogo.delivery import Delivery
from gonogo.errors import StoreError, StoreUnavailable
from gonogo.jobs import Handle
from gonogo.limits import Concurrency, Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import AHEAD, Call, State
from gonogo.retry import Retry
from gonogo.signals import Rejected
from gonogo.testing import Boundary, FaultyStore
from gonogo.testing.boundaries import instrument
from gonogo.underway import UnderWay


def carry_out(sandbox: SandboxOrchestrator) -> None:
    """What a worker's thread does until it runs out of what was claimed."""
    work: Any = sandbox.delivery.claim(1, ahead=True)
    while work is not None:
        work = sandbox.delivery.carry_on(work, more=lambda: True)


def used_to(sandbox: SandboxOrchestrator, pace: int) -> None:
    """Let it have begun so many calls in no time."""
    sandbox.delivery._pace.note(sandbox.clock.monotonic(), pace)


def commits(sandbox: SandboxOrchestrator, patch: pytest.MonkeyPatch) -> list[int]:
    """How many pieces each commit of worker threads from now on has."""
    seen: list[int] = []
    write_all = sandbox.store.write_all
    patch.setattr(
        sandbox.store, "write_all", lambda pieces: (seen.append(len(pieces)), write_all(pieces))[1]
    )
    return seen


def test_jobs_in_a_row_share_commits(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are done once, in order; a settlement has the next call's admission beside it."""
    sandbox, sent = sandboxes(), list[str]()

    def send(text: str) -> None:
        sent.append(text)
        sandboxes.clock.advance(0.01)

    remind = reminder(sandbox, send)
    handles = remind.enqueue_many([(str(n),) for n in range(5)])
    seen = commits(sandbox, monkeypatch)
    used_to(sandbox, 5)
    carry_out(sandbox)
    assert sent == list("01234")
    assert [handle.state() for handle in handles] == [State.SUCCEEDED] * 5
    assert [handle.call().attempt for handle in handles] == [1] * 5
    assert [handle.call().note for handle in handles] == [None] * 5
    assert seen == [2, 2, 2, 2, 1]


def test_what_is_claimed_ahead_costs_no_attempt(sandboxes: Sandboxes) -> None:
    """Its worker may die as often as it likes: what it never began runs in the end."""
    sandbox = sandboxes(lease=10.0)
    reminder(sandbox, lambda text: None).enqueue_many([(str(n),) for n in range(4)])
    for _ in range(9):
        used_to(sandbox, 4)
        begun = sandbox.delivery.claim(1, ahead=True)
        assert begun is not None
        ahead = [call for call in sandbox.calls(states=(State.CLAIMED,)) if call.note == AHEAD]
        assert [call.attempt for call in ahead] == [0] * 3
        sandbox.delivery._hand.take_unbegun()
        sandbox.delivery._returns.release(begun, 0, "this one is not what the test is about")
        sandboxes.clock.advance(11)
        sandbox.worker.keep_once()
    used_to(sandbox, 4)
    carry_out(sandbox)
    done = sandbox.calls(states=(State.SUCCEEDED,))
    assert [call.attempt for call in done] == [1] * 4


def test_whose_own_code_runs_first_is_counted_before(sandboxes: Sandboxes) -> None:
    """A limit's cost, a check or a precondition may kill the worker: that uses up an attempt."""
    sandbox, attempts = sandboxes(lease=10.0), list[int]()

    def cost(_: object) -> int:
        (call,) = sandbox.calls(action="second")
        attempts.append(call.attempt)
        return 1

    first = reminder(sandbox, lambda text: None, name="first")
    second = reminder(
        sandbox, lambda text: None, name="second", limits=[Limit("units", 5, per="1h", cost=cost)]
    )
    first.enqueue("a")
    handle = second.enqueue("b")
    used_to(sandbox, 2)
    carry_out(sandbox)
    assert (handle.state(), handle.call().attempt) == (State.SUCCEEDED, 1)
    assert attempts == [1]


def test_nothing_of_a_call_that_was_taken_over_runs(sandboxes: Sandboxes) -> None:
    """Not even what gives its cost, when somebody else has what was claimed ahead."""
    sandbox, asked = sandboxes(), list[object]()

    def cost(arguments: object) -> int:
        asked.append(arguments)
        return 1

    reminder(sandbox, lambda text: None, name="first").enqueue("a")
    limits = [Limit("units", 5, per="1h", cost=cost)]
    handle = reminder(sandbox, lambda text: None, name="second", limits=limits).enqueue("b")
    used_to(sandbox, 2)
    work: Any = sandbox.delivery.claim(1, ahead=True)
    ((_, ahead),) = sandbox.delivery._hand._ready
    other = structs.replace(ahead, epoch=ahead.epoch + 1, owner="somebody else")
    assert sandbox.store.write(lambda tx: tx.calls.replace(ahead, other))
    while work is not None:
        work = sandbox.delivery.carry_on(work, more=lambda: True)
    assert asked == []
    assert (handle.call().owner, handle.state()) == ("somebody else", State.CLAIMED)


def test_payments_share_commits_while_the_verdict_is_fresh(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No check has to run before the next one, and its limits are given by templates."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    cents = Limit("cents", 1_000, per="1h", cost="{cents}")
    handles = payment(sandbox, limits=[cents]).enqueue_many([("A",), ("B",), ("C",)])
    seen = commits(sandbox, monkeypatch)
    used_to(sandbox, 3)
    carry_out(sandbox)
    assert [handle.call().attempt for handle in handles] == [1] * 3
    assert [handle.state() for handle in handles] == [State.SUCCEEDED] * 3
    assert seen == [2, 2, 1]


def test_a_payment_that_must_be_checked_is_not_begun_before_the_last_one_is_settled(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may keep an outcome waiting, so it has its own commit."""
    sandbox = sandboxes()
    sandbox.arm(**WHO)
    sandbox.readiness_checker.register_check("bank", lambda: True, groups=("worker",))
    handles = payment(sandbox).enqueue_many([("A",), ("B",)])
    seen = commits(sandbox, monkeypatch)
    used_to(sandbox, 2)
    carry_out(sandbox)
    assert [handle.call().attempt for handle in handles] == [1, 1]
    assert [handle.state() for handle in handles] == [State.SUCCEEDED] * 2
    assert seen == [1, 1, 1]


def test_a_refused_admission_takes_no_settlement_back(sandboxes: Sandboxes) -> None:
    """A halt that stops the next call lets the one before be settled."""
    sandbox = sandboxes()
    first = reminder(sandbox, lambda text: sandbox.halt("second", **WHO), name="first")
    second = reminder(sandbox, lambda text: None, name="second")
    done, held = first.enqueue("a"), second.enqueue("b")
    used_to(sandbox, 2)
    carry_out(sandbox)
    assert (done.state(), held.state(), held.call().attempt) == (
        *(State.SUCCEEDED, State.PENDING, 0),
    )


def test_a_listener_may_stop_what_would_be_next(sandboxes: Sandboxes) -> None:
    """Who hears how a call ended and throws a switch is in time: the next one is not begun yet."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    sandbox.events.subscribe(lambda event: sandbox.halt(**WHO), names=("call.settled",))
    first, second = payment(sandbox, provider).enqueue_many([("A",), ("B",)])
    used_to(sandbox, 2)
    carry_out(sandbox)
    assert provider.book == ["A"]
    assert (first.state(), second.state(), second.call().attempt) == (
        *(State.SUCCEEDED, State.PENDING, 0),
    )


def test_a_pause_stops_what_was_claimed_ahead(sandboxes: Sandboxes) -> None:
    """Nothing of a paused queue is begun; what was claimed goes back unused, in its place."""
    sandbox, sent = sandboxes(), list[str]()

    def send(text: str) -> None:
        sent.append(text)
        if text == "0":
            sandbox.pause("default", **WHO)

    handles = reminder(sandbox, send).enqueue_many([(str(n),) for n in range(3)])
    used_to(sandbox, 3)
    while sandbox.delivery._hand._ready or not sent:
        carry_out(sandbox)
    assert sent == ["0"]
    calls = [handle.call() for handle in handles[1:]]
    assert [(call.state, call.attempt, call.owner) for call in calls] == [
        (State.PENDING, 0, None)
    ] * 2
    sandbox.unpause("default", **WHO)
    drain(sandbox)
    assert sent == ["0", "1", "2"]


def test_a_crash_test_passes_both_boundaries(sandboxes: Sandboxes) -> None:
    """A process can be killed inside and after each of the two, as if they were apart."""
    sandbox, passed = sandboxes(), list[Boundary]()
    reminder(sandbox, lambda text: None).enqueue_many([("a",), ("b",)])
    used_to(sandbox, 2)
    first = sandbox.delivery.claim(1, ahead=True)
    assert first is not None
    instrument(sandbox, passed.append)
    second = sandbox.delivery.carry_on(first, more=lambda: True)
    assert second is not None
    assert passed[passed.index(Boundary.PERFORMED) + 1 :] == [
        Boundary.BEFORE_SETTLE,
        Boundary.BEFORE_ADMIT,
        Boundary.INSIDE_SETTLE,
        Boundary.INSIDE_ADMIT,
        Boundary.AFTER_SETTLE,
        Boundary.AFTER_ADMIT,
    ]


def test_a_claim_and_its_admission_share_a_commit(sandboxes: Sandboxes) -> None:
    """A worker's first call is claimed and begun at once; each is a boundary of its own."""
    sandbox, passed = sandboxes(), list[Boundary]()
    reminder(sandbox, lambda text: None).enqueue("a")
    instrument(sandbox, passed.append)
    begun = sandbox.delivery.begin(lambda: 1)
    assert begun is not None
    assert passed == [
        *(Boundary.BEFORE_CLAIM, Boundary.INSIDE_CLAIM),
        *(Boundary.BEFORE_ADMIT, Boundary.INSIDE_ADMIT),
        *(Boundary.AFTER_CLAIM, Boundary.AFTER_ADMIT),
    ]


def test_a_claim_stands_where_its_admission_is_refused(sandboxes: Sandboxes) -> None:
    """The refusal takes back what both wrote; then the claim is made alone, and refused again."""
    sandbox = sandboxes()
    limit = Limit("units", 1, per="1h")
    remind = reminder(sandbox, lambda text: None, limits=[limit])
    first, second = remind.enqueue_many([("a",), ("b",)])
    drain(sandbox)
    assert states([first, second]) == [(State.SUCCEEDED, 1), (State.PENDING, 0)]
    assert sandbox.governor.get_status("units")["denied_count"] == 1
    assert "Rate limit exceeded" in (second.call().note or "")


def test_an_unfit_call_costs_no_other_its_claim(sandboxes: Sandboxes) -> None:
    """What must be ended or parked needs a commit of its own; those behind it go on."""
    sandbox, sent = sandboxes(), list[str]()
    late = reminder(sandbox, sent.append, name="late", deadline=5.0).enqueue("late")
    fine = reminder(sandbox, sent.append).enqueue("fine")
    sandboxes.clock.advance(6)
    drain(sandbox)
    assert (late.state(), fine.state(), sent) == (State.FAILED, State.SUCCEEDED, ["fine"])


def test_what_comes_between_claim_and_admission_keeps_them_apart(sandboxes: Sandboxes) -> None:
    """Code of its own may take its time: it runs inside of no transaction."""
    sandbox, sent = sandboxes(), list[str]()

    def cost(_: object) -> int:
        return sum(sandbox.counts().values())

    limits = [Limit("units", 5, per="1h", cost=cost)]
    handle = reminder(sandbox, sent.append, limits=limits).enqueue("a")
    drain(sandbox)
    assert (states([handle]), sent) == ([(State.SUCCEEDED, 1)], ["a"])


class Person(Struct):
    """An argument that looks at the attempts of the calls while it is made."""

    name: str
    attempts: ClassVar[list[int]] = []
    sandbox: ClassVar[list[SandboxOrchestrator]] = []

    def __post_init__(self) -> None:
        """Runs code that may kill its worker."""
        for sandbox in self.sandbox:
            self.attempts.extend(call.attempt for call in sandbox.calls(action="greet"))


def test_an_argument_that_runs_code_is_made_apart(sandboxes: Sandboxes) -> None:
    """Its code runs inside of no transaction, and after its attempt was counted."""
    sandbox = sandboxes()

    @sandbox.action("greet", irreversible=False)
    def greet(people: list[Person]) -> None: ...

    handle = greet.enqueue([Person("ann")])
    Person.attempts.clear()
    Person.sandbox.append(sandbox)
    try:
        drain(sandbox)
    finally:
        Person.sandbox.clear()
    assert (handle.state(), set(Person.attempts)) == (State.SUCCEEDED, {1})


def test_what_the_ledger_refuses_uses_up_an_attempt(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that cannot be admitted stands in nobody's way for ever: its claim is kept."""
    sandbox = sandboxes(lease=10.0)
    first, second = reminder(sandbox, lambda text: None).enqueue_many([("bad",), ("good",)])
    admitting = sandbox.pipeline.admitting

    def refusing(action: Any, bound: Any, call: Call, **how: Any) -> Any:
        if call.id != first.id:
            return (yield from admitting(action, bound, call, **how))

        def work(_: object) -> None:
            raise StoreError("the ledger refuses such a row")

        return (yield work, True)

    monkeypatch.setattr(sandbox.pipeline, "admitting", refusing)
    with pytest.raises(StoreError, match="refuses"):
        drain(sandbox)
    drain(sandbox)
    assert states([first, second]) == [(State.CLAIMED, 1), (State.SUCCEEDED, 1)]
    assert sandbox.delivery._hand.held == {}


def test_a_lost_commit_leaves_both_to_their_leases(sandboxes: Sandboxes) -> None:
    """Neither is begun a second time by whoever heard the error."""
    store = FaultyStore()
    sandbox, sent = sandboxes(store=store), list[str]()

    def send(text: str) -> None:
        sent.append(text)
        store.down = True

    reminder(sandbox, send).enqueue_many([("a",), ("b",)])
    used_to(sandbox, 2)
    with pytest.raises(StoreUnavailable):
        carry_out(sandbox)
    store.heal()
    assert sent == ["a"]
    states = sorted(state.value for state in sandbox.counts())
    assert states == ["claimed", "dispatched"]
    assert sandbox.delivery._hand.held == {}


def test_a_thread_that_is_to_stop_begins_nothing_more(shared: Sandboxes) -> None:
    """What was claimed ahead goes back to the ledger when its worker stops."""
    sandbox = shared(max_workers=1, worker_interval=3600.0)
    began, go_on = threading.Event(), threading.Event()

    def send(text: str) -> None:
        began.set()
        go_on.wait(SOON)

    remind = reminder(sandbox, send)
    handles = remind.enqueue_many([(str(n),) for n in range(3)])
    used_to(sandbox, 3)
    sandbox.worker.start()
    assert began.wait(SOON)
    stopper = threading.Thread(target=sandbox.worker.stop, args=(SOON,))
    stopper.start()
    while sandbox.worker.is_running:
        pass
    go_on.set()
    stopper.join(SOON)
    calls: list[Call] = [handle.call() for handle in handles]
    assert [call.state for call in calls] == [State.SUCCEEDED, State.PENDING, State.PENDING]
    assert [call.attempt for call in calls] == [1, 0, 0]


def test_what_was_not_begun_keeps_its_place(sandboxes: Sandboxes) -> None:
    """What a worker that stops had claimed goes back to where it was, not behind all others."""
    sandbox, sent = sandboxes(), list[str]()
    remind = reminder(sandbox, sent.append)
    first = remind.enqueue_many([("0",), ("1",)])
    used_to(sandbox, 2)
    assert sandbox.delivery.claim(1, ahead=True) is not None
    sandboxes.clock.advance(0.5)
    remind.enqueue("2")
    sandbox.delivery.leave()
    assert [handle.state() for handle in first] == [State.PENDING] * 2
    sandboxes.clock.advance(0.01)
    drain(sandbox)
    assert sent == ["0", "1", "2"]


def test_an_interrupt_between_two_calls_leaves_the_next_one_to_its_lease(
    sandboxes: Sandboxes,
) -> None:
    """It is not kept alive for a thread that will never begin it."""
    sandbox, sent = sandboxes(lease=10.0), list[str]()

    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    reminder(sandbox, sent.append).enqueue_many([("0",), ("1",)])
    end = sandbox.events.subscribe(interrupt, names=("call.settled",))
    used_to(sandbox, 2)
    with pytest.raises(KeyboardInterrupt):
        carry_out(sandbox)
    end()
    sandboxes.clock.advance(9)
    sandbox.delivery.keep()
    sandboxes.clock.advance(1)
    sandbox.worker.keep_once()
    drain(sandbox)
    assert sent == ["0", "1"]


def test_an_interrupt_while_the_next_calls_are_chosen_keeps_no_lease_alive(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is over is found when its lease ends; what was to be begun still waits for a thread."""
    sandbox, sent = sandboxes(lease=10.0), list[str]()
    handles = reminder(sandbox, sent.append).enqueue_many([("0",), ("1",)])
    used_to(sandbox, 2)

    def interrupted(call: Call) -> float | None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sandbox.delivery._company, "seconds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            carry_out(sandbox)
    assert list(sandbox.delivery._hand.held) == [handles[1].id]
    carry_out(sandbox)
    sandboxes.clock.advance(11)
    sandbox.worker.keep_once()
    drain(sandbox)
    assert sent == ["0", "1", "0"]
    assert states(handles) == [(State.SUCCEEDED, 2), (State.SUCCEEDED, 1)]


@pytest.mark.parametrize(
    ("where", "name", "count"),
    [
        (UnderWay, "claimed", 1),
        (UnderWay, "admitted", 1),
        (UnderWay, "admitted", 4),
        (UnderWay, "end", 1),
        (UnderWay, "end", 2),
        (UnderWay, "take_over", 1),
        (Delivery, "_settling", 1),
        (Delivery, "_beginning", 2),
        (UnderWay, "begin_soon", 1),
        (UnderWay, "next_begun", 2),
        (Crew, "_note", 1),
        (Crew, "_note", 2),
        (Crew, "_note", 4),
    ],
)
def test_an_interrupt_anywhere_keeps_no_call_for_ever(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch, where: type, name: str, count: int
) -> None:
    """What the interrupted thread had in its hands is nobody's when its lease ends."""
    sandbox, sent = sandboxes(lease=10.0), list[str]()
    reminder(sandbox, sent.append, retry=Retry(max_retries=3))
    begun_together(sandbox, "0123456")
    do, times = getattr(where, name), list[None]()

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        times.append(None)
        if len(times) == count:
            raise KeyboardInterrupt
        return do(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(where, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            sandbox.worker._run(None, lambda: True)
    for _ in range(4):
        sandboxes.clock.advance(4)
        sandbox.delivery.keep()
    assert not sandbox.delivery._hand.held
    sandbox.worker.keep_once()
    drain(sandbox)
    assert {call.state for call in sandbox.calls()} == {State.SUCCEEDED}
    assert set(sent) == set("0123456")


def test_an_interrupted_claim_lets_the_others_claim(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the moment in which it came to be the one that claims for all."""
    delivery = sandboxes().delivery

    class Interrupted:
        def __init__(self, lock: Any) -> None:
            self._lock = lock
            self.release = lock.release

        def acquire(self, **given: Any) -> bool:
            self._lock.acquire(**given)
            raise KeyboardInterrupt

    asking = delivery._asking
    monkeypatch.setattr(delivery, "_asking", Interrupted(asking))
    with pytest.raises(KeyboardInterrupt):
        delivery.begin(lambda: 1)
    free = list[bool]()
    other = threading.Thread(target=lambda: free.append(asking.acquire(blocking=False)))
    other.start()
    other.join(SOON)
    assert free == [True]


# calls that take next to no time


def begun_together(sandbox: SandboxOrchestrator, texts: str, **declared: Any) -> list[Handle]:
    """Jobs of ``remind``, claimed, that will be begun together when the first is over."""
    handles: list[Handle] = sandbox.actions["remind"].enqueue_many([(text,) for text in texts])
    used_to(sandbox, len(texts))
    sandbox.delivery._company.durations.note("remind", 0.0)
    return handles


def states(handles: list[Handle]) -> list[tuple[State, int]]:
    """Of each call, with the attempts that count."""
    return [(handle.state(), handle.call().attempt) for handle in handles]


def test_calls_that_take_no_time_are_begun_and_settled_together(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three commits for five jobs: the first alone, for nothing was known of it; then the rest."""
    sandbox, sent = sandboxes(), list[str]()
    remind = reminder(sandbox, sent.append)
    handles = remind.enqueue_many([(str(n),) for n in range(5)])
    seen = commits(sandbox, monkeypatch)
    used_to(sandbox, 5)
    carry_out(sandbox)
    assert sent == list("01234")
    assert states(handles) == [(State.SUCCEEDED, 1)] * 5
    assert seen == [5, 4]


def test_calls_that_take_no_time_are_begun_in_the_commit_that_claims_them(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once that is known of them; as many as fit, and those behind them are begun with the next."""
    sandbox, sent = sandboxes(), list[str]()
    reminder(sandbox, sent.append)
    sandbox.delivery._company.durations._average["remind"] = TOGETHER / 4
    handles = sandbox.actions["remind"].enqueue_many([(text,) for text in "abcde"])
    used_to(sandbox, 5)
    writes, write = list[None](), sandbox.store.write
    monkeypatch.setattr(
        sandbox.store, "write", lambda *given, **how: (writes.append(None), write(*given, **how))[1]
    )
    work: Any = sandbox.delivery.begin(lambda: 1, ahead=True)
    assert len(writes) == 1
    assert states(handles) == [(State.DISPATCHED, 1)] * 4 + [(State.CLAIMED, 0)]
    while work is not None:
        work = sandbox.delivery.carry_on(work, more=lambda: True)
    assert sent == list("abcde")
    assert states(handles) == [(State.SUCCEEDED, 1)] * 5


@pytest.mark.parametrize(
    ("limits", "begun"),
    [
        ([Limit("units", 9, per="1h")], 5),
        ([Limit("units", 9, per="1h", key="{text}")], 1),
        ([], 5),
    ],
    ids=["the same for all", "one for each", "by its name"],
)
def test_what_uses_other_limits_is_begun_after_its_claim(
    sandboxes: Sandboxes, limits: list[Limit], begun: int
) -> None:
    """Many that lock limits as the queue has it could meet others that come the other way."""
    sandbox, sent = sandboxes(), list[str]()
    reminder(sandbox, sent.append, limits=limits)
    if not limits:
        sandbox.governor.set_limit("remind", 9, 3600.0)
    handles = begun_together(sandbox, "abcde")
    work: Any = sandbox.delivery.begin(lambda: 1, ahead=True)
    ahead = [(State.CLAIMED, 0)] * (5 - begun)
    assert states(handles) == [(State.DISPATCHED, 1)] * begun + ahead
    while work is not None:
        work = sandbox.delivery.carry_on(work, more=lambda: True)
    assert sent == list("abcde")


@pytest.mark.parametrize("second", [True, False])
def test_limits_of_two_actions_are_not_locked_by_one_claim(
    sandboxes: Sandboxes, second: bool
) -> None:
    """Whose second limit may be another one's first."""
    sandbox = sandboxes()
    for name, limited in (("first", True), ("second", second)):
        limits = [Limit(f"{name}s", 9, per="1h")] if limited else []
        reminder(sandbox, lambda text: None, name=name, limits=limits)
        sandbox.delivery._company.durations.note(name, 0.0)
    handles = [sandbox.actions[name].enqueue("x") for name in ("first", "second")]
    used_to(sandbox, 2)
    sandbox.delivery.begin(lambda: 1, ahead=True)
    begun = (State.DISPATCHED, 1)
    assert states(handles) == [begun, (State.CLAIMED, 0) if second else begun]


def test_of_many_that_are_begun_with_their_claim_one_is_refused(sandboxes: Sandboxes) -> None:
    """All of it is taken back, and they are claimed; then each is begun or refused by itself."""
    sandbox, sent = sandboxes(), list[str]()
    reminder(sandbox, sent.append, limits=[Limit("units", 3, per="1h")])
    handles = begun_together(sandbox, "abcde")
    work: Any = sandbox.delivery.begin(lambda: 1, ahead=True)
    assert states(handles) == [(State.CLAIMED, 1)] + [(State.CLAIMED, 0)] * 4
    while work is not None:
        work = sandbox.delivery.carry_on(work, more=lambda: True)
    assert sent == list("abc")
    assert states(handles) == [(State.SUCCEEDED, 1)] * 3 + [(State.PENDING, 0)] * 2
    assert sandbox.governor.get_status("units")["denied_count"] == 2


def test_a_thread_that_finds_the_only_job_calls_no_other(sandboxes: Sandboxes) -> None:
    """It does where others may find work: in the ledger or begun here."""
    sandbox = sandboxes()
    reminder(sandbox, lambda text: None)
    begun_together(sandbox, "a")
    assert sandbox.delivery.begin(lambda: 2, ahead=True) is not None
    assert not sandbox.delivery.has_more
    begun_together(sandbox, "bcd")
    assert sandbox.delivery.begin(lambda: 2) is not None
    assert sandbox.delivery.has_more
    assert sandbox.delivery.begin(lambda: 2) is not None
    assert sandbox.delivery.begin(lambda: 2) is not None
    assert not sandbox.delivery.has_more


@pytest.mark.parametrize(
    "declared",
    [
        {"retry": Retry(max_retries=0)},
        {"repeatable": False},
        {"concurrency": [Concurrency(2)]},
        {"limits": [Limit("units", 9, per="1h", cost=lambda arguments: 1)]},
    ],
    ids=["one attempt", "not repeatable", "slots", "own code first"],
)
def test_what_is_begun_by_itself(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch, declared: dict[str, Any]
) -> None:
    """A call that may not run twice, that would fill a slot while it waits, or runs code first."""
    sandbox, sent = sandboxes(), list[str]()
    reminder(sandbox, sent.append, **declared)
    handles = begun_together(sandbox, "abcd")
    seen = commits(sandbox, monkeypatch)
    carry_out(sandbox)
    assert sent == list("abcd")
    assert states(handles) == [(State.SUCCEEDED, 1)] * 4
    assert max(seen) <= 2


def test_what_ran_before_is_begun_by_itself(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them may be what kills its worker: it takes an attempt of the others only once."""
    sandbox, sent = sandboxes(lease=10.0), list[str]()
    reminder(sandbox, sent.append)
    handles = begun_together(sandbox, "abcd")
    first: Any = sandbox.delivery.claim(1, ahead=True)
    sandbox.delivery.carry_on(first, more=lambda: True)
    assert [handle.state() for handle in handles] == [State.SUCCEEDED, *[State.DISPATCHED] * 3]
    sandbox.delivery._hand = UnderWay(sandbox.pipeline.owner)  # as if its process had died
    sandboxes.clock.advance(11)
    sandbox.worker.keep_once()
    seen = commits(sandbox, monkeypatch)
    used_to(sandbox, 4)
    carry_out(sandbox)
    assert states(handles) == [(State.SUCCEEDED, 1), *[(State.SUCCEEDED, 2)] * 3]
    assert max(seen) <= 2


def test_what_may_not_run_twice_waits_for_no_thread(sandboxes: Sandboxes) -> None:
    """Begun, it is unknown if its worker dies: whoever began it performs it before all others."""
    sandbox, provider = sandboxes(), Provider()
    sandbox.arm(**WHO)
    reminder(sandbox, lambda text: None)
    paid = payment(sandbox, provider).enqueue("A")
    taken = sandbox.delivery.take(paid.id)
    assert taken is not None
    begun_together(sandbox, "abc")
    first: Any = sandbox.delivery.claim(1, ahead=True)
    assert sandbox.delivery.carry_on(first, more=lambda: True) is not None  # and one waits
    sandbox.delivery._hand.claimed((), sandbox.clock.monotonic(), ready=(taken,))
    following = sandbox.delivery._turn_over(lambda: True)
    assert following is not None
    assert following.id == paid.id
    carry_on: Any = following
    while carry_on is not None:
        carry_on = sandbox.delivery.carry_on(carry_on, more=lambda: True)
    assert provider.book == ["A"]


def test_a_failure_is_settled_at_once(sandboxes: Sandboxes) -> None:
    """Its outcome does not wait for those that were begun with it."""
    sandbox, seen = sandboxes(), list[State]()

    def send(text: str) -> None:
        if text == "b":
            raise Rejected("no such reader")
        seen.append(handles[1].state())

    reminder(sandbox, send)
    handles = begun_together(sandbox, "abcd")
    carry_out(sandbox)
    assert seen == [State.CLAIMED, State.FAILED, State.FAILED]
    assert [state for state, _ in states(handles)] == [
        *(State.SUCCEEDED, State.FAILED, State.SUCCEEDED, State.SUCCEEDED),
    ]


def test_outcomes_do_not_wait_for_one_that_takes_long(sandboxes: Sandboxes) -> None:
    """Once it takes more than a moment, what is over is settled before the next one runs."""
    sandbox, seen = sandboxes(), list[int]()

    def send(text: str) -> None:
        seen.append(sum(handle.state() is State.SUCCEEDED for handle in handles))
        if text == "c":
            sandboxes.clock.advance(0.5)

    reminder(sandbox, send)
    handles = begun_together(sandbox, "abcde")
    carry_out(sandbox)
    assert seen == [0, 1, 1, 3, 3]


def test_other_threads_perform_what_one_that_hangs_has_begun(shared: Sandboxes) -> None:
    """They were begun together, and wait for any thread."""
    sandbox, sent = shared(max_workers=2, worker_interval=3600.0), list[str]()
    hangs, go_on = threading.Event(), threading.Event()

    def send(text: str) -> None:
        if text == "b":
            hangs.set()
            go_on.wait(SOON)
        sent.append(text)

    reminder(sandbox, send)
    handles = begun_together(sandbox, "abcd")
    first: Any = sandbox.delivery.claim(1, ahead=True)
    second = sandbox.delivery.carry_on(first, more=lambda: True)
    assert second is not None
    stuck = threading.Thread(
        target=sandbox.delivery.carry_on, args=(second,), kwargs={"more": bool}
    )
    stuck.start()
    assert hangs.wait(SOON)
    carry_out(sandbox)
    assert sent == ["a", "c", "d"]
    assert states(handles)[2:] == [(State.SUCCEEDED, 1)] * 2
    go_on.set()
    stuck.join(SOON)
    assert states(handles) == [(State.SUCCEEDED, 1)] * 4


def test_the_keeper_sees_to_what_waits_behind_one_that_hangs(sandboxes: Sandboxes) -> None:
    """What is over is settled, and what is not begun goes back, in its place and unused."""
    sandbox = sandboxes()
    limit = Limit("units", 9, per="1h")
    reminder(sandbox, lambda text: None, limits=[limit])
    handles = begun_together(sandbox, "abcd")
    due = [handle.call().run_at for handle in handles]
    first: Any = sandbox.delivery.claim(1, ahead=True)
    second = sandbox.delivery.carry_on(first, more=lambda: True)
    assert second is not None
    third = sandbox.delivery.carry_on(second, more=lambda: True)
    assert third is not None  # a thread has it, and hangs
    assert [state for state, _ in states(handles)] == [State.SUCCEEDED, *[State.DISPATCHED] * 3]
    sandboxes.clock.advance(1.5)
    sandbox.delivery.tend()
    assert states(handles) == [
        *((State.SUCCEEDED, 1), (State.SUCCEEDED, 1), (State.DISPATCHED, 1), (State.PENDING, 0)),
    ]
    assert handles[3].call().run_at == due[3]
    assert sandbox.governor.get_status("units")["current_actions"] == 3


def test_what_waits_for_a_thread_does_not_run_over_time(sandboxes: Sandboxes) -> None:
    """Its time-out is for its own code."""
    sandbox = sandboxes()
    reminder(sandbox, lambda text: None, timeout=0.1)
    handles = begun_together(sandbox, "abcd")
    first: Any = sandbox.delivery.claim(1, ahead=True)
    second = sandbox.delivery.carry_on(first, more=lambda: True)
    assert second is not None
    sandbox.delivery.carry_on(second, more=lambda: True)
    sandboxes.clock.advance(2)
    assert sandbox.delivery.overtime() == [handles[2].id]


@pytest.mark.parametrize("switch", ["halt", "hold", "pause"])
def test_a_switch_stops_what_was_begun_and_waits(sandboxes: Sandboxes, switch: str) -> None:
    """Whoever throws it in this process knows that nothing more begins when it is thrown."""
    sandbox, sent = sandboxes(), list[str]()

    def send(text: str) -> None:
        sent.append(text)
        if text == "b" and switch == "halt":
            sandbox.halt("remind", **WHO)
        elif text == "b" and switch == "pause":
            sandbox.pause("default", **WHO)
        elif text == "b":
            sandbox.readiness_checker.hold(**WHO)

    reminder(sandbox, send)
    handles = begun_together(sandbox, "abcd")
    first: Any = sandbox.delivery.claim(1, ahead=True)
    second = sandbox.delivery.carry_on(first, more=lambda: True)
    assert second is not None
    assert sandbox.delivery.carry_on(second, more=lambda: True) is None
    assert sent == ["a", "b"]
    assert states(handles)[2:] == [(State.PENDING, 0)] * 2


@pytest.mark.parametrize("claimed_before", [True, False])
def test_a_switch_stops_what_was_just_begun(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch, claimed_before: bool
) -> None:
    """Also when it is thrown between their commit and the moment at which they wait."""
    sandbox, sent = sandboxes(), list[str]()
    reminder(sandbox, sent.append)
    handles = begun_together(sandbox, "abcd")
    begin_soon = sandbox.delivery._hand.begin_soon

    def halted(*given: Any, **unless: Any) -> bool:
        sandbox.halt("remind", **WHO)
        return begin_soon(*given, **unless)

    monkeypatch.setattr(sandbox.delivery._hand, "begin_soon", halted)
    if claimed_before:
        first: Any = sandbox.delivery.claim(1, ahead=True)
        assert sandbox.delivery.carry_on(first, more=lambda: True) is None
    else:
        assert sandbox.delivery.begin(lambda: 1, ahead=True) is None
    assert sent == ["a"] * claimed_before
    assert states(handles)[len(sent) :] == [(State.PENDING, 0)] * (4 - len(sent))


def test_a_worker_that_stops_gives_back_what_waits(sandboxes: Sandboxes) -> None:
    """What is over is settled; what was begun and not performed is free for others."""
    sandbox = sandboxes()
    reminder(sandbox, lambda text: None)
    handles = begun_together(sandbox, "abcd")
    first: Any = sandbox.delivery.claim(1, ahead=True)
    second = sandbox.delivery.carry_on(first, more=lambda: True)
    assert second is not None
    third = sandbox.delivery.carry_on(second, more=lambda: True)
    assert third is not None
    sandbox.delivery._hand.forget(third.id)  # as a thread that hangs
    sandbox.delivery.leave()
    assert states(handles) == [
        *((State.SUCCEEDED, 1), (State.SUCCEEDED, 1), (State.DISPATCHED, 1), (State.PENDING, 0)),
    ]


def test_a_child_leaves_what_waits_to_its_parent(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither performs, nor settles, nor gives back what another process has in hand."""
    sandbox = sandboxes()
    reminder(sandbox, lambda text: None)
    handles = begun_together(sandbox, "abcd")
    first: Any = sandbox.delivery.claim(1, ahead=True)
    second = sandbox.delivery.carry_on(first, more=lambda: True)
    assert second is not None
    sandbox.delivery.carry_on(second, more=lambda: True)
    before = states(handles)
    monkeypatch.setattr(sandbox.pipeline.owner, "name", "the child")
    assert sandbox.delivery.claim() is None
    sandboxes.clock.advance(2)
    sandbox.delivery.tend()
    sandbox.delivery.leave()
    assert states(handles) == before
