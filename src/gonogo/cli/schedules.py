"""``schedules``: what recurs, when it ran and runs next, and its switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from gonogo.cli.base import Group, Session, by, duration, pass_session, reason, shown_name
from gonogo.cli.views import control_view, when
from gonogo.durations import spell_duration
from gonogo.errors import NotFound

if TYPE_CHECKING:
    from gonogo.timetable import ScheduleStatus


@click.group(cls=Group, example="gonogo schedules list")
def schedules() -> None:
    """What recurs: list, pause, resume, run now, forget."""


@schedules.command("list", example="gonogo schedules list --json")
@pass_session
def list_schedules(session: Session) -> None:
    """List the schedules: when each ran, what became of it, and when it runs next."""
    found = session.sandbox.schedules()
    columns = ("name", "action", "when", "next", "last", "became", "missed")
    rows = [
        (
            name,
            status.schedule.action,
            _when(status),
            _next(status),
            when(status.schedule.last_at) or "",
            status.schedule.note or (status.state.value if status.state else ""),
            f"{status.schedule.missed:,}",
        )
        for name, status in found.items()
    ]
    session.out.table([_view(s) for s in found.values()], columns, rows, empty="no schedules")
    if waiting := sorted(set(session.sandbox.scheduler.declared) - set(found)):
        session.out.note(f"declared here, and no worker has started them: {', '.join(waiting)}")


def _view(status: ScheduleStatus) -> dict[str, Any]:
    times = ("next_at", "last_at", "anchor")
    fields = structs.asdict(status.schedule)
    return {
        **fields,
        **{name: when(fields[name]) for name in times},
        "paused": status.paused and control_view(status.paused),
        "state": status.state,
        "late": status.late,
        "overdue": status.is_overdue,
    }


def _when(status: ScheduleStatus) -> str:
    spec = status.schedule.spec
    if spec.startswith("every "):
        return f"every {spell_duration(float(spec.removeprefix('every ')))}"
    return f"{spec.removeprefix('cron ')} {status.schedule.tz}"


def _next(status: ScheduleStatus) -> str:
    if status.paused is not None:
        end = when(status.paused.until)
        until = f" until {end}" if end else ""
        return f"paused{until} by {status.paused.actor}: {status.paused.reason}"
    if status.is_overdue:
        return f"overdue by {spell_duration(status.late)}: no process that declares it runs"
    return when(status.schedule.next_at) or ""


@schedules.command(
    example="gonogo schedules pause payday --by ops@example.com --reason 'a bank holiday'"
)
@click.argument("name", callback=shown_name)
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
def pause(session: Session, name: str, seconds: float | None, by: str, reason: str) -> None:
    """Let the ticks of NAME pass; they are not made up for. Calls that were made stay."""
    sandbox = session.sandbox
    until = None if seconds is None else sandbox.clock.now() + seconds
    control = sandbox.timetable.pause(name, by=by, reason=reason, until=until)
    effect = f"{name} does not tick until {when(control.until) or 'somebody ends it'}"
    document = {"done": "paused", "effect": effect, "control": control_view(control)}
    session.out.data(document, [f"paused: {effect}"])


@schedules.command(
    example="gonogo schedules resume payday --by ops@example.com --reason 'it is over'"
)
@click.argument("name", callback=shown_name)
@by()
@reason()
@pass_session
def resume(session: Session, name: str, by: str, reason: str) -> None:
    """End a pause: the next tick is the first one from now on."""
    sandbox = session.sandbox
    if not sandbox.timetable.resume(name, by=by, reason=reason):
        raise NotFound(f"schedule {name!r} is not paused, nothing was changed")
    following = when(sandbox.schedules()[name].schedule.next_at)
    effect = f"{name} ticks again, next at {following}"
    session.out.data({"done": "resumed", "effect": effect, "next_at": following}, [effect])


@schedules.command(example="gonogo schedules run payday --by ops@example.com --reason 'missed it'")
@click.argument("name", callback=shown_name)
@by()
@reason()
@pass_session
def run(session: Session, name: str, by: str, reason: str) -> None:
    """Queue the call of NAME at once, as if it ticked now; its ticks stay as they are."""
    handle = session.sandbox.timetable.run_now(name, by=by, reason=reason)
    state = handle.state().value
    told = f"queued call {handle.id}; a worker carries it out"
    if not handle.is_new:
        told = f"its key is taken by call {handle.id} ({state}); nothing new was queued"
    document = {"done": "run", "call": handle.id, "new": handle.is_new, "state": state}
    session.out.data(document, [told])


@schedules.command(
    example="gonogo schedules forget payday --by ops@example.com --reason 'it moved'"
)
@click.argument("name", callback=shown_name)
@by()
@reason()
@pass_session
def forget(session: Session, name: str, by: str, reason: str) -> None:
    """Remove NAME from the ledger; a process that starts and declares it brings it back."""
    session.sandbox.timetable.forget(name, by=by, reason=reason)
    effect = f"{name} is forgotten"
    session.out.data({"done": "forgotten", "effect": effect}, [effect])
