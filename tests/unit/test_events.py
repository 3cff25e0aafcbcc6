"""The event bus."""

from __future__ import annotations

import logging
import sys

import pytest

from gonogo import events
from gonogo.errors import ConfigurationError
from gonogo.events import Event, EventBus


def test_a_bus_nobody_listens_to_is_false() -> None:
    """The bus is true exactly while somebody listens, so that the hot path can make no event."""
    bus = EventBus()
    assert not bus
    stop = bus.subscribe(lambda event: None)
    assert bus
    stop()
    assert not bus


def test_subscribers_get_the_events_they_asked_for() -> None:
    """A subscriber gets every event, or only those whose names it gave."""
    bus = EventBus()
    every: list[str] = []
    settled: list[str] = []
    bus.subscribe(lambda event: every.append(event.name))
    bus.subscribe(lambda event: settled.append(event.name), names=["call.settled"])
    bus.emit(Event("call.admitted", 1.0))
    bus.emit(Event("call.settled", 2.0))
    assert every == ["call.admitted", "call.settled"]
    assert settled == ["call.settled"]


def test_an_event_that_nobody_would_heed_need_not_be_made() -> None:
    """The bus hears of a name while a subscriber wants it and does not say that it is deaf."""
    bus = EventBus()
    wanted: set[str] = set()
    assert not bus.hears("call.admitted")
    bus.subscribe(lambda event: None, names=["call.refused"])
    bus.subscribe(lambda event: None, hears=wanted.__contains__)
    heard = [bus.hears("call.refused"), bus.hears("call.admitted")]
    wanted.add("call.admitted")
    assert [*heard, bus.hears("call.admitted")] == [True, False, True]
    bus.subscribe(lambda event: None)
    assert bus.hears("call.settled")


def test_an_event_of_ones_own_is_heard_by_those_who_want_all() -> None:
    """An event under a name that gonogo does not have reaches whoever asked for every event."""
    bus = EventBus()
    heard: list[str] = []
    bus.subscribe(lambda event: heard.append(event.name))
    bus.subscribe(lambda event: heard.append("not asked for"), names=["call.settled"])
    assert bus.hears("shop.opened")
    bus.emit(Event("shop.opened", 1.0))
    assert heard == ["shop.opened"]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_who_cannot_say_what_it_hears_hears_all(error: type[BaseException]) -> None:
    """A subscriber whose answer fails breaks nothing, and misses nothing."""
    bus = EventBus()

    def broken(name: str) -> bool:
        raise error(name)

    bus.subscribe(lambda event: None, hears=broken)
    assert bus.hears("call.admitted")


def test_unsubscribing_twice_ends_one_subscription_only() -> None:
    """The same function subscribed twice is two subscriptions, each ended by its own handle."""
    bus = EventBus()
    seen: list[Event] = []
    stop = bus.subscribe(seen.append)
    bus.subscribe(seen.append)
    stop()
    stop()
    bus.emit(Event("call.admitted", 1.0))
    assert len(seen) == 1


def test_a_raising_subscriber_breaks_nothing_and_stays() -> None:
    """A subscriber that raises is counted and kept; the others and the emitter notice nothing."""
    bus = EventBus()
    seen: list[Event] = []
    calls: list[int] = []

    def broken(event: Event) -> None:
        calls.append(1)
        raise RuntimeError("no")

    bus.subscribe(broken, names=["call.admitted"])
    bus.subscribe(seen.append, names=["call.admitted"])
    bus.emit(Event("call.admitted", 1.0))
    bus.emit(Event("call.admitted", 2.0))
    assert len(seen) == len(calls) == 2
    assert [count for _, count in bus.failures] == [2, 0]


def test_failures_are_told_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    """Of ten failures the 1st, 2nd, 4th and 8th are logged and emitted as observer.failed."""
    bus = EventBus()
    told: list[int] = []

    def broken(event: Event) -> None:
        raise RuntimeError("password=hunter2")

    bus.subscribe(broken, names=["call.admitted"])
    bus.subscribe(lambda event: told.append(event.detail["failures"]), names=["observer.failed"])
    with caplog.at_level(logging.WARNING, "gonogo.events"):
        for _ in range(10):
            bus.emit(Event("call.admitted", 1.0))
    assert told == [1, 2, 4, 8]
    assert len(caplog.records) == 4
    assert "hunter2" not in caplog.text


def test_failing_on_the_news_of_failure_ends_there() -> None:
    """A subscriber that fails on everything, observer.failed too, does not recurse."""
    bus = EventBus()
    names: list[str] = []

    def broken(event: Event) -> None:
        names.append(event.name)
        raise RuntimeError

    bus.subscribe(broken)
    bus.emit(Event("call.admitted", 1.0))
    assert names == ["call.admitted", "observer.failed"]


def test_unknown_names_and_things_that_cannot_be_called_are_refused() -> None:
    """Listening for an event that does not exist, or with no function, is a ConfigurationError."""
    bus = EventBus()
    with pytest.raises(ConfigurationError, match=r"call\.settlde"):
        bus.subscribe(lambda event: None, names=["call.settlde"])
    with pytest.raises(ConfigurationError, match="callable"):
        bus.subscribe("print")  # type: ignore[arg-type]


def test_events_cannot_be_changed() -> None:
    """An event is frozen: one subscriber cannot rewrite what the next one sees."""
    event = Event("call.admitted", 1.0)
    with pytest.raises(AttributeError):
        event.name = "call.settled"  # type: ignore[misc]


def test_every_event_is_described() -> None:
    """The table in the module's docstring lists exactly the names there are."""
    lines = (events.__doc__ or "").splitlines()
    described = {line.split()[0].strip("`") for line in lines if line.startswith("``")}
    assert described == events.NAMES


def test_a_subscriber_that_ends_the_program_breaks_nothing() -> None:
    """``sys.exit`` in an observer would end the thread that performs the call."""
    bus = EventBus()
    bus.subscribe(lambda event: sys.exit(3))
    bus.emit(Event("call.admitted", 1.0))
    assert [failures for _, failures in bus.failures] == [2]  # it heard of its own failure too
