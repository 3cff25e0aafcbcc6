"""``db``: the ledger's schema. Works without an application as well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from gonogo.cli.base import Group, Session, pass_session
from gonogo.cli.exits import Exit
from gonogo.cli.target import find_target
from gonogo.errors import ConfigurationError

if TYPE_CHECKING:
    from gonogo.store.postgres_rights import Rights
    from gonogo.store.postgres_server import Server
    from gonogo.store.upgrade import SchemaStatus

_url = click.option(
    "--url", help="The database. Else the application's, else SANDBOX_DB_URL.", metavar="URL"
)


@click.group(cls=Group, example="gonogo db status --url sqlite:///ops.db")
def db() -> None:
    """The ledger's schema: where it is, bringing it up to date."""


@db.command(example="gonogo db status --url sqlite:///ops.db")
@_url
@pass_session
def status(session: Session, url: str | None) -> Exit:
    """Show schema, server and rights; exits with 10 when the ledger cannot be worked on."""
    from gonogo.store import upgrade  # noqa: PLC0415 - heavy, and only this needs it

    found = upgrade.status(_database(session, url))
    _tell(session, found)
    return Exit.OK if found.usable else Exit.STORE


@db.command(example="gonogo db upgrade --url sqlite:///ops.db")
@_url
@pass_session
def upgrade(session: Session, url: str | None) -> None:
    """Bring the ledger to the newest schema; make a backup first."""
    from gonogo.store import upgrade as schema  # noqa: PLC0415 - heavy, and only this needs it

    found = schema.upgrade(_database(session, url))
    _tell(session, found, applied=found.applied)


def _database(session: Session, url: str | None) -> str:
    if url is None and find_target(session.app) is not None:
        url = session.open(make=True).settings.db_url
        if url is None:
            raise ConfigurationError(
                "the application's ledger is not kept, so it has no schema to upgrade: give "
                "SandboxOrchestrator a database URL"
            )
    url = url or os.environ.get("SANDBOX_DB_URL")
    if not url:
        raise ConfigurationError("name the database: --url, --app or SANDBOX_DB_URL")
    return url


def _tell(session: Session, found: SchemaStatus, applied: tuple[str, ...] | None = None) -> None:
    document: dict[str, Any] = {
        "current": found.current,
        "head": found.head,
        "pending": list(found.pending),
        "environment": found.environment,
        "server": None,
        "rights": None,
    }
    lines = [_schema(found)]
    if found.environment is not None:
        lines.append(f"environment {found.environment}")
    if found.server is not None:
        document["server"] = {"version": found.server.version, "standby": found.server.standby}
        lines.append(_server(found.server))
    if found.rights is not None:
        document["rights"] = {
            "role": found.rights.role,
            "needed": found.rights.needed,
            "missing": found.rights.missing,
            "grants": found.rights.grants,
        }
        lines += _rights(found.rights)
    if applied is not None:
        document["applied"] = list(applied)
        lines[0] = f"{lines[0]}; applied {', '.join(applied) or 'nothing, it was up to date'}"
    session.out.data(document, lines)


def _schema(found: SchemaStatus) -> str:
    if not found.readable:
        return f"the role may not read at what schema the ledger is (newest: {found.head})"
    if found.current is None:
        return f"no ledger yet; its first use, or db upgrade, makes one ({found.head})"
    if found.pending:
        return f"at {found.current}; {len(found.pending)} to come: {', '.join(found.pending)}"
    return f"at {found.current}, the newest"


def _server(server: Server) -> str:
    told = f"server PostgreSQL {server.version}"
    if server.standby:
        told += ", a standby, which takes no writes: connect to the primary"
    return told


def _rights(rights: Rights) -> list[str]:
    if not rights.missing:
        return [f"role {rights.role} has every right it needs"]
    from gonogo.store.postgres_rights import MAKE_IT  # noqa: PLC0415 - heavy, and only this needs it

    if rights.may_only_not_make_it:
        own = f"if it is to own the ledger itself: {rights.grants[0]}"
        return [f"role {rights.role} may not make a ledger here", MAKE_IT, own]
    lacking = [
        f"role {rights.role} lacks {', '.join(right.missing)} on {right.kind.lower()} {right.name}"
        for right in rights.missing
    ]
    return [*lacking, "let the owner of the ledger run:", *(f"  {it}" for it in rights.grants)]
