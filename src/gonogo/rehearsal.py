"""The recording of a rehearsal: every call that the job would make, each with its verdict."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec import structs

from gonogo.action import Action, Given
from gonogo.arguments import Bound, TaintedArgument
from gonogo.deadlines import Run
from gonogo.differences import difference
from gonogo.errors import ConfigurationError, Drifted, DryRunBlocked, GonogoError, KeyConflict
from gonogo.facts import PATIENCE, read_facts
from gonogo.handle import Handle, JobOptions
from gonogo.ids import new_id
from gonogo.records import Call, State
from gonogo.remarks import last_place, place, shown
from gonogo.secrets import describe
from gonogo.simulated import Simulated, Unknown

if TYPE_CHECKING:
    from gonogo.planner import Planner

_MAX_PROBLEMS = 100

_VERDICTS = {
    State.SUCCEEDED: "done",
    State.FAILED: "rejected",
    State.UNKNOWN: "in_doubt",
}

_WHY = {
    "done": "performed before, in call {}",
    "duplicate": "stands earlier in this plan, as call {}",
    "in_doubt": "call {} with its key may or may not have happened; settle that first",
    "in_flight": "call {} with its key is queued or running",
    "rejected": "refused for good before, in call {}",
    "conflict": "its key was used with other arguments by call {}",
}


class Rehearsal:
    """The recording of one rehearsal: made by `Planner.rehearse`, filled by the router."""

    def __init__(self, planner: Planner, plan_id: str) -> None:
        self.planner = planner
        self.plan_id = plan_id
        self.calls: list[Call] = []
        self.problems: list[str] = []
        self.over = False
        self._by_key: dict[tuple[str, str], Call] = {}
        self._ids: set[str] = set()
        self._mutex = threading.Lock()

    def problem(self, text: str) -> None:
        """Note why the plan cannot be complete."""
        with self._mutex:
            if text not in self.problems and len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(text)

    def direct(self, action: Action[Any, Any], bound: Bound) -> tuple[Any, Call, bool]:
        """Record a direct call: what the job goes on with, the call, whether it is a replay."""
        call, known = self._record(action, bound, JobOptions())
        if known is not None and known.state is State.SUCCEEDED and known.result is not None:
            return action.decode_result(known.result), known, True
        return self._simulated(action, bound, call), call, False

    def queued(self, action: Action[Any, Any], bound: Bound, options: JobOptions) -> Handle:
        """Record a job; the handle is that of the call which will carry it out."""
        call, known = self._record(action, bound, options)
        target = known or call
        return Handle(self.planner.jobs, target.id, is_new=known is None)

    def tainted(self, action: Action[Any, Any], error: TaintedArgument) -> Call:
        """Record a call whose arguments nobody can know yet."""
        now = self.planner.now()
        call = Call(
            id=new_id(now),
            action=action.name,
            state=State.PLANNED,
            created_at=now,
            verdict="undetermined",
            note=f"{error}, which does not exist before it ran",
        )
        self.problem(f"{action.name}: {error}, so its arguments are not known before the job runs")
        return self._append(call)

    @contextmanager
    def locating(self, action: Action[Any, Any], given: Given) -> Iterator[None]:
        """Say in the error of arguments that do not fit which of the job's calls had them."""
        try:
            yield
        except ConfigurationError as error:
            error.args = (f"{place(self.calls)}, with {shown(action, given)}: {error}",)
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
        return Unknown(call.name, self.problem)

    def _record(
        self, action: Action[Any, Any], bound: Bound, options: JobOptions
    ) -> tuple[Call, Call | None]:
        """The recorded call, and the one that stands for it already, if any."""
        if secret := bound.has_secrets:
            self.problem(f"{action.name}: a secret argument cannot be kept in a plan")
            bound = structs.replace(bound, has_secrets=False)
        draft = self.planner.jobs.draft(action, bound, options)
        self._require_hope(draft)
        verdict, known = self._judge(draft)
        call = structs.replace(
            draft,
            state=State.PLANNED,
            held=False,
            plan_id=self.plan_id,
            verdict=verdict,
            facts=self._facts(action, bound, draft) if verdict == "new" and not secret else None,
            note=_WHY.get(verdict, "").format(known.id if known else "") or None,
        )
        where = place(self.calls) if verdict == "conflict" else ""
        call = self._append(call)
        if verdict == "conflict" and known is not None:
            raise KeyConflict(
                f"{call.action}: key {call.key!r} was used with different arguments by call "
                f"{known.id} ({difference(call, known)}); if this is another effect, give "
                f"it another key. It is {where}",
                action=call.action,
                key=call.key,
                call_id=known.id,
            )
        return call, known

    def _require_hope(self, draft: Call) -> None:
        """Refuse to wait for a call that is not there or ended badly, as enqueueing would."""
        if draft.after is None or draft.after in self._ids:
            return
        self.planner.require_hope(draft)

    def _judge(self, draft: Call) -> tuple[str, Call | None]:
        if draft.key is None:
            return "new", None
        with self._mutex:
            earlier = self._by_key.get((draft.action, draft.key))
            holder = self.planner.holder(draft) if earlier is None else None
            self._by_key[draft.action, draft.key] = earlier or holder or draft
        if earlier is not None:
            same = earlier.fingerprint == draft.fingerprint
            return "duplicate" if same else "conflict", earlier
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

    def _append(self, call: Call) -> Call:
        with self._mutex:
            if self.over:
                raise DryRunBlocked(
                    f"{call.action} was not performed: this thread belongs to a rehearsal that is "
                    "over; wait for the job's threads before the rehearsal ends",
                    action=call.action,
                    key=call.key,
                )
            placed = structs.replace(call, plan_id=self.plan_id, position=len(self.calls))
            self.calls.append(placed)
            self._ids.add(placed.id)
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
        return Simulated(run.value, call.name, self.problem)
