"""What an action declares about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from gonogo.backoff import Retry
from gonogo.errors import ConfigurationError
from gonogo.limits import Concurrency, Limit
from gonogo.records import Outcome

KeyTemplate = str | Callable[[Mapping[str, Any]], object]
Classifier = Callable[[BaseException], Outcome | None]


class Policy(Struct, frozen=True, kw_only=True):
    """What an action declares; ``docs/reference/actions.md`` has every keyword in a table.

    Attributes:
        repeatable: safe to run again after an unknown outcome, with the same key.
        timeout: seconds one attempt may take before its outcome counts as unknown.
        deadline: seconds from the request in which attempts may begin; ``None`` is no limit.
        key_ttl: seconds after which the key of a settled call is free again; ``None`` is never.
        verify_after: seconds after an unknown outcome before ``absent`` can be believed: as long
            as a request that was already sent can still arrive.
        ordered: calls for which this gives the same text stand in one lane: they are performed one
            after the other, in the order they were queued. Direct calls do not queue.
        in_flight: what a direct call does when its key is in use: ``raise`` or ``wait``.
    """

    name: str
    irreversible: bool
    repeatable: bool
    key: KeyTemplate | None = None
    ordered: KeyTemplate | None = None
    retry: Retry = Retry()
    timeout: float | None = 30.0
    deadline: float | None = None
    limits: tuple[Limit, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()
    needs_approval: bool = False
    queue: str = "default"
    priority: int = 0
    key_ttl: float | None = None
    verify_after: float = 30.0
    in_flight: Literal["raise", "wait"] = "raise"
    classify: Classifier | None = None

    def __post_init__(self) -> None:
        where = f"action {self.name!r}"
        if not self.name.strip():
            raise ConfigurationError("an action needs a name")
        if self.irreversible and self.key is None:
            raise ConfigurationError(
                f"{where} is irreversible and has no key: say what makes two calls the same "
                f"effect, for instance key='{self.name}:{{id}}'"
            )
        for name in ("timeout", "deadline", "key_ttl"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{where}: {name}={value!r} must be more than 0 seconds")
        if self.verify_after < 0:
            raise ConfigurationError(f"{where}: verify_after must not be negative")
        if self.in_flight not in {"raise", "wait"}:
            raise ConfigurationError(f"{where}: in_flight={self.in_flight!r}: say raise or wait")
