"""What people decide: who and why are asked for, and recorded with what it changes."""

from __future__ import annotations

from typing import Any, Literal

from gonogo.errors import ConfigurationError
from gonogo.ids import new_id
from gonogo.records import Decision

Resolution = Literal["landed", "absent", "retry"]


def require_who_and_why(doing: str, by: object, reason: object) -> None:
    """Raise `ConfigurationError` unless ``by`` and ``reason`` are texts that say something."""
    if not all(isinstance(said, str) and said.strip() for said in (by, reason)):
        raise ConfigurationError(
            f"{doing} needs by= (who) and reason= (why), two texts that will be recorded"
        )


def decision(
    what: str, subject: str, *, by: str, reason: str, now: float, **detail: Any
) -> Decision:
    """The record that ``by`` decided ``what`` about ``subject`` at ``now``."""
    return Decision(
        id=new_id(now), at=now, what=what, subject=subject, actor=by, reason=reason, detail=detail
    )
