"""Statements that a server keeps ready: parsed once and, when that is as good, planned once.

They are left behind in the session, so they are for sessions that are ours alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import psycopg
from psycopg import errors

_ENOUGH = 3
"""Times a statement is said in full before it is worth keeping."""
_MANY = 200
"""Statements that are kept at most; there are a few dozen in practice."""
_PARAMETER = re.compile(r"%\((\w+)\)s|%%")


class Prepared:
    """Spells statements for the simple protocol: by name where the server keeps them, else in full.

    Args:
        raw: the connection.
        keeps: whether anything may be left behind in its session.
    """

    def __init__(self, raw: psycopg.Connection[Any], *, keeps: bool) -> None:
        self.keeps = keeps
        self._raw = raw
        self._said: Counter[str] = Counter()
        self._kept: dict[str, str] = {}
        self._cursor = psycopg.ClientCursor(raw)

    def say(self, words: str) -> psycopg.ClientCursor[Any]:
        """Send one message of spelled statements; each has an answer."""
        try:
            return psycopg.ClientCursor(self._raw).execute(words)
        except errors.InvalidSqlStatementName:  # somebody emptied the session, or handed it around
            self._keep_no_more()
            raise

    def execute(self, text: str, parameters: Mapping[str, Any]) -> psycopg.ClientCursor[Any]:
        """Send one statement."""
        return self.say(self.spell(text, parameters))

    def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert many rows, which are on their way while the server takes the first in."""
        names = ", ".join(f'"{column}"' for column in columns)
        cursor = self._raw.cursor()
        with cursor.copy(f"COPY {table} ({names}) FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def spell(self, text: str, parameters: Mapping[str, Any]) -> str:
        """``text``, which takes its parameters by name, with their values in it."""
        if self.keeps:
            kept = self._kept.get(text)
            if kept is not None:
                return self._cursor.mogrify(kept, parameters)
            self._said[text] += 1
        return self._cursor.mogrify(text, parameters)

    def prepare(self) -> None:
        """Have the server keep what was said often enough. Not within a transaction."""
        if not self._said:
            return
        often = [text for text, times in self._said.items() if times >= _ENOUGH]
        for text in often:
            self._said.pop(text, None)
            if self.keeps and len(self._kept) < _MANY:
                self._prepare(text, _name(text))

    def _prepare(self, text: str, name: str) -> None:
        places: dict[str, int] = {}

        def place(found: re.Match[str]) -> str:
            if found[1] is None:
                return "%"
            return f"${places.setdefault(found[1], len(places) + 1)}"

        try:
            self._raw.execute(f"PREPARE {name} AS {_PARAMETER.sub(place, text)}".encode())
        except errors.DuplicatePreparedStatement:  # somebody else's: the session is not ours
            self._keep_no_more()
            return
        except psycopg.Error:
            if self._raw.closed:
                raise
            self._kept[text] = text  # not for keeping, and not asked again
            return
        values = ", ".join(f"%({parameter})s" for parameter in places)
        self._kept[text] = f"EXECUTE {name}({values})" if values else f"EXECUTE {name}"

    def _keep_no_more(self) -> None:
        self.keeps = False
        self._kept.clear()
        self._said.clear()


def _name(text: str) -> str:
    """One for this text alone: in a session that is shared after all, nothing else is meant."""
    return f"gonogo_{blake2b(text.encode(), digest_size=16).hexdigest()}"
