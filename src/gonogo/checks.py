"""The checks that every sandbox registers: its ledger, limits, clock, worker and heartbeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gonogo.clock import REFRESHED, LedgerClock
from gonogo.durations import spell_duration
from gonogo.records import Beat

if TYPE_CHECKING:
    from gonogo.orchestrator import SandboxOrchestrator

MAX_SKEW = 5.0
"""Seconds the machine's clock may have been set back, or the database's, behind our back."""

MAX_CORRECTION = 86_400.0
"""Seconds the machine's clock may be off the database's: beyond it, one of them is broken."""


class Checks:
    """Answers about one sandbox; direct calls and workers ask for the first three."""

    def __init__(self, sandbox: SandboxOrchestrator) -> None:
        self._sandbox = sandbox
        register = sandbox.readiness_checker.register_check
        both = ("call", "worker")
        register("database_connected", self.reaches_ledger, cache=1.0, groups=both)
        register("governor_configured", self.knows_limits, cache=1.0, groups=both)
        register("clock", self.clock_is_sound, cache=1.0, groups=both)
        register("worker_running", self.has_worker, groups=("system",))
        register("heartbeat_active", self.has_heartbeat, groups=("system",))
        sandbox.heartbeat.register_check("database_connected", self.reaches_ledger)
        sandbox.heartbeat.register_check("schedules_on_time", sandbox.timetable.on_time)

    def reaches_ledger(self) -> bool:
        """Whether the ledger can be read."""
        self._sandbox.store.read(lambda tx: tx.controls.all())
        return True

    def knows_limits(self) -> tuple[bool, str]:
        """Whether every limit that an action declares is in force."""
        known = self._sandbox.governor.rate_limits
        missing = [
            limit.name
            for action in self._sandbox.actions.values()
            for limit in action.policy.limits
            if limit.name not in known
        ]
        if missing:
            return False, f"not in force: {', '.join(missing)}"
        return bool(known) or not self._sandbox.started, f"{len(known)} limits in force"

    def clock_is_sound(self) -> tuple[bool, str]:
        """Whether the sandbox's time can be trusted.

        Where the database has a clock, all machines on the ledger go by it: this one's may be off
        by as much as a wrong time zone makes it, and no more. Elsewhere the machine's own clock
        must not have been set back. A clock that the sandbox was given is the giver's affair.
        """
        clock = self._sandbox.clock
        if isinstance(clock, LedgerClock):
            clock.refresh(REFRESHED)
            if clock.is_corrected:
                return _agrees(clock)
        skew = clock.skew()
        return abs(skew) <= MAX_SKEW, f"the wall clock is {-skew:+.1f} s off the sandbox's"

    def has_worker(self) -> tuple[bool, str]:
        """Whether a worker takes jobs, here or in another process on this ledger."""
        if self._sandbox.worker.is_running:
            return True, "in this process"
        alive = self._beating("worker", self._sandbox.settings.lease)
        if not alive:
            return False, "no worker on this ledger is alive; gonogo worker starts one"
        useful = [beat for beat in alive if self._asks(beat)]
        if not useful:
            return False, f"{len(alive)} elsewhere beat, but none of them asks for work"
        return True, f"{len(useful)} elsewhere"

    def _asks(self, beat: Beat) -> bool:
        """Whether a worker is busy or asked for work lately: one that is up may do neither."""
        settings = self._sandbox.settings
        patience = max(settings.lease, 2 * settings.worker_interval)
        running: int = beat.detail.get("running", 0)
        asked_at: float = beat.detail.get("asked_at", beat.at)
        return running > 0 or beat.at - asked_at <= patience

    def has_heartbeat(self) -> tuple[bool, str]:
        """Whether a heartbeat finds all well, here or in another process on this ledger."""
        if self._sandbox.heartbeat.is_running:
            return self._sandbox.heartbeat.is_healthy(), "in this process"
        beats = self._beating("heartbeat", self._sandbox.settings.heartbeat_timeout)
        well = sum(all(beat.detail.get("checks", {}).values()) for beat in beats)
        if not beats:
            return False, "no heartbeat on this ledger; a worker brings one"
        return well > 0, f"{well} well of {len(beats)} elsewhere"

    def _beating(self, kind: str, within: float) -> list[Beat]:
        now = self._sandbox.clock.now()
        beats = self._sandbox.store.read(lambda tx: tx.beats.all())
        return [beat for beat in beats if beat.kind == kind and beat.is_fresh(now, within)]


def _agrees(clock: LedgerClock) -> tuple[bool, str]:
    """Whether the correction is one that clocks need, and time did not have to stand still."""
    skew, ahead = clock.skew(), clock.ahead()
    side = "ahead of" if skew < 0 else "behind"
    said = f"the machine is {spell_duration(abs(skew))} {side} the database, by which we go"
    if ahead > MAX_SKEW:
        said = f"the database's clock was set back by {spell_duration(ahead)}: time stands still"
    return abs(skew) <= MAX_CORRECTION and ahead <= MAX_SKEW, said
