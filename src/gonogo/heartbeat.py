"""The scheduler's heartbeat: a thread that shows the process is alive and its checks are well."""

from __future__ import annotations

import os
import platform
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gonogo.clock import Clock, SystemClock, iso
from gonogo.deadlines import Check, CheckResult, Run, ask_all
from gonogo.errors import ConfigurationError
from gonogo.ids import new_id
from gonogo.records import Beat
from gonogo.secrets import describe
from gonogo.store.port import Store

Status = dict[str, Any]


class Pulse(Struct, frozen=True, kw_only=True):
    """One beat, as the history keeps it.

    Attributes:
        at: epoch seconds.
        ok: whether every check was well and the beat was written to the ledger (where there is
            one).
        checks: what each check said.
        missed: beats that were due since the one before and did not come.
        problem: why the beat could not be written; ``None`` when it was.
    """

    at: float
    ok: bool
    checks: tuple[CheckResult, ...]
    missed: int
    problem: str | None = None


class SchedulerHeartbeat:
    """Beats every ``interval`` seconds, runs its checks with each beat, and says if all is well.

    Checks run at the same time, each in a thread of its own: one that hangs makes the heartbeat
    unhealthy, is not started again while it hangs, and does not hold up later beats. With a store
    each beat is also written to the ledger, where other processes can see it.

    Args:
        interval: seconds between beats.
        timeout: seconds after which a beat is too old to count as a sign of life.
        name: this heartbeat's name on the ledger; host, process and a random part unless given.
        history: beats that are remembered.

    Raises:
        ConfigurationError: a number is not above 0, or ``timeout`` is below ``interval``.
    """

    def __init__(
        self,
        interval: float = 10.0,
        timeout: float = 30.0,
        *,
        clock: Clock | None = None,
        store: Store | None = None,
        name: str | None = None,
        history: int = 100,
    ) -> None:
        if not 0 < interval < float("inf"):
            raise ConfigurationError(f"heartbeat: interval must be above 0 s, not {interval!r}")
        if not interval <= timeout < float("inf"):
            raise ConfigurationError(
                f"heartbeat: timeout ({timeout!r} s) must be at least the interval ({interval!r} s)"
            )
        self.interval = interval
        self.timeout = timeout
        self._clock = clock or SystemClock()
        self._store = store
        host, tail = platform.node() or "localhost", new_id(self._clock.now())[-6:]
        self.name = name or f"heartbeat:{host}:{os.getpid()}:{tail}"
        self._checks: dict[str, Check] = {}
        self._listeners: list[_Listener] = []
        self._history: deque[Pulse] = deque(maxlen=history)
        self._lock = threading.Lock()
        self._beating = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._last: tuple[float, Pulse] | None = None
        self._told_healthy = True
        self._beats = 0
        self._missed = 0

    def register_check(self, name: str, fn: Callable[[], Any], timeout: float = 5.0) -> None:
        """Run ``fn`` with every beat; a check of the same name is replaced.

        It returns a bool or ``(bool, evidence)``; anything but exactly ``True``, an exception, or
        no answer within ``timeout`` seconds makes the heartbeat unhealthy.
        """
        check = Check(name, fn, clock=self._clock, timeout=timeout)
        with self._lock:
            self._checks[name] = check

    def on_change(self, fn: Callable[[bool, Status], object]) -> None:
        """Call ``fn(healthy, status)`` whenever the beats turn bad or well again.

        It runs in a thread of its own. One that raises or hangs is counted in
        ``listener_failures`` and disturbs nothing; stopping the heartbeat is not a change.
        """
        with self._lock:
            self._listeners.append(_Listener(fn, min(5.0, self.interval)))

    def start(self) -> None:
        """Begin to beat; does nothing when it already does.

        Returns when the first beat is there, or after a second if its checks take longer.
        """
        first = threading.Event()
        with self._lock:
            if self.is_running:
                return
            self._stop = threading.Event()
            self._last = None
            self._thread = threading.Thread(
                target=self._loop, args=(self._stop, first), name="gonogo-heartbeat", daemon=True
            )
            self._thread.start()
        first.wait(min(1.0, self.timeout))

    def stop(self, timeout: float = 5.0) -> None:
        """Stop beating and take the beat off the ledger; harmless when it never started.

        Waits up to ``timeout`` seconds for the thread, which may be inside a check.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is None:
            return
        if thread is not threading.current_thread():
            thread.join(timeout)
        self._write(lambda store: store.write(lambda tx: tx.beats.remove(self.name), durable=False))

    @property
    def is_running(self) -> bool:
        """Whether the thread is there."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def history(self) -> list[Pulse]:
        """The last beats, oldest first."""
        with self._lock:
            return list(self._history)

    @property
    def listener_failures(self) -> int:
        """Listeners' calls that raised, hung, or were left out because an earlier one hangs."""
        return sum(listener.failures for listener in self._listeners)

    def beat_once(self) -> Pulse:
        """Run every check, record the beat, write it to the ledger, tell listeners of a change."""
        with self._beating:
            self._notice_gap()
            with self._lock:
                checks = list(self._checks.values())
            results = ask_all(checks)
            now = self._clock.now()
            beat = Beat(
                name=self.name,
                kind="heartbeat",
                at=now,
                detail={"checks": {result.name: result.ok for result in results}},
            )
            problem = self._write(
                lambda store: store.write(lambda tx: tx.beats.put(beat), durable=False)
            )
            pulse = Pulse(
                at=now,
                ok=problem is None and all(result.ok for result in results),
                checks=results,
                missed=self._overdue(),
                problem=problem,
            )
            with self._lock:
                self._last = self._clock.monotonic(), pulse
                self._history.append(pulse)
                self._beats += 1
                self._missed += pulse.missed
            self._tell(pulse.ok)
            return pulse

    def is_healthy(self) -> bool:
        """Whether it runs, its last beat is younger than ``timeout``, and that beat was well."""
        last = self._last
        if last is None or not self.is_running:
            return False
        return last[1].ok and self._clock.monotonic() - last[0] <= self.timeout

    def get_health_status(self) -> Status:
        """What there is to know, as plain data.

        ``last_heartbeat`` is ISO 8601 in UTC or ``None``; ``total_checks`` counts the registered
        checks; ``missed_beats`` those that were due and did not come, up to now; ``checks`` holds
        ``ok`` and ``evidence`` by name, of the last beat.
        """
        with self._lock:
            last, beats, missed = self._last, self._beats, self._missed + self._overdue()
            names = list(self._checks)
        pulse = last[1] if last else None
        said = {result.name: result for result in pulse.checks} if pulse else {}
        return {
            "name": self.name,
            "is_running": self.is_running,
            "is_healthy": self.is_healthy(),
            "last_heartbeat": iso(pulse.at) if pulse else None,
            "seconds_since_heartbeat": self._clock.monotonic() - last[0] if last else None,
            "total_checks": len(names),
            "total_beats": beats,
            "missed_beats": missed,
            "problem": pulse.problem if pulse else None,
            "checks": {
                name: {"ok": said[name].ok, "evidence": said[name].evidence}
                if name in said
                else {"ok": False, "evidence": "not asked yet"}
                for name in names
            },
        }

    def _loop(self, stop: threading.Event, first: threading.Event) -> None:
        due = self._clock.monotonic()
        while not stop.is_set():
            self.beat_once()
            first.set()
            now = self._clock.monotonic()
            due = max(due + self.interval, now)
            stop.wait(due - now)

    def _overdue(self) -> int:
        """Beats that were due since the last one, and did not come."""
        if self._last is None:
            return 0
        gap = self._clock.monotonic() - self._last[0]
        return max(0, int(gap / self.interval + 1e-9) - 1)

    def _notice_gap(self) -> None:
        last = self._last
        if last is not None and self._clock.monotonic() - last[0] > self.timeout:
            self._tell(False)

    def _write(self, work: Callable[[Store], object]) -> str | None:
        """Do ``work`` on the ledger, if there is one; the reason when that fails."""
        if self._store is None:
            return None
        try:
            work(self._store)
        except Exception as error:  # noqa: BLE001  the beat goes on, and says what is wrong
            return describe(error)
        return None

    def _tell(self, healthy: bool) -> None:
        with self._lock:
            if healthy == self._told_healthy:
                return
            self._told_healthy = healthy
            listeners = list(self._listeners)
        status = self.get_health_status()
        for listener in listeners:
            listener.tell(healthy, status)


class _Listener:
    """Somebody who wants to hear of changes, kept at arm's length."""

    def __init__(self, fn: Callable[[bool, Status], object], patience: float) -> None:
        self._fn = fn
        self._patience = patience
        self._run: Run | None = None
        self.failures = 0

    def tell(self, healthy: bool, status: Status) -> None:
        if self._run is not None and not self._run.done:
            self.failures += 1
            return
        self._run = Run(lambda: self._fn(healthy, status), 0.0, "gonogo-heartbeat-listener")
        if not self._run.wait(self._patience) or self._run.error is not None:
            self.failures += 1
