"""The last sentences of a call's story: what its key means for the next call."""

from __future__ import annotations

import pytest
from msgspec import structs

from gonogo.explain import explain
from gonogo.records import Call, Outcome, State

FAILED = Call(
    id="c1",
    action="payment",
    state=State.FAILED,
    created_at=0.0,
    key="INV-7",
    outcome=Outcome.NOT_APPLIED,
)


def last(call: Call, holder: Call | None) -> str:
    return explain(call, [], [], 10.0, holder)[-1]


def test_a_key_nobody_holds_is_free() -> None:
    """Without a holder the same call again would be performed, and it says so."""
    assert last(FAILED, None).endswith("is free: the same call again would be performed.")


def test_a_key_another_call_holds_is_not_called_free() -> None:
    """A planned or failed call names the one that answers for its key now."""
    paid = structs.replace(FAILED, id="c2", state=State.SUCCEEDED, held=True)
    planned = structs.replace(FAILED, state=State.PLANNED, verdict="done", outcome=None)
    for call in (FAILED, planned):
        said = last(call, paid)
        assert "taken by call c2, which is succeeded" in said
        assert "free" not in said


def test_a_call_in_conflict_is_refused_again() -> None:
    """Its key is free until the other is queued; a paid call answers only the same arguments."""
    conflict = structs.replace(FAILED, state=State.PLANNED, verdict="conflict", fingerprint="v1:a")
    assert "is still free; once the other call is queued" in last(conflict, None)
    paid = structs.replace(FAILED, id="c2", state=State.SUCCEEDED, held=True, fingerprint="v1:b")
    said = last(conflict, paid)
    assert "taken by call c2, which is succeeded, with other arguments" in said
    for sentence in (said, last(conflict, None)):
        assert sentence.endswith("the same call again is refused (KeyConflict).")


def test_its_own_key_gets_its_answer() -> None:
    """The call that holds the key says until when."""
    paid = structs.replace(FAILED, state=State.SUCCEEDED, held=True, expires_at=60.0)
    assert "is taken until 1970-01-01 00:01:00Z" in last(paid, paid)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State.SUCCEEDED, "gets its answer."),
        (State.FAILED, "is refused like it."),
        (State.UNKNOWN, "does not run before that is settled."),
        (State.PENDING, "does not run beside it."),
        (State.DISPATCHED, "does not run beside it."),
    ],
)
def test_the_same_call_again_is_told_what_it_would_get(state: State, said: str) -> None:
    """There is an answer only once there is one; the holder decides, whichever call is asked."""
    holder = structs.replace(FAILED, id="c2", state=state, held=True)
    assert last(holder, holder).endswith(f"the same call again {said}")
    assert last(FAILED, holder).endswith(f"the same call again {said}")
