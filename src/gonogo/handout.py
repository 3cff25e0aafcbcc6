"""Handing due calls to a broker, which gives their ids to whoever performs them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from gonogo.clock import Clock
from gonogo.errors import ConfigurationError
from gonogo.pauses import running
from gonogo.records import Call, State, advance
from gonogo.stops import Actions, all_stopped, stopped
from gonogo.store.port import Store, Transaction

BROKER = "the broker"
"""The owner of a call whose id is on its way. Nothing of it was begun, and no attempt is used."""

BATCH = 20
"""Calls that are handed out at once."""


class HandOut:
    """Decides which calls a broker is given: those that a worker would claim, in the same order.

    What is on its way is claimed by `BROKER`, so that nobody hands it out a second time. When its
    message is lost, that lease ends, the call is pending again and handed out anew.

    Args:
        actions: those that are known; what is stopped of them is not handed out.
        queues: the ledger's queues whose calls are handed out.
        resend_after: seconds after which a call that nobody took is handed out again.
        ahead: calls that may be on their way at once, from all processes; a few more when several
            hand out at the same moment. The order among them is the broker's; that of all others
            is still the ledger's.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        actions: Actions,
        *,
        queues: Sequence[str],
        resend_after: float,
        ahead: int,
    ) -> None:
        if not resend_after > 0:
            raise ConfigurationError(f"resend_after={resend_after!r}: give more than 0 seconds")
        if type(ahead) is not int or ahead < 1:
            raise ConfigurationError(f"ahead={ahead!r}: give a whole number from 1")
        if not queues:
            raise ConfigurationError("name at least one queue whose calls are handed out")
        self._store = store
        self._clock = clock
        self._actions = actions
        self._queues = tuple(queues)
        self._resend_after = resend_after
        self._ahead = ahead
        self._turn = ""

    def give(self) -> list[Call]:
        """Some of the calls that are to be sent now; none when there are none left.

        As long as a read finds nothing to send, nothing is written. Raises `StoreError` when the
        ledger cannot be asked.
        """
        if not self._due():
            return []
        given = self._store.write(self._claim, durable=False)
        if given:
            self._turn = given[-1].action
        return given

    def take_back(self, calls: Sequence[Call], why: str) -> None:
        """Let those be pending again that could not be sent."""

        def work(tx: Transaction) -> None:
            for call in calls:
                tx.calls.replace(call, pending_again(call, why))

        self._store.write(work, durable=False)

    def _due(self) -> bool:
        now = self._clock.now()

        def work(tx: Transaction) -> float | None:
            controls = tx.controls.all()
            if all_stopped(controls, now):
                return None
            stops = stopped(self._actions, controls, now)
            return tx.calls.next_run_at(running(controls, self._queues, now), stops)

        run_at = self._store.read(work)
        return run_at is not None and run_at <= now

    def _claim(self, tx: Transaction) -> list[Call]:
        now = self._clock.now()
        room = min(BATCH, self._ahead - tx.calls.claimed_by(BROKER, self._queues))
        if room <= 0:
            return []
        controls = tx.controls.all()
        if all_stopped(controls, now):
            return []
        claimed = tx.calls.claim(
            owner=BROKER,
            queues=running(controls, self._queues, now),
            now=now,
            lease_until=now + self._resend_after,
            limit=room,
            turn=self._turn,
            passing=stopped(self._actions, controls, now),
        )
        given = [structs.replace(call, attempt=call.attempt - 1) for call in claimed]
        for before, after in zip(claimed, given, strict=True):
            tx.calls.replace(before, after)
        return given


def pending_again(call: Call, why: str | None) -> Call:
    """A call that was handed out, put back where it was; ``why`` is its note."""
    return advance(call, State.PENDING, lease_until=None, owner=None, note=why)


def is_free(call: Call, now: float) -> bool:
    """Whether a call may be taken by its id: it was handed out, or is due and waits for nobody."""
    if call.state is State.CLAIMED:
        return call.owner == BROKER
    due = call.state is State.PENDING and call.run_at <= now and not call.waits
    return due and call.queue is not None
