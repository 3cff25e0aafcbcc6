"""Asking a verifier, in a thread that nobody has to wait for."""

from __future__ import annotations

import inspect
import threading
from typing import Any

from gonogo.action import Action
from gonogo.clock import Clock
from gonogo.deadlines import Run
from gonogo.evidence import Evidence, as_evidence, cannot_tell
from gonogo.records import Call
from gonogo.secrets import describe


class Look:
    """One question to a verifier, asked in a thread of its own.

    Attributes:
        asked_at: epoch seconds; what the answer is about is no younger than that.
        broken: whether it raised, kept silent, or answered something that is no evidence.
    """

    def __init__(
        self, action: Action[Any, Any], call: Call, clock: Clock, answered: threading.Condition
    ) -> None:
        self.action = action
        self.call = call
        self.answer: Evidence | None = None
        self.broken = False
        self.asked_at = clock.now()
        self._began = clock.monotonic()
        self._answered = answered
        self.run = Run(self._ask, self._began, f"gonogo-verify-{action.name}")
        if self.run.error is not None:
            self.answer = cannot_tell(f"the verifier got no thread: {describe(self.run.error)}")

    def give_up(self, now: float, timeout: float) -> None:
        """Take the silence for an answer when it has lasted ``timeout`` seconds."""
        with self._answered:
            if self.answer is None and now - self._began >= timeout:
                self.broken = True
                self.answer = cannot_tell(f"the verifier gave no answer in {timeout:g} s")

    def _ask(self) -> None:
        answer, broken = cannot_tell("the verifier was interrupted"), True
        try:
            assert self.action.verifier is not None  # noqa: S101 - asked where one is declared
            given = _awaited(self.action.verifier(self.action.view(self.call)))
            answer, broken = as_evidence(given), not isinstance(given, Evidence)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it proves nothing
            answer = cannot_tell(f"the verifier failed: {describe(error)}")
        finally:
            with self._answered:
                if self.answer is None:
                    self.answer, self.broken = answer, broken
                self._answered.notify_all()


def _awaited(answer: object) -> object:
    """What an ``async def`` verifier answers in the end."""
    if not inspect.iscoroutine(answer):
        return answer
    import asyncio  # noqa: PLC0415 - only async verifiers pay for it

    return asyncio.run(answer)
