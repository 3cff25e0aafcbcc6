"""In what two calls of one action differ, for people, without secrets."""

from __future__ import annotations

import msgspec

from gonogo.records import Call
from gonogo.redactor import SHORT
from gonogo.secrets import MASK


def difference(here: Call, there: Call) -> str:
    """In which arguments: ``cents 200 here, 100 there``.

    What is secret for one of them, because it was declared so since, is not shown of the other.
    """
    ours, theirs = (SHORT.fields(msgspec.json.decode(call.args)) for call in (here, there))
    differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    told = (_told(name, ours.get(name), theirs.get(name)) for name in differing)
    return "; ".join(told) or "in what is not shown"


def _told(name: str, ours: object, theirs: object) -> str:
    if MASK in (ours, theirs):
        return f"{name}, which is secret"
    return f"{name} {ours!r} here, {theirs!r} there"
