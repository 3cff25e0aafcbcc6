"""What is told of two calls that are not the same."""

from __future__ import annotations

from tests.store.making import call

from gonogo.differences import difference


def test_what_differs_is_told_by_name() -> None:
    """Of both calls, and nothing that is the same."""
    here, there = call(args='{"cents":200,"to":"A"}'), call(args='{"cents":100,"to":"A"}')
    assert difference(here, there) == "cents 200 here, 100 there"


def test_what_was_declared_a_secret_since_is_not_shown() -> None:
    """The ledger has it in clear from before; an error is read by more people."""
    masked, clear = call(args='{"code":"[secret]"}'), call(args='{"code":"hunter2"}')
    assert difference(masked, clear) == difference(clear, masked) == "code, which is secret"
