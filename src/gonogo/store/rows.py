"""Records to rows and back: one mapping for each table, made from the record's own fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import compress, repeat
from operator import is_not
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct, structs

from gonogo.records import (
    Alert,
    AlertState,
    Attempt,
    Beat,
    Call,
    Control,
    Decision,
    Fault,
    Outcome,
    PlanRecord,
    PlanState,
    Reservation,
    Schedule,
    Severity,
    State,
)
from gonogo.store.changes import changes

R = TypeVar("R", bound=Struct)
Codec = tuple[Callable[[Any], Any] | None, Callable[[Any], Any]]
"""How a value is written, unless as it is, and how it is read."""
_NOTHING = repeat(None)


class Rows(Generic[R]):
    """How records of one type lie in their table: a column for each field, in the same order."""

    def __init__(self, record: type[R], codecs: Mapping[str, Codec]) -> None:
        self.columns = record.__struct_fields__
        self._record = record
        self._encoders = {name: write for name, (write, _) in codecs.items() if write is not None}
        self._places = [(self.columns.index(name), write) for name, write in self._encoders.items()]
        self._decoders = [(name, codec[1]) for name, codec in codecs.items()]

    def encode(self, record: R) -> dict[str, Any]:
        """The record as parameters of a statement, by column."""
        row = structs.asdict(record)
        for name, encode in self._encoders.items():
            if (value := row[name]) is not None:
                row[name] = encode(value)
        return row

    def given(self, record: R) -> dict[str, Any]:
        """What the record has, as parameters of an insert, by column; the others are null."""
        values = structs.astuple(record)
        there = list(map(is_not, values, _NOTHING))
        row = dict(zip(compress(self.columns, there), compress(values, there), strict=True))
        for name, encode in self._encoders.items():
            if name in row:
                row[name] = encode(row[name])
        return row

    def values(self, record: R) -> list[Any]:
        """The record as a row: its values in the order of ``columns``."""
        row = list(structs.astuple(record))
        for place, encode in self._places:
            if row[place] is not None:
                row[place] = encode(row[place])
        return row

    def decode(self, row: Sequence[Any]) -> R:
        """The record of a row selected in the order of ``columns``."""
        values = dict(zip(self.columns, row, strict=True))
        for name, decode in self._decoders:
            if values[name] is not None:
                values[name] = decode(values[name])
        return self._record(**values)

    def changes(self, before: R, after: R) -> dict[str, Any]:
        """The fields in which ``after`` differs from ``before``, as parameters of a statement."""
        changed = changes(before, after)
        for name in changed.keys() & self._encoders.keys():
            if (value := changed[name]) is not None:
                changed[name] = self._encoders[name](value)
        return changed


def _enum(kind: type[StrEnum]) -> Codec:
    return str, {member.value: member for member in kind}.__getitem__


def _json(kind: Any) -> Codec:
    encoder = msgspec.json.Encoder(order="sorted")
    decoder = msgspec.json.Decoder(kind)
    return (lambda value: encoder.encode(value).decode()), decoder.decode


_STATES = _enum(State)
_OBJECT = _json(dict[str, Any])

CALLS = Rows(
    Call,
    {
        "state": _STATES,
        "held": (None, bool),
        "repeatable": (None, bool),
        "waits": (None, bool),
        "outcome": _enum(Outcome),
        "fault": _json(Fault),
        "reservations": _json(tuple[Reservation, ...]),
        "slots": _json(tuple[str, ...]),
    },
)
ATTEMPTS = Rows(Attempt, {"outcome": _enum(Outcome), "fault": _json(Fault)})
DECISIONS = Rows(Decision, {"detail": _OBJECT})
ALERTS = Rows(Alert, {"severity": _enum(Severity), "context": _OBJECT, "state": _enum(AlertState)})
PLANS = Rows(PlanRecord, {"state": _enum(PlanState), "problems": _json(tuple[str, ...])})
CONTROLS = Rows(Control, {})
SCHEDULES = Rows(Schedule, {})
BEATS = Rows(Beat, {"detail": _OBJECT})
