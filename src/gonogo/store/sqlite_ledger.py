"""Making a ledger in a SQLite database, and knowing one that this code can use as it is."""

from __future__ import annotations

import sqlite3

from gonogo.store.newborn import tell
from gonogo.store.revisions import PREFIX, REVISION, VERSION_TABLE
from gonogo.store.sqlite_ready import Ready, ready

_MARK = "INSERT INTO gonogo_marks (name, value) VALUES ('environment', ?)"
_MARKED = "SELECT value FROM gonogo_marks WHERE name = 'environment'"
_SET_VERSION = f"INSERT INTO {VERSION_TABLE} (version_num) VALUES (?)"  # noqa: S608 - a constant
_VERSION = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - same


def make_ready(raw: sqlite3.Connection, environment: str | None, file: str | None) -> bool:
    """Make the ledger where there is none; whether there is now one for this code and environment.

    A new one in ``file`` is told of: the path may not be the one that was meant.

    Where not, it is for `gonogo.store.upgrade.prepare` to set right or to say what is wrong.
    """
    known = ready()
    if not _tables(raw) and _make(raw, known, environment) and file is not None:
        tell(file)
    if not _tables(raw) >= known.tables.keys():
        return False
    marked = raw.execute(_MARKED).fetchone()
    found = None if marked is None else marked[0]
    return raw.execute(_VERSION).fetchall() == [(REVISION,)] and found == environment


def _tables(raw: sqlite3.Connection) -> set[str]:
    found = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name for (name,) in found if name.startswith(PREFIX)}


def _make(raw: sqlite3.Connection, known: Ready, environment: str | None) -> bool:
    """Whether it was made here, and not by another process that was first."""
    raw.execute("BEGIN IMMEDIATE")
    try:
        if made := not _tables(raw):
            for statement in (*known.tables.values(), *known.indexes):
                raw.execute(statement)
            raw.execute(_SET_VERSION, (REVISION,))
            if environment is not None:
                raw.execute(_MARK, (environment,))
        raw.commit()
    except BaseException:
        raw.rollback()
        raise
    return made
