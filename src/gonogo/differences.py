"""In what two calls of one action differ, for people, without secrets."""

from __future__ import annotations

import msgspec

from gonogo.records import Call
from gonogo.redactor import Redactor

_redactor = Redactor(max_depth=3, max_items=30, max_text=60)


def difference(here: Call, there: Call) -> str:
    """In which arguments: ``cents 200 here, 100 there``."""
    ours, theirs = (_redactor.fields(msgspec.json.decode(call.args)) for call in (here, there))
    differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    told = (f"{n} {ours.get(n)!r} here, {theirs.get(n)!r} there" for n in differing)
    return "; ".join(told) or "in what is not shown"
