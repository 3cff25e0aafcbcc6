"""The program: its groups of commands, and how a run of it ends."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import ClassVar

import click

from gonogo.cli.base import Group, Session

_HOMES = {
    "check": "desk",
    "status": "desk",
    "rehearse": "plans",
    "plan": "plans",
    "approve": "plans",
    "apply": "plans",
    "worker": "work",
    "calls": "calls",
    "resolve": "calls",
    "cancel": "calls",
    "queues": "queues",
    "schedules": "schedules",
    "workers": "queues",
    "arm": "switches",
    "lock": "switches",
    "halt": "switches",
    "resume": "switches",
    "hold": "switches",
    "release": "switches",
    "alerts": "desk",
    "limits": "desk",
    "decisions": "desk",
    "db": "ledger",
    "crash-test": "crash",
}
"""The module of each command, in the order of the work; only what is asked for is imported."""


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value:
        return
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow to import

    try:
        number = version("gonogo")
    except PackageNotFoundError:  # run from a source tree that is not installed
        number = "unknown"
    context.ensure_object(Session).out.data({"version": number}, [f"gonogo {number}"])
    context.exit()


class _Program(Group):
    guesses: ClassVar = {
        "plans": "plan list",
        "show": "calls show",
        "explain": "calls explain",
        "list": "calls list",
        "pause": "queues pause",
        "unpause": "queues resume",
        "discard": "plan discard",
        "run": "worker",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the work, not of the alphabet."""
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, from its module."""
        if cmd_name not in _HOMES:
            return None
        home = importlib.import_module(f"gonogo.cli.{_HOMES[cmd_name]}")
        command: click.Command = getattr(home, cmd_name.replace("-", "_"))
        return command


@click.group(
    cls=_Program,
    example="gonogo --app payouts.app:sandbox check",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, expose_value=False, callback=_version, help="Show the version."
)
def program() -> None:
    """Rehearse, approve, apply: actions that cannot be taken back, never done twice.

    Exit statuses: 0 done, 2 usage, 3 configuration, 4 NO-GO, 5 HOLD, 6 refused, 7 plan incomplete,
    8 not found, 9 outcome unknown, 10 ledger, 11 calls failed, 12 not ended in time, 130
    interrupted, 1 anything unexpected.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; never raises."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    session = Session()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(session, given)
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:
            return _fail(session, error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes nowhere
        from gonogo.cli.exits import Exit  # noqa: PLC0415 - same as in _fail

        return Exit.PIPE
    return code


def _run(session: Session, given: list[str]) -> int:
    try:
        with program.make_context("gonogo", given, obj=session) as context:
            return int(program.invoke(context) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        raise
    except BaseException as error:  # noqa: BLE001 - every end has its status, also Ctrl-C
        session.out.json = session.out.json or "--json" in given
        return _fail(session, error)
    finally:
        session.close()


def _fail(session: Session, error: BaseException) -> int:
    from gonogo.cli.failures import fail  # noqa: PLC0415 - what goes well does not need it

    return fail(session, error)
