"""A plan: the exact calls that will run, and what the rehearsal found out about each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from gonogo.plan_text import Total, render, states
from gonogo.records import Call, PlanRecord, State

TO_DO = frozenset({"new", "waits"})
"""Verdicts of calls that applying the plan will queue."""

Uses = Sequence[Mapping[str, int]]
"""Of each call, in order: units by limit row."""

Totals = dict[str, Total]
"""By action."""


class Cancelled(msgspec.Struct, frozen=True):
    """What cancelling an applied plan did: how many calls ended by it, and what was left alone.

    ``left`` counts the calls that had begun or ended, by state, without those never queued.
    """

    calls: int
    left: dict[State, int]


class Plan:
    """A rehearsal's result: what would happen, what would not, and why.

    Attributes:
        record: the ledger's record: id, name, state, digest, problems, approval.
        ledger: where it is kept, for people.
        overtaken: how many of its calls have lost their keys to others since: with any, it cannot
            be applied.
        calls: the calls in the order in which the job made them, as they were when the plan was
            last read (`refresh`), each with a ``verdict``:

    =================  =================================================================
    ``new``            would be performed
    ``waits``          would be performed, but a limit has no room for it now
    ``done``           was performed before; its recorded result stands
    ``duplicate``      stands earlier in this plan
    ``in_doubt``       an earlier call with its key may or may not have happened
    ``in_flight``      an earlier call with its key is queued or running
    ``rejected``       the other side refused it for good before
    ``conflict``       its key was used with other arguments
    ``denied``         a limit can never admit it
    ``undetermined``   its arguments depend on a result that does not exist yet
    =================  =================================================================
    """

    def __init__(
        self,
        record: PlanRecord,
        calls: list[Call],
        uses: Callable[[], Uses],
        ledger: str,
        read: Callable[[str], Plan],
        *,
        overtaken: int = 0,
    ) -> None:
        self.record = record
        self.overtaken = overtaken
        self.ledger = ledger
        self.calls = calls
        self._uses = uses
        self._read = read
        self._lives = False

    @property
    def id(self) -> str:
        """The plan's id."""
        return self.record.id

    @property
    def digest(self) -> str:
        """Covers every call in order; an approval binds it."""
        return self.record.digest

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it is incomplete; empty when it can be approved."""
        return self.record.problems

    def refresh(self) -> None:
        """Read it anew; `NotFound` when it is not there any more."""
        now = self._read(self.id)
        self.record, self.calls, self.overtaken = now.record, now.calls, now.overtaken

    def lives(self) -> None:
        """It was applied or given up: its calls change from now on, and are read when told of."""
        self._lives = True

    def verdicts(self) -> dict[str, int]:
        """How many calls there are of each verdict."""
        return dict(Counter(call.verdict or "new" for call in self.calls))

    def states(self) -> dict[str, int]:
        """How many of the calls that applying it queued are in each state; empty before.

        In a plan that was applied here, as they are now.
        """
        if self._lives:
            self.refresh()
        return states(self.calls)

    def uses(self) -> Uses:
        """What each call takes of its limits, in their order: limit row → units.

        Nothing for calls that would not be performed, and where a cost is not known here.
        """
        return self._uses()

    def totals(self) -> Totals:
        """Of the calls that would be performed: action → ``calls``, and ``uses`` by limit row."""
        totals: Totals = {}
        for call, used in zip(self.calls, self.uses(), strict=True):
            if call.verdict in TO_DO:
                total = totals.setdefault(call.action, {"calls": 0, "uses": {}})
                total["calls"] += 1
                uses = total["uses"]
                for row, units in used.items():
                    uses[row] = uses.get(row, 0) + units
        for action, total in totals.items():
            if total["uses"].get(action) == total["calls"]:  # it counts the calls, and says no more
                del total["uses"][action]
        return totals

    def text(self, whole: Callable[[Call], str] | None = None) -> str:
        """For people. A long plan is shortened, unless ``whole`` says what to add to each call.

        Of a plan that was applied or given up here, it tells as it is now.
        """
        if self._lives:
            self.refresh()
        about = self.record, self.calls, self.verdicts(), self.totals()
        uses, ledger, overtaken = self.uses(), self.ledger, self.overtaken
        return render(*about, uses=uses, whole=whole, ledger=ledger, overtaken=overtaken)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<plan {self.record.name!r} {self.id}: {self.record.state.value}>"


def digest_of(calls: Iterable[Call]) -> str:
    """``v1:`` and the SHA-256 over every call in order: what it does, when, on which grounds."""
    digest = hashlib.sha256()
    for c in calls:
        what = (c.action, c.key, c.fingerprint, c.args, c.queue, c.priority, c.run_at, c.after)
        terms = (c.facts, c.verdict, c.deadline_at, c.max_attempts, c.repeatable)
        digest.update(msgspec.json.encode([*what, *terms]) + b"\n")
    return "v1:" + digest.hexdigest()
