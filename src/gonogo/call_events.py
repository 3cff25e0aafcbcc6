"""The events about calls: what happens to them, told to whoever listens."""

from __future__ import annotations

from typing import Any

from gonogo.clock import Clock
from gonogo.errors import Refused
from gonogo.events import Event, EventBus
from gonogo.records import Call, State
from gonogo.settlement import Settlement

_PENDING = State.PENDING


class CallEvents:
    """Emits the events about calls; makes none while nobody listens."""

    def __init__(self, events: EventBus, clock: Clock) -> None:
        self._events = events
        self._clock = clock

    def tell(self, name: str, call: Call, **detail: Any) -> None:
        """Emit the event ``name`` about ``call``, as of now."""
        if self._events.hears(name):
            self._emit(name, self._clock.now(), call, detail)

    def admitted(self, call: Call) -> None:
        """Every guard agreed."""
        if self._events.hears("call.admitted"):
            at = call.dispatched_at or call.created_at
            self._emit("call.admitted", at, call, {"attempt": call.attempt})

    def refused(self, call: Call, refusal: Refused) -> None:
        """A guard said no."""
        self.tell(
            "call.refused",
            call,
            error=type(refusal).__name__,
            reason=str(refusal),
            retry_after=refusal.retry_after,
        )

    def settled(self, call: Call, settlement: Settlement, *, late: bool) -> None:
        """An attempt is over; ``late`` when its claim had been lost."""
        if late:
            outcome = str(settlement.after.outcome)
            self.tell("call.late_result", call, outcome=outcome, epoch=settlement.after.epoch)
        elif call.state is _PENDING:
            self.tell("call.retry_scheduled", call, attempt=call.attempt, run_at=call.run_at)
        elif self._events.hears("call.settled"):
            ended = call.settled_at or 0.0
            began = call.dispatched_at or call.created_at
            detail = {
                "outcome": str(call.outcome),
                "state": str(call.state),
                "attempt": call.attempt,
                "duration": round(max(0.0, ended - began), 6),
            }
            self._emit("call.settled", ended, call, detail)

    def _emit(self, name: str, at: float, call: Call, detail: dict[str, Any]) -> None:
        event = Event(name, at, call.id, call.action, call.key, call.correlation, detail)
        self._events.emit(event)
