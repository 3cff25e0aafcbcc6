"""The program: its groups of commands, and how a run of it ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import click

from gonogo.cli.base import Group, Session
from gonogo.cli.calls import calls, cancel, resolve
from gonogo.cli.crash import crash_test
from gonogo.cli.desk import alerts, check, decisions, limits, status
from gonogo.cli.exits import Exit
from gonogo.cli.failures import fail
from gonogo.cli.ledger import db
from gonogo.cli.plans import apply, approve, plan, rehearse
from gonogo.cli.queues import queues, workers
from gonogo.cli.schedules import schedules
from gonogo.cli.switches import arm, halt, hold, lock, release, resume
from gonogo.cli.work import worker

_COMMANDS = (
    *(check, status, rehearse, plan, approve, apply, worker, calls, resolve, cancel),
    *(
        queues,
        schedules,
        workers,
        arm,
        lock,
        halt,
        resume,
        hold,
        release,
        alerts,
        limits,
        decisions,
        db,
    ),
    crash_test,
)


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value:
        return
    try:
        number = version("gonogo")
    except PackageNotFoundError:  # run from a source tree that is not installed
        number = "unknown"
    context.ensure_object(Session).out.data({"version": number}, [f"gonogo {number}"])
    context.exit()


class _Program(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the work, not of the alphabet."""
        return list(self.commands)


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


for _command in _COMMANDS:
    program.add_command(_command)


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
            return fail(session, error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes nowhere
        return Exit.PIPE
    return code


def _run(session: Session, given: list[str]) -> int:
    try:
        with program.make_context("gonogo", given, obj=session) as context:
            return int(program.invoke(context) or Exit.OK)
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        raise
    except BaseException as error:  # noqa: BLE001 - every end has its status, also Ctrl-C
        session.out.json = session.out.json or "--json" in given
        return fail(session, error)
    finally:
        session.close()
