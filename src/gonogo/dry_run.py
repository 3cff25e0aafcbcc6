"""Component 2: the dry-run lock. Locked until somebody says otherwise, for how long, and why."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from gonogo.clock import Clock, SystemClock
from gonogo.decisions import decision, require_who_and_why
from gonogo.durations import spell_time
from gonogo.errors import ConfigurationError, DryRunBlocked
from gonogo.events import EventBus, control_changed
from gonogo.records import Call, Control, State
from gonogo.secrets import describe
from gonogo.store.memory import MemoryStore
from gonogo.store.port import Store, Transaction

IRREVERSIBLE = frozenset(
    {
        "payment",
        "transfer",
        "delete_permanent",
        "external_call",
        "financial_commit",
        "data_export_external",
        "user_deletion",
        "bulk_update_production",
    }
)
"""Names that are irreversible without being declared so; compared without regard to case."""

ARMED = "armed"
"""Name of the control that unlocks the sandbox."""

SUBJECT = "sandbox"
"""What decisions to arm and to lock are about."""


class DryRunLock:
    """Holds back every irreversible action while locked.

    Args:
        dry_run: locked from the start. ``False`` is live by configuration and stays so; prefer
            `arm`, which is recorded and falls back by itself.
        strict_mode: `execute` raises `DryRunBlocked` instead of returning a marker.
        irreversible: more names, or patterns such as ``"refund*"``, beside `IRREVERSIBLE`.
        log_size: entries of the execution log that are kept.
    """

    def __init__(
        self,
        dry_run: bool = True,
        strict_mode: bool = False,
        *,
        irreversible: Iterable[str] = (),
        log_size: int = 1000,
        store: Store | None = None,
        clock: Clock | None = None,
        events: EventBus | None = None,
    ) -> None:
        self._events = events
        self.strict_mode = strict_mode
        self._live = not dry_run
        self._store = store if store is not None else MemoryStore()
        self._clock = clock or SystemClock()
        self._names = set(IRREVERSIBLE)
        self._patterns: set[str] = set()
        self._log: deque[dict[str, Any]] = deque(maxlen=log_size)
        self._mutex = threading.Lock()
        for name in irreversible:
            self.add(name)

    @property
    def dry_run(self) -> bool:
        """Whether it is locked now."""
        if self._live:
            return False
        return self.locked(self._store.read(lambda tx: tx.controls.all()), self._clock.now())

    def add(self, name: str) -> None:
        """Make ``name``, or every name that matches the pattern (``*``, ``?``), irreversible."""
        folded = name.strip().casefold()
        if not folded:
            raise ConfigurationError("an irreversible action needs a name or a pattern")
        (self._patterns if set("*?[") & set(folded) else self._names).add(folded)

    def is_irreversible(self, name: str) -> bool:
        """Whether ``name`` is in the named set or matches a pattern, whatever its case."""
        folded = name.casefold()
        return folded in self._names or any(fnmatchcase(folded, p) for p in self._patterns)

    def arm(self, *, by: str, reason: str, seconds: float = 3600.0) -> Control:
        """Unlock for ``seconds``; recorded with who and why, and locked again by itself."""
        require_who_and_why("arming", by, reason)
        if not 0 < seconds <= 30 * 86400:
            raise ConfigurationError(f"arming for {seconds} seconds: give 0 < seconds <= 30 days")
        now = self._clock.now()
        control = Control(name=ARMED, actor=by, reason=reason, set_at=now, until=now + seconds)

        def work(tx: Transaction) -> None:
            tx.controls.put(control)
            tx.decisions.append(
                decision("armed", SUBJECT, by=by, reason=reason, now=now, seconds=seconds)
            )

        self._store.write(work)
        control_changed(self._events, now, ARMED, by, on=True)
        return control

    def lock(self, *, by: str, reason: str) -> None:
        """Lock again now, ahead of the expiry. A lock that is live by configuration locks too."""
        now = self._clock.now()
        self._live = False  # first: a ledger that fails must not keep it live

        def work(tx: Transaction) -> None:
            tx.controls.clear(ARMED)
            tx.decisions.append(decision("locked", SUBJECT, by=by, reason=reason, now=now))

        self._store.write(work)
        control_changed(self._events, now, ARMED, by, on=False)

    def locked(self, controls: Mapping[str, Control], now: float) -> bool:
        """Whether ``controls``, as read in some transaction, leave it locked at ``now``."""
        if self._live:
            return False
        armed = controls.get(ARMED)
        return armed is None or not armed.active(now)

    def blocked(
        self,
        action: str,
        key: str | None = None,
        *,
        needs_approval: bool = False,
        holder: Call | None = None,
    ) -> DryRunBlocked:
        """Note the blocked call in the execution log and give the error that says so.

        With ``needs_approval``, to unlock would not help; ``holder`` has its key.
        """
        self._note(action, "dry_run_blocked")
        remedy = (
            "Enqueue it and have the call approved, or rehearse it with sandbox.rehearse(...) and "
            "have the plan approved: it needs that also while the sandbox is unlocked"
            if needs_approval
            else "Rehearse it with sandbox.rehearse(...) and approve the plan, or unlock with "
            "sandbox.arm(by=..., reason=...)"
        )
        return DryRunBlocked(
            f"{action}{f' ({key})' if key else ''} was not performed: the sandbox is locked "
            f"(dry-run) and this action is irreversible. {_before(holder)}{remedy}",
            action=action,
            key=key,
        )

    def execute(self, action_name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``fn`` unless the lock holds ``action_name`` back.

        Returns what ``fn`` returns, or ``{'dry_run': True, 'action': name, 'result': None}`` when
        blocked; in strict mode a blocked call raises `DryRunBlocked` (a `PermissionError`).
        """
        if self.is_irreversible(action_name) and self.dry_run:
            error = self.blocked(action_name)
            if self.strict_mode:
                raise error
            return {"dry_run": True, "action": action_name, "result": None}
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._note(action_name, "error", error=describe(error))
            raise
        self._note(action_name, "executed")
        return result

    def get_execution_log(self, name: str | None = None) -> list[dict[str, Any]]:
        """What `execute` and the pipeline did, oldest first: timestamp, action, status, error."""
        with self._mutex:
            entries = list(self._log)
        return [dict(e) for e in entries if name is None or e["action"] == name]

    def note_executed(self, action: str, at: float) -> None:
        """Enter a call that the pipeline performed until ``at`` into the execution log."""
        with self._mutex:
            self._log.append({"timestamp": at, "action": action, "status": "executed"})

    def _note(self, action: str, status: str, **more: Any) -> None:
        entry = {"timestamp": self._clock.now(), "action": action, "status": status, **more}
        with self._mutex:
            self._log.append(entry)


def _before(holder: Call | None) -> str:
    """That nothing was done now must not be read as that it never was, or may not have been."""
    if holder is None:
        return ""
    earlier = f"An earlier call with this key, {holder.id},"
    if holder.state is State.SUCCEEDED and holder.settled_at is not None:
        return f"{earlier} succeeded at {spell_time(holder.settled_at)}. "
    may = ", and may have happened" if holder.state in {State.UNKNOWN, State.DISPATCHED} else ""
    return f"{earlier} is {holder.state.value}{may}. "
