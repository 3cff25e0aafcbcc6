"""What its caller has of a job: the options it was queued with, and a handle to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gonogo.errors import ConfigurationError
from gonogo.records import NEVER, Call, State

if TYPE_CHECKING:
    from gonogo.jobs import Jobs

OPTIONS = ("priority", "after", "queue", "session")
"""Keywords of ``enqueue`` that are not the action's own arguments."""


class JobOptions(Struct, frozen=True, kw_only=True):
    """How a job is queued. ``run_at`` is in epoch seconds; ``after`` is a call id.

    ``session`` is a session or connection of the user whose transaction the job joins.
    """

    run_at: float | None = None
    priority: int | None = None
    after: str | None = None
    queue: str | None = None
    session: Any = None

    @classmethod
    def of(cls, action: str, run_at: float | None, given: Mapping[str, Any]) -> JobOptions:
        """Checked options; `ConfigurationError` for an unknown one or a wrong type."""
        if not given and run_at is None:
            return cls()
        if unknown := set(given) - set(OPTIONS):
            raise ConfigurationError(
                f"action {action!r}: unknown option {', '.join(sorted(unknown))}; there are "
                f"{', '.join(OPTIONS)}",
                action=action,
            )
        if run_at is not None and not 0 <= run_at < NEVER:
            raise ConfigurationError(f"action {action!r}: {run_at!r} is not a time to run at")
        after, priority, queue = given.get("after"), given.get("priority"), given.get("queue")
        if isinstance(after, Handle):
            after = after.id
        if after is not None and not isinstance(after, str):
            raise ConfigurationError(
                f"action {action!r}: after={after!r}: give a handle or the id of a call"
            )
        if priority is not None and type(priority) is not int:
            raise ConfigurationError(
                f"action {action!r}: priority={priority!r} is not a whole number"
            )
        if queue is not None and (not isinstance(queue, str) or not queue.strip()):
            raise ConfigurationError(
                f"action {action!r}: queue={queue!r} is not the name of a queue"
            )
        return cls(
            run_at=run_at,
            priority=priority,
            after=after,
            queue=queue,
            session=given.get("session"),
        )


class Handle:
    """A job, wherever it is by now.

    Attributes:
        id: of its call in the ledger.
        is_new: false when a call with the same key was known already; this is then that call.
    """

    def __init__(self, jobs: Jobs, call_id: str, *, is_new: bool) -> None:
        self._jobs = jobs
        self.id = call_id
        self.is_new = is_new

    def __repr__(self) -> str:
        return f"<handle of call {self.id}{'' if self.is_new else ', known before'}>"

    def call(self) -> Call:
        """The ledger's record as it is now."""
        return self._jobs.get(self.id)

    def state(self) -> State:
        """Where the call is."""
        return self.call().state

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the call's end, at most ``timeout`` seconds, and return its result.

        Raises `EffectFailed` (it did not happen), `OutcomeUnknown` (it may have), `Refused` when
        it was cancelled, `TimeoutError` when it has not ended in time.
        """
        return self._jobs.result(self.id, timeout)

    def cancel(self, *, by: str = "caller", reason: str = "cancelled by its handle") -> bool:
        """Cancel it if nothing was sent yet; false when it is too late for that."""
        return self._jobs.cancel(self.id, by=by, reason=reason)

    def explain(self) -> list[str]:
        """In sentences: why it ran, waited, was replayed, denied or parked."""
        return self._jobs.explain(self.id)
