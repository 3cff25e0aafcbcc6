"""Explaining: for every state one sentence says where the call is, and why."""

from __future__ import annotations

import pytest
from msgspec import structs
from tests.support.scene import WHO, Provider, Sandboxes, drain, payment, story

from gonogo.action import Action
from gonogo.backoff import Retry
from gonogo.explain import Workers, explain
from gonogo.limits import Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import NEVER, Attempt, Beat, Call, Decision, Fault, Outcome, State
from gonogo.settlement import FOUND_SILENT
from gonogo.signals import Cancel, NotApplied, Rejected

NOW = 1_800_000_000.0
CALL = Call(
    id="c1",
    action="pay",
    state=State.PENDING,
    created_at=NOW - 100,
    key="pay:A",
    held=True,
    queue="default",
    run_at=NOW,
    owner="host:1",
    attempt=1,
    note="because of this",
)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"state": State.PLANNED, "verdict": "new"}, "planned (new)."),
        ({"state": State.PLANNED}, "planned (waits for approval)."),
        ({"run_at": NOW}, "it is due and waits for a free worker."),
        ({"run_at": NOW + 60}, "it waits until 2027-01-15 08:01:00Z (in 1m)."),
        ({"waits": True}, "it waits; no time brings it on."),
        ({"state": State.CLAIMED}, "claimed by host:1; nothing was sent yet."),
        (
            {"state": State.DISPATCHED, "lease_until": NOW + 1},
            "it is being performed by host:1 (attempt 1).",
        ),
        (
            {"state": State.DISPATCHED, "lease_until": NOW},
            "host:1 was performing it and went silent: a worker (gonogo worker) finds that, "
            "or gonogo resolve c1 settles it.",
        ),
        ({"state": State.SUCCEEDED, "settled_at": NOW}, "succeeded at 2027-01-15 08:00:00Z."),
        ({"state": State.FAILED}, "failed; it did not happen."),
        (
            {"state": State.FAILED, "outcome": Outcome.UNKNOWN},
            "failed, possibly after having had its effect",
        ),
        ({"state": State.UNKNOWN, "run_at": NEVER}, "waits for a person: gonogo resolve c1."),
        ({"state": State.UNKNOWN, "run_at": NOW + 30}, "Evidence is looked for in 30s."),
        ({"state": State.UNKNOWN, "run_at": NOW}, "Evidence is looked for in a moment."),
        ({"state": State.CANCELLED}, "cancelled; it did not happen."),
        (
            {"state": State.CANCELLED, "outcome": Outcome.UNKNOWN},
            "cancelled, possibly after having had its effect in an earlier attempt.",
        ),
        ({"state": State.DISCARDED}, "discarded; it was planned and never queued."),
    ],
)
def test_every_state_is_told(changes: dict[str, object], sentence: str) -> None:
    """Where it is comes with the note that says why."""
    standing = explain(structs.replace(CALL, **changes), [], [], NOW)[-2]
    assert standing.startswith("Now: ")
    assert sentence in standing
    assert standing.endswith("Because of this.")


def test_what_a_worker_runs_again_is_not_for_a_person_to_settle() -> None:
    """Found silent, a repeatable job with attempts left goes back to its queue: it is no doubt."""
    silent = structs.replace(
        CALL, state=State.DISPATCHED, lease_until=NOW, repeatable=True, max_attempts=2, note=None
    )
    told = "host:1 was performing it and went silent: a worker (gonogo worker) finds that"
    assert explain(silent, [], [], NOW)[-2] == f"Now: {told}, and runs it again."
    for spent in ({"max_attempts": 1}, {"queue": None}, {"repeatable": False}):
        sentence = explain(structs.replace(silent, **spent), [], [], NOW)[-2]
        assert sentence == f"Now: {told}, or gonogo resolve c1 settles it."


def test_every_state_has_a_sentence() -> None:
    """A new state cannot be forgotten here."""
    for state in State:
        assert explain(structs.replace(CALL, state=state), [], [], NOW)


def attempted(seconds: float, fault: Fault, note: str) -> Attempt:
    """The call's first attempt, which began 50 seconds ago, and of which nobody heard."""
    return Attempt(
        call_id="c1",
        attempt=1,
        epoch=1,
        owner="host:1",
        started_at=NOW - 50,
        ended_at=NOW - 50 + seconds,
        outcome=Outcome.UNKNOWN,
        fault=fault,
        note=note,
    )


def test_the_story_is_told_in_order() -> None:
    """Request, attempts and decisions by time, each with who and what is known."""
    tried = attempted(2, Fault("TimeoutError", "no answer"), "came late")
    decided = Decision(
        id="d1", at=NOW - 20, what="resolved as landed", subject="c1", actor="ann", reason="seen"
    )
    story = explain(CALL, [tried], [decided], NOW)
    assert "pay (pay:A) was requested in queue 'default' as c1." in story[0]
    assert story[1].endswith(
        "attempt 1 ran for 2 s in host:1; nobody heard whether it happened "
        "(TimeoutError: no answer), came late."
    )
    assert story[2].endswith("resolved as landed by ann: seen.")
    assert story[3].startswith("Now: ")


def test_how_it_was_requested() -> None:
    """Direct calls and planned ones say so."""
    direct = structs.replace(CALL, queue=None)
    planned = structs.replace(CALL, plan_id="p1", position=2)
    assert "as a direct call" in explain(direct, [], [], NOW)[0]
    assert "by plan p1, as its call 3" in explain(planned, [], [], NOW)[0]


def standing(beats: list[Beat], **changes: object) -> str:
    workers = Workers(beats, lease=30.0)
    return explain(structs.replace(CALL, **changes), [], [], NOW, None, workers)[-2]


def worker(name: str, ago: float, queues: str = "default,mail") -> Beat:
    return Beat(name=name, kind="worker", at=NOW - ago, detail={"queues": queues})


def test_what_nobody_takes_is_told_with_the_remedy() -> None:
    """A dead worker, or one of other queues, will not come; a living one that serves it will."""
    dead = "it is due, and no worker that takes queue 'mail' is alive: start one, with "
    dead += "gonogo worker --queues mail or sandbox.initialize()."
    assert dead in standing([], queue="mail")
    assert dead in standing([worker("host:1", 30)], queue="mail")
    assert dead in standing([worker("host:1", 1, "default,mails")], queue="mail")
    alive = standing([worker("host:1", 29)], queue="mail")
    assert "it is due and waits for a free worker." in alive
    assert "free worker" in standing([], queue=None)


def test_what_has_no_room_for_it_is_named(locked: SandboxOrchestrator) -> None:
    """No free worker would help a call that a budget keeps, and the story says which."""

    @locked.action(
        "pay", irreversible=False, limits=[Limit("cents", 100, per="1h", cost="{cents}")]
    )
    def pay(cents: int) -> None: ...

    locked.delivery.keep()  # a worker that is alive
    pay(70)
    dear, cheap = pay.enqueue(40), pay.enqueue(30)
    short = "Now: it is due, and there is no room for it in limit 'cents': 70 of 100 taken, "
    short += "40 wanted; units are free again 1h after they were taken."
    assert short in dear.explain()
    assert not any("room" in sentence for sentence in cheap.explain())


def test_what_was_stopped_while_it_waited_is_told(sandboxes: Sandboxes) -> None:
    """Why a call came late is known when the switches are over; what did not concern it is not."""
    sandbox, clock = sandboxes(), sandboxes.clock
    sandbox.arm(**WHO)
    pay, mail = (declared(sandbox, name) for name in ("pay", "mail"))
    sandbox.halt("pay", **WHO)
    clock.advance(5)
    sandbox.resume("pay", **WHO)
    sandbox.pause("default", **WHO, until=clock.now() + 20)
    clock.advance(1)
    paid, mailed = pay.enqueue(), mail.enqueue()
    sandbox.halt(by="bo", reason="the bank is down")
    clock.advance(60)
    sandbox.resume(by="bo", reason="it is back")
    sandbox.hold(by="bo", reason="a look")
    sandbox.release(by="bo", reason="fine")
    while sandbox.worker.run_once():
        clock.advance(1)
    sandbox.halt("pay", **WHO)
    paused = "2027-01-15 08:00:05Z: queue 'default' was paused by"
    told = [
        *(paused, "2027-01-15 08:00:06Z: pay (pay) was requested"),
        "2027-01-15 08:00:06Z: everything was halted by bo: the bank is down.",
        "2027-01-15 08:01:06Z: everything was resumed by bo: it is back.",
        "2027-01-15 08:01:06Z: what is irreversible was held by bo: a look.",
        "2027-01-15 08:01:06Z: what is irreversible was released by bo: fine.",
    ]
    story = paid.explain()
    assert [line for line, start in zip(story, told, strict=False) if line.startswith(start)] == (
        story[: len(told)]
    )
    assert "until 2027-01-15 08:00:25Z" in story[0]
    assert story[-2].startswith("Now: succeeded")
    assert not any("irreversible" in line for line in mailed.explain())


@pytest.mark.parametrize("end", ["cancelled", "deadline"])
def test_what_was_stopped_while_its_retry_waited_is_told(sandboxes: Sandboxes, end: str) -> None:
    """A call whose last attempt is long over waited again, until it ended in its queue."""
    sandbox, clock, provider = sandboxes(), sandboxes.clock, Provider()
    provider.script = [NotApplied("busy")]
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider, deadline=100.0, retry=Retry(base_delay=60.0))
    call = pay.enqueue("A")
    assert drain(sandbox) == 1
    clock.advance(1)
    sandbox.halt("pay", by="bo", reason="a look")
    clock.advance(1)
    if end == "cancelled":
        call.cancel(**WHO)
    else:
        clock.advance(100)
        sandbox.recovery.run_once()
    assert call.state() is (State.CANCELLED if end == "cancelled" else State.FAILED)
    clock.advance(1)
    sandbox.halt(by="bo", reason="too late to concern it")
    told = [line for line in call.explain() if "halted" in line]
    assert told == ["2027-01-15 08:00:01Z: pay was halted by bo: a look."]


def test_what_was_stopped_while_it_was_performed_for_the_last_time_is_not_told(
    sandboxes: Sandboxes,
) -> None:
    """It did not wait any more, whatever it ended as."""
    sandbox, clock, provider = sandboxes(), sandboxes.clock, Provider()
    sandbox.arm(**WHO)
    pay = payment(sandbox, provider)
    for signal in (Cancel("no more"), Rejected("closed account"), TimeoutError("no answer")):

        def halted(invoice: str, signal: Exception = signal) -> None:
            clock.advance(1)
            sandbox.halt(by="bo", reason="a look")
            clock.advance(1)
            sandbox.resume(by="bo", reason="fine")
            raise signal

        provider.script = [halted]
        call = pay.enqueue(type(signal).__name__)
        assert drain(sandbox) == 1
        assert call.state() is not State.SUCCEEDED
        assert "halted" not in story(call)


def declared(sandbox: SandboxOrchestrator, name: str) -> Action[[], None]:
    """An action of that name; ``pay`` is irreversible."""

    @sandbox.action(name, key=name, irreversible=name == "pay")
    def act() -> None: ...

    return act


def test_what_it_holds_since_an_earlier_attempt_is_its_own(sandboxes: Sandboxes) -> None:
    """A retry takes the units that it kept; they are no reason why it waits."""
    locked = sandboxes()
    errors = [NotApplied("busy")]

    @locked.action(
        "pay", irreversible=False, limits=[Limit("cents", 100, per="1h", cost="{cents}")]
    )
    def pay(cents: int) -> None:
        if errors:
            raise errors.pop()

    job = pay.enqueue(100)
    assert locked.worker.run_once()
    sandboxes.clock.advance(60)
    locked.delivery.keep()
    assert any("waits for a free worker" in line for line in job.explain())


def test_a_limit_by_default_may_be_anybodys(locked: SandboxOrchestrator) -> None:
    """Only our own defaults have a setting of which to speak."""
    locked.governor.declare(Limit("spam", 1, per="1h"), default=True)

    @locked.action("spam", irreversible=False)
    def spam() -> None: ...

    locked.delivery.keep()
    spam()
    told = "\n".join(spam.enqueue().explain())
    assert "no room for it in limit 'spam': 1 of 1 taken" in told


def test_a_cost_that_cannot_be_told_keeps_no_story_back(locked: SandboxOrchestrator) -> None:
    """A cost may be a function of the user's, which may fail; to ask why breaks nothing."""
    costs = iter([1])
    limit = Limit("units", 100, per="1h", cost=lambda arguments: next(costs))

    @locked.action("act", irreversible=False, limits=[limit])
    def act() -> None: ...

    act()
    assert any("it is due" in sentence for sentence in act.enqueue().explain())


def test_how_long_ago_its_worker_was_heard_of_is_told() -> None:
    """For a lease nobody knows whether it died, so the age of its last word is all there is."""
    beats = [worker("host:2", 1), worker("host:1", 21)]
    said = "whose last sign of life was 21s ago; its lease ends at 2027-01-15 08:00:09Z"
    lease = {"lease_until": NOW + 9}
    assert f"host:1 (attempt 1), {said}." in standing(beats, state=State.DISPATCHED, **lease)
    claimed = standing(beats, state=State.CLAIMED, **lease)
    assert f"claimed by host:1, {said}; nothing was sent yet." in claimed


def test_an_attempt_whose_end_nobody_saw_has_no_duration() -> None:
    """When it ended is not known, only when that was noticed."""
    fault = Fault("ConnectionAbortedError", "its owner host:1 went silent")
    silent = attempted(40, fault, FOUND_SILENT)
    told = explain(CALL, [silent], [], NOW)[1]
    assert told == (
        "2027-01-15 07:59:10Z: attempt 1 began in host:1, which was found silent at "
        "2027-01-15 07:59:50Z; nobody heard whether it happened."
    )
