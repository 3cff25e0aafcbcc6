"""What a rehearsal says about one call among many: which it was, where it was made, with what."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from gonogo.action import Action, Given
from gonogo.records import Call
from gonogo.redactor import Redactor
from gonogo.secrets import MASK

_OURS = {__name__.partition(".")[0], "contextlib"}
"""Our code, and what it runs in."""

_redactor = Redactor(max_depth=3, max_items=30, max_text=60)


def place(recorded: Sequence[Call]) -> str:
    """Which call of the job is being made, after those that are ``recorded``, and where."""
    after = f", after {recorded[-1].name}" if recorded else ""
    return f"call {len(recorded) + 1} of the plan{after}, made in {_line()}"


def last_place(recorded: Sequence[Call], error: BaseException) -> str:
    """After which call the job raised ``error``, and in which line of its own file."""
    last = "before the first call of the plan"
    if recorded:
        last = f"after call {len(recorded)} of the plan, {recorded[-1].name}"
    file, line = "", 0
    entry = error.__traceback__
    while entry is not None:
        frame = entry.tb_frame
        if not _is_ours(frame) and file in {"", frame.f_code.co_filename}:
            file, line = frame.f_code.co_filename, entry.tb_lineno
        entry = entry.tb_next
    return f"{last}, in {file}, line {line}" if file else last


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


def _listed(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in _redactor.fields(arguments).items())


def _line() -> str:
    """File and line of the code that called us."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}"


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS
