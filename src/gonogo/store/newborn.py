"""Telling that a ledger was made: its path may not be the one that was meant."""

from __future__ import annotations

import logging
import warnings
from contextlib import suppress

_log = logging.getLogger("gonogo.store")


class NewLedger(UserWarning):
    """A ledger was made, in a process where no logging is set up that would say so."""


def tell(where: str) -> None:
    """Say where a new ledger is: in the log, or as a `NewLedger` where nobody hears the log.

    ``where`` is a path in full, or a URL without its password.
    """
    message = f"there was no ledger at {where}: a new and empty one was made"
    _log.warning(message)
    if not _is_heard(_log):
        with suppress(NewLedger):  # it is made, so this is no place to fail
            warnings.warn(message, NewLedger, stacklevel=2)


def _is_heard(logger: logging.Logger | None) -> bool:
    while logger is not None:
        if any(type(handler) is not logging.NullHandler for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
