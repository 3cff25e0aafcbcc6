"""What the exit status says, in one place."""

from __future__ import annotations

from enum import IntEnum

from gonogo.errors import (
    ConfigurationError,
    EffectFailed,
    GonogoError,
    NotFound,
    OutcomeUnknown,
    Refused,
    StoreError,
)
from gonogo.records import State, Verdict


class Exit(IntEnum):
    """The statuses ``gonogo`` exits with; they are part of its interface and do not change."""

    OK = 0
    """Done; for `check`: GO."""
    UNEXPECTED = 1
    """A defect: of gonogo, or of the application's code."""
    USAGE = 2
    """The command line is wrong; nothing was done."""
    CONFIGURATION = 3
    """The application, a setting or an argument is wrong; nothing was done."""
    NO_GO = 4
    """The verdict is NO-GO: a check is not well."""
    HOLD = 5
    """The verdict is HOLD: a person said stop."""
    REFUSED = 6
    """A rule, or the person who was asked, said no; nothing was changed."""
    INCOMPLETE = 7
    """The rehearsal left a plan that cannot be approved."""
    NOT_FOUND = 8
    """There is nothing of that id or name."""
    UNKNOWN = 9
    """Something may or may not have happened, and waits for evidence or a person."""
    STORE = 10
    """The ledger cannot be used: out of reach, or its schema is not the one this code knows."""
    FAILED = 11
    """The commands given were carried out, and at least one call ended without its effect.

    For `crash-test`: not safe.
    """
    UNFINISHED = 12
    """The time to wait was over before all had ended, or what is due is stopped or refused.

    It goes on without us.
    """
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE = 141
    """Nobody reads the output any more."""


OF_VERDICT = {Verdict.GO: Exit.OK, Verdict.NO_GO: Exit.NO_GO, Verdict.HOLD: Exit.HOLD}

_OF_ERROR: tuple[tuple[type[GonogoError], Exit], ...] = (
    (NotFound, Exit.NOT_FOUND),
    (ConfigurationError, Exit.CONFIGURATION),
    (Refused, Exit.REFUSED),
    (StoreError, Exit.STORE),
    (OutcomeUnknown, Exit.UNKNOWN),
    (EffectFailed, Exit.FAILED),
)


def exit_of(error: BaseException) -> Exit:
    """The status for an error."""
    if isinstance(error, GonogoError) and error.happened == "maybe":
        return Exit.UNKNOWN
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), Exit.UNEXPECTED)


def exit_of_states(states: set[State]) -> Exit:
    """The status for calls that ended, or stopped moving, in these states."""
    if State.UNKNOWN in states:
        return Exit.UNKNOWN
    if states & {State.FAILED, State.CANCELLED}:
        return Exit.FAILED
    return Exit.OK if states <= {State.SUCCEEDED} else Exit.UNFINISHED
