"""Saying what went wrong: did it happen, and what to do next."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from gonogo.cli.base import Session
from gonogo.cli.exits import Exit, exit_of
from gonogo.errors import (
    DryRunBlocked,
    GonogoError,
    Halted,
    NotReady,
    OutcomeUnknown,
    PlanError,
    SchemaError,
)
from gonogo.lines import clean
from gonogo.secrets import describe, redact_text, show_error

_HAPPENED = {"yes": "It happened.", "maybe": "It may have happened."}

_REMEDIES: tuple[tuple[type[GonogoError], str], ...] = (
    (SchemaError, "gonogo db status"),
    (NotReady, "gonogo check"),
    (Halted, "gonogo resume"),
    (DryRunBlocked, "gonogo rehearse, or gonogo arm"),
    (PlanError, "gonogo plan list"),
)


def fail(session: Session, error: BaseException) -> Exit:
    """Report ``error`` on standard error, as JSON if asked for; returns the exit status."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return _tell(session, _named("Interrupted", "interrupted"), Exit.INTERRUPTED)
    if isinstance(error, click.ClickException):
        return _usage(session, error)
    if session.debug:
        sys.stderr.write(show_error(error)["traceback"])
    if isinstance(error, GonogoError):
        return _tell(session, document(error), exit_of(error))
    named = _named(type(error).__name__, describe(error))
    if not session.debug:
        named["remedy"] = "add --debug to see where"
    return _tell(session, named, Exit.UNEXPECTED)


def document(error: GonogoError) -> dict[str, Any]:
    """An error as plain data."""
    told: dict[str, Any] = {
        "error": type(error).__name__,
        "message": redact_text(str(error)),
        "happened": error.happened,
        "action": error.action,
        "key": error.key,
        "call_id": error.call_id,
    }
    if error.retry_after is not None:
        told["retry_after"] = error.retry_after
    if remedy := _remedy(error):
        told["remedy"] = remedy
    return told


def _usage(session: Session, error: click.ClickException) -> Exit:
    context = getattr(error, "ctx", None)
    bare = isinstance(error, click.exceptions.NoArgsIsHelpError)
    if bare and not session.out.json:
        sys.stderr.write(f"{error.format_message()}\n")
        return Exit.USAGE
    message = "a command is missing" if bare else redact_text(error.format_message())
    told = _named("Usage", message)
    if remedy := getattr(error, "remedy", None):
        told["remedy"] = redact_text(remedy)
    elif context is not None:
        told["remedy"] = f"{context.command_path} --help"
    return _tell(session, told, Exit.USAGE)


def _named(name: str, message: str) -> dict[str, Any]:
    about = dict.fromkeys(("action", "key", "call_id"))
    return {"error": name, "message": message, "happened": "no", **about}


def _remedy(error: GonogoError) -> str | None:
    if error.remedy is not None:
        return error.remedy
    if isinstance(error, OutcomeUnknown) and error.call_id:
        return f"gonogo calls explain {error.call_id}"
    return next((remedy for kind, remedy in _REMEDIES if isinstance(error, kind)), None)


def _tell(session: Session, told: dict[str, Any], code: Exit) -> Exit:
    if session.out.json:
        text = msgspec.json.encode({**told, "exit_code": int(code)}).decode()
    else:
        text = f"gonogo: {clean(told['message'])}"
        if happened := _HAPPENED.get(told["happened"]):
            text += f"\n{happened}"
        if remedy := told.get("remedy"):
            text += f"\nNext: {remedy}"
    sys.stderr.write(f"{text}\n")
    return code
