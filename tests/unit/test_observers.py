"""The observers every sandbox has."""

from __future__ import annotations

import io
import json
import logging

from gonogo.clock import FakeClock
from gonogo.events import Event, EventBus
from gonogo.logs import StructuredLogger, correlation, get_correlation_id
from gonogo.observers import log_events


def test_a_line_about_a_call_has_the_calls_correlation_id(fake_clock: FakeClock) -> None:
    """A call's events are found by its correlation id, in whatever thread they are logged."""
    stream = io.StringIO()
    logger = StructuredLogger(logging.getLogger("test_observers"), clock=fake_clock)
    handler = logger.configure(stream=stream)
    events = EventBus()
    log_events(events, logger)
    try:
        with correlation("of-the-thread"):
            now = fake_clock.now()
            events.emit(Event("call.settled", now, "c1", "pay", "k", "of-the-call", {}))
            assert get_correlation_id() == "of-the-thread"
            events.emit(Event("call.settled", now, "c2", "pay", "k", None, {}))
    finally:
        logger.logger.removeHandler(handler)
    about, without = (json.loads(line) for line in stream.getvalue().splitlines())
    assert about["correlation_id"] == "of-the-call"
    assert without["correlation_id"] == "of-the-thread"
    assert "field.correlation_id" not in about
