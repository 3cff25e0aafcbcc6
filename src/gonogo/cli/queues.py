"""``queues`` and ``workers``: what waits where, who works on it, and stopping a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from gonogo.cli.base import Command, Group, Session, by, duration, pass_session, reason, shown_name
from gonogo.cli.stopped import spell_effect, still_stopped
from gonogo.cli.views import control_view, did, doing, liveness, performing_view, when
from gonogo.durations import spell_duration
from gonogo.errors import NotFound
from gonogo.records import Beat, Call, State

if TYPE_CHECKING:
    from gonogo.settings import Settings

_LOOKED_AT = 10_000
"""Calls under way that are looked at."""


@click.group(cls=Group, example="gonogo queues list")
def queues() -> None:
    """The queues that jobs wait in: list, pause, resume."""


@queues.command("list", example="gonogo queues list --json")
@pass_session
def list_queues(session: Session) -> None:
    """List the queues: how much waits in each, and who paused it."""
    found = session.sandbox.queues()
    data = [
        {
            "queue": name,
            "pending": queue.pending,
            "paused": queue.paused and control_view(queue.paused),
        }
        for name, queue in found.items()
    ]
    rows = [
        (
            name,
            f"{queue.pending:,}",
            f"{queue.paused.actor}: {queue.paused.reason}" if queue.paused else "",
        )
        for name, queue in found.items()
    ]
    session.out.table(data, ("queue", "pending", "paused by"), rows, empty="no queues")


@queues.command(example="gonogo queues pause mail --by ops@example.com --reason 'wrong template'")
@click.argument("queue", callback=shown_name)
@click.option(
    "--for",
    "seconds",
    type=duration,
    metavar="DURATION",
    help="Ends by itself after that; without it, resume ends it.",
)
@by()
@reason()
@pass_session
def pause(session: Session, queue: str, seconds: float | None, by: str, reason: str) -> None:
    """Take nothing more from QUEUE, on any machine; what is under way goes on."""
    sandbox = session.sandbox
    if queue not in sandbox.queues():
        session.out.note(f"note: no call waits in a queue {queue!r}, and nobody works on it here")
    until = None if seconds is None else sandbox.clock.now() + seconds
    control = sandbox.pause(queue, by=by, reason=reason, until=until)
    end = when(control.until) or "somebody ends it"
    effect = f"nothing is taken from {queue} until {end}"
    document = {"done": "paused", "effect": effect, "control": control_view(control)}
    session.out.data(document, [f"paused: {effect}"])


@queues.command(example="gonogo queues resume mail --by ops@example.com --reason 'mended'")
@click.argument("queue", callback=shown_name)
@by()
@reason()
@pass_session
def resume(session: Session, queue: str, by: str, reason: str) -> None:
    """Take from QUEUE again."""
    sandbox = session.sandbox
    if not sandbox.unpause(queue, by=by, reason=reason):
        paused = [name for name, found in sandbox.queues().items() if found.paused]
        raise NotFound(
            f"queue {queue!r} is not paused, nothing was changed; paused: "
            f"{', '.join(paused) or 'none'}"
        )
    mine = [name for name, action in sandbox.actions.items() if action.policy.queue == queue]
    still = still_stopped(sandbox, mine or None)  # calls of any action can be put in any queue
    over = f"the pause of {queue} is over"
    effect = spell_effect(f"calls are taken from {queue} again", over, still)
    document: dict[str, Any] = {"done": "resumed", "effect": effect, "control": None}
    document["stopped"] = [control_view(one) for one in still]
    session.out.data(document, [f"resumed: {effect}"])


@click.command(cls=Command, example="gonogo workers")
@pass_session
def workers(session: Session) -> None:
    """List the processes on this ledger: their last signs of life, and what they perform."""
    sandbox = session.sandbox
    now, settings = sandbox.clock.now(), sandbox.settings
    beats = sandbox.store.read(lambda tx: tx.beats.all())
    performed: dict[str | None, list[Call]] = {}
    for call in sandbox.calls(states=(State.DISPATCHED,), limit=_LOOKED_AT):
        performed.setdefault(call.owner, []).append(call)
    for calls in performed.values():
        calls.sort(key=lambda call: (call.dispatched_at or now, call.id))
    beats.sort(key=lambda beat: (beat.kind, -beat.at, beat.name))
    columns = ("kind", "name", "state", "last beat", "doing")
    rows = [
        (
            beat.kind,
            beat.name,
            (state := liveness(beat, now, settings)),
            f"{spell_duration(max(0.0, now - beat.at))} ago",
            (doing if state == "alive" else did)(beat, performed.get(beat.name, ()), now),
        )
        for beat in beats
    ]
    data = [
        {
            **_view(beat, now, settings),
            "performing": [performing_view(c, now) for c in performed.get(beat.name, ())],
        }
        for beat in beats
    ]
    session.out.table(data, columns, rows, empty="no process is alive on this ledger")


def _view(beat: Beat, now: float, settings: Settings) -> dict[str, Any]:
    return {**structs.asdict(beat), "at": when(beat.at), "state": liveness(beat, now, settings)}
