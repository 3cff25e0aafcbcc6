"""What a transaction is to write blindly, as statements over many rows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from operator import attrgetter, is_not, itemgetter
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Table

from gonogo.records import Call, State
from gonogo.store import postgres_statements
from gonogo.store.postgres_fate import Witness
from gonogo.store.postgres_statements import FENCE
from gonogo.store.rows import CALLS, Rows
from gonogo.store.texts import Statements, Text

Row = Mapping[str, Any]
Said = tuple[Text, Row]
"""A statement and its parameters."""
COPIED = 20
"""Rows from which on copying them is faster than having the server read JSON."""
_SUCCEEDED = str(State.SUCCEEDED)
_encode = msgspec.json.Encoder().encode


class Copied(Struct, frozen=True):
    """Rows of ``columns`` that are to be copied into a table; made while they are sent."""

    table: Table
    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


class Writes:
    """Records to insert and calls to replace, with what is guessed about the latter.

    Attributes:
        rows: how many rows and guesses there are.
        are_many: whether rows of some table are to be copied.
        replaced: the ids of the calls that are replaced.
        taken: by their ids, calls that are locked and that they are to be claimed: as they were,
            and as they are then.
        witness: what is there if and only if all was written: a call that is inserted, or succeeds.
    """

    __slots__ = (
        "_awaited",
        "_inserts",
        "_updates",
        "are_many",
        "replaced",
        "rows",
        "taken",
        "witness",
    )

    def __init__(self) -> None:
        self.taken: dict[str, tuple[Call, Call]] = {}
        self._updates: dict[tuple[str, ...], list[bytes]] = {}
        self._inserts: dict[Table, tuple[Rows[Any], list[Any]]] = {}
        self._awaited: list[bytes] = []
        self.replaced: set[str] = set()
        self.rows = 0
        self.are_many = False
        self.witness: Witness | None = None

    def take(self, due: Call, claimed: Call) -> None:
        """Claim a call that is locked, unless it is replaced before all of this is sent."""
        self.taken[due.id] = due, claimed
        self.rows += 1

    def replace(self, fence: tuple[str, int, str], changed: Row) -> None:
        """Change the call of this id, epoch and state; it is taken to be there."""
        if self.taken.pop(fence[0], None) is not None:
            self.rows -= 1
        row = _encode({**dict(zip(FENCE, fence, strict=True)), **changed})
        self._updates.setdefault(tuple(changed), []).append(row)
        self.replaced.add(fence[0])
        self.rows += 1
        if changed.get("state") == _SUCCEEDED and (at := changed.get("settled_at")) is not None:
            self.witness = Witness(fence[0], at)

    def insert(self, table: Table, rows: Rows[Any], records: Sequence[Any]) -> None:
        """Insert records, at least one."""
        self._extend(table, rows, records)
        self.rows += len(records)
        if type(records[0]) is Call:
            self.witness = Witness(records[0].id)

    def guess_unawaited(self, call_id: str) -> None:
        """Nobody is taken to wait for this call."""
        self._awaited.append(_encode({"id": call_id}))
        self.rows += 1

    def add(self, later: Writes) -> None:
        """Have what came ``later`` written as well, and guessed."""
        self.taken |= later.taken
        for columns, changes in later._updates.items():
            self._updates.setdefault(columns, []).extend(changes)
        for table, (rows, records) in later._inserts.items():
            self._extend(table, rows, records)
        self.replaced |= later.replaced
        self.rows += later.rows - len(later._awaited)
        self.witness = later.witness or self.witness
        self.add_guesses(later)

    def add_guesses(self, later: Writes) -> None:
        """Have only looked up what ``later`` was guessed."""
        self._awaited += later._awaited
        self.rows += len(later._awaited)

    def _extend(self, table: Table, rows: Rows[Any], records: Sequence[Any]) -> None:
        all_records = self._inserts.setdefault(table, (rows, []))[1]
        all_records.extend(records)
        self.are_many = self.are_many or len(all_records) >= COPIED

    def statements(self, texts: Statements) -> Iterator[Said]:
        """Each statement; one fails where a guess was wrong.

        Updates come first: a key may be given up by one call and taken by another.
        """
        for due, claimed in list(self.taken.values()):
            self.replace((due.id, due.epoch, str(due.state)), CALLS.changes(due, claimed))
        for columns, changes in self._updates.items():
            text = texts.text(postgres_statements.replace_calls, columns)
            yield text, {"rows": _array(changes), "count": len(changes)}
        for table, (rows, records) in self._inserts.items():
            values = [rows.given(record) for record in records]
            columns = _columns(rows, values)
            text = texts.text(postgres_statements.insert_rows, table, columns)
            yield text, {"rows": _array(list(map(_encode, values)))}
        if self._awaited:
            text = texts.text(postgres_statements.require_unawaited)
            yield text, {"rows": _array(self._awaited)}

    def take_many(self) -> list[Copied]:
        """Take out the rows that are to be copied.

        They are written last, so there are none where guesses must be looked up behind them.
        """
        if self._awaited:
            return []
        many = [table for table, (_, found) in self._inserts.items() if len(found) >= COPIED]
        taken = [(table, *self._inserts.pop(table)) for table in many]
        self.rows -= sum(len(records) for *_, records in taken)
        self.are_many = False
        return [_copied(*one) for one in taken]


def _array(rows: Sequence[bytes]) -> str:
    return f"[{b','.join(rows).decode()}]"


def _columns(rows: Rows[Any], values: Sequence[Row]) -> tuple[str, ...]:
    """Those of which some row has a value, in their order."""
    shapes = set(map(tuple, values))
    if len(shapes) == 1:
        return shapes.pop()
    given = set().union(*shapes)
    return tuple(filter(given.__contains__, rows.columns))


def _copied(table: Table, rows: Rows[Any], records: Sequence[Any]) -> Copied:
    """Of the columns those of which some record has a value."""
    given = [
        place
        for place, column in enumerate(rows.columns)
        if any(map(is_not, map(attrgetter(column), records), repeat(None)))
    ]
    pick: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(*given)
    return Copied(table, pick(rows.columns), map(pick, map(rows.values, records)))
