"""The server behind a connection: its version, and whether it takes writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gonogo.errors import ConfigurationError, StoreUnavailable
from gonogo.store.postgres_errors import NOTHING

OLDEST = 130_000
"""The first version of the server that says what became of a transaction, as a number."""
_ASK = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery()"


class Server(Struct, frozen=True):
    """A PostgreSQL server.

    Attributes:
        number: its version as a number: 150_004 is 15.4.
        standby: it only copies another one, and takes no writes.
    """

    number: int
    standby: bool

    @property
    def version(self) -> str:
        """Its version for people."""
        return f"{self.number // 10_000}.{self.number % 10_000}"

    def require_known(self, where: str) -> None:
        """Raise `ConfigurationError` if the server at ``where`` is too old for a ledger."""
        if self.number < OLDEST:
            raise ConfigurationError(
                f"the server of {where} is PostgreSQL {self.number // 10_000}; {NOTHING}. "
                f"A ledger needs {OLDEST // 10_000} or newer"
            )

    def require_primary(self, where: str) -> None:
        """Raise `StoreUnavailable` for a standby; after a fail-over it may be the primary soon."""
        if self.standby:
            raise StoreUnavailable(
                f"the server of the ledger {where} is a standby, which takes no writes; {NOTHING}. "
                "Connect to the primary server"
            )


def ask(execute: Callable[[str], Any]) -> Server:
    """What the server behind ``execute``, which runs a statement and returns a cursor, is."""
    number, standby = execute(_ASK).fetchone()
    return Server(number, standby)
