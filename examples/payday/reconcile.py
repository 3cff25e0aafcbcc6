"""Compares what the ledger says with what the other side has: line by line, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gonogo.records import Call, State

Terms = tuple[str, ...]  # what an entry says beside its reference: account and amount, recipient


class Finding(StrEnum):
    """What comparing one reference gave. The first three are in order, the others are not."""

    DONE = "done once"
    NOT_DONE = "not done"
    IN_DOUBT = "unknown"
    OPEN = "unfinished"
    DUPLICATE = "duplicate"
    LOST = "lost"
    DENIED = "done, but the ledger says it was not"
    ALTERED = "done with other terms"
    STRANGE = "nobody ordered it"


IN_ORDER = frozenset({Finding.DONE, Finding.NOT_DONE, Finding.IN_DOUBT})


@dataclass(frozen=True, slots=True)
class Line:
    """One reference: the ledger's state of it (``None``: no call), the other side's entries."""

    reference: str
    finding: Finding
    state: State | None
    entries: int
    call: Call | None = None

    @property
    def in_order(self) -> bool:
        return self.finding in IN_ORDER

    @property
    def eventful(self) -> bool:
        """Whether it needs a sentence: it was not simply done at the first attempt."""
        smooth = self.finding is Finding.DONE and self.call is not None and self.call.attempt == 1
        return not smooth or bool(self.call and self.call.note)


def reconcile(
    ordered: Mapping[str, Terms],
    calls: Mapping[str, Call],
    entries: Iterable[tuple[str, Terms]],
) -> list[Line]:
    """Every reference that anybody knows, compared.

    Args:
        ordered: reference → terms, of everything that should be done.
        calls: reference → the ledger's latest call for it.
        entries: what the other side has: reference and terms of each.
    """
    found: dict[str, list[Terms]] = {}
    for reference, terms in entries:
        found.setdefault(reference, []).append(terms)
    references = dict.fromkeys([*ordered, *calls, *found])
    return [
        _compare(reference, ordered.get(reference), calls.get(reference), found.get(reference, []))
        for reference in references
    ]


def _compare(reference: str, wanted: Terms | None, call: Call | None, found: list[Terms]) -> Line:
    state = call.state if call is not None else None
    return Line(reference, _finding(wanted, state, found), state, len(found), call)


def _finding(wanted: Terms | None, state: State | None, found: list[Terms]) -> Finding:
    if len(found) > 1:
        return Finding.DUPLICATE
    if state is None:
        return Finding.STRANGE if found else Finding.LOST
    if found and wanted is not None and found[0] != wanted:
        return Finding.ALTERED
    if state is State.SUCCEEDED:
        return Finding.DONE if found else Finding.LOST
    if state is State.UNKNOWN:
        return Finding.IN_DOUBT
    if state in {State.FAILED, State.CANCELLED, State.DISCARDED}:
        return Finding.DENIED if found else Finding.NOT_DONE
    return Finding.OPEN
