"""SQLite's write-ahead log, with which readers do not wait for the writer."""

from __future__ import annotations

import sqlite3

_ATTEMPTS = 20


def enter_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; a read-only database stays as it is.

    SQLite does not wait for a lock when it changes the mode, so this waits for the lock in
    between, where it does.
    """
    for attempt in range(_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            code = error.sqlite_errorcode & 0xFF
            if code == sqlite3.SQLITE_READONLY:
                return
            if code != sqlite3.SQLITE_BUSY or attempt == _ATTEMPTS - 1:
                raise
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
