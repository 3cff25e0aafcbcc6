"""Which environment a ledger belongs to, so that staging never works off production's payments."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from gonogo.errors import SchemaError
from gonogo.store.schema import marks

_NAME = "environment"


def environment_of(connection: Connection) -> str | None:
    """The environment that a ledger was marked for; ``None`` for one without."""
    return connection.scalar(select(marks.c.value).where(marks.c.name == _NAME))


def require_environment(connection: Connection, wanted: str | None) -> None:
    """Mark a ledger for ``wanted`` the first time, and refuse another environment after that.

    Raises:
        SchemaError: the ledger belongs to another environment, or ``wanted`` is ``None`` and it
            belongs to one.
    """
    found = environment_of(connection)
    if found is None and wanted is not None:
        found = _mark(connection, wanted)
    if found != wanted:
        said = "says no environment" if wanted is None else f"is {wanted!r}"
        raise SchemaError(
            f"the ledger belongs to the environment {found!r}, and this process {said}: nothing "
            f"was done. Give it a ledger of its own, or set environment={found!r} "
            "(SANDBOX_ENVIRONMENT) if it is the same one"
        )


def _mark(connection: Connection, wanted: str) -> str:
    try:
        with connection.begin_nested():
            connection.execute(insert(marks).values(name=_NAME, value=wanted))
    except IntegrityError:  # another process was first
        return environment_of(connection) or wanted
    return wanted
