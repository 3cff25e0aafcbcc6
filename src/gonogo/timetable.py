"""What recurs, as people see it and steer it: next and last runs, pause, run now, forget."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, structs

from gonogo.clock import Clock
from gonogo.decisions import decision, require_who_and_why
from gonogo.durations import spell_duration
from gonogo.errors import ConfigurationError, NotFound
from gonogo.events import EventBus, control_changed
from gonogo.handle import Handle
from gonogo.pauses import SCHEDULE
from gonogo.records import Control, Schedule, State
from gonogo.schedule import Rhythm
from gonogo.standing import standing, switch_off, switch_on
from gonogo.store.port import Store, Transaction


class ScheduleStatus(Struct, frozen=True):
    """One schedule at a glance.

    Attributes:
        schedule: as the ledger keeps it, with the next tick and the last.
        paused: who paused it and why, if anybody did.
        state: what became of the last tick's call; ``None`` when there is none, or it was
            forgotten since.
        late: seconds by which the next tick is overdue; 0 while it is to come, or paused.
    """

    schedule: Schedule
    paused: Control | None
    state: State | None
    late: float

    @property
    def is_overdue(self) -> bool:
        """Whether nobody made the tick in time: no process that declares it runs."""
        return self.late > self.schedule.grace


class Timetable:
    """The schedules of a ledger, whichever process ticks them.

    Args:
        prepare: what makes a schedule's call as if it ticked now, inside a transaction; raises
            `ConfigurationError` when this process does not declare it.
        wake: called when a schedule changed, or a call was made.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        events: EventBus,
        *,
        prepare: Callable[[str], Callable[[Transaction], list[Handle]]],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._prepare = prepare
        self._wake = wake

    def look(self) -> dict[str, ScheduleStatus]:
        """Every schedule by name."""
        now = self._clock.now()
        return self._store.read(lambda tx: _look(tx, now))

    def on_time(self) -> tuple[bool, str]:
        """Whether no schedule on this ledger is overdue; for a heartbeat."""
        late = {name: found.late for name, found in self.look().items() if found.is_overdue}
        said = [f"{name} is overdue by {spell_duration(late[name])}" for name in late]
        return not late, ", ".join(said) or "no tick is overdue"

    def pause(self, name: str, *, by: str, reason: str, until: float | None = None) -> Control:
        """Let the ticks of a schedule pass until `resume`, or until ``until`` (epoch seconds).

        They are not made up for, and do not count as missed. Calls that were made stay.

        Raises:
            ConfigurationError: without who and why, or when ``until`` has passed.
            NotFound: there is no schedule of that name.
            Refused: a pause that lasts longer stands.
        """
        require_who_and_why("pausing a schedule", by, reason)
        now = self._clock.now()
        if until is not None and until <= now:
            raise ConfigurationError("pause: 'until' has passed; give a later time or none")
        control = Control(name=SCHEDULE + name, actor=by, reason=reason, set_at=now, until=until)

        def work(tx: Transaction) -> None:
            _move_on(tx, name, now if until is None else until)
            switch_on(tx, control, "pause")

        self._store.write(work)
        control_changed(self._events, now, control.name, by, on=True)
        return control

    def resume(self, name: str, *, by: str, reason: str) -> bool:
        """End a pause; the next tick is the first from now on. False when it was not paused.

        Raises `ConfigurationError` and `NotFound` as `pause` does.
        """
        require_who_and_why("resuming a schedule", by, reason)
        now = self._clock.now()

        def work(tx: Transaction) -> bool:
            if not switch_off(tx, SCHEDULE + name, by, reason, now):
                _known(tx, name)
                return False
            _move_on(tx, name, now)
            return True

        resumed = self._store.write(work)
        if resumed:
            control_changed(self._events, now, SCHEDULE + name, by, on=False)
            self._wake()
        return resumed

    def run_now(self, name: str, *, by: str, reason: str) -> Handle:
        """Make the schedule's call at once, as if it ticked now; its ticks stay as they are.

        The call's key is what it would be at a tick: when that is taken, the handle is of the call
        that has it.

        Raises:
            ConfigurationError: without who and why, or when this process does not declare it.
            DryRunBlocked: the sandbox is locked and the action irreversible.
        """
        require_who_and_why("running a schedule now", by, reason)
        work, now = self._prepare(name), self._clock.now()

        def run(tx: Transaction) -> Handle:
            (handle,) = work(tx)
            tx.decisions.append(
                decision("run", f"schedule:{name}", by=by, reason=reason, now=now, call=handle.id)
            )
            return handle

        handle = self._store.write(run)
        self._wake()
        return handle

    def forget(self, name: str, *, by: str, reason: str) -> None:
        """Remove a schedule from the ledger; a process that starts and declares it brings it back.

        Raises `ConfigurationError` and `NotFound` as `pause` does.
        """
        require_who_and_why("forgetting a schedule", by, reason)
        now = self._clock.now()

        def work(tx: Transaction) -> None:
            _known(tx, name)
            tx.schedules.remove(name)
            tx.controls.clear(SCHEDULE + name)
            tx.decisions.append(
                decision("forget", f"schedule:{name}", by=by, reason=reason, now=now)
            )

        self._store.write(work)


def _look(tx: Transaction, now: float) -> dict[str, ScheduleStatus]:
    controls = tx.controls.all()
    found: dict[str, ScheduleStatus] = {}
    for schedule in tx.schedules.all():
        paused = standing(controls, SCHEDULE + schedule.name, now)
        last = None if schedule.last_call is None else tx.calls.get(schedule.last_call)
        found[schedule.name] = ScheduleStatus(
            schedule=schedule,
            paused=paused,
            state=None if last is None else last.state,
            late=0.0 if paused else max(0.0, now - schedule.next_at),
        )
    return found


def _known(tx: Transaction, name: str) -> Schedule:
    schedule = tx.schedules.get(name)
    if schedule is None:
        names = ", ".join(one.name for one in tx.schedules.all())
        raise NotFound(
            f"there is no schedule {name!r}, nothing was changed; there are: {names or 'none'}"
        )
    return schedule


def _move_on(tx: Transaction, name: str, at: float) -> None:
    """Let the next tick be the first after ``at``; whoever was about to make one finds it gone."""
    before = _known(tx, name)
    rhythm = Rhythm.read(name, before.spec, before.tz)
    tx.schedules.replace(before, structs.replace(before, next_at=rhythm.after(at, before.anchor)))
