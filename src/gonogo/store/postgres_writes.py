"""What a transaction is to write blindly, as statements over many rows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Table

from gonogo.records import Call
from gonogo.store import postgres_statements
from gonogo.store.postgres_statements import FENCE
from gonogo.store.rows import Rows
from gonogo.store.statements import Statements, Text

Row = Mapping[str, Any]
Said = tuple[Text, Row]
"""A statement and its parameters."""
COPIED = 20
"""Rows from which on copying them is faster than having the server read JSON."""
_encode = msgspec.json.Encoder().encode


class Writes:
    """Rows to insert and calls to replace, with what is guessed about the latter.

    Attributes:
        rows: how many rows and guesses there are.
        replaced: the ids of the calls that are replaced.
        witness: the id of a call that is inserted; it is there if and only if all was written.
    """

    __slots__ = ("_awaited", "_inserts", "_updates", "replaced", "rows", "witness")

    def __init__(self) -> None:
        self._updates: dict[tuple[str, ...], list[bytes]] = {}
        self._inserts: dict[Table, tuple[tuple[str, ...], list[list[Any]]]] = {}
        self._awaited: list[bytes] = []
        self.replaced: set[str] = set()
        self.rows = 0
        self.witness: str | None = None

    def replace(self, fence: tuple[str, int, str], changed: Row) -> None:
        """Change the call of this id, epoch and state; it is taken to be there."""
        row = _encode({**dict(zip(FENCE, fence, strict=True)), **changed})
        self._updates.setdefault(tuple(changed), []).append(row)
        self.replaced.add(fence[0])
        self.rows += 1

    def insert(self, table: Table, rows: Rows[Any], record: Any) -> None:
        """Insert a record."""
        self._inserts.setdefault(table, (rows.columns, []))[1].append(rows.values(record))
        self.rows += 1
        if type(record) is Call:
            self.witness = record.id

    def guess_unawaited(self, call_id: str) -> None:
        """Nobody is taken to wait for this call."""
        self._awaited.append(_encode({"id": call_id}))
        self.rows += 1

    def add(self, later: Writes) -> None:
        """Have what came ``later`` written as well, and guessed."""
        for columns, rows in later._updates.items():
            self._updates.setdefault(columns, []).extend(rows)
        for table, (columns, values) in later._inserts.items():
            self._inserts.setdefault(table, (columns, []))[1].extend(values)
        self.replaced |= later.replaced
        self.rows += later.rows - len(later._awaited)
        self.witness = later.witness or self.witness
        self.add_guesses(later)

    def add_guesses(self, later: Writes) -> None:
        """Have only looked up what ``later`` was guessed."""
        self._awaited += later._awaited
        self.rows += len(later._awaited)

    @property
    def are_many(self) -> bool:
        """Whether rows of some table are to be copied."""
        return any(len(rows) >= COPIED for _, rows in self._inserts.values())

    def statements(self, texts: Statements) -> Iterator[Said]:
        """Each statement; one fails where a guess was wrong.

        Updates come first: a key may be given up by one call and taken by another.
        """
        for columns, rows in self._updates.items():
            text = texts.text(postgres_statements.replace_calls, columns)
            yield text, {"rows": _array(rows), "count": len(rows)}
        for table, (columns, inserted) in self._inserts.items():
            given, values = _given(columns, inserted)
            text = texts.text(postgres_statements.insert_rows, table, given)
            encoded = [_encode(dict(zip(given, row, strict=True))) for row in values]
            yield text, {"rows": _array(encoded)}
        if self._awaited:
            text = texts.text(postgres_statements.require_unawaited)
            yield text, {"rows": _array(self._awaited)}

    def take_many(self) -> list[tuple[Table, tuple[str, ...], list[tuple[Any, ...]]]]:
        """Take out the rows that are to be copied, with their table and columns.

        They are written last, so there are none where guesses must be looked up behind them.
        """
        if self._awaited:
            return []
        many = [table for table, (_, rows) in self._inserts.items() if len(rows) >= COPIED]
        taken = [(table, *self._inserts.pop(table)) for table in many]
        self.rows -= sum(len(rows) for *_, rows in taken)
        return [(table, *_given(columns, rows)) for table, columns, rows in taken]


def _array(rows: Sequence[bytes]) -> str:
    return f"[{b','.join(rows).decode()}]"


def _given(
    columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The columns of which some row has a value, and the rows without the others."""
    most = len(rows)
    kept = [n for n, values in enumerate(zip(*rows, strict=True)) if values.count(None) < most]
    pick: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(*kept)
    return pick(columns), list(map(pick, rows))
