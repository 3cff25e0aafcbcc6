"""Compares what the ledger says with what the other side has: line by line, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    """One reference: the ledger's call for it, if any, and how many entries the others have."""

    reference: str
    finding: Finding
    call: Call | None
    entries: int

    def __str__(self) -> str:
        state = "nothing" if self.call is None else self.call.state.value
        return f"{self.reference}: {self.finding}; ledger: {state}, other side: {self.entries}"

    @property
    def in_order(self) -> bool:
        """Whether both sides agree on it."""
        return self.finding in IN_ORDER

    @property
    def eventful(self) -> bool:
        """Whether it needs a sentence: it was not simply done at the first attempt."""
        smooth = self.finding is Finding.DONE and self.call is not None and self.call.attempt == 1
        return not smooth or bool(self.call and self.call.note)


def reconcile(
    ordered: Iterable[str],
    calls: Mapping[str, Call],
    entries: Iterable[tuple[str, Terms]],
    *,
    terms: Callable[[Call], Terms],
) -> list[Line]:
    """Every reference that anybody knows, compared.

    Args:
        ordered: references of everything that should be in the ledger.
        calls: reference → the ledger's latest call for it.
        entries: what the other side has: reference and terms of each.
        terms: the terms of a call, from its arguments.
    """
    found: dict[str, list[Terms]] = {}
    for reference, entry in entries:
        found.setdefault(reference, []).append(entry)
    references = dict.fromkeys([*ordered, *calls, *found])
    lines = []
    for reference in references:
        call, theirs = calls.get(reference), found.get(reference, [])
        finding = _finding(call.state if call else None, terms(call) if call else None, theirs)
        lines.append(Line(reference, finding, call, len(theirs)))
    return lines


def _finding(state: State | None, wanted: Terms | None, found: list[Terms]) -> Finding:
    if len(found) > 1:
        return Finding.DUPLICATE
    if state is None:
        return Finding.STRANGE if found else Finding.LOST
    if found and found[0] != wanted:
        return Finding.ALTERED
    if state is State.SUCCEEDED:
        return Finding.DONE if found else Finding.LOST
    if state is State.UNKNOWN:
        return Finding.IN_DOUBT
    if state in {State.FAILED, State.CANCELLED, State.DISCARDED}:
        return Finding.DENIED if found else Finding.NOT_DONE
    return Finding.OPEN
