"""Statements that a server keeps ready: parsed once and, when that is as good, planned once.

They are left behind in the session, so they are for sessions that are ours alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import psycopg
from psycopg import errors
from psycopg.pq import Escaping

from gonogo.store.postgres_answers import Answers, Messages

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
        self._kept: dict[str, tuple[str, Sequence[str]] | None] = {}
        self._messages = Messages(raw)
        self._cursor = psycopg.ClientCursor(raw)
        self._escape = Escaping(raw.pgconn).escape_literal
        self._encoding = raw.info.encoding

    def say(self, words: str) -> Answers:
        """Send one message of spelled statements; each has an answer."""
        try:
            return self._messages.send(words)
        except errors.InvalidSqlStatementName:  # somebody emptied the session, or handed it around
            self._keep_no_more()
            raise

    def execute(self, text: str, parameters: Mapping[str, Any]) -> Answers:
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
        kept = self._kept.get(text)
        if kept is not None:
            name, places = kept
            values = ", ".join([self._literal(parameters[place]) for place in places])
            return f"EXECUTE {name}({values})" if values else f"EXECUTE {name}"
        if self.keeps and text not in self._kept:
            self._said[text] += 1
        return self._cursor.mogrify(text, parameters)

    def _literal(self, value: Any) -> str:
        """As the driver would spell it, in a fifth of its time for what is frequent."""
        kind = type(value)
        if kind is str and "\0" not in value:  # the driver refuses those, libpq would cut them
            return self._escape(value.encode(self._encoding)).decode(self._encoding)
        if kind is int or (kind is float and math.isfinite(value)):
            return repr(value)
        return self._cursor.mogrify("%s", (value,))

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
            self._kept[text] = None  # not for keeping, and not asked again
            return
        self._kept[text] = name, tuple(places)

    def _keep_no_more(self) -> None:
        self.keeps = False
        self._kept.clear()
        self._said.clear()


def _name(text: str) -> str:
    """One for this text alone: in a session that is shared after all, nothing else is meant."""
    return f"gonogo_{blake2b(text.encode(), digest_size=16).hexdigest()}"
