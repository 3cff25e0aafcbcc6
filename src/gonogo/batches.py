"""Which row of a batch an error is about, with its arguments as they may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gonogo.action import Action, Given
from gonogo.arguments import Bound
from gonogo.errors import GonogoError
from gonogo.redactor import SHORT
from gonogo.secrets import MASK


def in_row(error: GonogoError, row: int, rows: int, arguments: str) -> None:
    """Say in ``error`` that it is about row ``row`` (from 1) of several, and what that means."""
    if rows > 1:
        error.args = (f"row {row} ({arguments}): {error}; nothing was enqueued",)


def shown(action: Action[Any, Any], given: Given) -> str:
    """Arguments that could not be bound, without the secret ones.

    Of an action with secrets those by position may be in the wrong place, and a name that it does
    not have may be that of a secret, misspelled: only their types are told.
    """
    parameters = action.parameters
    told = {**dict(zip(parameters.names, given.args, strict=False)), **given.kwargs}
    if parameters.secrets:
        sure = given.kwargs.keys() & set(parameters.names)
        told = {n: value if n in sure else type(value).__name__ for n, value in told.items()}
    open_to_all = {n: MASK if n in parameters.secrets else value for n, value in told.items()}
    return _listed(open_to_all) or "no arguments"


def shown_bound(bound: Bound) -> str:
    """Arguments that were bound, as the ledger would keep them."""
    return _listed(msgspec.json.decode(bound.text)) or "no arguments"


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in SHORT.fields(arguments).items())
