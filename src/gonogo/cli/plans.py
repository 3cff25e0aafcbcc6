"""Rehearse, look at plans, approve, apply."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from gonogo.cli.base import (
    Command,
    Group,
    Session,
    UsageError,
    as_usage_error,
    by,
    duration,
    pass_session,
)
from gonogo.cli.base import reason as why
from gonogo.cli.calls import tell
from gonogo.cli.exits import Exit
from gonogo.cli.finding import plan_id, target_id
from gonogo.cli.job_arguments import bind
from gonogo.cli.stopped import note_stops, stop_views, stops_of
from gonogo.cli.views import opened, plan_view, standing, when, whole_plan_view
from gonogo.cli.waiting import wait_for
from gonogo.errors import ConfigurationError, Refused
from gonogo.lines import clean
from gonogo.plan_text import spell_counts, spell_overtaken, spell_totals, spell_waiting
from gonogo.records import Call, PlanRecord, PlanState
from gonogo.secrets import describe, show_error
from gonogo.targets import resolve, users_code

if TYPE_CHECKING:
    from gonogo.plan import Plan


@click.command(
    cls=Command, example="gonogo rehearse --name march payouts.app:payday file=payouts.csv"
)
@click.argument("job", metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]...")
@click.option("--name", help="The plan's name; else the function's.")
@click.option("--expires-in", type=duration, metavar="DURATION", help="How long it is good for.")
@pass_session
def rehearse(
    session: Session,
    job: str,
    arguments: tuple[str, ...],
    name: str | None,
    expires_in: float | None,
) -> Exit:
    """Record what a job would do as a plan; nothing is performed.

    Arguments of the job: name=value, a plain value, a JSON object of names, or a JSON list. Exits
    with 7 when the plan is incomplete, so that it cannot be approved.
    """
    sandbox = session.open(make=True)
    fn = resolve(job)
    if not callable(fn):
        raise ConfigurationError(f"{job} is a {type(fn).__name__}, not a function")
    with as_usage_error():
        args, kwargs = bind(fn, arguments)
    plan: Plan | None = None
    try:
        with (
            users_code(),
            sandbox.rehearse(name or job.rpartition(":")[2], expires_in=expires_in) as plan,
        ):
            _call(fn, args, kwargs)
    except (Exception, SystemExit) as error:
        if plan is None:
            raise
        session.out.note(f"gonogo: the job ended with {clean(describe(error))}")
        if session.debug:
            session.out.note(show_error(error)["traceback"])
    _show(session, plan, every=not sandbox.store.shared)  # no other command can show the rest
    if plan.record.state is not PlanState.READY:
        return Exit.INCOMPLETE
    if not plan.calls:
        session.out.note("note: the job asked for nothing that a plan holds")
    if sandbox.store.shared:
        session.out.note(f"Next: gonogo approve {plan.id} --by WHO --reason WHY")
    return Exit.OK


def _call(fn: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    made = fn(*args, **kwargs)
    if inspect.iscoroutine(made):
        import asyncio  # noqa: PLC0415 - only async jobs pay for it

        asyncio.run(made)


_UNAPPLIED = {PlanState.INCOMPLETE, PlanState.READY, PlanState.APPROVED}


@click.group(cls=Group, example="gonogo plan list --state ready")
def plan() -> None:
    """Plans: list, show, discard."""


@plan.command("list", example="gonogo plan list --state ready")
@click.option("--state", "states", multiple=True, type=click.Choice([s.value for s in PlanState]))
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@pass_session
def list_plans(session: Session, states: tuple[str, ...], limit: int) -> None:
    """List the plans, newest first."""
    sandbox = session.sandbox
    found = sandbox.plans(*(PlanState(s) for s in states), limit=limit)
    rows = [
        (p.id, standing(sandbox, p), p.size, (when(p.created_at) or "")[:19], p.approved_by, p.name)
        for p in found
    ]
    session.out.table(
        [{**plan_view(p), "standing": row[1]} for p, row in zip(found, rows, strict=True)],
        ("id", "state", "calls", "rehearsed", "approved by", "name"),
        rows,
        empty="no such plans",
    )


@plan.command(example="gonogo plan show march --all")
@click.argument("plan", metavar="PLAN")
@click.option("--all", "every", is_flag=True, help="Every call, with its arguments.")
@pass_session
def show(session: Session, plan: str, every: bool) -> None:
    """Show a plan: what would happen, what would not, and why.

    PLAN is its id, the first characters of it, or its name: then the newest is shown.
    """
    sandbox = session.sandbox
    _show(session, sandbox.plan(plan_id(sandbox, plan)), every)


@plan.command(example="gonogo plan discard ID --by ops@example.com --reason 'wrong file'")
@click.argument("plan", metavar="PLAN")
@by()
@why()
@pass_session
def discard(session: Session, plan: str, by: str, reason: str) -> None:
    """Give a plan up: nothing of it will run."""
    sandbox = session.sandbox
    given_up = plan_id(sandbox, plan, _UNAPPLIED)
    record = sandbox.discard(given_up, by=by, reason=reason)
    _done(session, record, "discarded", "nothing of it will run")


@click.command(cls=Command, example="gonogo approve ID --by ops@example.com --reason 'as agreed'")
@click.argument("target", metavar="PLAN|CALL")
@by()
@why()
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@pass_session
def approve(session: Session, target: str, by: str, reason: str, yes: bool) -> None:
    """Say yes to a plan, or to a call that needs it.

    On a terminal it shows the totals and asks first.
    """
    sandbox = session.sandbox
    session.out.note(f"ledger {sandbox.ledger}")
    chosen = target_id(sandbox, target)
    is_plan = sandbox.store.read(lambda tx: tx.plans.get(chosen)) is not None
    plan = sandbox.plan(chosen) if is_plan else None
    stops = note_stops(session, plan.calls if plan else [sandbox.call(chosen)])
    if not yes:
        about = _totals(plan) if plan else [_about(sandbox.call(chosen))]
        _confirm(session, chosen, [clean(line) for line in about])
    approved = sandbox.approve(chosen, by=by, reason=reason)
    if isinstance(approved, PlanRecord):
        effect = "nothing happens until it is applied"
        _done(session, approved, "approved", effect, stopped=stop_views(stops))
        if plan and yes:
            for line in (*spell_waiting(plan.calls), *spell_overtaken(plan.overtaken)):
                session.out.note(f"note: {clean(line)}")
        session.out.note(f"Next: gonogo apply {approved.id}")
    else:
        tell(session, approved, "approved")


def _confirm(session: Session, target: str, about: list[str]) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        remedy = f"gonogo approve {target} --by WHO --reason WHY --yes"
        raise UsageError("there is no terminal to ask on: look at it and add --yes", remedy)
    for line in about:
        session.out.note(line)
    if not click.confirm("Approve?", err=True):
        raise Refused("not approved; nothing was changed")


def _totals(plan: Plan) -> Iterator[str]:
    yield f"Plan {plan.record.name!r} {plan.id}"
    for line in spell_totals(plan.totals()):
        yield f"  will perform {line}"
    for line in (*spell_waiting(plan.calls), *spell_overtaken(plan.overtaken)):
        yield f"  {line}"
    rest = {v: n for v, n in plan.verdicts().items() if v not in {"new", "waits"}}
    if rest:
        yield f"  will not perform: {spell_counts(rest)}"


def _about(call: Call) -> str:
    return f"Call {call.id}: {call.action} ({call.key or 'no key'}) {_arguments(call)}"


@click.command(cls=Command, example="gonogo apply ID --wait --timeout 10m")
@click.argument("plan", metavar="PLAN")
@by(required=False)
@click.option("--wait", is_flag=True, help="Until every call has ended or waits for a person.")
@click.option("--timeout", type=duration, metavar="DURATION", help="With --wait: at most so long.")
@pass_session
def apply(session: Session, plan: str, by: str | None, wait: bool, timeout: float | None) -> Exit:
    """Queue exactly the calls of an approved plan.

    Workers perform them. Who applied it is recorded, or that nobody said so. With --wait it exits
    with 9 when a call may or may not have happened, with 11 when one failed, with 12 when the time
    is over. The calls go on when the wait is interrupted.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait")
    sandbox = session.sandbox
    session.out.note(f"ledger {sandbox.ledger}")
    chosen = plan_id(sandbox, plan, {PlanState.APPROVED})
    handles = sandbox.apply(chosen, by=by)
    queued = {handle.id for handle in handles}
    record = sandbox.planner.record(chosen)
    calls = "1 call is" if len(queued) == 1 else f"{len(queued):,} calls are"
    effect = f"{calls} queued for the workers"
    of_plan = sandbox.store.read(lambda tx: tx.calls.of_plan(chosen))
    stopped = stop_views(note_stops(session, of_plan))
    told = {"queued": len(queued), "stopped": stopped}
    if not wait:
        _done(session, record, "applied", effect, **told)
        session.out.note(f"Next: gonogo worker, and gonogo calls list --plan {chosen}")
        return Exit.OK
    session.out.note(f"applied: {effect}")
    end = wait_for(session, chosen, queued, timeout)
    _done(session, record, "applied", end.sentence, **told, states=end.states)
    return end.exit


def _done(session: Session, record: PlanRecord, done: str, effect: str, **more: Any) -> None:
    document = {**plan_view(record), "done": done, "effect": effect, **more}
    line = f"{done}: plan {clean(record.name)!r} {record.id} is {record.state.value}; {effect}"
    session.out.data(document, [line])


def _show(session: Session, plan: Plan, every: bool = False) -> None:
    if session.out.json:
        stopped = stop_views(stops_of(session.sandbox, plan.calls))
        session.out.data({**whole_plan_view(plan), "stopped": stopped}, ())
        return
    note_stops(session, plan.calls)
    text = plan.text(_arguments) if every else str(plan)
    session.out.data(None, text.split("\n"))


def _arguments(call: Call) -> str:
    return json.dumps(opened(call.args), ensure_ascii=False)
