"""A transaction as a draft: what can wait is sent together, and what was guessed is looked up.

Most work writes blindly: it replaces calls that its process has claimed, and notes attempts. Such
writes wait in the draft until somebody has to read, or until the end; then they go to the server
in one message, whatever their number and whoever wrote them. Until then the work is told what is
likely: that each fence holds, that nobody waits for the calls that end, that the switches are as
they were last seen. All of this is looked up, behind the locks, before anything is committed.
Where a guess was wrong, the work runs again without any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import psycopg
from sqlalchemy import Table

from gonogo.errors import StoreUnavailable
from gonogo.store import postgres_statements, statements
from gonogo.store.postgres_errors import Contention
from gonogo.store.postgres_prepared import Prepared
from gonogo.store.postgres_statements import FENCE
from gonogo.store.rows import Rows
from gonogo.store.run import Cursor, Run
from gonogo.store.texts import Statements, Text

Row = Mapping[str, Any]
Look = Callable[[Cursor], None]
_encode = msgspec.json.Encoder().encode
_XID = "SELECT pg_current_xact_id()::text"
_MOST = 1000
"""Rows in one message; more would only make it large."""
_COPIED = 20
"""Rows from which on copying them is faster than having the server read JSON."""


class Misjudged(Contention):
    """What was guessed is not so: roll back, and run the work again without guessing."""

    def __init__(self) -> None:
        super().__init__(StoreUnavailable("other transactions kept changing the same calls"))


class Draft(Run):
    """Runs statements on one connection, and drafts those that can wait.

    Attributes:
        guesses: whether anything is drafted and guessed in the transaction under way.
        open: whether it has begun on the server.
        xid: its number there, if it writes.

    Args:
        prepared: says statements on the connection.
        translate: the error of the store for an error of the driver.
        locks: whether it is for transactions that write.
    """

    __slots__ = (
        "_awaited",
        "_controls",
        "_inserts",
        "_prepared",
        "_replaced",
        "_rows",
        "_trusts_controls",
        "_updates",
        "_words",
        "guesses",
        "open",
        "xid",
    )

    def __init__(
        self,
        texts: Statements,
        prepared: Prepared,
        translate: Callable[[Exception], Exception],
        *,
        locks: bool,
    ) -> None:
        super().__init__(texts, prepared.execute, psycopg.Error, translate, locks=locks)
        self._prepared = prepared
        self._controls: list[Any] | None = None
        self.begin((), guesses=False)

    def begin(self, words: Sequence[str], *, guesses: bool) -> None:
        """Another transaction, which begins with ``words`` when something is sent."""
        self._words = words
        self._trusts_controls = False
        self._empty()
        self.guesses = guesses
        self.news = False
        self.open = False
        self.xid = ""

    def __call__(self, text: Text, parameters: Mapping[str, Any]) -> Cursor:
        if any(len(rows) >= _COPIED for _, rows in self._inserts.values()):
            self.send()
        if self.open and not self._rows:
            return super().__call__(text, parameters)
        return self._say(text, parameters)

    @property
    def is_known(self) -> bool:
        """Whether nothing that the work was told in this transaction is a mere guess."""
        return self.open and not self._rows

    # what can wait

    def replaces(self, call_id: str) -> bool:
        """Whether the draft changes this call."""
        return call_id in self._replaced

    def replace(self, fence: tuple[str, int, str], changed: Row) -> None:
        """Change the call of this id, epoch and state; it is taken to be there."""
        row = _encode({**dict(zip(FENCE, fence, strict=True)), **changed})
        self._updates.setdefault(tuple(changed), []).append(row)
        self._replaced.add(fence[0])
        self._note()

    def insert(self, table: Table, rows: Rows[Any], record: Any) -> None:
        """Insert a record."""
        self._inserts.setdefault(table, (rows.columns, []))[1].append(rows.values(record))
        self._note()

    def guess_unawaited(self, call_id: str) -> None:
        """Nobody is taken to wait for this call."""
        self._awaited.append(_encode({"id": call_id}))

    def controls(self) -> list[Any] | None:
        """The rows of the switches, if they are known: once it has begun, else as last seen."""
        if not self.guesses or self._controls is None:
            return None
        self._trusts_controls = self._trusts_controls or not self.open
        return self._controls

    def forget_controls(self) -> None:
        """This transaction changes them."""
        self._controls = None

    def _note(self) -> None:
        self._rows += 1
        if self._rows >= _MOST:
            self.send()

    def _empty(self) -> None:
        self._updates: dict[tuple[str, ...], list[bytes]] = {}
        self._inserts: dict[Table, tuple[tuple[str, ...], list[list[Any]]]] = {}
        self._awaited: list[bytes] = []
        self._replaced: set[str] = set()
        self._rows = 0

    # sending it

    def send(self) -> None:
        """Begin, if it has not begun, and write what is drafted.

        Rows that are copied come last, so none are where the guesses must be looked up behind them.

        Raises:
            Misjudged: a guess was wrong.
        """
        inserts = {} if self._awaited else self._inserts
        many = [table for table, (_, rows) in inserts.items() if len(rows) >= _COPIED]
        copied = [(table, *self._inserts.pop(table)) for table in many]
        self._rows -= sum(len(rows) for *_, rows in copied)
        if self._rows or not self.open:
            self._say("", {})
        try:
            for table, columns, rows in copied:
                self._prepared.copy(table.name, *_given(columns, rows))
        except psycopg.Error as error:
            raise self._translate(error) from error

    def _say(self, text: str, parameters: Mapping[str, Any]) -> Cursor:
        """All in one message, with ``text`` last; its answer."""
        try:
            parts = list(self._begun()) if not self.open else []
            for drafted, rows, look in self._drafted():
                parts.append((self._prepared.spell(drafted, rows), look))
            if text:
                parts.append((self._prepared.spell(text, parameters), None))
            self._empty()
            self.open = True
            cursor = self._prepared.say("; ".join(part for part, _ in parts))
        except psycopg.Error as error:
            raise self._translate(error) from error
        for number, (_, look) in enumerate(parts):
            if number:
                cursor.nextset()
            if look is not None:
                look(cursor)
        return cursor

    def _begun(self) -> Iterator[tuple[str, Look | None]]:
        self._prepared.prepare()
        for word in self._words:
            yield word, None
        if self.locks:
            controls = self.texts.text(statements.all_controls)
            yield self._prepared.spell(_XID, {}), self._learn_xid
            yield self._prepared.spell(controls, {}), self._learn_controls

    def _drafted(self) -> Iterator[tuple[str, Row, Look | None]]:
        """Each statement with its parameters.

        Updates come first: a key may be given up by one call and taken by another.
        """
        for columns, rows in self._updates.items():
            text = self.texts.text(postgres_statements.replace_calls, columns)
            yield text, _array(rows), partial(_require_count, len(rows))
        for table, (columns, inserted) in self._inserts.items():
            given, values = _given(columns, inserted)
            text = self.texts.text(postgres_statements.insert_rows, table, given)
            encoded = [_encode(dict(zip(given, row, strict=True))) for row in values]
            yield text, _array(encoded), None
        if self._awaited:
            text = self.texts.text(postgres_statements.awaited)
            yield text, _array(self._awaited), partial(_require_count, 0)

    def _learn_xid(self, answer: Cursor) -> None:
        self.xid = answer.fetchone()[0]

    def _learn_controls(self, answer: Cursor) -> None:
        known, self._controls = self._controls, answer.fetchall()
        if self._trusts_controls and known != self._controls:
            raise Misjudged


def _array(rows: Sequence[bytes]) -> Row:
    return {"rows": f"[{b','.join(rows).decode()}]"}


def _given(
    columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The columns of which some row has a value, and the rows without the others."""
    values = zip(columns, zip(*rows, strict=True), strict=True)
    kept = [(name, each) for name, each in values if any(value is not None for value in each)]
    return tuple(name for name, _ in kept), list(zip(*(each for _, each in kept), strict=True))


def _require_count(count: int, answer: Cursor) -> None:
    if answer.rowcount != count:
        raise Misjudged
