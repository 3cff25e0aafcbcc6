"""The scheduler: makes the call of every tick, exactly one over any number of processes.

A tick is taken by moving the schedule's ``next_at`` on, fenced by what it was, in the transaction
that queues the call. Whoever comes second moves nothing and queues nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from msgspec import structs

from gonogo.alerts import AlertSystem
from gonogo.clock import Clock, iso, refresh
from gonogo.durations import spell_duration
from gonogo.errors import ConfigurationError, GonogoError, StoreError
from gonogo.events import Event, EventBus
from gonogo.handle import Handle, JobOptions
from gonogo.jobs import Jobs
from gonogo.logs import StructuredLogger, correlation
from gonogo.pauses import SCHEDULE, running
from gonogo.pings import Ping, Pinger
from gonogo.records import Alert, Schedule, Severity
from gonogo.schedule import Declared, Tick
from gonogo.secrets import describe
from gonogo.store.port import Store, Transaction
from gonogo.ticks import Turn, next_turn

POLL = 5.0
"""Seconds between two looks at most, so that what other processes change is noticed."""

AT_ONCE = 100
"""Ticks of one schedule that are made in one round."""


class Scheduler:
    """Ticks the schedules that this process declared.

    Args:
        wake: called when a job was queued.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        jobs: Jobs,
        alerts: AlertSystem,
        events: EventBus,
        logger: StructuredLogger,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._jobs = jobs
        self._alerts = alerts
        self._events = events
        self._logger = logger
        self._wake_worker = wake
        self._announced: set[str] = set()
        self._changed = threading.Condition()
        self._nudges = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._looked_at = clock.monotonic()
        self.declared: dict[str, Declared] = {}
        self.pinger = Pinger(events, self._ping_of)

    def declare(self, declared: Declared) -> None:
        """Let this process tick a schedule. Raises `ConfigurationError` for a name twice."""
        with self._changed:
            if declared.name in self.declared:
                raise ConfigurationError(f"schedule {declared.name!r} is declared twice")
            self.declared[declared.name] = declared
        if declared.ping is not None:
            self.pinger.listen()
        self.wake()

    def _ping_of(self, name: str) -> Ping | None:
        declared = self.declared.get(name)
        return None if declared is None else declared.ping

    # start and stop

    @property
    def is_running(self) -> bool:
        """Whether its thread is there."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Begin to tick; does nothing when it runs, or when nothing is declared."""
        with self._changed:
            if self.is_running or not self.declared:
                return
            self._stop = threading.Event()
            self._looked_at = self._clock.monotonic()
            self._thread = threading.Thread(
                target=self._loop, args=(self._stop,), name="gonogo-scheduler", daemon=True
            )
            self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop ticking; harmless when it never started. Waits up to ``timeout`` seconds."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._stop.set()
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def wake(self) -> None:
        """Look at once: something changed."""
        with self._changed:
            self._nudges += 1
            self._changed.notify_all()

    def check(self) -> tuple[bool, str]:
        """Whether it looks in time and nothing is overdue; for the heartbeat."""
        if not self.is_running:
            return False, "the scheduler does not run"
        silent = self._clock.monotonic() - self._looked_at
        if silent > 3 * POLL:
            return False, f"the scheduler has not looked for {spell_duration(silent)}"
        now = self._clock.now()
        mine, known = self._store.read(lambda tx: (self._mine(tx), self._known(tx)))
        for schedule in known:
            late = now - schedule.next_at
            if late > schedule.grace:
                said = f"{schedule.name} is overdue by {spell_duration(late)}"
                other = ": another version declared it last, and is gone; start this one again"
                return False, said if schedule in mine else said + other
        following = min(mine, key=lambda schedule: schedule.next_at, default=None)
        missed = sum(schedule.missed for schedule in mine)
        what = "nothing" if following is None else f"{following.name} at {iso(following.next_at)}"
        return True, f"next: {what}; {missed} ticks missed in all"

    def prepare(self, name: str) -> Callable[[Transaction], list[Handle]]:
        """What makes the call of ``name`` inside a transaction, as if it ticked now.

        Raises `ConfigurationError` when this process does not declare it.
        """
        declared = self.declared.get(name)
        if declared is None:
            raise ConfigurationError(
                f"schedule {name!r} is not declared in this process, so nothing was run; declared: "
                f"{', '.join(self.declared) or 'none'}"
            )
        return self._prepare(declared, declared.rhythm.tick(self._clock.now()))

    # ticking

    def run_once(self) -> float:
        """Make every tick that is due; seconds until there is something to do again.

        Raises `StoreError` when the ledger is out of reach: what is due stays due.
        """
        refresh(self._clock)
        self._announce()
        failed: StoreError | None = None
        for schedule in self._store.read(self._mine):
            try:
                self._make_all_due(schedule)
            except StoreError as error:  # the others must not wait for this one
                failed = failed or error
        if failed is not None:
            raise failed
        self._looked_at = self._clock.monotonic()
        times = [schedule.next_at for schedule in self._store.read(self._mine)]
        return min([POLL, *(max(0.0, at - self._clock.now()) for at in times)])

    def _make_all_due(self, schedule: Schedule) -> None:
        current: Schedule | None = schedule
        for _ in range(AT_ONCE):
            now = self._clock.now()
            if current is None or current.next_at > now:
                return
            current = self._make(self.declared[schedule.name], current, now)

    def _mine(self, tx: Transaction) -> list[Schedule]:
        """The schedules to tick here: declared alike in the ledger, and not paused."""
        return [s for s in self._known(tx) if s.digest == self.declared[s.name].digest]

    def _known(self, tx: Transaction) -> list[Schedule]:
        """The schedules declared here, alike or otherwise, that are not paused."""
        controls, now = tx.controls.all(), self._clock.now()
        known = [schedule for schedule in tx.schedules.all() if schedule.name in self.declared]
        return [s for s in known if running(controls, (s.name,), now, SCHEDULE)]

    def _announce(self) -> None:
        """Write what this process declared into the ledger, once; the last to start counts."""
        for name, declared in list(self.declared.items()):
            if name not in self._announced:
                self._store.write(lambda tx, d=declared: _declare(tx, d, self._clock.now()))  # type: ignore[misc]  # a lambda has no types
                self._announced.add(name)

    def _make(self, declared: Declared, schedule: Schedule, now: float) -> Schedule | None:
        """Take the next turn of a schedule; the schedule after it, ``None`` when it was taken."""
        turn = next_turn(declared, schedule, now)
        work: Callable[[Transaction], list[Handle]] = lambda tx: []  # noqa: E731 - no call is due
        try:
            if turn.tick is not None:
                work = self._prepare(declared, turn.tick)
            return self._take(declared, turn, work, now)
        except StoreError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever refused it, the tick is over and is told
            why = str(error) if isinstance(error, GonogoError) else describe(error)
            return self._refuse(declared, turn, why, now)

    def _prepare(self, declared: Declared, tick: Tick) -> Callable[[Transaction], list[Handle]]:
        action = declared.action
        bound = action.parameters.bind((), dict(declared.arguments_at(tick)))
        with correlation(tick.correlation_id):
            return self._jobs.prepare(action, [bound], JobOptions())

    def _take(
        self,
        declared: Declared,
        turn: Turn,
        work: Callable[[Transaction], list[Handle]],
        now: float,
    ) -> Schedule | None:
        fired: list[Alert] = []

        def take(tx: Transaction) -> tuple[Schedule, list[Handle]] | None:
            fired.clear()
            if not self._stands(tx, turn.before, now):
                return None
            handles = work(tx)
            after = turn.after
            for handle in handles:
                after = structs.replace(after, last_call=handle.id)
                if not handle.is_new:
                    note = f"its key is taken by call {handle.id}: nothing new was queued"
                    after = structs.replace(after, note=note)
                    fired.append(self._alert(tx, declared, "a tick made no new call", note, now))
            if turn.missed:
                grace = spell_duration(declared.grace)
                said = f"{turn.missed} were let go, or made more than {grace} late"
                fired.append(self._alert(tx, declared, "ticks were missed", said, now))
            tx.schedules.replace(turn.before, after)
            return after, handles

        taken = self._store.write(take)
        if taken is None:
            return None
        after, handles = taken
        self._publish(fired)
        if handles:
            self._wake_worker()
            self._tell("schedule.ticked", after, call=after.last_call, new=handles[0].is_new)
        return after

    def _refuse(self, declared: Declared, turn: Turn, why: str, now: float) -> Schedule | None:
        """Let the tick pass without a call, and say so: it is not tried again behind one's back."""
        fired: list[Alert] = []

        def work(tx: Transaction) -> Schedule | None:
            fired.clear()
            if not self._stands(tx, turn.before, now):
                return None
            after = structs.replace(turn.after, note=f"refused: {why}")
            fired.append(self._alert(tx, declared, "a tick was refused", why, now))
            tx.schedules.replace(turn.before, after)
            return after

        after = self._store.write(work)
        if after is not None:
            self._publish(fired)
            self._tell("schedule.refused", after, reason=why)
        return after

    def _stands(self, tx: Transaction, seen: Schedule, now: float) -> bool:
        """Whether the tick is still to be taken, and nobody paused it meanwhile."""
        stands = tx.schedules.get(seen.name)
        if stands is None or (stands.digest, stands.next_at) != (seen.digest, seen.next_at):
            return False
        return bool(running(tx.controls.all(), (seen.name,), now, SCHEDULE))

    def _alert(
        self, tx: Transaction, declared: Declared, reason: str, why: str, now: float
    ) -> Alert:
        context = {"schedule": declared.name, "action": declared.action.name, "why": why}
        task = f"schedule {declared.name}"
        return self._alerts.fire(tx, task, reason, Severity.ERROR, context, now)

    def _publish(self, fired: list[Alert]) -> None:
        for alert in fired:
            self._alerts.publish(alert)

    def _tell(self, name: str, schedule: Schedule, **detail: object) -> None:
        if self._events:
            at = None if schedule.last_at is None else iso(schedule.last_at)
            about = {"schedule": schedule.name, "tick": at, **detail}
            self._events.emit(Event(name, self._clock.now(), action=schedule.action, detail=about))

    def _loop(self, stop: threading.Event) -> None:
        while not stop.is_set():
            nudges = self._nudges
            try:
                pause = self.run_once()
            except BaseException as error:  # noqa: BLE001 - nothing may end the thread
                self._logger.log_action("scheduler.fault", "error", error=describe(error))
                pause = 1.0
            with self._changed:
                if nudges == self._nudges and not stop.is_set():
                    self._changed.wait(max(0.01, pause))


def _declare(tx: Transaction, declared: Declared, now: float) -> None:
    known = tx.schedules.get(declared.name)
    if known is not None and known.digest == declared.digest:
        return
    pause = tx.controls.all().get(SCHEDULE + declared.name)
    begin = max(now, pause.until) if pause and pause.until and pause.active(now) else now
    fresh = Schedule(
        name=declared.name,
        action=declared.action.name,
        spec=declared.rhythm.spec,
        tz=declared.tz,
        catch_up=declared.catch_up,
        grace=declared.grace,
        digest=declared.digest,
        anchor=now,
        next_at=declared.rhythm.after(begin, now),
    )
    if known is not None:
        fresh = structs.replace(
            fresh, last_at=known.last_at, last_call=known.last_call, missed=known.missed
        )
        if (known.spec, known.tz) == (fresh.spec, fresh.tz):  # the same ticks, otherwise made
            fresh = structs.replace(fresh, anchor=known.anchor, next_at=known.next_at)
        elif known.next_at <= now and not (pause and pause.active(now)):  # not made, nor told
            fresh = structs.replace(fresh, anchor=known.next_at, next_at=known.next_at)
    tx.schedules.put(fresh)
