"""How the example looks into the ledger: the calls that stand, by invoice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gonogo.records import TERMINAL, Attempt, Call, CallFilter, State
from gonogo.store.port import Store

_STANDING = tuple(set(State) - {State.PLANNED, State.DISCARDED})
_UNSETTLED = tuple(set(_STANDING) - TERMINAL)
_PAGE = 500


class Ledger:
    """Reads the calls of one action at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def latest(self, action: str) -> dict[str, Call]:
        """Invoice → its latest call of ``action``. Plans that were not applied do not count."""
        found: dict[str, Call] = {}
        for call in self._newest_first(action):
            found.setdefault((call.key or "").partition(":")[2], call)
        return found

    def unsettled(self) -> list[Call]:
        """The calls that are not at their end, of all actions."""
        return self._find(CallFilter(states=_UNSETTLED, limit=10_000))

    def story(self, call: Call) -> str:
        """What became of each attempt, in a few words: ``HTTP Error 503 → succeeded``."""
        attempts = self._store.read(lambda tx: tx.attempts.of(call.id))
        words = [_words(attempt) for attempt in attempts]
        if call.note:
            words.append(call.note)
        return " → ".join(words) or call.state.value

    def _newest_first(self, action: str) -> Iterator[Call]:
        before: str | None = None
        while True:
            page = self._find(
                CallFilter(action=action, states=_STANDING, before=before, limit=_PAGE)
            )
            yield from page
            if len(page) < _PAGE:
                return
            before = page[-1].id

    def _find(self, wanted: CallFilter) -> list[Call]:
        return self._store.read(lambda tx: tx.calls.find(wanted))


def arguments(call: Call) -> dict[str, Any]:
    """What a call was asked to do, as it stands in the ledger."""
    found: dict[str, Any] = json.loads(call.args)
    return found


def _words(attempt: Attempt) -> str:
    if attempt.fault is None:
        return attempt.outcome.value
    return attempt.fault.message.partition("\n")[0]
