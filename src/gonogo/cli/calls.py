"""Calls: list, show, explain; and what people decide about them."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from gonogo.cli.base import Command, Group, Session, by, pass_session, reason
from gonogo.cli.output import clean
from gonogo.cli.views import EFFECT, attempt_view, call_view, decision_view, when
from gonogo.decisions import Resolution
from gonogo.errors import Refused
from gonogo.history import attempts_of
from gonogo.records import Call, State


@click.group(cls=Group, example="gonogo calls list --state unknown")
def calls() -> None:
    """The calls in the ledger: list, show, explain."""


@calls.command("list", example="gonogo calls list --state unknown --action payment")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([s.value for s in State]), help="Any of."
)
@click.option("--action", metavar="NAME")
@click.option("--key", metavar="KEY", help="The idempotency key, in full.")
@click.option("--plan", metavar="ID")
@click.option("--correlation", metavar="ID")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--before", metavar="ID", help="Only calls older than this one: the next page.")
@pass_session
def list_calls(
    session: Session, /, states: tuple[str, ...], limit: int, **wanted: str | None
) -> None:
    """List calls, newest first."""
    found = session.sandbox.calls(
        states=tuple(State(s) for s in states),
        action=wanted["action"],
        key=wanted["key"],
        plan_id=wanted["plan"],
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
@click.argument("call_id", metavar="ID")
@pass_session
def show(session: Session, call_id: str) -> None:
    """Show the record, attempts and decisions of a call."""
    sandbox = session.sandbox
    call = sandbox.call(call_id)
    attempts, decisions = sandbox.store.read(
        lambda tx: (attempts_of(tx, call), tx.decisions.of(call_id))
    )
    view = call_view(call)
    lines = [f"{name:<14} {_shown(value)}" for name, value in view.items() if value is not None]
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
@click.argument("call_id", metavar="ID")
@pass_session
def explain(session: Session, call_id: str) -> None:
    """Tell why a call ran, waited, was denied or parked."""
    call, sentences = session.sandbox.call(call_id), session.sandbox.explain(call_id)
    document = {"id": call.id, "state": call.state.value, "happened": call.happened}
    session.out.data({**document, "sentences": sentences}, map(clean, sentences))


@click.command(
    cls=Command, example="gonogo resolve ID landed --by ops@example.com --reason 'on the statement'"
)
@click.argument("call_id", metavar="ID")
@click.argument("resolution", type=click.Choice(get_args(Resolution)))
@by()
@reason()
@click.option("--result", metavar="JSON", help="With landed: what the call returned.")
@pass_session
def resolve(
    session: Session,
    call_id: str,
    resolution: Resolution,
    by: str,
    reason: str,
    result: str | None,
) -> None:
    """Settle an unknown call by your word, which is recorded.

    landed: it happened. absent: it did not happen; its key is free. retry: it did not happen; run
    it again.
    """
    if result is not None and resolution != "landed":
        raise click.UsageError("--result goes with landed only: nothing else has a result")
    value = None if result is None else _json(result)
    call = session.sandbox.resolve(call_id, resolution, by=by, reason=reason, result=value)
    tell(session, call, f"resolved as {resolution}")


@click.command(cls=Command, example="gonogo cancel ID --by ops@example.com --reason 'paid by card'")
@click.argument("call_id", metavar="ID")
@by()
@reason()
@pass_session
def cancel(session: Session, call_id: str, by: str, reason: str) -> None:
    """Cancel a call of which nothing was sent yet."""
    sandbox = session.sandbox
    cancelled = sandbox.jobs.cancel(call_id, by=by, reason=reason)
    call = sandbox.call(call_id)
    if not cancelled:
        error = Refused(
            f"call {call_id} is {call.state.value}: it is too late to cancel it, nothing was "
            "changed",
            action=call.action,
            key=call.key,
            call_id=call_id,
        )
        error.happened = call.happened
        raise error
    tell(session, call, "cancelled")


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
