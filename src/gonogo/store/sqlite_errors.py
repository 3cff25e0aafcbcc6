"""What SQLite's result codes mean for people, and what to do about them."""

from __future__ import annotations

import sqlite3

from gonogo.errors import GonogoError, StoreError, StoreUnavailable

_MEANING = {
    sqlite3.SQLITE_BUSY: (
        "is locked by another process",
        "try again; if it stays so, end the process that holds a transaction open",
    ),
    sqlite3.SQLITE_LOCKED: (
        "is locked by another connection of this process",
        "end the session that holds a transaction open before calling",
    ),
    sqlite3.SQLITE_READONLY: (
        "is read-only",
        "give this user write permission on the file and its directory",
    ),
    sqlite3.SQLITE_FULL: ("has no room left", "free space on its disk, then try again"),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "its directory must exist and be writable, and the path must not be a directory",
    ),
    sqlite3.SQLITE_PERM: ("may not be opened", "give this user permission on the file"),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "check its disk, then try again"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "restore it from a backup"),
    sqlite3.SQLITE_NOTADB: (
        "is not a SQLite database",
        "check the path, or restore the file from a backup",
    ),
}


def primary(error: Exception) -> int:
    """The primary result code, without the bits that refine it."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def translate(error: Exception, where: str) -> GonogoError:
    """The store's error for one of the driver's, naming the database and the remedy."""
    code = primary(error)
    if code == sqlite3.SQLITE_CONSTRAINT:
        return StoreError(_constraint(str(error)))
    meaning = _MEANING.get(code)
    if meaning is None:
        return StoreUnavailable(f"the ledger {where} failed: {error}; nothing was written")
    what, remedy = meaning
    return StoreUnavailable(f"the ledger {where} {what} ({error}); nothing was written. {remedy}")


def _constraint(message: str) -> str:
    if "gonogo_calls.action" in message and "gonogo_calls.key" in message:
        return "the key is held by another call; look the holder up in the same transaction"
    return f"the ledger already holds such a row: {message}"
