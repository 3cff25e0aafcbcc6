"""The switches people set: arm and lock, halt and resume, hold and release."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from gonogo.cli.base import Command, Session, by, duration, pass_session, reason
from gonogo.cli.stopped import spell_effect, still_stopped
from gonogo.cli.views import control_view, when
from gonogo.errors import NotFound
from gonogo.records import Control

F = TypeVar("F", bound=Callable[..., Any])


def _for(**more: Any) -> Callable[[F], F]:
    return click.option("--for", "seconds", type=duration, metavar="DURATION", **more)


@click.command(cls=Command, example="gonogo arm --for 30m --by ops@example.com --reason 'refunds'")
@_for(default="1h", show_default=True, help="Locks again by itself after that, such as 30m.")
@by()
@reason()
@pass_session
def arm(session: Session, seconds: float, by: str, reason: str) -> None:
    """Unlock for a while.

    Irreversible actions are performed without a plan until then.
    """
    control = session.sandbox.arm(by=by, reason=reason, seconds=seconds)
    _let_go(
        session,
        "armed",
        f"irreversible calls are performed until {_end(control)}",
        f"irreversible calls need no plan until {_end(control)}",
        _irreversible(session),
        control,
    )


@click.command(cls=Command, example="gonogo lock --by ops@example.com --reason 'done'")
@by()
@reason()
@pass_session
def lock(session: Session, by: str, reason: str) -> None:
    """Lock again now: irreversible actions need an approved plan."""
    sandbox = session.sandbox
    sandbox.lock(by=by, reason=reason)
    if not sandbox.settings.dry_run:
        session.out.note(
            "note: this application is live by configuration (dry_run=False), so its other "
            "processes stay unlocked; gonogo halt stops them"
        )
    _done(session, "locked", None, "irreversible calls need an approved plan")


@click.command(
    cls=Command, example="gonogo halt payment --by ops@example.com --reason 'wrong iban'"
)
@click.argument("action", required=False)
@_for(help="Ends by itself after that; without it, resume ends it.")
@by()
@reason()
@pass_session
def halt(session: Session, action: str | None, seconds: float | None, by: str, reason: str) -> None:
    """Pull the kill switch: refuse ACTION, or everything.

    What is under way is not stopped; what waits stays in the queue.
    """
    sandbox = session.sandbox
    until = None if seconds is None else sandbox.clock.now() + seconds
    control = sandbox.halt(action, by=by, reason=reason, until=until)
    effect = f"{action or 'everything'} is refused until {_end(control)}"
    if action is not None and action not in sandbox.actions:
        effect += f", BUT {_not_here(action, sorted(sandbox.actions))}"
    _done(session, "halted", control, effect)


def _not_here(action: str, known: list[str]) -> str:
    """That a halt reaches nothing of this application, and which action may have been meant."""
    import difflib  # noqa: PLC0415 - only slips pay for it

    told = f"this application has no action {action!r}"
    if near := difflib.get_close_matches(action, known, 1):
        return f"{told}: did you mean {near[0]}? This does not halt {near[0]}"
    return f"{told}; it has {', '.join(known) or 'none'}"


@click.command(cls=Command, example="gonogo resume payment --by ops@example.com --reason 'mended'")
@click.argument("action", required=False)
@by()
@reason()
@pass_session
def resume(session: Session, action: str | None, by: str, reason: str) -> None:
    """End the halt of ACTION, or the halt of everything."""
    from gonogo.halts import HALT_ALL, HALTS  # noqa: PLC0415 - help needs none of the components

    sandbox = session.sandbox
    if not sandbox.resume(action, by=by, reason=reason):
        now, controls = sandbox.clock.now(), _controls(session)
        halts = [n for n in controls if n.startswith(HALTS) and controls[n].active(now)]
        names = ["everything" if n == HALT_ALL else n.removeprefix(HALTS) for n in halts]
        raise NotFound(
            f"{action or 'everything'} is not halted, nothing was changed; halted: "
            f"{', '.join(names) or 'nothing'}",
            action=action,
        )
    what = action or "everything"
    effect, over = f"{what} is no longer refused", f"the halt of {what} is over"
    _let_go(session, "resumed", effect, over, None if action is None else [action])


@click.command(cls=Command, example="gonogo hold --by ops@example.com --reason 'bank holiday'")
@_for(help="Ends by itself after that; without it, release ends it.")
@by()
@reason()
@pass_session
def hold(session: Session, seconds: float | None, by: str, reason: str) -> None:
    """Say stop: the verdict is HOLD.

    No irreversible call is performed, with or without a plan.
    """
    from gonogo.said import HOLD  # noqa: PLC0415 - same

    sandbox = session.sandbox
    until = None if seconds is None else sandbox.clock.now() + seconds
    sandbox.hold(by=by, reason=reason, until=until)
    control = _controls(session)[HOLD]
    _done(session, "held", control, f"the verdict is HOLD until {_end(control)}")


@click.command(cls=Command, example="gonogo release --by ops@example.com --reason 'holiday over'")
@by()
@reason()
@pass_session
def release(session: Session, by: str, reason: str) -> None:
    """End a hold: the checks give the verdict again."""
    if not session.sandbox.release(by=by, reason=reason):
        raise NotFound("nothing is held, nothing was changed")
    effect, over = "the checks give the verdict again", "the hold is over"
    _let_go(session, "released", effect, over, _irreversible(session))


def _controls(session: Session) -> dict[str, Control]:
    return session.sandbox.store.read(lambda tx: tx.controls.all())


def _end(control: Control) -> str:
    return when(control.until) or "somebody ends it"


def _irreversible(session: Session) -> list[str]:
    actions = session.sandbox.actions.items()
    return [name for name, action in actions if action.policy.irreversible]


def _let_go(
    session: Session,
    what: str,
    effect: str,
    over: str,
    names: Iterable[str] | None,
    control: Control | None = None,
) -> None:
    """Tell what was let go, and what still stops any of the actions ``names``; ``None``: of all."""
    still = still_stopped(session.sandbox, names)
    stopped = [control_view(one) for one in still]
    _done(session, what, control, spell_effect(effect, over, still), stopped=stopped)


def _done(
    session: Session, what: str, control: Control | None, effect: str, **more: object
) -> None:
    view = control and control_view(control)
    document = {"done": what, "effect": effect, "control": view, **more}
    session.out.data(document, [f"{what}: {effect}"])
