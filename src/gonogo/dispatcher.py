"""Handing things to subscribers on one background thread, behind a bounded queue."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from gonogo.secrets import describe

T = TypeVar("T")

_log = logging.getLogger("gonogo.dispatcher")


class _Subscription(Generic[T]):
    __slots__ = ("failures", "fn", "name", "wants")

    def __init__(self, wants: Callable[[T], bool], fn: Callable[[T], object], name: str) -> None:
        self.wants = wants
        self.fn = fn
        self.name = name
        self.failures = 0


class Dispatcher(Generic[T]):
    """A bounded queue, and one daemon thread that lives while there is something in it.

    A full queue drops what comes and counts it in ``dropped``. A
    subscriber that raises is counted and keeps its place; one that hangs holds up the others, not
    the callers.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: deque[T] = deque()
        self._subscriptions: tuple[_Subscription[T], ...] = ()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self.dropped = 0

    @property
    def failures(self) -> list[tuple[str, int]]:
        """For every subscriber, oldest first: its name and how often it has raised."""
        return [(s.name, s.failures) for s in self._subscriptions]

    def subscribe(
        self, wants: Callable[[T], bool], fn: Callable[[T], object], name: str
    ) -> Callable[[], None]:
        """Call ``fn`` with each item that it ``wants``. Returns how to end it."""
        subscription = _Subscription(wants, fn, name)
        with self._changed:
            self._subscriptions = (*self._subscriptions, subscription)

        def unsubscribe() -> None:
            with self._changed:
                self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)

        return unsubscribe

    def put(self, item: T, patience: float = 0.0) -> None:
        """Queue ``item`` if anybody wants it; never raises.

        With ``patience`` it waits up to that many seconds until ``item`` was handed out, unless
        something else is still being handed out: so one that hangs makes one caller wait, once.
        """
        if not any(subscription.wants(item) for subscription in self._subscriptions):
            return
        with self._changed:
            idle = self._thread is None
            if len(self._queue) >= self._size:
                self.dropped += 1
                return
            self._queue.append(item)
            # A thread that a fork left behind is not alive in the child.
            if self._thread is None or not self._thread.is_alive():
                self._start()
        if idle and patience > 0:
            self.flush(patience)

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until all is handed out; whether it was.

        False at once when called by a subscriber, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            return False
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None and not self._queue, timeout)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="gonogo-dispatcher", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread left, or the interpreter is ending; the next put tries
            return
        self._thread = thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._thread = None
                    self._changed.notify_all()
                    return
                item = self._queue.popleft()
            for subscription in self._subscriptions:
                self._deliver(subscription, item)

    def _deliver(self, subscription: _Subscription[T], item: T) -> None:
        try:
            if subscription.wants(item):
                subscription.fn(item)
        except BaseException as error:  # noqa: BLE001 - nothing a subscriber does ends the thread
            subscription.failures += 1
            failures = subscription.failures
            if not failures & (failures - 1):  # the 1st, 2nd, 4th, 8th …
                _log.warning(
                    "subscriber %s failed, %d times so far: %s",
                    subscription.name,
                    failures,
                    describe(error),
                )
