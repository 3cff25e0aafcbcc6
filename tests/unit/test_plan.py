"""Rehearse, approve, apply: the plan is the exact rows that will run, or it says why not."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import Any

import pytest
from tests.support.scene import SOON, WHO, Provider, Sandboxes, drain, payment, reminder, story

from gonogo.errors import (
    ConfigurationError,
    Drifted,
    DryRunBlocked,
    KeyConflict,
    NotFound,
    PlanError,
    Refused,
)
from gonogo.evidence import cannot_tell
from gonogo.limits import Limit
from gonogo.logs import carry
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.plan import Cancelled, Plan
from gonogo.records import PlanState, State
from gonogo.signals import NotApplied, Rejected
from gonogo.simulated import Unknown


def verdicts(plan: Plan) -> list[str | None]:
    return [call.verdict for call in plan.calls]


def applied(sandbox: SandboxOrchestrator, plan: Plan) -> None:
    sandbox.approve(plan, **WHO)
    sandbox.apply(plan)
    drain(sandbox)


# the whole way


def test_a_plan_does_exactly_what_was_rehearsed(locked: SandboxOrchestrator) -> None:
    """Rehearsing performs nothing; applying performs the recorded calls, in order, while locked."""
    provider = Provider()
    pay = payment(locked, provider)
    with locked.rehearse("payday") as plan:
        pay.enqueue("A")
        pay("B")
        pay.enqueue_many([("C",), ("D",)])
    assert provider.book == []
    assert (plan.record.state, verdicts(plan)) == (PlanState.READY, ["new"] * 4)
    locked.approve(plan, **WHO)
    handles = locked.apply(plan, by="bob")
    assert drain(locked) == 4
    assert provider.book == ["A", "B", "C", "D"]
    assert [h.state() for h in handles] == [State.SUCCEEDED] * 4
    assert plan.record.applied_by == "bob"
    told = story(handles[1])
    assert f"by plan {plan.id}, as its call 2" in told
    assert "plan approved by ann@example.com: checked the books" in told


def test_a_rehearsal_uses_nothing_up(locked: SandboxOrchestrator) -> None:
    """It takes no key and no units; the same calls can be rehearsed again."""
    pay = payment(locked, limits=[Limit("budget", 100, per="1h", cost="{cents}")])
    for _ in range(3):
        with locked.rehearse("payday") as plan:
            pay.enqueue("A", 60)
        assert verdicts(plan) == ["new"]
    assert locked.governor.get_status("budget")["current_actions"] == 0


def test_reversible_actions(locked: SandboxOrchestrator) -> None:
    """A direct call of a reversible action is performed in a rehearsal; a job of it is recorded."""
    said: list[str] = []
    remind = reminder(locked, said.append)
    with locked.rehearse("r") as plan:
        remind("direct")
        remind.enqueue("queued")
    assert (said, verdicts(plan)) == (["direct"], ["new"])
    applied(locked, plan)
    assert said == ["direct", "queued"]


def test_an_action_inside_a_reversible_one_is_recorded(locked: SandboxOrchestrator) -> None:
    """However deep the irreversible call is, it belongs to the plan."""
    provider = Provider()
    pay = payment(locked, provider)
    remind = reminder(locked, lambda text: pay.call(text).call_id)
    with locked.rehearse("r") as plan:
        remind("A")
    assert (provider.book, [c.key for c in plan.calls]) == ([], ["pay:A"])


# verdicts


def test_what_is_known_is_not_done_again(armed: SandboxOrchestrator) -> None:
    """done, in doubt, in flight and rejected calls are told apart, and not queued by apply."""
    provider = Provider()
    pay = payment(armed, provider)
    provider.script = [None, TimeoutError("no answer"), Rejected("no such account")]
    pay.enqueue_many([("done",), ("doubt",), ("rejected",)])
    drain(armed)
    pay.enqueue("flying")
    with armed.rehearse("r") as plan:
        assert pay("done") == "paid done"
        assert isinstance(pay("rejected"), Unknown)  # the job goes on, so that the plan has it all
        handles = pay.enqueue_many([("doubt",), ("flying",), ("new",)])
    assert verdicts(plan) == ["done", "rejected", "in_doubt", "in_flight", "new"]
    assert [h.is_new for h in handles] == [False, False, True]
    assert plan.totals() == {"pay": {"calls": 1, "uses": {}}}
    armed.approve(plan, **WHO)
    assert [h.call().key for h in armed.apply(plan)] == ["pay:new"]
    assert {c.state for c in plan_calls(armed, plan)} == {State.PENDING, State.DISCARDED}


def plan_calls(sandbox: SandboxOrchestrator, plan: Plan) -> list[Any]:
    return sandbox.plan(plan.id).calls


def test_a_receipt_of_a_duplicate_names_the_call_that_is_carried_out(
    locked: SandboxOrchestrator,
) -> None:
    """What is enqueued after it can be applied: the duplicate's own row will never run."""

    @locked.action("charge", irreversible=True, key="charge:{n}")
    def charge(n: int) -> None: ...

    with locked.rehearse("twice"):
        first, second = charge.call(1), charge.call(1)
    assert second.call_id == first.call_id


def test_duplicates_and_conflicts_within_a_plan(locked: SandboxOrchestrator) -> None:
    """The same call twice is one; one key with two meanings is the error it would be live."""
    pay = payment(locked)
    with locked.rehearse("r") as plan:
        first, again = pay.enqueue_many([("A",), ("A",)])
        with pytest.raises(KeyConflict, match="pay:A"):
            pay("A", 101)
    assert (first.id, again.is_new) == (again.id, False)
    assert verdicts(plan) == ["new", "duplicate", "conflict"]
    applied(locked, plan)
    assert locked.counts() == {State.SUCCEEDED: 1, State.DISCARDED: 2}


def test_a_rehearsed_batch_with_a_conflict_plans_none_of_its_rows(
    armed: SandboxOrchestrator,
) -> None:
    """As live: of a batch that raises nothing is done, and the approver sees the conflict."""
    provider = Provider()
    pay = payment(armed, provider)
    pay("A", 100)
    with armed.rehearse("r") as plan:
        for rows in ([("NEW-2", 1), ("A", 101)], [("NEW-3", 1), ("NEW-3", 2)]):
            with pytest.raises(KeyConflict, match=r"row 2 of the batch.*nothing was"):
                pay.enqueue_many([*rows, ("NEW-4", 1)])
        with pytest.raises(ConfigurationError, match=r"^row 2 of the batch that begins at call 3"):
            pay.enqueue_many([("NEW-5", 1), ("NEW-6", "1.5")])
        pay.enqueue("NEW-3", 3)
    assert [(c.key, c.verdict) for c in plan.calls] == [
        ("pay:A", "conflict"),
        ("pay:NEW-3", "conflict"),
        ("pay:NEW-3", "new"),
    ]
    first, second, _ = (call.note or "" for call in plan.calls)
    assert first.startswith("its key was used with other arguments by call ")
    assert first.endswith("; none of the 3 rows of its batch is enqueued")
    assert "other arguments in row 1 of the same batch; none of the 3" in second
    applied(armed, plan)
    assert provider.book == ["A", "NEW-3"]


def test_a_rehearsed_batch_is_numbered_in_its_plan(locked: SandboxOrchestrator) -> None:
    """Another call of the same plan is named by its number, also one of the same batch."""
    pay = payment(locked)
    with locked.rehearse("r") as plan:
        pay.enqueue("A")
        pay.enqueue_many([("B",), ("A",), ("B",)])
        with pytest.raises(KeyConflict, match="by call 2 of this plan"):
            pay.enqueue("B", 7)
    notes = [call.note for call in plan.calls]
    assert notes[2:4] == [
        "stands earlier, as call 1 of this plan",
        "stands earlier, as call 2 of this plan",
    ]
    assert notes[4] == "its key was used with other arguments by call 2 of this plan"


@pytest.mark.parametrize(
    "use",
    [
        lambda handle: handle.result(timeout=1),
        lambda handle: handle.state(),
        lambda handle: handle.explain(),
        lambda handle: handle.cancel(),
    ],
)
def test_a_handle_of_a_planned_call_has_nothing_to_tell(
    locked: SandboxOrchestrator, use: Any
) -> None:
    """The rehearsal ends there, as at a result, and says where; afterwards the handle is usual."""
    pay = payment(locked)
    with locked.rehearse("r") as plan:
        handle = pay.enqueue("A")
        use(handle)
    assert plan.record.state is PlanState.INCOMPLETE
    told = "needs the result of pay (pay:A), which does not exist before it ran: "
    assert told in plan.problems[0]
    assert f"{told}{__file__}, line " in plan.problems[0]
    assert handle.state() is State.PLANNED


def test_a_handle_of_what_is_done_has_its_answer(armed: SandboxOrchestrator) -> None:
    """What the ledger knows already may be asked for in a rehearsal."""
    pay = payment(armed)
    live = pay("A")
    with armed.rehearse("r") as plan:
        assert pay.enqueue("A").result(timeout=1) == live
    assert plan.problems == ()


def test_a_cost_that_never_passes_makes_a_plan_incomplete(locked: SandboxOrchestrator) -> None:
    """denied: no waiting helps, so the plan cannot be approved, and says which limit and call."""
    pay = payment(locked, limits=[Limit("budget", 1000, per="1h", cost="{cents}")])
    with locked.rehearse("r") as plan:
        pay.enqueue_many([("A", 400), ("B", 1001)])
    assert verdicts(plan) == ["new", "denied"]
    assert "pay:B" in plan.problems[0]
    assert "budget" in plan.problems[0]
    with pytest.raises(PlanError, match="never pass"):
        locked.approve(plan, **WHO)


def test_the_forecast_names_the_item_where_a_limit_is_full(locked: SandboxOrchestrator) -> None:
    """Taken in order, the calls that today's limits would hold back say so, and no others."""
    pay = payment(locked, limits=[Limit("budget", 1000, per="1h", cost="{cents}")])
    with locked.rehearse("r") as plan:
        pay.enqueue_many([("A", 400), ("B", 500), ("C", 101), ("D", 100)])
    assert verdicts(plan) == ["new", "new", "waits", "new"]
    assert "900 of 1,000 taken, 101 wanted" in (plan.calls[2].note or "")
    assert plan.totals() == {"pay": {"calls": 4, "uses": {"budget": 1101}}}
    assert "1,101" in str(plan)


def test_a_cost_that_cannot_be_told_makes_a_plan_incomplete(locked: SandboxOrchestrator) -> None:
    """A limit whose cost fails is a problem of the plan, and no crash of the rehearsal."""
    pay = payment(locked, limits=[Limit("budget", 1000, per="1h", cost="{cents}")])
    with locked.rehearse("r") as plan:
        pay.enqueue_many([("A", -5), ("B", 5)])
    assert verdicts(plan) == ["undetermined", "new"]
    assert "pay:A" in plan.problems[0]
    assert plan.totals() == {"pay": {"calls": 1, "uses": {"budget": 5}}}


def test_a_limit_named_calls_is_not_the_number_of_calls(locked: SandboxOrchestrator) -> None:
    """What a plan counts itself stands apart from what limits count."""
    pay = payment(locked, limits=[Limit("calls", 1000, per="1d", cost="{cents}")])
    with locked.rehearse("payday") as plan:
        pay("A", 100)
        pay("B", 200)
    assert plan.totals() == {"pay": {"calls": 2, "uses": {"calls": 300}}}
    assert "would perform pay: 2 calls, calls 300\n" in str(plan)


def test_totals_by_limit_row(locked: SandboxOrchestrator) -> None:
    """Units are summed for each row of each limit, keyed ones apart."""
    limits = [Limit("cents", 10**6, per="1d", cost="{cents}", key="{invoice}")]
    pay = payment(locked, limits=limits)
    with locked.rehearse("r") as plan:
        pay.enqueue_many([("A", 1), ("B", 2)])
    assert plan.totals() == {"pay": {"calls": 2, "uses": {"cents[A]": 1, "cents[B]": 2}}}
    assert plan.verdicts() == {"new": 2}
    assert locked.plan(plan.id).totals() == plan.totals()


def test_each_call_tells_what_it_takes(locked: SandboxOrchestrator) -> None:
    """Amounts stand beside the calls that would be performed, in any process."""
    pay = payment(locked, limits=[Limit("pay", 1000, per="1h", cost="{cents}")])
    with locked.rehearse("payday") as plan:
        pay.enqueue_many([("A", 400), ("B", 700), ("A", 400)])
    assert plan.uses() == [{"pay": 400}, {"pay": 700}, {}]
    assert plan.totals() == {"pay": {"calls": 2, "uses": {"pay": 1100}}}
    assert "    1 new          pay:A  pay 400\n" in str(plan)
    assert str(locked.plan(plan.id)) == str(plan)


def test_what_waits_says_until_when(locked: SandboxOrchestrator) -> None:
    """A calendar window opens at an instant; a sliding one as what was taken leaves it."""
    pay = payment(locked, limits=[Limit("budget", 500, per="day", cost="{cents}")])
    also = payment(locked, name="also", limits=[Limit("rate", 1, per="1h")])
    with locked.rehearse("payday") as plan:
        pay.enqueue_many([("A", 500), ("B", 1)])
        also.enqueue_many([("A",), ("B",)])
    (_, by_day, _, by_hour) = (call.note or "" for call in plan.calls)
    assert by_day.startswith("waits for limit 'budget': 500 of 500 taken, 1 wanted; ")
    assert by_day.endswith("; it has room from 2027-01-16 00:00:00Z at the earliest")
    assert by_hour.endswith("; units are free again 1h after they were taken")
    assert "2 of its calls go out by themselves later, when there is room; first pay:B" in str(plan)


def test_a_limit_that_nobody_declared_says_so(sandboxes: Sandboxes) -> None:
    """An action that takes of a default limit by its name learns which setting changes it."""
    sandbox = sandboxes(payment_limit=1)
    pay = payment(sandbox, name="payment")
    with sandbox.rehearse("payday") as plan:
        pay.enqueue_many([("A",), ("B",)])
    assert "'payment' (a default, which SANDBOX_PAYMENT_LIMIT changes): 1 of 1 taken" in str(plan)


# values that do not exist yet


def test_an_unknown_result_taints_what_it_touches(locked: SandboxOrchestrator) -> None:
    """A call that depends on a result nobody has is undetermined, and the plan incomplete."""
    pay = payment(locked)
    with locked.rehearse("r") as plan:
        receipt = pay("A")
        assert isinstance(receipt, Unknown)
        pay.enqueue(receipt)
        pay(receipt)
    assert verdicts(plan) == ["new", "undetermined", "undetermined"]
    assert plan.record.state is PlanState.INCOMPLETE
    with pytest.raises(PlanError, match="incomplete"):
        locked.approve(plan, **WHO)


def test_a_reversible_call_of_an_unknown_value_is_undetermined(
    locked: SandboxOrchestrator,
) -> None:
    """A value that does not exist is not handed to a real function, reversible or not."""
    said: list[str] = []
    pay, remind = payment(locked), reminder(locked, said.append)
    with locked.rehearse("r") as plan:
        answer = remind(pay("A"))
        assert isinstance(answer, Unknown)
    assert (said, verdicts(plan)) == ([], ["new", "undetermined"])


@pytest.mark.parametrize("guess", [bool, str, len, lambda value: value == "paid A", list])
def test_guessing_at_a_result_stops_the_rehearsal(locked: SandboxOrchestrator, guess: Any) -> None:
    """The job cannot go on honestly; what was recorded is kept, and it says where it stopped."""
    pay, reached = payment(locked), []
    with locked.rehearse("r") as plan:
        guess(pay("A"))
        reached.append(True)
    assert (reached, verdicts(plan)) == ([], ["new"])
    assert plan.record.state is PlanState.INCOMPLETE
    assert "pay:A" in plan.problems[0]
    assert plan.problems[1:] == ("the job stopped there: what it does next is not in this plan",)


def test_a_guess_that_the_job_swallows_is_noted(locked: SandboxOrchestrator) -> None:
    """A job that catches every exception cannot hide that it guessed."""
    pay = payment(locked)
    with locked.rehearse("r") as plan:
        try:
            str(pay("A"))
        except Exception:
            pay("B")
    assert (plan.record.state, len(plan.calls)) == (PlanState.INCOMPLETE, 2)


def test_a_simulated_result_lets_the_job_go_on(locked: SandboxOrchestrator) -> None:
    """Decisions are taken on it; as an argument of another call it is still made up."""
    pay = payment(locked)
    pay.simulate(lambda invoice, cents=100: {"id": "tr-1", "state": "ok"})
    with locked.rehearse("r") as plan:
        answer = pay("A")
        if answer["state"] == "ok":
            pay.enqueue("B")
        pay.enqueue(answer["id"])
    assert verdicts(plan) == ["new", "new", "undetermined"]


def hanging() -> Any:
    raise OSError("no route")


def test_a_simulator_that_fails_leaves_a_gap(locked: SandboxOrchestrator) -> None:
    """Its failure is a problem of the plan, and the job goes on with an unknown value."""
    pay = payment(locked)
    pay.simulate(lambda invoice, cents=100: hanging())
    with locked.rehearse("r") as plan:
        assert isinstance(pay("A"), Unknown)
    assert "OSError: no route" in plan.problems[0]


def test_a_simulator_that_hangs_leaves_a_gap(locked: SandboxOrchestrator) -> None:
    """It is given up after the action's time-out."""
    let_go = threading.Event()
    pay = payment(locked, timeout=0.01)
    pay.simulate(lambda invoice, cents=100: let_go.wait(SOON))
    with locked.rehearse("r") as plan:
        assert isinstance(pay("A"), Unknown)
    let_go.set()
    assert "simulator gave no answer" in plan.problems[0]


def test_a_simulated_value_never_reaches_a_live_call(armed: SandboxOrchestrator) -> None:
    """Kept beyond its rehearsal, it is refused as an argument."""
    provider = Provider()
    pay = payment(armed, provider)
    with armed.rehearse("r"):
        kept = pay("A")
    with pytest.raises(Refused, match="made up by a rehearsal"):
        pay(kept)
    assert provider.book == []


def test_a_secret_makes_a_plan_incomplete(locked: SandboxOrchestrator) -> None:
    """What is never stored cannot be planned; its value is nowhere in the plan."""

    @locked.action("login", irreversible=True, key="login:{user}")
    def login(user: str, password: str) -> None: ...

    @login.precondition
    def _(user: str, password: str) -> dict[str, str]:
        return {"account": user, "answered": password}

    with locked.rehearse("r") as plan:
        login("ann", "hunter2")
    assert "secret" in plan.problems[0]
    assert "hunter2" not in str(plan) + repr(plan.calls)


# dependencies


def test_dependencies_are_part_of_the_plan(locked: SandboxOrchestrator) -> None:
    """A planned job waits for another one, and falls with it."""
    provider = Provider()
    provider.script = [Rejected("no such account")]
    pay = payment(locked, provider)
    with locked.rehearse("r") as plan:
        first = pay.enqueue("A")
        pay.enqueue("B", after=first)
        other = pay.enqueue("C")
        pay.enqueue("D", after=other)
    applied(locked, plan)
    states = {c.key: c.state for c in plan_calls(locked, plan)}
    assert states == {
        "pay:A": State.FAILED,
        "pay:B": State.CANCELLED,
        "pay:C": State.SUCCEEDED,
        "pay:D": State.SUCCEEDED,
    }


def test_a_planned_job_may_wait_for_what_is_done(armed: SandboxOrchestrator) -> None:
    """A dependency that succeeded before the plan holds nothing back."""
    provider = Provider()
    pay = payment(armed, provider)
    pay("A")
    with armed.rehearse("r") as plan:
        first = pay.enqueue("A")
        pay.enqueue("B", after=first)
    applied(armed, plan)
    assert provider.book == ["A", "B"]


def test_waiting_for_what_failed_is_refused_as_it_is_live(armed: SandboxOrchestrator) -> None:
    """The rehearsed job gets the error that it would get live."""
    provider = Provider()
    provider.script = [Rejected("no")]
    pay = payment(armed, provider)
    failed = pay.enqueue("A")
    drain(armed)
    with armed.rehearse("r") as plan:
        with pytest.raises(Refused, match="ended as failed"):
            pay.enqueue("B", after=failed)
        with pytest.raises(ConfigurationError, match="does not exist"):
            pay.enqueue("C", after="nowhere")
    assert plan.calls == []


def test_delays_and_priorities_are_planned(sandboxes: Sandboxes) -> None:
    """They count when the plan is applied; a deadline counts from then on."""
    sandbox, provider = sandboxes(), Provider()
    pay = payment(sandbox, provider, deadline=60.0)
    with sandbox.rehearse("r") as plan:
        pay.enqueue("low", priority=-1)
        pay.enqueue_in(90, "later")
        pay.enqueue("high", priority=1)
    sandboxes.clock.advance(70)
    applied(sandbox, plan)
    assert provider.book == ["high", "low"]
    sandboxes.clock.advance(20)
    drain(sandbox)
    assert provider.book == ["high", "low", "later"]


# threads and tasks


def test_a_thread_that_did_not_inherit_the_rehearsal_is_refused(
    armed: SandboxOrchestrator,
) -> None:
    """Even in an armed sandbox; the plan is incomplete, for the call may be the job's own."""
    provider, errors = Provider(), []
    pay = payment(armed, provider)

    def stray() -> None:
        try:
            pay("A")
        except DryRunBlocked as error:
            errors.append(str(error))

    with armed.rehearse("r") as plan:
        thread = threading.Thread(target=stray)
        thread.start()
        thread.join(SOON)
    assert (provider.book, plan.calls) == ([], [])
    assert "gonogo.carry" in errors[0]
    assert plan.record.state is PlanState.INCOMPLETE
    assert "not part of the rehearsal" in plan.problems[0]


def test_a_stray_thread_queues_nothing_either(locked: SandboxOrchestrator) -> None:
    """A job of a reversible action is recorded in a rehearsal, so a stray one is refused too."""
    refused: list[Exception] = []
    note = reminder(locked, str)

    def stray() -> None:
        try:
            note.enqueue("A")
        except DryRunBlocked as error:
            refused.append(error)

    with locked.rehearse("r") as plan:
        thread = threading.Thread(target=stray)
        thread.start()
        thread.join(SOON)
    assert len(refused) == 1
    assert plan.record.state is PlanState.INCOMPLETE
    assert locked.calls() == []


def test_a_carried_thread_is_recorded(locked: SandboxOrchestrator) -> None:
    """carry() takes the rehearsal along."""
    provider = Provider()
    pay = payment(locked, provider)
    with locked.rehearse("r") as plan:
        threads = [threading.Thread(target=carry(pay.enqueue), args=(n,)) for n in "ABC"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
    assert (provider.book, sorted(c.key or "" for c in plan.calls)) == (
        [],
        ["pay:A", "pay:B", "pay:C"],
    )


def test_threads_agree_on_what_is_known(armed: SandboxOrchestrator) -> None:
    """Many threads that plan a call which is done already are all told so."""
    pay = payment(armed)
    pay("A")
    answers: list[Any] = []
    with armed.rehearse("r"):
        go = threading.Barrier(8, timeout=SOON)

        def ask() -> None:
            go.wait()
            answers.append(pay("A"))

        threads = [threading.Thread(target=carry(ask)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
    assert answers == ["paid A"] * 8


def test_a_thread_that_outlives_its_rehearsal_is_refused(armed: SandboxOrchestrator) -> None:
    """Its call is neither recorded nor performed."""
    provider = Provider()
    pay = payment(armed, provider)
    with armed.rehearse("r") as plan:
        late = carry(pay.call)
    with pytest.raises(DryRunBlocked, match="over"):
        late("A")
    assert (provider.book, plan.calls) == ([], [])


def test_async_actions_are_rehearsed(locked: SandboxOrchestrator) -> None:
    """An ``async def`` job records its calls, gathered ones too, and performs nothing."""
    sent: list[str] = []

    @locked.action("send", irreversible=True, key="send:{to}")
    async def send(to: str) -> str:
        sent.append(to)
        return to

    async def job() -> Any:
        with locked.rehearse("r") as plan:
            await asyncio.gather(send("A"), send.acall("B"))
            send.enqueue("C")
        return plan

    plan = asyncio.run(job())
    assert (sent, sorted(c.key for c in plan.calls)) == ([], ["send:A", "send:B", "send:C"])
    applied(locked, plan)
    assert sorted(sent) == ["A", "B", "C"]


def test_work_elsewhere_goes_on_during_a_rehearsal(shared: Sandboxes) -> None:
    """Another process's jobs are not touched by it."""
    here, there, provider = shared(), shared(), Provider()
    here.arm(**WHO)
    payment(here)
    handle = payment(there, provider).enqueue("A")
    with here.rehearse("r"):
        drain(there)
    assert handle.result(0) == "paid A"


# what can go wrong with a rehearsal


def test_an_exception_in_the_job_leaves_an_incomplete_plan(locked: SandboxOrchestrator) -> None:
    """It goes on its way, and the plan says how the job ended."""
    pay, plans = payment(locked), []

    def job() -> None:
        with locked.rehearse("r") as plan:
            plans.append(plan)
            pay("A")
            pay("B") if 1 / 0 else None

    with pytest.raises(ZeroDivisionError):
        job()
    (plan,) = plans
    assert plan.record.state is PlanState.INCOMPLETE
    assert "ZeroDivisionError" in plan.problems[0]
    assert locked.plan(plan.id).problems == plan.problems


def test_an_exception_of_the_job_forges_no_line_of_the_plan(locked: SandboxOrchestrator) -> None:
    """Its text stands on one line of the problems."""
    with pytest.raises(RuntimeError), locked.rehearse("r") as plan:
        raise RuntimeError("bad row\nPlan 'x'  READY\n  1 new" + "!" * 5_000)
    assert "it ended with RuntimeError: bad row Plan 'x'  READY   1 new!" in plan.problems[0]
    assert len(plan.problems[0]) < 1_000
    assert [line for line in str(plan).splitlines() if line.startswith("Plan")][1:] == []


def test_rehearsals_do_not_nest(locked: SandboxOrchestrator) -> None:
    """One inside another is an error, and the outer one is incomplete for it."""
    outer, inner = locked.rehearse("outer"), locked.rehearse("inner")
    with pytest.raises(ConfigurationError, match="inside another"), outer, inner:
        pass


@pytest.mark.parametrize(("name", "expires_in"), [(" ", 60.0), ("r", 0), ("r", -1.0)])
def test_a_rehearsal_needs_a_name_and_time(
    locked: SandboxOrchestrator, name: str, expires_in: float
) -> None:
    """A plan that nobody can name or approve in time is not begun."""
    with pytest.raises(ConfigurationError), locked.rehearse(name, expires_in=expires_in):
        pass


def test_an_empty_plan_is_a_plan(locked: SandboxOrchestrator) -> None:
    """Nothing to do can be approved and applied, and does nothing."""
    with locked.rehearse("r") as plan:
        pass
    locked.approve(plan, **WHO)
    assert locked.apply(plan) == []
    assert "no calls" in str(plan)


# approving and applying


def ready(sandbox: SandboxOrchestrator, *invoices: str, **options: Any) -> Plan:
    pay = sandbox.actions.get("pay") or payment(sandbox)
    with sandbox.rehearse("payday", **options) as plan:
        pay.enqueue_many([(invoice,) for invoice in invoices or ("A",)])
    return plan


def test_a_plan_that_was_applied_tells_what_became_of_it(sandboxes: Sandboxes) -> None:
    """The object at hand, too: that nothing was queued must not be read after it was paid."""
    sandbox, provider = sandboxes(), Provider()
    payment(sandbox, provider)
    plan = ready(sandbox, "A", "B")
    assert plan.states() == {}
    sandbox.approve(plan, **WHO)
    sandbox.apply(plan)
    assert plan.states() == {"pending": 2}
    drain(sandbox)
    assert "2 succeeded" in str(plan)
    assert [call.state for call in plan.calls] == [State.SUCCEEDED] * 2
    assert plan.states() == {"succeeded": 2}


def test_a_plan_that_was_given_up_says_so(locked: SandboxOrchestrator) -> None:
    """The object at hand tells what was done with it."""
    plan = ready(locked)
    locked.discard(plan, **WHO)
    assert plan.record.state is PlanState.DISCARDED
    assert "DISCARDED" in str(plan)


def test_a_plan_is_applied_once(locked: SandboxOrchestrator) -> None:
    """The approval is consumed; a second apply, or approval, is refused."""
    plan = ready(locked)
    with pytest.raises(PlanError, match="is ready, not approved: approve it first") as refused:
        locked.apply(plan)
    assert refused.value.remedy == f"gonogo approve {plan.id} --by WHO --reason WHY"
    locked.approve(plan, **WHO)
    with pytest.raises(PlanError, match="is approved, not ready: apply it"):
        locked.approve(plan, **WHO)
    locked.apply(plan)
    with pytest.raises(PlanError, match="is applied, not approved: a plan is applied once"):
        locked.apply(plan.id)
    with pytest.raises(PlanError, match="is applied"):
        locked.approve(plan, **WHO)
    assert locked.counts() == {State.PENDING: 1}


def test_the_approver_is_not_taken_for_who_applied(locked: SandboxOrchestrator) -> None:
    """Where nobody says who applies a plan, that is what is recorded."""
    plan = ready(locked)
    locked.approve(plan, **WHO)
    (handle,) = locked.apply(plan)
    assert plan.record.applied_by is None
    assert "plan applied by somebody unnamed: 1 call queued." in story(handle)


def test_of_two_that_apply_at_once_one_wins(shared: Sandboxes) -> None:
    """Two processes with the same approval queue the calls once."""
    first, second = shared(), shared()
    plan = ready(first, "A", "B")
    payment(second)
    first.approve(plan, **WHO)
    go, results = threading.Barrier(2, timeout=SOON), []

    def apply(sandbox: SandboxOrchestrator) -> None:
        go.wait()
        try:
            results.append(len(sandbox.apply(plan.id)))
        except PlanError:
            results.append(0)

    threads = [threading.Thread(target=apply, args=(s,)) for s in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert sorted(results) == [0, 2]
    assert first.counts() == {State.PENDING: 2}


def test_an_expired_plan_is_refused(sandboxes: Sandboxes) -> None:
    """The world has moved on: neither approved nor applied after its time."""
    sandbox = sandboxes()
    late, approved = ready(sandbox, expires_in=60), ready(sandbox, expires_in=60)
    sandbox.approve(approved, **WHO)
    sandboxes.clock.advance(60)
    with pytest.raises(PlanError, match="expired"):
        sandbox.approve(late, **WHO)
    with pytest.raises(PlanError, match="expired"):
        sandbox.apply(approved)
    assert State.PENDING not in sandbox.counts()


@pytest.mark.parametrize(
    "edit",
    [
        "update gonogo_calls set args = replace(args, '100', '999')",
        "update gonogo_calls set key = 'pay:B'",
        "update gonogo_calls set repeatable = 1",
        "update gonogo_calls set max_attempts = 9",
        "update gonogo_calls set run_at = run_at + 1",
        "update gonogo_calls set action = 'transfer'",
        "update gonogo_calls set verdict = 'done'",
        "delete from gonogo_calls where position = 1",
    ],
)
@pytest.mark.parametrize("approved", [False, True])
def test_a_plan_that_was_tampered_with_is_refused(
    shared: Sandboxes, edit: str, approved: bool
) -> None:
    """The approval binds every field that decides what runs; an edited row is found out."""
    sandbox = shared()
    plan = ready(sandbox, "A", "C")
    if approved:
        sandbox.approve(plan, **WHO)
    raw = sqlite3.connect(str(shared.url).removeprefix("sqlite:///"))
    with raw:
        assert raw.execute(edit).rowcount > 0
    raw.close()
    with pytest.raises(PlanError, match="digest"):
        sandbox.apply(plan) if approved else sandbox.approve(plan, **WHO)
    assert State.PENDING not in sandbox.counts()


def test_a_key_that_was_taken_since_stops_the_plan(armed: SandboxOrchestrator) -> None:
    """Somebody paid meanwhile: nothing at all is queued, the approval stays, and it says what."""
    plan = ready(armed, "A", "B")
    armed.approve(plan, **WHO)
    armed.actions["pay"]("B")
    with pytest.raises(Drifted, match=r"pay:B.*succeeded"):
        armed.apply(plan)
    assert armed.plan(plan.id).record.state is PlanState.APPROVED
    assert armed.counts() == {State.SUCCEEDED: 1, State.PLANNED: 2}


def test_a_world_that_changed_stops_its_call(locked: SandboxOrchestrator) -> None:
    """Facts are read when planned and again before the effect; what drifted is named."""
    balance = {"balance": 100}
    pay = payment(locked)
    pay.precondition(lambda invoice, cents=100: dict(balance))
    plan = ready(locked)
    balance["balance"] = 80
    applied(locked, plan)
    (call,) = plan_calls(locked, plan)
    assert call.state is State.FAILED
    assert "balance 100 → 80" in (call.note or "")


def test_a_precondition_that_says_no_makes_a_plan_incomplete(locked: SandboxOrchestrator) -> None:
    """What would be refused is not approved; the same for an action that needs approval."""
    for name, needs_approval in (("pay", False), ("careful", True)):
        pay = payment(locked, name=name, needs_approval=needs_approval)
        pay.precondition(lambda invoice, cents=100: False)
        with locked.rehearse("r") as plan:
            pay.enqueue("A")
        assert "no longer holds" in plan.problems[0]


def test_approving_needs_who_and_why(locked: SandboxOrchestrator) -> None:
    """Nobody approves anonymously or without a reason; a plan must be there."""
    plan = ready(locked)
    with pytest.raises(ConfigurationError, match="who"):
        locked.approve(plan, by=" ", reason="x")
    with pytest.raises(ConfigurationError, match="why"):
        locked.approve(plan.id, by="ann", reason="")
    with pytest.raises(NotFound, match="no plan"):
        locked.apply("nowhere")
    assert locked.plan(plan.id).record.state is PlanState.READY


def test_an_approved_plan_satisfies_needs_approval(locked: SandboxOrchestrator) -> None:
    """Whoever approved the plan approved its calls."""
    provider = Provider()
    payment(locked, provider, needs_approval=True)
    applied(locked, ready(locked, "A"))
    assert provider.book == ["A"]


def test_a_discarded_plan_never_runs(locked: SandboxOrchestrator) -> None:
    """Given up: its calls are discarded, and it cannot be approved any more."""
    plan = ready(locked)
    locked.planner.discard(plan.id, **WHO)
    with pytest.raises(PlanError, match="is discarded"):
        locked.approve(plan, **WHO)
    with pytest.raises(PlanError, match="cannot be discarded"):
        locked.planner.discard(plan.id, **WHO)
    assert locked.counts() == {State.DISCARDED: 1}


def test_what_waits_for_a_discarded_call_is_cancelled(locked: SandboxOrchestrator) -> None:
    """A job outside the plan that waits for one of its calls does not wait for ever."""
    pay, remind = payment(locked), reminder(locked, str)
    with locked.rehearse("payday") as plan:
        first = pay.enqueue("A")
    waiting = remind.enqueue("A", after=first)
    locked.discard(plan, **WHO)
    assert waiting.state() is State.CANCELLED
    assert "discarded" in story(waiting)


def test_an_overtaken_plan_says_so(sandboxes: Sandboxes) -> None:
    """Its calls that others took meanwhile are told, while they hold the keys; not the others."""
    sandbox, provider = sandboxes(), Provider()
    pay = payment(sandbox, provider)
    plans = []
    for invoices in ("AB", "ABC", "D"):
        with sandbox.rehearse("payday") as plan:
            pay.enqueue_many([(invoice,) for invoice in invoices])
        sandbox.approve(plan, **WHO)
        plans.append(plan.id)
    first, second, third = plans
    handle, _ = sandbox.apply(first)
    seen = sandbox.plan(second)
    assert seen.overtaken == 2
    assert "! overtaken: 2 have lost their keys to other calls since" in str(seen)
    told = [call.note for call in seen.calls]
    assert told[0] == f"overtaken: call {handle.id} has its key meanwhile, and is pending"
    assert (told[1] is not None, told[2]) == (True, None)
    assert [sandbox.planner.is_overtaken(sandbox.planner.record(p)) for p in plans] == [
        False,
        True,
        False,
    ]
    assert (sandbox.plan(first).overtaken, sandbox.plan(third).overtaken) == (0, 0)
    with pytest.raises(Drifted):
        sandbox.apply(second)
    sandbox.cancel_plan(first, **WHO)
    assert sandbox.plan(second).overtaken == 0
    assert "! overtaken" not in str(sandbox.plan(second))
    sandbox.apply(second)
    drain(sandbox)
    assert provider.book == ["A", "B", "C"]


def test_the_rest_of_an_applied_plan_is_cancelled(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not begun, claimed or not, over several commits; what has is left alone."""
    monkeypatch.setattr("gonogo.jobs.AT_ONCE", 2)
    sandbox, provider = sandboxes(), Provider()
    pay, remind = payment(sandbox, provider), reminder(sandbox, str)
    with sandbox.rehearse("payday") as plan:
        handles = pay.enqueue_many([(invoice,) for invoice in "ABCDEF"])
        last = remind.enqueue("paid", after=handles[-1])
        pay.enqueue("A")
    with pytest.raises(PlanError, match="is ready, not applied") as refused:
        sandbox.cancel_plan(plan, **WHO)
    assert refused.value.remedy == f"gonogo plan discard {plan.id} --by WHO --reason WHY"
    sandbox.approve(plan, **WHO)
    sandbox.apply(plan)
    provider.script = [None, TimeoutError("no reply"), lambda invoice: done.append(cancel())]
    done: list[Any] = []

    def cancel() -> Any:
        return sandbox.cancel_plan(plan, **WHO)

    assert sandbox.worker.run_once()
    assert sandbox.worker.run_once()
    claimed: Any = sandbox.delivery.claim(2)
    sandbox.delivery.perform(claimed)
    left = {State.SUCCEEDED: 1, State.UNKNOWN: 1, State.DISPATCHED: 1}
    assert done == [Cancelled(4, left)]
    drain(sandbox)
    assert provider.book == ["A"]
    assert [h.state() for h in (*handles[3:], last)] == [State.CANCELLED] * 4
    assert cancel() == Cancelled(0, {State.SUCCEEDED: 2, State.UNKNOWN: 1, State.CANCELLED: 4})
    assert f"plan cancelled by {WHO['by']}: {WHO['reason']}" in story(handles[4])
    assert f"Cancelled by {WHO['by']}: {WHO['reason']}" in story(handles[4])
    for left_alone in (plan.calls[0].id, plan.calls[1].id, plan.calls[2].id):
        assert "plan cancelled" not in "".join(sandbox.explain(left_alone))
    decided = sandbox.store.read(lambda tx: tx.decisions.of(plan.id))
    assert [d.what for d in decided].count("plan cancelled") == 1
    assert sandbox.plan(plan.id).states() == {
        "succeeded": 2,
        "unknown": 1,
        "cancelled": 4,
    }
    with pytest.raises(PlanError, match="cannot be discarded") as refused:
        sandbox.discard(plan, **WHO)
    assert refused.value.remedy == f"gonogo cancel --plan {plan.id} --by WHO --reason WHY"
    with pytest.raises(NotFound):
        sandbox.cancel_plan("nowhere", **WHO)
    with pytest.raises(ConfigurationError):
        sandbox.cancel_plan(plan, by="", reason="")


def test_what_was_sent_when_a_plan_is_cancelled_is_left_alone(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it waits again a moment later: no call ends by a decision that is nowhere."""
    sandbox, provider = sandboxes(), Provider()
    payment(sandbox, provider)
    plan = ready(sandbox, "A")
    sandbox.approve(plan, **WHO)
    sandbox.apply(plan)
    asked: list[str] = []
    jobs = sandbox.planner.jobs
    cancel_all = jobs.cancel_all
    monkeypatch.setattr(jobs, "cancel_all", lambda ids, **_: asked.extend(ids))

    def busy(_: str) -> None:
        sandbox.cancel_plan(plan, **WHO)
        raise NotApplied("busy")

    provider.script = [busy]
    assert sandbox.worker.run_once()
    cancel_all(asked, **WHO)
    assert sandbox.plan(plan.id).states() == {"pending": 1}


def test_a_doubt_that_a_cancelled_plan_leaves_keeps_its_story(sandboxes: Sandboxes) -> None:
    """Who looks for evidence writes notes of its own; why it is not tried again is still told."""
    sandbox, provider = sandboxes(), Provider()
    pay = payment(sandbox, provider, repeatable=True)
    pay.verify(lambda call: cannot_tell("closed"))
    plan = ready(sandbox, "A")
    sandbox.approve(plan, **WHO)
    sandbox.apply(plan)
    provider.script = [TimeoutError("no reply")]
    drain(sandbox)
    assert sandbox.cancel_plan(plan, **WHO) == Cancelled(0, {State.UNKNOWN: 1})
    for _ in range(3):
        told = [line for line in sandbox.explain(plan.calls[0].id) if "cancelled by" in line]
        assert len(told) == 1, told
        sandboxes.clock.advance(100)
        sandbox.delivery.maintain()


def test_a_plan_outlives_its_process(shared: Sandboxes) -> None:
    """Rehearsed here, approved there, applied by a third: the same rows, with the same digest."""
    plan = ready(shared(), "A", "B")
    second, third, provider = shared(), shared(), Provider()
    assert second.plan(plan.id).digest == plan.digest
    second.approve(plan.id, **WHO)
    payment(third, provider)
    third.apply(plan.id)
    drain(third)
    assert provider.book == ["A", "B"]


def test_a_large_plan(locked: SandboxOrchestrator) -> None:
    """A thousand calls are planned, shown in a page, and queued in one transaction."""
    plan = ready(locked, *(f"{n}" for n in range(1000)))
    shown = str(plan)
    assert "1,000 new" in shown
    assert "1,000 calls" in shown
    assert len(shown.splitlines()) < 80
    locked.approve(plan, **WHO)
    assert len(locked.apply(plan)) == 1000


def test_a_plan_as_text(armed: SandboxOrchestrator) -> None:
    """It names every call with its verdict and why, and the problems."""
    pay = payment(armed)
    done = pay.call("A").call_id
    with armed.rehearse("payday") as plan:
        pay.enqueue("A")
        pay.enqueue("B")
        str(pay("C"))
    text = str(plan)
    assert plan.states() == {}
    assert "Plan 'payday'" in text
    assert "INCOMPLETE" in text
    assert f"done         pay:A  performed before, in call {done}" in text
    assert "! " in text
