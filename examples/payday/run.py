"""Performs what was applied with two worker processes, and kills one of them on the way."""

from __future__ import annotations

from collections import Counter

from examples.payday.children import Child
from examples.payday.ledger import Ledger
from examples.payday.places import Places
from examples.payday.show import Meter, Screen
from examples.payday.stage import Stage
from gonogo.clock import Clock
from gonogo.records import Call, State

PATIENCE = 180.0  # seconds after which the run ends, settled or not
_POLL = 0.2
_KILL_AT = 0.4  # of the way
_WORTH_KILLING = 20  # calls that must be left, for there to be a middle


class Run:
    """One run of the workers, until nothing is left to do or to find out."""

    def __init__(
        self, ledger: Ledger, stage: Stage, places: Places, screen: Screen, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._stage = stage
        self._places = places
        self._screen = screen
        self._clock = clock
        self._workers: list[Child] = []
        self._killed = False

    def to_the_end(self) -> bool:
        """Returns whether every call settled in time."""
        total = len(self._ledger.unsettled())
        if not total:
            self._screen.say("Nothing is left to do: all of it was done before.")
            return True
        self._workers = [self._stage.worker(self._places) for _ in range(2)]
        self._killed = total < _WORTH_KILLING
        deadline = self._clock.monotonic() + PATIENCE
        with self._screen.progress(total) as meter:
            while left := self._ledger.unsettled():
                meter.update(total - len(left), _waiting_for(left))
                if self._clock.monotonic() > deadline:
                    return False
                if not self._killed and total - len(left) >= total * _KILL_AT:
                    self._kill_one(left, meter)
                self._replace_the_dead(meter)
                self._clock.sleep(_POLL)
            meter.update(total, "done")
        return True

    def _kill_one(self, left: list[Call], meter: Meter) -> None:
        """SIGKILL a worker while it pays something."""
        paying = [c for c in left if c.state is State.DISPATCHED and c.action == "payment"]
        for victim in self._workers:
            hit = [call.key or "" for call in paying if f":{victim.pid}:" in (call.owner or "")]
            if hit:
                victim.kill()
                self._workers.remove(victim)
                self._killed = True
                meter.say(f"worker {victim.pid} was killed (SIGKILL) during {', '.join(hit)}")
                self._workers.append(self._start(meter))
                return

    def _replace_the_dead(self, meter: Meter) -> None:
        for worker in [w for w in self._workers if w.exit_code is not None]:
            self._workers.remove(worker)
            meter.say(f"worker {worker.pid} ended by itself (exit {worker.exit_code})")
            self._workers.append(self._start(meter))

    def _start(self, meter: Meter) -> Child:
        worker = self._stage.worker(self._places)
        meter.say(f"worker {worker.pid} takes its place")
        return worker


def _waiting_for(left: list[Call]) -> str:
    counts = Counter(call.state.value for call in left)
    return ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
