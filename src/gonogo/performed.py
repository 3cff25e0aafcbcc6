"""What an attempt did, before anybody judges it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gonogo.records import Fault
from gonogo.secrets import MASK, describe, redact_text, writable


class Performed(Struct, frozen=True, kw_only=True):
    """What an attempt did: returned ``value``, or raised ``error``.

    Attributes:
        spent: actual costs by limit name.
        secrets: texts of the call's secret arguments, masked in whatever is kept of ``error``; a
            ``value`` that shows one is not kept.
    """

    ended_at: float
    value: Any = None
    error: BaseException | None = None
    spent: dict[str, int] = {}
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<performed, ended at {self.ended_at}>"

    @property
    def cause(self) -> BaseException | None:
        """The error, to chain others to; ``None`` when its traceback would show a secret."""
        if self.error is None or not self.secrets:
            return self.error
        from traceback import format_exception  # noqa: PLC0415 - only failures with secrets pay

        shown = "".join(format_exception(self.error))
        return None if any(secret in shown for secret in self.secrets) else self.error

    @property
    def fault(self) -> Fault:
        """The error as the ledger keeps it: short, and without secrets."""
        if self.error is None:
            return Fault("", "")
        try:
            message = str(self.error) or describe(self.error)
        except Exception:  # noqa: BLE001 - an error that cannot be printed is still named
            message = describe(self.error)
        for secret in self.secrets:
            message = message.replace(secret, MASK)
        return Fault(type(self.error).__name__, writable(redact_text(message, 500)))
