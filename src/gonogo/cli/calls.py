"""Calls: list, show, explain; and what people decide about them."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from gonogo.cli.base import Command, Group, Session, by, pass_session, reason
from gonogo.cli.finding import call_id, known_action, plan_id
from gonogo.cli.views import EFFECT, attempt_view, call_view, decision_view, when
from gonogo.decisions import Resolution
from gonogo.errors import Refused
from gonogo.history import attempts_of
from gonogo.lines import clean
from gonogo.records import Call, PlanState, State


@click.group(cls=Group, example="gonogo calls list --state unknown")
def calls() -> None:
    """The calls in the ledger: list, show, explain.

    CALL is a call's id, the first characters of it, or its key: then that which holds the key.
    """


@calls.command("list", example="gonogo calls list --state unknown --action payment")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([s.value for s in State]), help="Any of."
)
@click.option("--action", metavar="NAME")
@click.option("--key", metavar="KEY", help="The idempotency key, in full.")
@click.option("--plan", metavar="PLAN", help="Its id, the beginning of it, or its name.")
@click.option("--correlation", metavar="ID")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--before", metavar="ID", help="Only those behind this one: the next page.")
@pass_session
def list_calls(
    session: Session, /, states: tuple[str, ...], limit: int, **wanted: str | None
) -> None:
    """List calls, newest first; those of a plan in its order."""
    sandbox, plan, action = session.sandbox, wanted["plan"], wanted["action"]
    found = sandbox.calls(
        states=tuple(State(s) for s in states),
        action=action and known_action(sandbox, action),
        key=wanted["key"],
        plan_id=plan and plan_id(sandbox, plan),
        correlation_id=wanted["correlation"],
        before=wanted["before"],
        limit=limit,
    )
    rows = [
        (c.id, c.state.value, c.action, c.key, (when(c.created_at) or "")[:19], c.note)
        for c in found
    ]
    session.out.table(
        [call_view(call) for call in found],
        ("id", "state", "action", "key", "requested", "note"),
        rows,
        empty="no such calls",
    )
    if len(found) == limit:
        session.out.note(f"note: there may be more: --before {found[-1].id}")


@calls.command(example="gonogo calls show ID")
@click.argument("call", metavar="CALL")
@pass_session
def show(session: Session, call: str) -> None:
    """Show the record, attempts and decisions of a call."""
    sandbox = session.sandbox
    found = sandbox.call(call_id(sandbox, call))
    attempts, decisions = sandbox.store.read(
        lambda tx: (attempts_of(tx, found), tx.decisions.of(found.id))
    )
    view = call_view(found)
    told = {**view, "position": _place(found)}
    lines = [f"{name:<14} {_shown(value)}" for name, value in told.items() if value is not None]
    for a in attempts:
        fault = f" ({a.fault.type}: {a.fault.message})" if a.fault else ""
        lines.append(f"{'attempt':<14} {a.attempt}: {a.outcome.value}{clean(fault)}")
    lines += [f"{'decision':<14} {clean(f'{d.what} by {d.actor}: {d.reason}')}" for d in decisions]
    document = {
        **view,
        "attempts": [attempt_view(a) for a in attempts],
        "decisions": [decision_view(d) for d in decisions],
    }
    session.out.data(document, lines)


@calls.command(example="gonogo calls explain ID")
@click.argument("call", metavar="CALL")
@pass_session
def explain(session: Session, call: str) -> None:
    """Tell why a call ran, waited, was denied or parked."""
    sandbox = session.sandbox
    found = sandbox.call(call_id(sandbox, call))
    sentences = sandbox.explain(found.id)
    document = {"id": found.id, "state": found.state.value, "happened": found.happened}
    session.out.data({**document, "sentences": sentences}, map(clean, sentences))


@click.command(
    cls=Command, example="gonogo resolve ID landed --by ops@example.com --reason 'on the statement'"
)
@click.argument("call", metavar="CALL")
@click.argument("resolution", type=click.Choice(get_args(Resolution)))
@by()
@reason()
@click.option("--result", metavar="JSON", help="With landed: what the call returned.")
@pass_session
def resolve(
    session: Session,
    call: str,
    resolution: Resolution,
    by: str,
    reason: str,
    result: str | None,
) -> None:
    """Settle an unknown call by your word, which is recorded.

    landed: it happened. absent: it did not happen; its key is free. retry: it did not happen; run
    it again. Of a call that was rejected, absent frees the key once the cause is mended.
    """
    if result is not None and resolution != "landed":
        raise click.UsageError("--result goes with landed only: nothing else has a result")
    value = None if result is None else _json(result)
    sandbox = session.sandbox
    meant = call_id(sandbox, call)
    resolved = sandbox.resolve(meant, resolution, by=by, reason=reason, result=value)
    tell(session, resolved, f"resolved as {resolution}")


@click.command(cls=Command, example="gonogo cancel ID --by ops@example.com --reason 'paid by card'")
@click.argument("call", metavar="[CALL]", required=False)
@click.option("--plan", metavar="PLAN", help="All calls of an applied plan that have not begun.")
@by()
@reason()
@pass_session
def cancel(session: Session, call: str | None, plan: str | None, by: str, reason: str) -> None:
    """Cancel a call of which nothing was sent yet, or all such calls of a plan.

    What has begun goes on: of a plan it is counted.
    """
    if (call is None) is (plan is None):
        raise click.UsageError("name a CALL, or a plan with --plan")
    if plan is not None:
        _cancel_plan(session, plan, by, reason)
    elif call is not None:
        _cancel_call(session, call, by, reason)


def _cancel_plan(session: Session, plan: str, by: str, reason: str) -> None:
    sandbox = session.sandbox
    meant = plan_id(sandbox, plan, {PlanState.APPLIED})
    done = sandbox.cancel_plan(meant, by=by, reason=reason)
    left = {state.value: count for state, count in done.left.items()}
    calls = "1 call" if done.calls == 1 else f"{done.calls:,} calls"
    told = ", ".join(f"{count:,} {state}" for state, count in left.items())
    document = {"plan": meant, "cancelled": done.calls, "left": left}
    session.out.data(
        document, [f"cancelled: {calls} of plan {meant}; left alone: {told or 'none'}"]
    )


def _cancel_call(session: Session, call: str, by: str, reason: str) -> None:
    sandbox = session.sandbox
    meant = call_id(sandbox, call)
    cancelled = sandbox.jobs.cancel(meant, by=by, reason=reason)
    found = sandbox.call(meant)
    if not cancelled:
        error = Refused(
            f"call {meant} is {found.state.value}: it is too late to cancel it, nothing was "
            "changed",
            action=found.action,
            key=found.key,
            call_id=meant,
        )
        error.happened = found.happened
        raise error
    tell(session, found, "cancelled")


def _place(call: Call) -> str | None:
    return None if call.position is None else f"call {call.position + 1} of its plan"


def tell(session: Session, call: Call, done: str) -> None:
    """Say what was done to a call, and whether its effect has happened."""
    effect = EFFECT[call.happened]
    if call.state is State.PENDING:
        effect += ", and a worker will perform it"
    about = clean(call.name)
    document = {**call_view(call), "done": done, "effect": effect}
    session.out.data(document, [f"{done}: {about} is {call.state.value}; {effect}"])


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"this is not JSON: {error}", param_hint="--result") from None


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return clean(value)
