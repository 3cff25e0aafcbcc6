"""What every command shares: its session, the options ``--app --json --debug``, who and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from gonogo.cli.output import Output
from gonogo.cli.target import load_app
from gonogo.durations import parse_duration
from gonogo.errors import ConfigurationError, SchemaError
from gonogo.secrets import describe
from gonogo.targets import users_code

if TYPE_CHECKING:
    from gonogo.orchestrator import SandboxOrchestrator

F = TypeVar("F", bound=Callable[..., Any])

LONGEST = 100 * 366 * 86_400.0
"""Seconds that a duration on the command line may last."""


class Session:
    """One run of the command line.

    Attributes:
        app: what ``--app`` said.
        debug: show tracebacks.
        out: where words go.
    """

    def __init__(self) -> None:
        self.app: str | None = None
        self.debug = False
        self.out = Output()
        self._sandbox: SandboxOrchestrator | None = None

    @property
    def sandbox(self) -> SandboxOrchestrator:
        """The application's sandbox, on a ledger that is there; looking makes none."""
        return self.open()

    def open(self, *, make: bool = False) -> SandboxOrchestrator:
        """The application's sandbox, loaded when it is first asked for; looking performs nothing.

        The limits that its workers set by default are declared here too. Work that the
        application started when it was imported is stopped: carrying out jobs is for ``worker``.

        Raises `SchemaError` where there is no ledger, unless it is to ``make`` one.
        """
        if self._sandbox is None:
            self._sandbox = sandbox = load_app(self.app)
            sandbox.worker.stop()
            sandbox.heartbeat.stop()
            sandbox.scheduler.stop()
            sandbox.set_default_limits()
            if not sandbox.store.shared:
                self.out.note("note: this ledger is in memory and ends with this command")
            elif not sandbox.has_ledger():
                self._without_ledger(sandbox.ledger, make)
        return self._sandbox

    def _without_ledger(self, where: str, make: bool) -> None:
        if not make:
            raise SchemaError(
                f"there is no ledger at {where}, and this command makes none. Run it where the "
                "ledger lies, or write its path in full (sqlite:////srv/ops.db); rehearse, worker "
                "and gonogo db upgrade make a new one"
            )
        self.out.note(f"note: there is no ledger at {where} yet: a new and empty one is made")
        import warnings  # noqa: PLC0415 - seldom needed

        from gonogo.store.newborn import NewLedger  # noqa: PLC0415 - same

        warnings.simplefilter("ignore", NewLedger)  # it has just been told

    def close(self) -> None:
        """Close the ledger, if it was opened."""
        if self._sandbox is None:
            return
        try:
            with users_code():
                self._sandbox.cleanup()
        except Exception as error:  # noqa: BLE001 - what was asked for is done and was told
            self.out.note(f"note: closing the ledger failed: {describe(error)}")


pass_session = click.make_pass_decorator(Session)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        session = context.ensure_object(Session)
        target = session.out if parameter.name == "json" else session
        setattr(target, str(parameter.name), value)


def _shared() -> list[click.Parameter]:
    """The options of every command; each level of the command line accepts them."""
    said: dict[str, Any] = {"expose_value": False, "callback": _remember, "is_eager": True}
    return [
        click.Option(
            ["--app"],
            metavar="MODULE:ATTRIBUTE",
            help="The sandbox, or a function that returns it. Else GONOGO_APP, or app in "
            "gonogo.toml or [tool.gonogo] of pyproject.toml.",
            **said,
        ),
        click.Option(["--json"], is_flag=True, help="One JSON document on stdout.", **said),
        click.Option(["--debug"], is_flag=True, help="Show tracebacks.", **said),
    ]


class UsageError(click.UsageError):
    """A mistake on the command line, with the command that is right."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class Command(click.Command):
    """A command with the shared options and an example in its help."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("epilog", _example(example))
        super().__init__(*args, **kwargs)
        self.params += _shared()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; ``list``, which other commands have, is not taken for an argument."""
        takes_some = any(isinstance(parameter, click.Argument) for parameter in self.params)
        if args[:1] == ["list"] and not takes_some:
            message = f"{ctx.command_path} takes no 'list'; did you mean {ctx.command_path}?"
            raise UsageError(message, ctx.command_path)
        return super().parse_args(ctx, args)


class Group(click.Group):
    """A group of such commands.

    Attributes:
        guesses: commands that people guess and what they mean, where it is spelled otherwise.
    """

    guesses: ClassVar[Mapping[str, str]] = {}
    command_class = Command
    group_class = type

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("epilog", _example(example))
        super().__init__(*args, **kwargs)
        self.params += _shared()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command; where there is none of that name, the error names the one that is meant."""
        name, *rest = args
        known = name.startswith("-") or name in self.list_commands(ctx)
        if not known and (meant := self._meant(ctx, name)):
            import shlex  # noqa: PLC0415 - only slips pay for it

            message = f"there is no command {name!r} here; did you mean {meant}?"
            raise UsageError(message, shlex.join([*meant.split(), *rest]))
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, name: str) -> str | None:
        import difflib  # noqa: PLC0415 - same

        near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
        if guess := self.guesses.get(name) or next(iter(near), None):
            return f"{ctx.command_path} {guess}"
        root = ctx.find_root()
        first = root.command
        above = isinstance(first, Group) and name in first.list_commands(root)
        return f"{root.command_path} {name}" if above else None


def _example(text: str) -> str | None:
    return f"\b\nExample:\n  {text}" if text else None


def _said(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("say something", param=parameter)
    return value


def by(*, required: bool = True) -> Callable[[F], F]:
    """The option ``--by``: who decides. There is no default; it may come from GONOGO_BY."""
    return click.option(
        "--by",
        required=required,
        envvar="GONOGO_BY",
        metavar="WHO",
        callback=_said,
        help="Who decides; recorded. Else GONOGO_BY.",
    )


def reason() -> Callable[[F], F]:
    """The option ``--reason``: why it was decided."""
    return click.option(
        "--reason", required=True, metavar="WHY", callback=_said, help="Why; recorded."
    )


def duration(text: str) -> float:
    """Seconds of ``90``, ``30s`` or ``1h30m``; `ValueError` when it is no duration."""
    try:
        seconds = parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    if seconds > LONGEST:
        raise ValueError(f"{text} is more than a hundred years; for no end leave it out")
    return seconds


def shown_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """The name of a queue or a schedule, which is text that can be shown."""
    if not (value.isprintable() and value.strip()):
        raise click.BadParameter(f"{value!r} is no name: it is empty, or cannot be shown")
    return value


@contextmanager
def as_usage_error() -> Iterator[None]:
    """A `ValueError` in the block is a mistake on the command line."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from None
