"""What PostgreSQL's refusals mean for people, for the store, and what to do about them."""

from __future__ import annotations

from gonogo.errors import ConfigurationError, GonogoError, StoreError, StoreUnavailable
from gonogo.secrets import redact_text
from gonogo.store.postgres_fate import Trace

NOTHING = "nothing was written"
_LOOK_UP = "the key is held by another call; look the holder up in the same transaction"
_BUSY = "is busy: other transactions kept changing the same rows"
_MEANING = {
    "25006": (
        "is read-only (a standby?)",
        "connect to the primary server, or name every server in its URL (?host=a,b&port=1,2): "
        "the one that can be written is found",
    ),
    "42501": (
        "does not let this role do that",
        "`gonogo db status` shows what to grant; to create or upgrade a ledger the role must own "
        "its tables and have CREATE on their schema",
    ),
    "53100": ("has no room left", "free space on its disk, then try again"),
    "53200": ("has no memory left", "try again; if it stays so, give the server more memory"),
    "53300": (
        "has no connection left",
        "raise max_connections, run fewer processes, or put PgBouncer before it",
    ),
    "55P03": (
        "is busy: another transaction holds a row that this one needs",
        "try again; if it stays so, end the session that holds a transaction open",
    ),
    "57014": ("took too long over a statement", "try again; if it stays so, look at its load"),
}
_WORDS = {
    "password authentication failed": (
        "refuses the user or password",
        "check the credentials in its URL",
    ),
    "permission denied for database": (
        "does not let this role connect",
        "let its owner run: GRANT CONNECT ON DATABASE ... TO ...;",
    ),
    "no password supplied": ("asks for a password", "give one in its URL, or in ~/.pgpass"),
    "no pg_hba.conf entry": (
        "does not let this machine in",
        "add it to the server's pg_hba.conf",
    ),
}
_PASSING = {
    "session is read-only": _MEANING["25006"],
    "server is in hot standby mode": _MEANING["25006"],
    "too many clients": _MEANING["53300"],
    "too many connections for": _MEANING["53300"],
    "remaining connection slots": _MEANING["53300"],
}
"""What may be over in a moment: a standby is promoted, another process ends."""
_LOST = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
_CROSSED = ("40001", "40P01")
_UNPREPARED = "26000"
_REPEATABLE = ("gonogo_held_key", "gonogo_unresolved")


class Contention(StoreUnavailable):
    """Another transaction came first: the store rolls back and runs the work again.

    ``final`` is what the caller gets when that does not help.
    """

    def __init__(self, final: StoreError) -> None:
        super().__init__(str(final))
        self.final = final


class Crossed(Contention):
    """Each of two transactions waited for what the other had locked; the server ended this one."""


class Lost(StoreUnavailable):
    """There is no connection any more, or not yet; nothing was written, and it may be back soon."""


class InDoubt(StoreUnavailable):
    """The connection broke during a commit; its ``trace`` is what to look at."""

    def __init__(self, message: str, trace: Trace) -> None:
        super().__init__(message)
        self.trace = trace


def translate(error: Exception, where: str, *, lost: bool = False) -> GonogoError:
    """The store's error for one of the driver's, naming the database and the remedy.

    Args:
        where: the database's URL without its password.
        lost: whether the connection is known to be of no more use.
    """
    code = getattr(error, "sqlstate", None) or ""
    said = redact_text(" ".join(str(error).split()))
    if code == "23505":
        return _duplicate(error, said)
    if code in _CROSSED:
        return Crossed(_unavailable(where, _BUSY, said, "try again"))
    if code == _UNPREPARED:
        return Contention(_unavailable(where, "lost a prepared statement", said, "try again"))
    if code in _MEANING:
        what, remedy = _MEANING[code]
        return _unavailable(where, what, said, remedy)
    if lost or code.startswith(_LOST):
        return Lost(
            f"the connection to the ledger {where} broke ({said}); {NOTHING}. "
            "Check that the server runs"
        )
    if code.startswith("23"):
        return StoreError(f"the ledger refuses such a row: {said}")
    return StoreUnavailable(f"the ledger {where} failed: {said}; {NOTHING}")


def explain(error: Exception, where: str) -> GonogoError:
    """`translate` where nothing can be run again, or `unreachable` for an error without a code."""
    known = getattr(error, "sqlstate", None) is not None
    found = translate(error, where) if known else unreachable(error, where)
    if isinstance(found, Lost):
        return StoreUnavailable(str(found))
    return found.final if isinstance(found, Contention) else found


def unreachable(error: Exception, where: str) -> GonogoError:
    """The store's error for a connection that could not be made.

    libpq gives no code for these, so the server's words are looked at; in a language that is not
    known here the general answer is given, which quotes them.
    """
    said = redact_text(" ".join(str(error).split()))
    for words, (what, remedy) in _PASSING.items():
        if words in said:
            return Lost(str(_unavailable(where, what, said, remedy)))
    for words, (what, remedy) in _WORDS.items():
        if words in said:
            return _unavailable(where, what, said, remedy)
    if 'database "' in said and "does not exist" in said:
        return ConfigurationError(
            f"the database {where} does not exist ({said}); {NOTHING}. "
            "Create it (createdb), or check the name in its URL"
        )
    return Lost(
        f"the database {where} cannot be reached: {said}; {NOTHING}. "
        "Check that it runs, and the host, name and credentials in its URL"
    )


def _duplicate(error: Exception, said: str) -> StoreError:
    name = getattr(getattr(error, "diag", None), "constraint_name", None)
    final = StoreError(
        _LOOK_UP if name == "gonogo_held_key" else f"the ledger already holds such a row: {said}"
    )
    return Contention(final) if name in _REPEATABLE else final


def _unavailable(where: str, what: str, said: str, remedy: str) -> StoreUnavailable:
    return StoreUnavailable(f"the ledger {where} {what} ({said}); {NOTHING}. {remedy}")
