"""What happens, told to whoever listens: frozen events and the bus that carries them.

Events are public API; a name keeps its meaning. Subscribers are observers: they run in the thread
that emits, after the fact is written, and nothing they do can change or break a call.

========================  ==================================  ===================================
name                      when                                ``detail``
========================  ==================================  ===================================
``call.admitted``         every guard agreed; the effect is   ``attempt``
                          about to be performed
``call.replayed``         a recorded outcome was handed back  ``state``
``call.refused``          a guard said no                     ``error``, ``reason``,
                                                              ``retry_after`` (s)
``call.settled``          the outcome is written              ``outcome``, ``state``, ``attempt``,
                                                              ``duration`` (s)
``call.retry_scheduled``  it will be tried again              ``attempt``, ``run_at`` (epoch s)
``call.recovered``        its owner died; it was picked up    ``state``, ``owner``
``call.resolved``         evidence or a person settled an     ``state``, ``by``
                          unknown outcome
``call.late_result``      a result came after the claim was   ``outcome``, ``epoch``
                          lost; kept as evidence
``call.withdrawn``        it ended without being performed    ``state``, ``reason``
                          (again): cancelled, too late
``plan.approved``         a person said yes to a plan         ``plan``, ``by``
``plan.applied``          its calls were queued               ``plan``, ``by``, ``calls``
``control.changed``       armed, held, halted, or undone      ``control``, ``by``, ``set``
``alert.fired``           an alert was raised or repeated     ``alert``, ``severity``, ``count``
``worker.started``        a worker takes calls                ``owner``, ``threads``
``worker.stopped``        it takes no more                    ``owner``
``schedule.ticked``       a tick made its call                ``schedule``, ``tick``, ``call``,
                                                              ``new``
``schedule.refused``      a tick passed without its call      ``schedule``, ``tick``, ``reason``
``observer.failed``       a subscriber raised                 ``observer``, ``error``, ``failures``
========================  ==================================  ===================================
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from gonogo.errors import ConfigurationError
from gonogo.secrets import describe

_log = logging.getLogger("gonogo.events")

NAMES = frozenset(
    {
        "call.admitted",
        "call.replayed",
        "call.refused",
        "call.settled",
        "call.retry_scheduled",
        "call.recovered",
        "call.resolved",
        "call.late_result",
        "call.withdrawn",
        "plan.approved",
        "plan.applied",
        "control.changed",
        "alert.fired",
        "worker.started",
        "worker.stopped",
        "observer.failed",
        "schedule.refused",
        "schedule.ticked",
    }
)
"""Every event there is; the module's table says what each one means."""


class Event(Struct, frozen=True):
    """Something that happened at ``at`` (epoch seconds); ``detail`` is described by its name."""

    name: str
    at: float
    call_id: str | None = None
    action: str | None = None
    key: str | None = None
    correlation_id: str | None = None
    detail: dict[str, Any] = {}


class _Observer:
    """One subscriber, what it wants to hear, and how often it failed."""

    __slots__ = ("failures", "fn", "hears", "name", "names", "quick")

    def __init__(
        self,
        fn: Callable[[Event], object],
        names: frozenset[str] | None,
        quick: bool,
        hears: Callable[[str], bool] | None,
    ) -> None:
        self.fn = fn
        self.names = names
        self.quick = quick
        self.hears = hears
        self.name = str(getattr(fn, "__qualname__", None) or type(fn).__qualname__)
        self.failures = 0


class EventBus:
    """Hands events to subscribers; false when there are none, so that no event need be made::

    if bus.hears("call.settled"):
        bus.emit(Event("call.settled", clock.now(), ...))
    """

    def __init__(self) -> None:
        self._observers: tuple[_Observer, ...] = ()
        self._wanting: dict[str, tuple[_Observer, ...]] = {}
        self._wanting_all: tuple[_Observer, ...] = ()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def hears(self, name: str) -> bool:
        """Whether anybody would do anything about an event of that name now."""
        try:
            for observer in self._wanting.get(name, self._wanting_all):
                if observer.hears is None or observer.hears(name):
                    return True
        except (Exception, SystemExit):  # noqa: BLE001 - who cannot say gets the event
            return True
        return False

    @property
    def quick(self) -> bool:
        """Whether every subscriber said so: none takes its time over an event, or acts on it."""
        return all(observer.quick for observer in self._observers)

    @property
    def failures(self) -> list[tuple[str, int]]:
        """For every subscriber, oldest first: its name and how often it has raised."""
        return [(observer.name, observer.failures) for observer in self._observers]

    def subscribe(
        self,
        fn: Callable[[Event], object],
        names: Iterable[str] | None = None,
        *,
        quick: bool = False,
        hears: Callable[[str], bool] | None = None,
    ) -> Callable[[], None]:
        """Call ``fn`` with every event, or with those of ``names``. Returns how to end it.

        ``hears`` says of a name whether ``fn`` would do anything about such an event now; where
        nobody would, none may be made. It must be as cheap and harmless as a look.

        A ``quick`` one takes no time and throws no switch. For others a worker admits its next
        call only after they heard how the last one ended, in a commit of its own.

        Raises:
            ConfigurationError: when ``fn`` cannot be called or a name is not an event's.
        """
        if not callable(fn):
            raise ConfigurationError(f"an event subscriber must be callable, not {fn!r}")
        wanted = None if names is None else frozenset((names,) if isinstance(names, str) else names)
        if unknown := (wanted or frozenset()) - NAMES:
            raise ConfigurationError(
                f"there is no event {', '.join(sorted(unknown))}; there are: "
                f"{', '.join(sorted(NAMES))}"
            )
        observer = _Observer(fn, wanted, quick, hears)
        with self._lock:
            self._set((*self._observers, observer))

        def unsubscribe() -> None:
            with self._lock:
                self._set(tuple(o for o in self._observers if o is not observer))

        return unsubscribe

    def _set(self, observers: tuple[_Observer, ...]) -> None:
        self._observers = observers
        self._wanting_all = tuple(o for o in observers if o.names is None)
        self._wanting = {
            name: tuple(o for o in observers if o.names is None or name in o.names)
            for name in NAMES
        }

    def emit(self, event: Event) -> None:
        """Hand ``event`` to every subscriber that wants it; never raises."""
        for observer in self._wanting.get(event.name, self._wanting_all):
            try:
                observer.fn(event)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - an observer can never break a call
                self._failed(observer, event, error)

    def _failed(self, observer: _Observer, event: Event, error: BaseException) -> None:
        """Count it; tell at the 1st, 2nd, 4th, 8th … failure, and never about telling."""
        with self._lock:
            observer.failures += 1
            failures = observer.failures
        if failures & (failures - 1) or event.name == "observer.failed":
            return
        what = describe(error)
        _log.warning(
            "event subscriber %s failed on %s, %d times so far: %s",
            observer.name,
            event.name,
            failures,
            what,
        )
        detail = {"observer": observer.name, "error": what, "failures": failures}
        self.emit(Event("observer.failed", event.at, detail=detail))


def control_changed(bus: EventBus | None, at: float, control: str, by: str, *, on: bool) -> None:
    """Tell ``bus`` that ``by`` switched ``control`` on or off; what components alone do without."""
    if bus:
        bus.emit(Event("control.changed", at, detail={"control": control, "by": by, "set": on}))
