"""What a rehearsal says about one call among many: which it was, and where it was made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType

from gonogo.records import Call

_OURS = {__name__.partition(".")[0], "contextlib"}
"""Our code, and what it runs in."""


def place(recorded: Sequence[Call], row: int | None = None) -> str:
    """Which call of the job is being made, after those that are ``recorded``, and where.

    Args:
        row: of a batch, from 1.
    """
    after = f", after {recorded[-1].name}" if recorded else ""
    batch = "" if row is None else f"row {row} of the batch that begins at "
    return f"{batch}call {len(recorded) + 1} of the plan{after}, made in {line()}"


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


def line() -> str:
    """File and line of the code that called us."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}"


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS
