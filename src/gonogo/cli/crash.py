"""``crash-test``: kill an action at every boundary, and compare the ledger with the books."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import structs

from gonogo.cli import job_arguments
from gonogo.cli.base import Command, Session, as_usage_error, duration, pass_session
from gonogo.cli.exits import Exit
from gonogo.errors import ConfigurationError
from gonogo.targets import resolve, users_code


@click.command(
    "crash-test",
    cls=Command,
    example="gonogo crash-test payouts:pay --probe payouts:times_paid 'TEST-{n}' 100",
)
@click.argument("action", metavar="MODULE:ACTION")
@click.argument("arguments", nargs=-1)
@click.option(
    "--probe",
    required=True,
    metavar="MODULE:FUNCTION",
    help="Takes a call's arguments, returns how often they had their effect.",
)
@click.option(
    "--calls",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON list of argument lists or objects, instead of ARGUMENTS.",
)
@click.option("--random", type=click.IntRange(0, 10_000), default=5, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random kills.")
@click.option("--at", multiple=True, metavar="BOUNDARY", help="Only there; may be repeated.")
@click.option("--db-url", metavar="URL", help="An empty database; else SQLite files, removed.")
@click.option("--lease", type=duration, default="2s", show_default=True, metavar="DURATION")
@click.option("--processes", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--timeout", type=duration, default="10m", show_default=True, metavar="DURATION")
@pass_session
def crash_test(
    session: Session,
    action: str,
    arguments: tuple[str, ...],
    probe: str,
    calls: Path | None,
    random: int,
    seed: int,
    at: tuple[str, ...],
    db_url: str | None,
    lease: float,
    processes: int,
    timeout: float,
) -> Exit:
    """Kill an action at every boundary, and count what happened twice or not at all.

    It performs the action for real, against whatever the module is set up to talk to, from
    processes of its own on a ledger of its own. ARGUMENTS are those of one call; ``{n}`` in them
    is a number, so that each call is another one. Exits with 11 when the action is not safe.
    """
    from gonogo.testing.crash import crash_test as run  # noqa: PLC0415 - only this command needs it

    if bool(arguments) is (calls is not None):
        raise click.UsageError("give either ARGUMENTS with {n} in them, or --calls")
    rows = _from_file(calls) if calls is not None else _numbered(action, arguments)
    with users_code():
        report = run(
            action,
            probe,
            rows,
            boundaries=at or None,
            random_kills=random,
            seed=seed,
            db_url=db_url,
            lease=lease,
            processes=processes,
            timeout=timeout,
        )
    document = structs.asdict(report) | {"total": report.total, "ok": report.ok}
    session.out.data(document, str(report).splitlines())
    return Exit.OK if report.ok else Exit.FAILED


def _from_file(path: Path) -> list[Any]:
    try:
        rows: list[Any] = msgspec.json.decode(
            path.read_bytes(), type=list[dict[str, Any] | list[Any]]
        )
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError(
            f"cannot read calls from {path}: {error}; it must be a JSON list whose items are "
            "lists or objects of arguments"
        ) from error
    return rows


def _numbered(action: str, arguments: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The calls that ``arguments`` make when ``{n}`` counts."""
    texts = tuple(arguments)
    if not any("{n}" in text for text in texts):
        raise click.UsageError("put {n} into an argument: each call must be another one")
    found = resolve(action)
    fn, names = getattr(found, "fn", found), getattr(found, "parameters", None)
    for n in itertools.count():
        with as_usage_error():
            args, named = job_arguments.bind(fn, [text.replace("{n}", str(n)) for text in texts])
        order = names.names if names is not None else ()
        yield {**dict(zip(order, args, strict=False)), **named}
