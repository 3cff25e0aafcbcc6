"""Signs of life for a monitor outside: a URL is called when a scheduled call begins and ends.

A dead man's switch: the monitor raises the alarm when the call does not come. It is an observer: it
has a thread and a bounded queue of its own, and nothing it does or fails to do touches a call.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from msgspec import Struct

from gonogo.dispatcher import Dispatcher
from gonogo.errors import ConfigurationError
from gonogo.events import Event, EventBus
from gonogo.records import TERMINAL, State
from gonogo.schedule import schedule_of

TIMEOUT = 5.0
"""Seconds a monitor has to answer."""

QUEUED = 100
"""Pings that may wait; more are dropped and counted."""


class Ping(Struct, frozen=True):
    """Where to call, as GET, on success, when the call begins, and when it ends otherwise.

    The address is a secret: it is shown nowhere.
    """

    success: str
    start: str | None = None
    fail: str | None = None

    def __post_init__(self) -> None:
        for url in (self.success, self.start, self.fail):
            if url is not None and not _is_address(url):
                raise ConfigurationError(
                    "ping: an address to ping begins with http:// or https://, names a host "
                    "and has no spaces or line breaks"
                )

    def __repr__(self) -> str:
        return "<ping>"

    @classmethod
    def of(cls, given: str | Ping | None) -> Ping | None:
        """A ping of one address and, under it, ``/start`` and ``/fail``, as monitors have it."""
        if given is None or isinstance(given, Ping):
            return given
        if not isinstance(given, str):
            raise ConfigurationError("ping: give an address, or a Ping of three")
        if "?" in given:
            raise ConfigurationError(
                "ping: /start and /fail cannot be put after a query; give a Ping of three"
            )
        base = given.rstrip("/")
        return cls(success=given, start=f"{base}/start", fail=f"{base}/fail")


class Pinger:
    """Calls the monitors of schedules.

    Attributes:
        told: how many pings were ``sent``, ``failed`` (the monitor said no, or is not there), and
            how many ended ``unheard``: they may or may not have arrived.

    Args:
        ping_of: the ping of a schedule by its name, if it has one.
    """

    def __init__(self, events: EventBus, ping_of: Callable[[str], Ping | None]) -> None:
        self._events = events
        self._ping_of = ping_of
        self._queue: Dispatcher[str] = Dispatcher(QUEUED)
        self._queue.subscribe(lambda url: True, self._call, "ping")
        self._listening = False
        self._mutex = threading.Lock()
        self.told: Counter[str] = Counter()

    def listen(self) -> None:
        """Begin to hear of calls; once is enough."""
        with self._mutex:
            if not self._listening:
                self._listening = True
                self._events.subscribe(self._heard, names=_MEANINGS, quick=True)

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until every ping is out; whether they are."""
        return self._queue.flush(timeout)

    def _heard(self, event: Event) -> None:
        name = event.detail.get("schedule") or schedule_of(event.correlation_id)
        ping = None if name is None else self._ping_of(str(name))
        kind = _MEANINGS[event.name](event)
        url = None if ping is None or kind is None else getattr(ping, kind)
        if url is not None:
            self._queue.put(url)

    def _call(self, url: str) -> None:
        from urllib.error import URLError  # noqa: PLC0415 - only pings need it
        from urllib.request import urlopen  # noqa: PLC0415 - same

        try:
            urlopen(url, timeout=TIMEOUT).close()  # noqa: S310 - http and https only, checked above
            self.told["sent"] += 1
        except TimeoutError:
            self.told["unheard"] += 1
        except URLError as error:
            heard = not isinstance(error.reason, TimeoutError)
            self.told["failed" if heard else "unheard"] += 1
        except Exception:  # noqa: BLE001 - cut, or no HTTP: it may have arrived; an error shows the address
            self.told["unheard"] += 1


def _is_address(url: object) -> bool:
    from urllib.parse import urlsplit  # noqa: PLC0415 - only pings need it

    if not isinstance(url, str) or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


_FAILED = {state.value for state in {*TERMINAL, State.UNKNOWN}} - {State.SUCCEEDED.value}


def _ended(event: Event) -> str | None:
    state = event.detail.get("state")
    if state == State.SUCCEEDED.value:
        return "success"
    return "fail" if state in _FAILED else None


_MEANINGS: dict[str, Callable[[Event], str | None]] = {
    "call.admitted": lambda event: "start",
    "call.settled": _ended,
    "call.recovered": _ended,
    "call.resolved": _ended,
    "call.withdrawn": _ended,
    "schedule.refused": lambda event: "fail",
}
