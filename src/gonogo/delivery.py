"""Carrying out the ledger's jobs: claim one, admit, perform, settle; and the chores around it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs

from gonogo.action import Action
from gonogo.chores import Chores
from gonogo.claims import Claims
from gonogo.clock import Clock, refresh
from gonogo.company import TOGETHER, Company
from gonogo.errors import (
    ConfigurationError,
    GonogoError,
    OutcomeUnknown,
    RateLimited,
    Refused,
)
from gonogo.events import Event
from gonogo.pace import Pace
from gonogo.perform import Loop
from gonogo.performed import Performed
from gonogo.pipeline import Pipeline
from gonogo.records import AHEAD, Beat, Call, State
from gonogo.recovery import Recovery
from gonogo.returns import Returns
from gonogo.store.port import Listening, Transaction, Wake
from gonogo.underway import Begun, Over, UnderWay
from gonogo.writing import Writing, alone, as_one, followed, together

LEASE = 30.0
"""Seconds a claim holds without being renewed; a dead worker's calls are found after that."""

UNBEGUN = 1.0
"""Seconds after which a claimed call that no thread has begun is given back to the ledger."""

MOST_LEASES = 1000
"""Leases that are looked at to see whether anybody's calls may fall to this process."""

LONGEST_ASK = 0.1
"""Seconds for which a thread waits for another one's claim before it claims by itself."""

SWITCHED = "a switch was thrown before it began"

OVERTIME = 1.0
"""Seconds beyond its time-out at which the attempt of a plain function is given up."""


class Delivery:
    """Takes due calls off one ledger for one process.

    Args:
        lease: seconds; see `LEASE`. Renewed every third of it.
        queues: the queues to take calls from.
        retention: seconds for which finished calls are kept; see `Retention`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        recovery: Recovery,
        *,
        lease: float = LEASE,
        queues: Sequence[str] = ("default",),
        retention: float | None = None,
    ) -> None:
        if not lease > 0:
            raise ConfigurationError(f"lease={lease!r}: give more than 0 seconds")
        if not queues:
            raise ConfigurationError("a worker needs at least one queue")
        self.lease = lease
        self.queues = tuple(queues)
        self._pipeline = pipeline
        self._store = pipeline.store
        self._recovery = recovery
        self._clock: Clock = pipeline.clock
        self._pace = Pace()
        self._claims = Claims(
            pipeline.store, pipeline.clock, pipeline.actions, owner=pipeline.owner, lease=lease
        )
        self._returns = Returns(pipeline)
        self._chores = Chores(pipeline, recovery, lease=lease, retention=retention)
        self._hand = UnderWay(pipeline.owner)
        self._company = Company(pipeline)
        self._switched = object()
        self._all_taken = False
        self._first_beats: dict[str, float] = {}
        self._asking = threading.RLock()  # which tells whose it is
        self._renewed_at = self._asked_at = self._begun_at = self._clock.monotonic()
        self._kept_back_at = float("-inf")
        self._refused: dict[str, float] = {}
        pipeline.events.subscribe(self._heed, names=("control.changed",), quick=True)

    @property
    def owner(self) -> str:
        """Who claims, as the ledger knows it."""
        return self._pipeline.owner.name

    @property
    def has_more(self) -> bool:
        """Whether another thread may find work: here, or in the ledger by what was last claimed."""
        return not self._all_taken or self._hand.waits

    @property
    def fit(self) -> bool:
        """Whether this process may claim: its own beat reached the ledger within the lease."""
        return self._clock.monotonic() - self._renewed_at < self.lease

    def claim(self, hands: int = 1, *, ahead: bool = False) -> Call | Begun | None:
        """What is to be done next, claimed for this process; ``None`` when there is nothing.

        As many calls are claimed at once as there are free ``hands``, and where wanted as many
        ``ahead`` as will be begun soon; the others are handed out next. Raises `StoreError` when
        the ledger cannot be asked.
        """
        return self._at_hand() or self._claim(hands, ahead, begin=False)

    def begin(self, hands: Callable[[], int], *, ahead: bool = False) -> Call | Begun | None:
        """`claim`, and begin it in the same commit unless something has to come in between.

        With it are begun those behind it that take next to no time, which any thread performs.
        Of threads that come together one claims for all, and counts the ``hands`` when it does.
        """
        if (work := self._at_hand()) is not None:
            return work
        try:  # an interrupt may come anywhere, also when the lock is taken and nobody knows it yet
            self._asking.acquire(timeout=LONGEST_ASK)
            return self._at_hand() or self._claim(hands(), ahead, begin=True)
        finally:
            try:
                self._asking.release()
            except RuntimeError:  # another thread has it
                pass

    def _at_hand(self) -> Call | Begun | None:
        if not self._hand.waits:
            return None
        return self._hand.next_begun() or self._hand.next_ready()

    def _claim(self, hands: int, ahead: bool, *, begin: bool) -> Call | Begun | None:
        more = self._pace.ahead(self._clock.monotonic()) if ahead else 0
        taking = self._claims.taking(self.queues, hands, more)
        switched, mine = self._switched, list[Call]()

        def follow(claimed: list[Call]) -> Writing[list[Begun | Call]] | None:
            # what has to be ended or put back refuses to do so in here, and so is taken back
            mine[:] = self._company.first_few(claimed) if begin else ()
            if not ahead:
                del mine[1:]
            few = len(mine) > 1
            return as_one([self._beginning(call, brief=few) for call in mine]) if mine else None

        try:
            claimed, came = alone(self._store, followed(taking, follow))
            begun = [each for each in came or () if isinstance(each, Begun)]
            if not begun:
                mine[:] = claimed[:1]
            now = self._note_claim(len(claimed), hands + more)
            ready = claimed[len(mine) :]
            self._hand.claimed(ready if begun else claimed, now, ready=ready)
            if len(begun) < 2:
                return begun[0] if begun else claimed[0] if claimed else None
            self._line_up(begun, switched)
        except BaseException:  # an interrupt: nobody will come for these
            self._hand.forget(*(call.id for call in mine))
            raise
        return self._hand.next_begun()

    def _note_claim(self, got: int, wanted: int) -> float:
        """So many were claimed of so many; the moment."""
        self._asked_at = now = self._clock.monotonic()
        self._pace.note(now, got)
        if self._claims.kept_back:
            self._kept_back_at = now
        self._all_taken = got < wanted
        return now

    def take(self, call_id: str) -> Call | None:
        """This very call, claimed for this process; ``None`` when somebody else has it or had it.

        Raises `StoreError` when the ledger cannot be asked.
        """
        claimed = self._claims.take_one(call_id)
        self._asked_at = now = self._clock.monotonic()
        if claimed is not None:
            self._hand.claimed((claimed,), now)
        return claimed

    def asks(self) -> None:
        """Somebody of this process asks for work: it is of use though there is none."""
        self._asked_at = self._clock.monotonic()

    def listen(self, wake: Wake) -> Listening:
        """See `Store.listen`."""
        return self._store.listen(wake)

    def find(self, call_id: str) -> Call | None:
        """The call of that id, if the ledger has it."""
        return self._pipeline.get(call_id)

    def result_of(self, call: Call) -> Any:
        """The result of a call that succeeded; ``None`` when it was not kept."""
        action = self._pipeline.actions.get(call.action)
        if action is None or call.result is None:
            return None
        return action.decode_result(call.result)

    def next_due(self) -> float | None:
        """Seconds until there may be something to claim; ``None`` when there is nothing."""
        return self._claims.next_due(self.queues)

    def idle(self, within: float = 0.0) -> bool:
        """Whether nothing is under way here, and nothing of these queues is due ``within`` seconds.

        Nor is what falls due and was only refused or kept back for so long: it waits for a limit
        or a person.
        Looks for evidence about unknown calls count as well, and the ends of leases whose owners
        have shown no sign of life since this was first asked.
        """
        due = self._clock.now() + within
        if self._hand or self._recovery.looking:
            return False
        wait = self._claims.next_due(self.queues)
        if wait is not None and wait <= within and not self._only_refuses(within):
            return False
        return not self._store.read(
            lambda tx: tx.calls.doubtful(due, 1) or self._may_fall_to_us(tx, due)
        )

    def _only_refuses(self, seconds: float) -> bool:
        """Whether calls were refused here or kept back, and none was begun for so long.

        What falls due meanwhile, and is not kept back nor like what was refused, will be begun.
        """
        begun_at = self._begun_at
        if not self._clock.monotonic() - begun_at >= seconds > 0:
            return False
        refused = {action for action, at in tuple(self._refused.items()) if at > begun_at}
        if not refused and self._kept_back_at <= begun_at:
            return False
        free = self._claims.next_free(self.queues, refused)
        return free is None or free > seconds

    def _may_fall_to_us(self, tx: Transaction, due: float) -> bool:
        """Whether a lease ends until ``due`` that its owner has not been seen to renew."""
        beats = {beat.name: beat.at for beat in tx.beats.all()}
        for call in tx.calls.expired(due, MOST_LEASES):
            if call.queue in self.queues and call.owner not in (None, self.owner):
                beat = beats.get(call.owner, 0.0)
                if beat <= self._first_beats.setdefault(call.owner, beat):
                    return True
        return False

    def perform(self, call: Call, *, loop: Loop | None = None) -> Call:
        """Admit, perform and settle a claimed call; returns it as it is afterwards.

        A refusal puts it back with its reason. Raises `StoreError` when the ledger is out of
        reach: then the call is found again when its lease ends.
        """
        begun = alone(self._store, self._beginning(call))
        if not isinstance(begun, Begun):
            return begun
        try:
            return alone(self._store, self._settling(self._perform(begun, loop)))
        finally:
            self._hand.forget(begun.id)

    def carry_on(
        self, work: Call | Begun, *, more: Callable[[], bool], loop: Loop | None = None
    ) -> Begun | None:
        """`perform`, and begin what is next where there is ``more`` to be done.

        Its admission shares the commit of the settlement, unless code of the user's runs before
        it: nothing may keep an outcome waiting, and who hears of an outcome may throw a switch.
        Calls whose code takes next to no time are begun together and settled together.
        """
        begun = work if isinstance(work, Begun) else alone(self._store, self._beginning(work))
        if not isinstance(begun, Begun):
            return None
        try:
            over = self._perform(begun, loop)
            now = self._clock.monotonic()
            waits_since = self._hand.end(over, now)
        except BaseException:  # performing raises nothing, but an interrupt may come anywhere
            self._hand.forget(begun.id)
            raise
        with_others = begun.brief and over.performed.error is None
        if with_others and now - waits_since < TOGETHER and more():
            following = self._hand.next_begun()
            if following is not None:
                return following
        return self._turn_over(more)

    def let_go(self, work: Call | Begun) -> None:
        """The thread that was to carry it out was interrupted: it is found when its lease ends."""
        self._hand.forget(work.id)

    def _perform(self, begun: Begun, loop: Loop | None) -> Over:
        began = self._begun_at = self._clock.monotonic()
        performed = self._pipeline.performer.run(begun.action, begun.call, begun.bound, loop)
        self._company.durations.note(begun.call.action, self._clock.monotonic() - began)
        return Over(begun, performed)

    def _turn_over(self, more: Callable[[], bool]) -> Begun | None:
        """Settle what is over and begin what is next, in one commit where that may be."""
        over: list[Over] = []
        following: list[Call] = []
        switched = self._switched
        try:
            over = self._hand.take_over()
            if more():
                following = self._hand.next_few(self._company.seconds, TOGETHER)
            settling = [self._settling(each) for each in over]
            beginning = [self._beginning(call, brief=len(following) > 1) for call in following]
            if following and self._company.is_apart(following[0]):
                fates = together(self._store, settling) + together(self._store, beginning)
            else:
                fates = together(self._store, [*settling, *beginning])
            begun = [fate.result for fate in fates if isinstance(fate.result, Begun)]
            failed = any(fate.error is not None for fate in fates)
            if begun and not begun[0].brief and not failed:
                return begun[0]  # it may be unknown if this process dies, so it waits for no thread
            self._line_up(begun, switched)
        except BaseException:  # nobody ends or begins them here: found when their leases end
            self._hand.forget(*(each.begun.id for each in over), *(call.id for call in following))
            raise
        for fate in fates:
            fate.get()
        return self._hand.next_begun() if more() else None

    def _line_up(self, begun: Sequence[Begun], switched: object) -> None:
        """Any thread may perform these, unless a switch was thrown since ``switched``."""
        now = self._clock.monotonic()
        if not self._hand.begin_soon(begun, now, unless=lambda: switched is not self._switched):
            self._give_back((), begun, SWITCHED)

    def _beginning(self, call: Call, *, brief: bool = False) -> Writing[Begun | Call]:
        """Admit it; where that is refused, the call as it is then."""
        begun: Begun | Call = call
        try:
            begun = yield from self._admitting(call, brief)
        finally:
            if not isinstance(begun, Begun):
                self._hand.forget(call.id)
        return begun

    def _settling(self, over: Over) -> Writing[Call]:
        begun = over.begun
        try:
            return (yield from self._pipeline.settling(begun.action, begun.call, over.performed))
        except OutcomeUnknown as error:  # not written: found again when its lease ends
            self._pipeline.logger.log_action("call.not_settled", "error", error=str(error))
            return begun.call
        finally:
            self._hand.forget(begun.call.id)

    def _admitting(self, call: Call, brief: bool) -> Writing[Begun | Call]:
        action = self._pipeline.actions.get(call.action)
        if action is None:
            return self._returns.park(call, "its action is not declared in this process")
        if call.deadline_at is not None and call.deadline_at <= self._clock.now():
            return self._returns.fail(call, "its deadline passed before it could run")
        try:
            if call.note == AHEAD and action.runs_code_first:
                call = self._claims.begin(call)
            bound = action.parameters.load(call.args)
            if bound.fingerprint != call.fingerprint:
                return self._returns.fail(
                    call, "its arguments are not the ones that were asked for"
                )
            admitted = yield from self._pipeline.admitting(
                action, bound, call, lease=self.lease, group="worker"
            )
            self._hand.admitted(admitted, action)
            return Begun(admitted, action, bound, brief)
        except (Refused, ConfigurationError) as refusal:
            if not isinstance(refusal, RateLimited) or self._claims.heed(action, refusal):
                self._refused[call.action] = self._clock.monotonic()
            return self._returns.refused(call, refusal)

    # chores, run by a thread that no action can starve

    def tend(self) -> int:
        """What is due of `keep` and `maintain`; to be called about once a second.

        While nothing is to be done it costs a beat every third of the lease, and a read every few
        seconds. Returns how many calls changed. Raises `StoreError` like them.
        """
        if self._hand.given_up or self._clock.monotonic() - self._renewed_at >= self.lease / 3:
            self.keep()
        else:
            self._tidy()
        return self._chores.run() if self._chores.due() else 0

    def keep(self) -> set[str]:
        """Renew the leases of the calls under way and beat; returns ids that were taken away.

        Raises `StoreError` when the ledger is out of reach; `fit` turns false when that lasts.
        """
        refresh(self._clock)
        now, begun = self._clock.now(), self._clock.monotonic()
        self._tidy()
        held, given_up = self._hand.held, self._hand.given_up

        def work(tx: Transaction) -> set[str]:
            tx.beats.put(
                Beat(
                    name=self.owner,
                    kind="worker",
                    at=now,
                    detail={
                        "running": len(held),
                        "queues": ",".join(self.queues),
                        "asked_at": now - (begun - self._asked_at),
                    },
                )
            )
            for call in given_up:
                _still_runs(tx, call, now)
            if not held:
                return set()
            return tx.calls.renew(owner=self.owner, calls=held, lease_until=now + self.lease)

        renewed = self._store.write(work, durable=False)
        self._renewed_at = begun
        return set(held) - renewed

    def _tidy(self) -> None:
        """See to what waits here for threads that turned out to be busy."""
        before = self._clock.monotonic() - UNBEGUN
        together(self._store, [self._settling(over) for over in self._hand.take_over(before)])
        ready, begun = self._hand.take_ready(before), self._hand.take_begun(before)
        self._give_back(ready, begun, "no thread of its worker was free")

    def _give_back(self, ready: Sequence[Call], begun: Sequence[Begun], why: str) -> None:
        """Let others have what nobody performs here; it costs no attempt."""
        for call in ready:
            self._returns.put_back(call, why)
        for each in begun:
            after = self._returns.put_back(each.call, why)
            detail = {"attempt": after.attempt, "run_at": after.run_at}
            self._pipeline.tell("call.retry_scheduled", after, **detail)

    def _heed(self, _: Event) -> None:
        """A switch was thrown: what is begun and waits for a thread is to pass it as well.

        What does not wait yet is stopped by whoever lines it up, who sees that one was thrown.
        """
        self._switched = object()
        self._stop_begun()

    def _stop_begun(self) -> None:
        self._give_back((), self._hand.take_begun(), SWITCHED)

    def overtime(self) -> list[str]:
        """Ids of calls whose function runs on beyond its time-out; each is settled as unknown.

        A plain function cannot be stopped from outside. Its outcome no longer counts as heard,
        the thread is given up, and what it returns later is kept as evidence. While it runs, the
        patience for evidence that nothing happened begins anew.
        """
        now = self._clock.now()
        late = [(c, a) for c, a in self._hand.performing if _late(c, a, now)]
        for call, action in late:
            error = TimeoutError(f"no outcome within {action.policy.timeout:g} s")
            try:
                self._pipeline.settle(action, call, Performed(ended_at=now, error=error))
            except OutcomeUnknown:  # not written: the lease is no longer renewed and will end
                pass
            self._hand.give_up(call)
        return [call.id for call, _ in late]

    def maintain(self) -> int:
        """One round of recovery, evidence, expired keys and housekeeping; how many calls changed.

        Raises `StoreError` when the ledger is out of reach.
        """
        return self._chores.run()

    def leave(self) -> None:
        """Take the beat away and release what was claimed and not begun."""
        why = "its worker stopped before it began"
        try:
            together(self._store, [self._settling(over) for over in self._hand.take_over()])
            begun = self._hand.take_begun()
            self._give_back(self._hand.take_unbegun(), begun, why)
            self._store.write(lambda tx: tx.beats.remove(self.owner), durable=False)
        except GonogoError as error:  # the lease ends by itself
            self._pipeline.logger.log_action("worker.leave_failed", "warning", error=str(error))


def _late(call: Call, action: Action[Any, Any], now: float) -> bool:
    timeout = action.policy.timeout
    return (
        call.state is State.DISPATCHED
        and timeout is not None
        and call.dispatched_at is not None
        and now >= call.dispatched_at + timeout + OVERTIME
    )


def _still_runs(tx: Transaction, call: Call, now: float) -> None:
    """Its function may yet have its effect, so what is not there now proves nothing."""
    stands = tx.calls.get(call.id)
    if stands is not None and stands.state is State.UNKNOWN and stands.attempt == call.attempt:
        tx.calls.replace(stands, structs.replace(stands, settled_at=now))
