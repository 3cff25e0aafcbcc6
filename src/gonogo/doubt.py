"""Settling the unknown: by what a verifier proves, or by the recorded decision of a person.

A call leaves `State.UNKNOWN` by evidence alone. Every step is one fenced transaction, so that it
can be killed anywhere and be taken by any number of processes. Verifiers are users' code: they run
in threads of their own, few at a time, and whoever has something better to do does not wait.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from gonogo.action import Action
from gonogo.decisions import Resolution, decision, require_who_and_why
from gonogo.durations import spell_time
from gonogo.endings import ended
from gonogo.errors import ConfigurationError, NotFound, Refused, StoreError
from gonogo.evidence import cannot_tell
from gonogo.look import Look
from gonogo.records import NEVER, Alert, Call, Outcome, Severity, State, advance
from gonogo.secrets import describe
from gonogo.settlement import NOT_DONE
from gonogo.store.port import Transaction

if TYPE_CHECKING:
    from gonogo.pipeline import Pipeline

VERIFY_TIMEOUT = 30.0
"""Seconds a verifier may take; a longer silence proves nothing."""

LONGEST_PAUSE = 3600.0
"""Seconds between two looks for evidence, at most."""

UNKNOWN_ACTION_PAUSE = 60.0

MOST_LOOKS = 8
"""Verifiers under way at the same time; of one action at most half, hanging ones included."""

A_MOMENT = 0.2
"""Seconds that `Doubts.look_around` gives verifiers which answer at once."""


class Doubts:
    """Verifies and resolves the unknown calls of one pipeline."""

    def __init__(self, pipeline: Pipeline, *, verify_timeout: float) -> None:
        self._pipeline = pipeline
        self._store = pipeline.store
        self._clock = pipeline.clock
        self._timeout = verify_timeout
        self._answered = threading.Condition()
        self._open: list[Look] = []
        self._hanging: list[Look] = []
        self._mutex = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether `look_around` waits for an answer."""
        return bool(self._open)

    # evidence

    def verify(self, action: Action[Any, Any], call: Call) -> Call:
        """Ask the action's verifier about an unknown call, and act on the evidence.

        ``absent`` is only believed ``verify_after`` seconds after the outcome became unknown:
        before that a request that is still on its way could arrive after the answer.
        """
        look = self._begin(action, call)
        if look is None:  # somebody else looks, or it is settled
            return self._pipeline.get(call.id) or call
        look.run.wait(self._timeout)
        look.give_up(float("inf"), self._timeout)
        return self._act(look)

    def look_around(self, calls: list[Call]) -> int:
        """Ask about ``calls`` and act on what is answered by now; returns how many were settled.

        Waits for `A_MOMENT` at most; what is answered later is for the next round.
        """
        with self._mutex:
            for call in calls[: MOST_LOOKS - len(self._open)]:
                action = self._pipeline.actions.get(call.action)
                if action is None or action.verifier is None:
                    self.put_off(call, action)
                elif (look := self._begin(action, call)) is not None:
                    self._open.append(look)
            with self._answered:
                self._answered.wait_for(lambda: all(x.answer for x in self._open), A_MOMENT)
            for look in self._open:
                look.give_up(self._clock.monotonic(), self._timeout)
            answered = [look for look in self._open if look.answer is not None]
            self._open = [look for look in self._open if look.answer is None]
        return sum(self._settles(look) for look in answered)

    def _settles(self, look: Look) -> bool:
        """Act on one answer; one that cannot be acted on must not keep the others waiting."""
        try:
            return self._act(look).state is not State.UNKNOWN
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect, and no reason to strand others
            self._pipeline.logger.log_action(
                "recovery.fault", "critical", call=look.call.id, error=describe(error)
            )
            return False

    def put_off(self, call: Call, action: Action[Any, Any] | None) -> None:
        """Nobody here can be asked about it: leave it to a process that can, or to a person."""
        later = NEVER if action is not None else self._clock.now() + UNKNOWN_ACTION_PAUSE
        self._postpone(call, later, call.note)

    def _begin(self, action: Action[Any, Any], call: Call) -> Look | None:
        """Claim the look and ask; ``None`` when somebody else was first.

        If this look is never concluded, the next one comes by itself after its time.
        """
        claimed = self._postpone(call, self._clock.now() + self._timeout + 1.0, call.note)
        if claimed is None:
            return None
        self._hanging = [look for look in self._hanging if not look.run.done]
        if sum(look.action is action for look in self._hanging) >= MOST_LOOKS // 2:
            self._ask_later(action, claimed, "earlier questions to the verifier still hang")
            return None
        look = Look(action, claimed, self._clock, self._answered)
        self._hanging.append(look)
        return look

    def _since(self, call: Call) -> float:
        """Seconds since the outcome became unknown."""
        return self._clock.now() - (call.settled_at or self._clock.now())

    def _act(self, look: Look) -> Call:
        call, action, evidence = look.call, look.action, look.answer or cannot_tell()
        by, patience = f"verify of {action.name}", action.policy.verify_after
        if evidence.finding == "landed":
            result, why = action.encode_result(evidence.result)
            return self._settle(call, "landed", by, why or evidence.reason, result)
        if evidence.finding == "absent" and (soon := self._too_soon(look, patience)):
            return self._postpone(call, soon, "not there yet; it may still arrive") or call
        if evidence.finding == "absent":
            if call.queue is not None and call.attempt < call.max_attempts:
                return self._settle(call, "retry", by, evidence.reason, None)
            return self._settle(call, "absent", by, f"{evidence.reason}; {_no_more(call)}", None)
        if look.broken:
            self._tell_broken(call, evidence.reason)
        return self._ask_later(action, call, evidence.reason)

    def _tell_broken(self, call: Call, why: str) -> None:
        """Say, once an action, that its doubts stay because its verifier does not work."""
        context = {"call": call.id, "key": call.key, "why": why}
        reason = "the verifier does not work: it gives no evidence"
        self._pipeline.alerts.alert(call.action, reason, Severity.ERROR, context, patience=0)

    def _too_soon(self, look: Look, patience: float) -> float | None:
        """When to ask again, if the question was asked before ``absent`` could be believed.

        The time of the question counts, not that of the answer, and the ledger knows better than
        ``look`` since when: a function that runs on beyond its time-out moves it.
        """
        stands = self._pipeline.get(look.call.id) or look.call
        believed = (stands.settled_at or look.asked_at) + patience
        return believed if look.asked_at < believed else None

    # decisions

    def resolve(
        self, call_id: str, resolution: Resolution, *, by: str, reason: str, result: Any = None
    ) -> Call:
        """A person's recorded decision about an unknown call; see `Recovery.resolve`."""
        if resolution not in ("landed", "absent", "retry"):
            raise ConfigurationError(f"resolution {resolution!r}: say landed, absent or retry")
        require_who_and_why("resolving a call", by, reason)
        text = _text(result) if resolution == "landed" else None

        def work(tx: Transaction) -> Call:
            call = tx.calls.get(call_id)
            if call is None:
                raise NotFound(
                    f"there is no call {call_id!r} in this ledger; gonogo calls list --state "
                    "unknown shows those to resolve",
                    call_id=call_id,
                )
            if call.state is State.FAILED and call.held and resolution == "absent":
                return self._free_key(tx, call, by, reason)
            if call.state is not State.UNKNOWN:
                raise _not_in_doubt(call)
            if resolution == "retry":
                self._require_secrets(call)
            return self._write(tx, call, resolution, by, reason, text)

        return self._told(self._store.write(work), by)

    def _require_secrets(self, call: Call) -> None:
        action = self._pipeline.actions.get(call.action)
        if action is not None and action.parameters.load(call.args).has_secrets:
            raise Refused(
                f"call {call.id} was made with a secret argument, which the ledger does not keep, "
                "so a worker cannot make it again: resolve it as absent, and call it anew",
                action=call.action,
                key=call.key,
                call_id=call.id,
            )

    def _settle(
        self, call: Call, resolution: Resolution, by: str, reason: str, result: str | None
    ) -> Call:
        """Settle it on evidence, unless it changed since the question was asked.

        That it ended without its effect is an alert, as it is where an attempt fails.
        """
        fired: list[Alert] = []

        def work(tx: Transaction) -> Call | None:
            fired.clear()
            current = tx.calls.get(call.id)
            if current is None or current.fence != call.fence:
                return None
            after = self._write(tx, current, resolution, by, reason, result)
            if after.state is State.FAILED:
                fired.append(self._alert(tx, after))
            return after

        settled = self._store.write(work)
        for alert in fired:
            self._pipeline.alerts.publish(alert)
        return self._told(settled, by) if settled else self._pipeline.get(call.id) or call

    def _alert(self, tx: Transaction, call: Call) -> Alert:
        context = {"call": call.id, "key": call.key, "attempt": call.attempt, "note": call.note}
        alerts, at = self._pipeline.alerts, call.settled_at or self._clock.now()
        return alerts.fire(tx, call.action, NOT_DONE, Severity.ERROR, context, at)

    def _write(
        self,
        tx: Transaction,
        call: Call,
        resolution: Resolution,
        by: str,
        reason: str,
        result: str | None,
    ) -> Call:
        now = self._clock.now()
        after = self._resolved(call, resolution, f"{resolution}, says {by}: {reason}", result, now)
        self._pipeline.conclude(tx, call, after, now)
        tx.decisions.append(
            decision(f"resolved as {resolution}", call.id, by=by, reason=reason, now=now)
        )
        return after

    def _free_key(self, tx: Transaction, call: Call, by: str, reason: str) -> Call:
        """Give back the key of a call that was rejected, because its cause is mended."""
        after = structs.replace(call, held=False, note=f"{call.note}; its key was freed by {by}")
        tx.calls.replace(call, after)
        freed = decision("key freed", call.id, by=by, reason=reason, now=self._clock.now())
        tx.decisions.append(freed)
        return after

    def _told(self, settled: Call, by: str) -> Call:
        self._pipeline.tell("call.resolved", settled, state=settled.state.value, by=by)
        self._pipeline.settled.ring()
        return settled

    def _resolved(
        self, call: Call, resolution: Resolution, note: str, result: str | None, now: float
    ) -> Call:
        action = self._pipeline.actions.get(call.action)
        if resolution == "landed":
            ttl = None if action is None else action.policy.key_ttl
            return advance(
                call,
                State.SUCCEEDED,
                outcome=Outcome.SUCCEEDED,
                result=result,
                note=note,
                settled_at=now,
                expires_at=None if ttl is None else now + ttl,
            )
        proven = structs.replace(call, outcome=Outcome.NOT_APPLIED)
        if resolution == "absent":
            return ended(proven, State.FAILED, now, note)
        return advance(
            proven,
            State.PENDING,
            queue=call.queue or ("default" if action is None else action.policy.queue),
            max_attempts=max(call.max_attempts, call.attempt + 1),
            run_at=now,
            lease_until=None,
            note=note,
        )

    # what is written about a look

    def _postpone(self, call: Call, run_at: float, note: str | None) -> Call | None:
        """Set the time of the next look, raising the epoch so that only one process looks.

        ``None`` when somebody else was first.
        """
        after = structs.replace(call, epoch=call.epoch + 1, run_at=run_at, note=note)
        won = self._store.write(lambda tx: tx.calls.replace(call, after), durable=False)
        return after if won else None

    def _ask_later(self, action: Action[Any, Any], call: Call, why: str) -> Call:
        """Wait as long as it has been unknown already: ever longer, within bounds."""
        pause = max(1.0, action.policy.verify_after, min(self._since(call), LONGEST_PAUSE))
        return self._postpone(call, self._clock.now() + pause, f"cannot tell: {why}") or call


def _not_in_doubt(call: Call) -> Refused:
    """The error for resolving what is not unknown."""
    end = "nothing to resolve"
    if call.state is State.DISPATCHED and call.lease_until is not None:
        end = (
            f"{call.owner} performs it. If that process died, the call is unknown once its lease "
            f"is over, at {spell_time(call.lease_until)}: resolve it then"
        )
    error = Refused(
        f"{call.action} ({call.key or 'no key'}), call {call.id}, is {call.state.value}, not "
        f"unknown: {end}",
        action=call.action,
        key=call.key,
        call_id=call.id,
    )
    error.happened = call.happened
    return error


def _no_more(call: Call) -> str:
    """Why a call that is absent is not run again."""
    if call.queue is None:
        return "a direct call is not made again by itself"
    tries = "its one try is" if call.max_attempts == 1 else f"its {call.max_attempts} tries are"
    return f"{tries} used up"


def _text(result: Any) -> str:
    try:
        return msgspec.json.encode(result, order="sorted").decode()
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"result={result!r} has no JSON form: {error}") from error
