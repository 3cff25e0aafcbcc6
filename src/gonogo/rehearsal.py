"""The recording of a rehearsal: every call that the job would make, each with its verdict."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec import structs

from gonogo.action import Action, Given
from gonogo.arguments import Bound, TaintedArgument
from gonogo.batches import shown
from gonogo.deadlines import Run
from gonogo.differences import difference
from gonogo.errors import ConfigurationError, Drifted, DryRunBlocked, GonogoError, KeyConflict
from gonogo.facts import PATIENCE, read_facts
from gonogo.handle import Handle, JobOptions
from gonogo.ids import new_id
from gonogo.lines import clean
from gonogo.records import Call, State
from gonogo.remarks import last_place, line, place
from gonogo.secrets import describe
from gonogo.simulated import Simulated, Undetermined, Unknown

if TYPE_CHECKING:
    from gonogo.jobs import Jobs
    from gonogo.planner import Planner

_MAX_PROBLEMS = 100

_VERDICTS = {
    State.SUCCEEDED: "done",
    State.FAILED: "rejected",
    State.UNKNOWN: "in_doubt",
}

_WHY = {
    "done": "performed before, in {}",
    "duplicate": "stands earlier, as {}",
    "in_doubt": "{} with its key may or may not have happened; settle that first",
    "in_flight": "{} with its key is queued or running",
    "rejected": "refused for good before, in {}",
    "conflict": "its key was used with other arguments by {}",
}


Draft = tuple[Call, Bound | None]
"""A call to record, and with what its facts are read, if they are."""


class Rehearsal:
    """The recording of one rehearsal: made by `Planner.rehearse`, filled by the router."""

    def __init__(self, planner: Planner, plan_id: str) -> None:
        self.planner = planner
        self.plan_id = plan_id
        self.calls: list[Call] = []
        self.problems: list[str] = []
        self.over = False
        self._by_key: dict[tuple[str, str], Call] = {}
        self._drafted: set[str] = set()
        self._places: dict[str, int] = {}
        self._mutex = threading.Lock()

    def problem(self, text: str) -> None:
        """Note why the plan cannot be complete."""
        text = clean(text)
        with self._mutex:
            if text not in self.problems and len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(text)

    def direct(self, action: Action[Any, Any], bound: Bound) -> tuple[Any, Call, bool]:
        """Record a direct call: what the job goes on with, who carries it out, whether a replay."""
        ((call, known),) = self._record(action, [self._draft(action, bound, JobOptions())])
        if known is not None and known.state is State.SUCCEEDED and known.result is not None:
            return action.decode_result(known.result), known, True
        carrier = known if known is not None and known.id in self._drafted else call
        return self._simulated(action, bound, call), carrier, False

    def queued(
        self, action: Action[Any, Any], rows: Sequence[Given], options: JobOptions
    ) -> list[Handle]:
        """Record jobs, all or none; a handle is that of the call which will carry the row out."""
        drafts: list[Draft] = []
        many = len(rows) > 1
        for row, given in enumerate(rows, 1):
            with self.locating(action, given, row if many else None):
                try:
                    bound = action.parameters.bind(given.args, given.kwargs)
                except TaintedArgument as error:
                    drafts.append((self._undetermined(action, error), None))
                else:
                    drafts.append(self._draft(action, bound, options))
        return [self._handle(*recorded) for recorded in self._record(action, drafts)]

    def _handle(self, call: Call, known: Call | None) -> Handle:
        target, jobs = known or call, self.planner.jobs
        if known is not None and known.id not in self._drafted:
            return Handle(jobs, target.id, is_new=False)
        return PlannedHandle(jobs, self, target, is_new=known is None)

    def tainted(self, action: Action[Any, Any], error: TaintedArgument) -> Call:
        """Record a call whose arguments nobody can know yet."""
        return self._append(self._undetermined(action, error))

    def _undetermined(self, action: Action[Any, Any], error: TaintedArgument) -> Call:
        now = self.planner.now()
        self.problem(f"{action.name}: {error}, so its arguments are not known before the job runs")
        return Call(
            id=new_id(now),
            action=action.name,
            state=State.PLANNED,
            created_at=now,
            verdict="undetermined",
            note=f"{error}, which does not exist before it ran",
        )

    @contextmanager
    def locating(
        self, action: Action[Any, Any], given: Given, row: int | None = None
    ) -> Iterator[None]:
        """Say in the error of arguments that do not fit which of the job's calls had them.

        Args:
            row: of a batch, from 1.
        """
        try:
            yield
        except ConfigurationError as error:
            error.args = (f"{place(self.calls, row)}, with {shown(action, given)}: {error}",)
            raise

    def ended(self, error: BaseException) -> None:
        """Note that the job raised ``error``, and where it was by then."""
        if isinstance(error, GonogoError):  # which says itself which call it is about
            self.problem(f"it ended with {describe(error)}")
            return
        where = last_place(self.calls, error)
        self.problem(f"it ended with {describe(error)}, {where}")
        error.add_note(f"The rehearsal ended there, {where}")

    def unknown(self, call: Call) -> Unknown:
        """The stand-in for the result of a recorded call."""
        return Unknown(call.name, self.guessed)

    def guessed(self, text: str) -> None:
        """Note that the job would have to guess, and where."""
        self.problem(f"{text}: {line()}")

    def _draft(self, action: Action[Any, Any], bound: Bound, options: JobOptions) -> Draft:
        if secret := bound.has_secrets:
            self.problem(f"{action.name}: a secret argument cannot be kept in a plan")
            bound = structs.replace(bound, has_secrets=False)
        draft = self.planner.jobs.draft(action, bound, options)
        self._require_hope(draft)
        draft = structs.replace(draft, state=State.PLANNED, held=False, note=None)
        return draft, None if secret else bound

    def _record(
        self, action: Action[Any, Any], drafts: Sequence[Draft]
    ) -> list[tuple[Call, Call | None]]:
        """The recorded calls, each with the one that stands for it already, if any.

        Of a batch with a conflict only that is recorded: live, nothing of it would be queued.
        """
        judged = self._judge([draft for draft, _ in drafts])
        if judged and judged[-1][0].verdict == "conflict":
            raise self._conflict(judged, len(drafts))
        recorded = []
        for (call, known), (_, bound) in zip(judged, drafts, strict=True):
            facts = None
            if call.verdict == "new" and bound is not None:
                facts = self._facts(action, bound, call)
            recorded.append((self._append(structs.replace(call, facts=facts), known), known))
        return recorded

    def _conflict(self, judged: Sequence[tuple[Call, Call | None]], rows: int) -> KeyConflict:
        """Record the last of them, the conflict of a batch of ``rows``, and say what it is."""
        call, known = judged[-1]
        assert known is not None  # noqa: S101 - there is no conflict with nobody
        ids = [earlier.id for earlier, _ in judged]
        where, row = place(self.calls, len(ids) if rows > 1 else None), ""
        if known.id in ids:
            row = f"in row {ids.index(known.id) + 1} of the same batch"
            call = structs.replace(call, note=f"its key was used with other arguments {row}")
        if rows > 1:
            none = f"none of the {rows:,} rows of its batch is enqueued"
            call = structs.replace(call, note=f"{call.note or self._why(call, known)}; {none}")
        self._append(call, known)
        nothing = "; nothing was enqueued" if rows > 1 else ""
        return KeyConflict(
            f"{call.action}: key {call.key!r} was used with different arguments "
            f"{row or f'by {self._named(known)}'} ({difference(call, known)}); if this is another "
            f"effect, give it another key. It is {where}{nothing}",
            action=call.action,
            key=call.key,
            call_id=None if row else known.id,
        )

    def _why(self, call: Call, known: Call | None) -> str | None:
        if known is None:
            return None
        return _WHY[call.verdict or ""].format(self._named(known))

    def _named(self, known: Call) -> str:
        """By its number, where it is in this plan."""
        at = self._places.get(known.id)
        return f"call {known.id}" if at is None else f"call {at + 1} of this plan"

    def _require_hope(self, draft: Call) -> None:
        """Refuse to wait for a call that is not there or ended badly, as enqueueing would."""
        if draft.after is None or draft.after in self._places:
            return
        self.planner.require_hope(draft)

    def _judge(self, drafts: Sequence[Call]) -> list[tuple[Call, Call | None]]:
        """Each with its verdict and who has its key, up to the first conflict.

        With a conflict none of them takes its key.
        """
        judged: list[tuple[Call, Call | None]] = []
        taken: dict[tuple[str, str], Call] = {}
        with self._mutex:
            for draft in drafts:
                verdict, known = self._verdict(draft, taken)
                judged.append((structs.replace(draft, verdict=verdict), known))
                if verdict == "conflict":
                    return judged
            self._by_key.update(taken)
            self._drafted.update(draft.id for draft in drafts)
        return judged

    def _verdict(self, draft: Call, taken: dict[tuple[str, str], Call]) -> tuple[str, Call | None]:
        if draft.verdict is not None or draft.key is None:
            return draft.verdict or "new", None
        key = draft.action, draft.key
        earlier = taken.get(key) or self._by_key.get(key)
        if earlier is not None:
            same = earlier.fingerprint == draft.fingerprint
            return "duplicate" if same else "conflict", earlier
        holder = self.planner.holder(draft)
        taken[key] = holder or draft
        if holder is None:
            return "new", None
        if holder.fingerprint != draft.fingerprint:
            return "conflict", holder
        return _VERDICTS.get(holder.state, "in_flight"), holder

    def _facts(self, action: Action[Any, Any], bound: Bound, draft: Call) -> str | None:
        if action.reader is None:
            return None
        try:
            return read_facts(action, bound.values, draft.key)
        except Drifted as error:
            self.problem(str(error))
            return None

    def _append(self, call: Call, known: Call | None = None) -> Call:
        with self._mutex:
            if self.over:
                raise DryRunBlocked(
                    f"{call.action} was not performed: this thread belongs to a rehearsal that is "
                    "over; wait for the job's threads before the rehearsal ends",
                    action=call.action,
                    key=call.key,
                )
            placed = structs.replace(
                call,
                plan_id=self.plan_id,
                position=len(self.calls),
                note=call.note or self._why(call, known),
            )
            self._places[placed.id] = len(self.calls)
            self.calls.append(placed)
        return placed

    def _simulated(self, action: Action[Any, Any], bound: Bound, call: Call) -> Any:
        if action.simulator is None:
            return self.unknown(call)
        simulator, patience = action.simulator, action.policy.timeout or PATIENCE
        run = Run(lambda: action.parameters.invoke(simulator, bound.values), 0.0, "gonogo-simulate")
        if not run.wait(patience):
            self.problem(f"{call.name}: its simulator gave no answer within {patience:g} s")
            return self.unknown(call)
        if run.error is not None:
            self.problem(f"{call.name}: its simulator failed with {describe(run.error)}")
            return self.unknown(call)
        return Simulated(run.value, call.name, self.guessed)


class PlannedHandle(Handle):
    """The handle of a call that is only planned: what becomes of it nobody knows as yet.

    After the rehearsal it is as any other.
    """

    def __init__(self, jobs: Jobs, rehearsal: Rehearsal, call: Call, *, is_new: bool) -> None:
        super().__init__(jobs, call.id, is_new=is_new)
        self._rehearsal = rehearsal
        self._name = call.name

    def call(self) -> Call:
        """See `Handle.call`."""
        self._require_over("its record")
        return super().call()

    def result(self, timeout: float | None = None) -> Any:
        """See `Handle.result`."""
        self._require_over("waiting for it")
        return super().result(timeout)

    def cancel(self, *, by: str = "caller", reason: str = "cancelled by its handle") -> bool:
        """See `Handle.cancel`."""
        self._require_over("cancelling it")
        return super().cancel(by=by, reason=reason)

    def explain(self) -> list[str]:
        """See `Handle.explain`."""
        self._require_over("its story")
        return super().explain()

    def _require_over(self, use: str) -> None:
        if not self._rehearsal.over:
            what = f"{use} needs the result of {self._name}, which does not exist before it ran"
            self._rehearsal.guessed(what)
            raise Undetermined(what)
