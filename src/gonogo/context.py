"""What code inside an action can know about the attempt it is."""

from __future__ import annotations

from contextvars import ContextVar, Token

from msgspec import Struct

from gonogo.clock import Clock
from gonogo.errors import ConfigurationError
from gonogo.logs import StructuredLogger, current_id


class Context(Struct, kw_only=True):
    """The attempt that is running: ids, the key to hand to the provider, the time that is left.

    Attributes:
        id, action, key, attempt: of the call; attempts count from 1.
        correlation_id: what its log lines carry.
        deadline: epoch seconds after which the outcome no longer counts; ``None`` for no limit.
        log: the sandbox's logger.
        spent: actual costs by limit name, see `spend`.
    """

    id: str
    action: str
    key: str | None
    attempt: int
    correlation_id: str | None
    deadline: float | None
    log: StructuredLogger
    clock: Clock
    spent: dict[str, int] = {}

    def remaining(self) -> float | None:
        """Seconds left before ``deadline`` (at least 0): the time-out to give to a client."""
        return None if self.deadline is None else max(0.0, self.deadline - self.clock.now())

    def spend(self, limit: str, cost: int) -> None:
        """Say what the effect really cost; the reservation of ``limit`` is settled to it.

        Raises `ConfigurationError` when ``cost`` is not a whole number from 0 to 2**63 - 1.
        """
        if type(cost) is not int or not 0 <= cost < 2**63:
            raise ConfigurationError(
                f"action {self.action!r} spent {cost!r} of limit {limit!r}: give a whole number "
                "from 0, below 2**63, in the limit's units",
                action=self.action,
                key=self.key,
            )
        self.spent[limit] = cost


_current: ContextVar[Context | None] = ContextVar("gonogo_context", default=None)


def current() -> Context:
    """The context of the running action; `ConfigurationError` outside of one."""
    context = _current.get()
    if context is None:
        raise ConfigurationError("current() was called outside an action: nothing is running here")
    return context


class entered:  # noqa: N801 - used as the function it could be
    """Make ``context`` the current one, and its correlation id, for the duration of the block."""

    __slots__ = ("_context", "_id_token", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> Context:
        self._token: Token[Context | None] = _current.set(self._context)
        self._id_token: Token[str | None] = current_id.set(self._context.correlation_id)
        return self._context

    def __exit__(self, *_: object) -> None:
        current_id.reset(self._id_token)
        _current.reset(self._token)


def running() -> bool:
    """Whether the calling code runs inside an action."""
    return _current.get() is not None
