"""What became of a transaction whose commit nobody heard of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

Ask = Callable[[str, Mapping[str, Any]], Any]
"""Runs a statement on another connection; the first row of its answer, or ``None``."""
_LIFE = "pg_stat_get_bgwriter_stat_reset_time()::text"
"""Another one after each crash, which the server's statistics do not survive."""
_STATUS = f"SELECT pg_xact_status(%(xid)s::text::xid8), {_LIFE}"
_BEGAN = (
    "(SELECT extract(epoch FROM backend_start)::text FROM pg_stat_get_activity(pg_backend_pid()))"
)
_SESSION = f"SELECT pg_backend_pid(), {_BEGAN}, {_LIFE}"
_GOES_ON = (
    "SELECT 1 FROM pg_stat_get_activity(%(pid)s) "
    "WHERE backend_start IS NULL OR extract(epoch FROM backend_start)::text = %(began)s"
)
_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity(%(pid)s) "
    "WHERE extract(epoch FROM backend_start)::text = %(began)s AND state <> 'active' "
    "AND state_change < clock_timestamp() - make_interval(secs => %(silence)s)"
)
_CALL = "SELECT 1 FROM gonogo_calls WHERE id = %(call)s"
_SUCCEEDED = f"{_CALL} AND state = 'succeeded' AND settled_at = %(at)s"

PROOF = 60.0
"""Seconds after a commit for which a call that is not there was never written, nor forgotten since.

Far less than `gonogo.retention.LEAST`.
"""

SILENCE = 1.0
"""Seconds without a word from its client after which such a session is ended."""


class Session(Struct, frozen=True):
    """A session of a server: its process there, and when that began, which tells it from others.

    Attributes:
        began: ``None`` where the server does not say it: to a role that acts as another one.
            Then nothing can be told from the session's absence.
        life: of the server, which a crash ends, and a standby that takes over.
    """

    pid: int
    began: str | None
    life: str | None = None


class Numbered(Struct, frozen=True):
    """A transaction by its number, which the server keeps the fate of.

    A server that crashes may forget that it gave the number away, and give it to another one; so
    after a crash nobody knows whose commit it is.

    Attributes:
        life: see `Session`; the one in which the number was given.
        lasts: seconds after the commit for which the server's word that it was aborted is one.
    """

    xid: str
    life: str | None
    lasts: float = math.inf

    def fate(self, ask: Ask) -> str | None:
        """Whether it is committed, aborted or in progress; ``None`` where that is not known."""
        found, life = ask(_STATUS, {"xid": self.xid})
        return None if found == "committed" and life != self.life else found


class Witness(Struct, frozen=True):
    """A call that is in the ledger, as it is told here, if and only if a transaction was committed.

    Attributes:
        succeeded_at: when it succeeded, which nothing changes any more; ``None`` for a call that is
            inserted.
    """

    call_id: str
    succeeded_at: float | None = None

    def is_there(self, ask: Ask) -> bool:
        """Whether the ledger has it."""
        words = _CALL if self.succeeded_at is None else _SUCCEEDED
        return ask(words, {"call": self.call_id, "at": self.succeeded_at}) is not None


class Witnessed(Struct, frozen=True):
    """A transaction by a witness of what it writes.

    It may not have begun yet, so no absence is believed while its session could begin it.
    """

    session: Session
    witness: Witness
    lasts: float = PROOF

    def fate(self, ask: Ask) -> str | None:
        """See `Numbered.fate`."""
        session = {"pid": self.session.pid, "began": self.session.began}
        goes_on = ask(_GOES_ON, session) is not None  # asked first: it may commit at any moment
        if self.witness.is_there(ask):
            return "committed"
        if not goes_on:
            return "aborted"
        ask(_END, {**session, "silence": SILENCE})
        return "in progress"


Trace = Numbered | Witnessed


def session_of(ask: Ask) -> Session:
    """The session in which ``ask`` runs its statements."""
    return Session(*ask(_SESSION, {}))
