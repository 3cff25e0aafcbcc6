"""The ledger in memory: for one process, for tests, for components without a database."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, KeysView, Sequence
from typing import TypeVar

from msgspec import structs

from gonogo.errors import ConfigurationError
from gonogo.records import (
    Alert,
    AlertState,
    Attempt,
    Beat,
    Charge,
    Control,
    Decision,
    PlanRecord,
    PlanState,
    Schedule,
)
from gonogo.store.fates import Fate, Piece, one_by_one
from gonogo.store.memory_calls import MemoryCalls
from gonogo.store.memory_limits import MemoryLimits
from gonogo.store.memory_prepared import Use, prepare_use
from gonogo.store.port import NESTED, READ_ONLY, Listening, Transaction, Wake

T = TypeVar("T")
Journal = list[tuple[Callable[..., object], object, object]]


class MemoryStore:
    """A ledger that lives as long as the object; one writer at a time, rolled back on error.

    Every write notes how to undo itself in a journal, so a transaction costs what it changes.

    Args:
        history: how many finished calls, decisions and alerts are remembered; the oldest go
            first. Calls that are not finished, or hold a key, are always kept.
    """

    shared = False

    def __init__(self, history: int = 100_000) -> None:
        self.lock = threading.RLock()  # so that a transaction inside another one can be told
        self.busy = False
        self._journal: Journal = []
        self._tables = _Tables(self._journal, history)
        self.controls = self._tables.controls.names

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        with self.lock:
            if self.busy:
                raise RuntimeError(NESTED)
            journal = self._journal
            self.busy = True
            try:
                return work(self._tables)
            except BaseException:
                while journal:
                    undo, key, value = journal.pop()
                    undo(key, value)
                raise
            finally:
                self.busy = False  # first: an interrupt must not leave it set
                if journal:
                    journal.clear()
                    self._tables.trim()

    def prepare(self, charges: Sequence[Charge], switches: Collection[str]) -> Use | None:
        """A function that uses units of each of ``charges`` for good, all or none, when called.

        It does what `write` would do with a reservation that nobody keeps, for less: nothing
        follows that could fail, so there is nothing to undo. It is given the cost (their own does
        not matter) and the time. Where it says false nothing was used: there is no room, one of
        ``switches`` is set, or it is too old. ``None`` where only a transaction can do it: their
        rows are windows that slide, each another one.
        """
        with self.lock:
            places = self._tables.limits.places(charges)
        return prepare_use(self, places, switches) if places else None

    def write_all(self, pieces: Sequence[Piece]) -> list[Fate]:
        return one_by_one(self.write, pieces)

    def join(
        self, session: object, work: Callable[[Transaction], T], then: Callable[[], None]
    ) -> T:
        raise ConfigurationError(
            "this ledger is in memory and shares no transaction with a session; give "
            "SandboxOrchestrator the URL of the database that the session is on"
        )

    def read(self, work: Callable[[Transaction], T]) -> T:
        def only_read(tables: Transaction) -> T:
            result = work(tables)
            if self._journal:
                raise RuntimeError(READ_ONLY)
            return result

        return self.write(only_read)

    def time(self) -> float | None:
        return None

    def listen(self, wake: Wake) -> Listening:
        """Nobody tells; who polls finds out."""
        return Listening()

    def close(self) -> None:
        """Nothing to close; the store stays usable."""


class _Tables:
    __slots__ = (
        "alerts",
        "attempts",
        "beats",
        "calls",
        "controls",
        "decisions",
        "history",
        "limits",
        "plans",
        "schedules",
    )

    def __init__(self, journal: Journal, history: int) -> None:
        self.history = history
        self.attempts = MemoryAttempts(journal)
        self.calls = MemoryCalls(journal, self.attempts.forget, self.attempts.drop)
        self.decisions = MemoryDecisions(journal, history)
        self.limits = MemoryLimits(journal)
        self.alerts = MemoryAlerts(journal)
        self.plans = MemoryPlans(journal)
        self.controls = MemoryControls(journal)
        self.beats = MemoryBeats(journal)
        self.schedules = MemorySchedules(journal)

    def trim(self) -> None:
        """Forget what is beyond the history; between transactions, so there is nothing to undo."""
        history = self.history
        if len(self.calls.finished) > history:
            self.calls.trim(history)
        if len(self.alerts.rows) > history:
            self.alerts.trim(history)


class _Rows(dict[str, T]):
    """Records by name, whose changes are noted in the journal."""

    __slots__ = ("_journal",)

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def put(self, name: str, record: T) -> None:
        self._journal.append((self._restore, name, self.get(name)))
        self[name] = record

    def drop(self, name: str) -> bool:
        if name not in self:
            return False
        self._journal.append((self._restore, name, self.pop(name)))
        return True

    def _restore(self, name: str, record: T | None) -> None:
        if record is None:
            self.pop(name, None)
        else:
            self[name] = record


class MemoryAttempts:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._of: dict[str, list[Attempt]] = {}

    def append(self, attempt: Attempt) -> None:
        self._of.setdefault(attempt.call_id, []).append(attempt)
        self._journal.append((self._undo, attempt.call_id, None))

    def of(self, call_id: str) -> list[Attempt]:
        return list(self._of.get(call_id, ()))

    def forget(self, call_id: str) -> None:
        self._of.pop(call_id, None)

    def drop(self, call_id: str) -> None:
        """`forget` inside a transaction."""
        if (attempts := self._of.pop(call_id, None)) is not None:
            self._journal.append((self._of.__setitem__, call_id, attempts))

    def _undo(self, call_id: str, _: object) -> None:
        attempts = self._of[call_id]
        attempts.pop()
        if not attempts:
            del self._of[call_id]


class MemoryDecisions:
    def __init__(self, journal: Journal, history: int) -> None:
        self._journal = journal
        self._all: deque[Decision] = deque(maxlen=history)

    def append(self, decision: Decision) -> None:
        full = len(self._all) == self._all.maxlen
        self._journal.append((self._undo, None, self._all[0] if full else None))
        self._all.append(decision)

    def of(self, subject: str) -> list[Decision]:
        return [decision for decision in self._all if decision.subject == subject]

    def latest(self, limit: int) -> list[Decision]:
        newest = reversed(self._all)
        return [decision for decision, _ in zip(newest, range(limit), strict=False)]

    def _undo(self, _: object, pushed_out: Decision | None) -> None:
        self._all.pop()
        if pushed_out is not None:
            self._all.appendleft(pushed_out)


class MemoryAlerts:
    def __init__(self, journal: Journal) -> None:
        self.rows: _Rows[Alert] = _Rows(journal)
        self._unresolved: _Rows[str] = _Rows(journal)

    def fire(self, alert: Alert) -> Alert:
        known = self.rows.get(self._unresolved.get(alert.fingerprint, ""))
        if known is not None:
            alert = known.again(alert)
        else:
            self._unresolved.put(alert.fingerprint, alert.id)
        self.rows.put(alert.id, alert)
        return alert

    def get(self, alert_id: str) -> Alert | None:
        return self.rows.get(alert_id)

    def change(self, before: Alert, state: AlertState, actor: str) -> bool:
        known = self.rows.get(before.id)
        if known is None or (known.state, known.count) != (before.state, before.count):
            return False
        self.rows.put(known.id, structs.replace(known, state=state, changed_by=actor))
        if state is AlertState.RESOLVED:
            self._unresolved.drop(known.fingerprint)
        return True

    def find(
        self, *, severity: str | None = None, task: str | None = None, limit: int = 100
    ) -> list[Alert]:
        found = [
            alert
            for alert in self.rows.values()
            if (severity is None or alert.severity == severity)
            and (task is None or alert.task == task)
        ]
        found.sort(key=lambda alert: (alert.last_seen, alert.id), reverse=True)
        return found[:limit]

    def trim(self, history: int) -> None:
        while len(self.rows) > history:
            oldest = self.rows.pop(next(iter(self.rows)))
            if self._unresolved.get(oldest.fingerprint) == oldest.id:
                del self._unresolved[oldest.fingerprint]


class MemoryPlans:
    def __init__(self, journal: Journal) -> None:
        self._rows: _Rows[PlanRecord] = _Rows(journal)

    def insert(self, plan: PlanRecord) -> None:
        self._rows.put(plan.id, plan)

    def get(self, plan_id: str) -> PlanRecord | None:
        return self._rows.get(plan_id)

    def replace(self, before: PlanRecord, after: PlanRecord) -> bool:
        known = self._rows.get(before.id)
        if known is None or known.state is not before.state:
            return False
        self._rows.put(before.id, after)
        return True

    def find(self, *, states: Sequence[PlanState] = (), limit: int = 100) -> list[PlanRecord]:
        found = [plan for plan in self._rows.values() if not states or plan.state in states]
        found.sort(key=lambda plan: (plan.created_at, plan.id), reverse=True)
        return found[:limit]


class MemoryControls:
    def __init__(self, journal: Journal) -> None:
        self._rows: _Rows[Control] = _Rows(journal)

    @property
    def names(self) -> KeysView[str]:
        """The switches that are set, be they over or not: a view that follows."""
        return self._rows.keys()

    def all(self) -> dict[str, Control]:
        return dict(self._rows)

    def put(self, control: Control) -> None:
        self._rows.put(control.name, control)

    def clear(self, name: str) -> bool:
        return self._rows.drop(name)


class MemoryBeats:
    def __init__(self, journal: Journal) -> None:
        self._rows: _Rows[Beat] = _Rows(journal)

    def put(self, beat: Beat) -> None:
        self._rows.put(beat.name, beat)

    def all(self) -> list[Beat]:
        return sorted(self._rows.values(), key=lambda beat: beat.name)

    def remove(self, name: str) -> None:
        self._rows.drop(name)


class MemorySchedules:
    def __init__(self, journal: Journal) -> None:
        self._rows: _Rows[Schedule] = _Rows(journal)

    def get(self, name: str) -> Schedule | None:
        return self._rows.get(name)

    def put(self, schedule: Schedule) -> None:
        self._rows.put(schedule.name, schedule)

    def replace(self, before: Schedule, after: Schedule) -> bool:
        known = self._rows.get(before.name)
        if known is None or (known.digest, known.next_at) != (before.digest, before.next_at):
            return False
        self._rows.put(after.name, after)
        return True

    def all(self) -> list[Schedule]:
        return sorted(self._rows.values(), key=lambda schedule: schedule.name)

    def remove(self, name: str) -> bool:
        return self._rows.drop(name)
