"""Every error answers one question first: did the effect happen?"""

from __future__ import annotations

from typing import Literal

Happened = Literal["no", "yes", "maybe"]


class GonogoError(Exception):
    """Root of all errors raised by gonogo.

    Attributes:
        happened: ``"no"`` (the effect did not happen), ``"yes"`` or ``"maybe"``.
        action, key, call_id: what it is about, where known.
        retry_after: seconds after which trying again can make sense; ``None`` when unknown.
        remedy: the command that helps next, where there is one.
    """

    happened: Happened = "no"
    remedy: str | None = None

    def __init__(
        self,
        message: str,
        *,
        action: str | None = None,
        key: str | None = None,
        call_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.action = action
        self.key = key
        self.call_id = call_id
        self.retry_after = retry_after


class ConfigurationError(GonogoError):
    """The code, a setting or an argument is wrong; nothing was done. Fix it and run again."""


class NotFound(ConfigurationError):
    """The ledger has no call, plan or alert of that id."""


class Refused(GonogoError):
    """A guard said no before the effect: it did not happen, and nothing was used up."""


class DryRunBlocked(Refused, PermissionError):
    """The sandbox is locked (dry-run) and this call is irreversible."""


class NotReady(Refused):
    """The readiness verdict is NO-GO, or HOLD: then ``held`` is true."""

    held = False


class Halted(Refused):
    """Somebody pulled the kill switch for this action or for all."""


class RateLimited(Refused):
    """A rate, budget or concurrency limit has no room; ``retry_after`` says when it may.

    ``limit`` is the name of the limit, where one denied it; ``row`` is what was counted, the name
    of the limit or of the slots, with its key where it has one: ``api[customer-7]``. Where it was a
    limit, ``used`` of its ``max`` units were in use and ``cost`` were wanted.
    """

    limit: str | None = None
    row: str | None = None
    used: int | None = None
    max: int | None = None
    cost: int | None = None


class KeyConflict(Refused):
    """The same idempotency key was used before with different arguments."""


class InFlight(Refused):
    """A call with the same key is queued or running; its outcome is not known yet."""


class NotApproved(Refused):
    """The action (or plan) needs a person's approval that it does not have."""


class Drifted(Refused):
    """The world changed since the plan was made; the message names what."""


class PlanError(Refused):
    """The plan cannot be approved or applied: incomplete, expired, or in the wrong state."""


class EffectFailed(GonogoError):
    """The effect is known not to have been applied (refused by the other side, or retries ended).

    ``rejected`` is true when the other side said no for good (the key stays taken and the same
    answer is replayed); false when it was never applied (the key is free again).
    """

    rejected = False


class EffectRejected(EffectFailed):
    """The other side refused the call for good; asking again would give the same answer."""

    rejected = True


class OutcomeUnknown(GonogoError):
    """The effect may or may not have happened. Never retried blindly: it waits for evidence."""

    happened: Happened = "maybe"


class ResultUnavailable(GonogoError):
    """The effect happened earlier, but its result was not kept (not storable, or pruned)."""

    happened: Happened = "yes"


class StoreError(GonogoError):
    """The ledger could not be read or written; the call that needed it was not performed."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, is busy, full or read-only, or the role lacks a right.

    The message names the remedy; without one, trying again may help.
    """


class SchemaError(StoreError):
    """The database's schema is missing, half migrated, or newer than this code knows."""
