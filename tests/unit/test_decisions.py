"""Decisions: nobody decides anonymously or without a reason, and the record says all of it."""

from __future__ import annotations

import pytest

from gonogo.decisions import decision, require_who_and_why
from gonogo.errors import ConfigurationError


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("ana", " "), (None, "why"), ("ana", 7)])
def test_a_decision_names_who_and_why(by: object, reason: object) -> None:
    """Without a text for who, and one for why, nothing is decided."""
    with pytest.raises(ConfigurationError, match=r"arming needs by= \(who\) and reason= \(why\)"):
        require_who_and_why("arming", by, reason)


def test_a_decision_keeps_what_was_said() -> None:
    """The record has what, about what, who, why and when; further facts are its detail."""
    made = decision("armed", "sandbox", by="ana", reason="refunds", now=7.0, seconds=60.0)
    assert (made.what, made.subject, made.actor, made.reason, made.at) == (
        *("armed", "sandbox", "ana", "refunds"),
        7.0,
    )
    assert made.detail == {"seconds": 60.0}
