"""Declaring an action: what fits together, and what is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.sandboxes import arm

from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError
from gonogo.evidence import absent, as_evidence
from gonogo.limits import Concurrency, Limit
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.performed import Performed


@pytest.fixture
def live(fake_clock: FakeClock) -> SandboxOrchestrator:
    return arm(SandboxOrchestrator(clock=fake_clock))


def pay(invoice: str, token: str = "") -> str:
    """Pay an invoice."""
    return invoice


@pytest.mark.parametrize(
    ("name", "policy", "words"),
    [
        ("refund", {}, "silence is not permission"),
        ("refund", {"irreversible": True}, "no key"),
        ("payment", {}, "no key"),
        (" ", {"irreversible": False}, "name"),
        ("refund", {"irreversible": True, "key": "{invioce}"}, "names invioce"),
        ("refund", {"irreversible": True, "key": "{token}"}, "secret token"),
        ("refund", {"irreversible": True, "key": ""}, "key"),
        ("refund", {"irreversible": True, "key": "{invoice"}, "parsed"),
        ("refund", {"irreversible": False, "timeout": 0}, "timeout"),
        ("refund", {"irreversible": False, "deadline": -1}, "deadline"),
        ("refund", {"irreversible": False, "key_ttl": float("nan")}, "key_ttl"),
        ("refund", {"irreversible": False, "verify_after": -1}, "verify_after"),
        ("refund", {"irreversible": False, "in_flight": "hope"}, "in_flight"),
        ("refund", {"irreversible": False, "secrets": ["ibann"]}, "ibann"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_declaration(
    live: SandboxOrchestrator, name: str, policy: dict[str, Any], words: str
) -> None:
    """A policy that makes no sense never gets to its first call."""
    with pytest.raises(ConfigurationError, match=words):
        live.action(name, **policy)(pay)
    assert name not in live.actions


def test_names_are_taken_once(live: SandboxOrchestrator) -> None:
    """Two actions of one name would share their keys."""
    live.action("look", irreversible=False)(pay)
    with pytest.raises(ConfigurationError, match="twice"):
        live.action("look", irreversible=False)(pay)


@pytest.mark.parametrize("hook", ["simulate", "precondition"])
def test_hooks_are_plain_functions(live: SandboxOrchestrator, hook: str) -> None:
    """An async hook would never be awaited; it is refused instead of forgotten."""

    async def fn(invoice: str, token: str) -> None: ...

    action = live.action("look", irreversible=False)(pay)
    with pytest.raises(ConfigurationError, match=hook):
        getattr(action, hook)(fn)


@pytest.mark.parametrize(
    "key",
    [
        lambda arguments: "",
        lambda arguments: None,
        lambda arguments: 7,
        lambda arguments: "x" * 513,
        lambda arguments: arguments["invioce"],
        lambda arguments: arguments["token"],
        lambda: "no arguments",
    ],
)
def test_a_key_that_is_no_key_is_an_error(
    live: SandboxOrchestrator, key: Callable[..., Any]
) -> None:
    """A key function that fails, gives no text, or asks for a secret: never an unguarded run."""
    ran = []
    refund = live.action("refund", irreversible=True, key=key)(lambda invoice, token="": ran)
    with pytest.raises(ConfigurationError, match="refund"):
        refund("A", token="hunter2")
    assert ran == []
    assert live.calls() == []


@pytest.mark.parametrize("invoice", ["", None])
def test_an_empty_part_of_a_key_is_an_error(live: SandboxOrchestrator, invoice: Any) -> None:
    """``payment:`` would be the same effect for everybody."""
    refund = live.action("refund", irreversible=True, key="r:{invoice}")(lambda invoice: invoice)
    with pytest.raises(ConfigurationError, match="cannot tell calls apart"):
        refund(invoice)


def test_the_action_looks_like_its_function(live: SandboxOrchestrator) -> None:
    """Name, doc and wrapped function are there for tools and people."""
    action = live.action("look", irreversible=False)(pay)
    assert (action.__doc__, action.__wrapped__) == (pay.__doc__, pay)
    assert repr(action) == "<action 'look'>"
    assert action("A") == "A"


def test_slots_may_be_a_number(live: SandboxOrchestrator) -> None:
    """``concurrency=2`` is two slots of the action's own name."""
    one = live.action("one", irreversible=False, concurrency=2)(pay)
    both = [Concurrency(1), Concurrency(3, name="provider")]
    two = live.action("two", irreversible=False, concurrency=both)(pay)
    assert one.slots({}) == (("one", 2),)
    assert two.slots({}) == (("two", 1), ("provider", 3))


def test_what_the_caller_wrote_is_not_printed(live: SandboxOrchestrator) -> None:
    """Arguments on their way may be secret."""
    from gonogo.action import Given

    assert "hunter2" not in repr(Given(("hunter2",), {"token": "hunter2"}))


def test_what_is_written_down_is_made_without_secrets(live: SandboxOrchestrator) -> None:
    """Keys of limits and slots are in the ledger, so their functions are not given secrets."""
    given: list[str] = []

    def note(arguments: Any) -> str:
        given.extend(arguments)
        return "x"

    act = live.action(
        "act",
        irreversible=False,
        limits=[Limit("act", 5, per="1h", key=note)],
        concurrency=Concurrency(1, key=note),
    )(pay)
    act("A", token="hunter2")
    assert given == ["invoice", "invoice"]


def test_a_failing_function_of_a_limit_says_whose_it_is(live: SandboxOrchestrator) -> None:
    """It is a mistake in the declaration, and the call did not happen."""
    cost = Limit("act", 5, per="1h", cost=lambda a: a["none"])
    act = live.action("act", irreversible=False, limits=[cost])(pay)
    with pytest.raises(ConfigurationError, match=r"action 'act'.*KeyError"):
        act("A")


def test_a_key_is_one_that_a_ledger_can_hold(live: SandboxOrchestrator) -> None:
    """A lone surrogate, as in an undecodable file name, has no form in UTF-8."""
    act = live.action("act", irreversible=False, key=lambda a: "\udcff")(pay)
    with pytest.raises(ConfigurationError, match="UTF-8"):
        act("A")


def test_evidence_is_kept_in_words_that_can_be_written() -> None:
    """A reason of any length, with anything in it, settles its call; so does a failure's fault."""
    evidence = as_evidence(absent("\udcff" * 1000))
    assert evidence.reason.encode()
    assert len(evidence.reason) < 10_000
    fault = Performed(ended_at=0.0, error=OSError("\udcff")).fault
    assert fault.message == "\\udcff"


def test_two_concurrency_limits_need_two_names(sandbox: SandboxOrchestrator) -> None:
    """Slots of one name cannot be counted twice for one call; it is said at the declaration."""
    with pytest.raises(ConfigurationError, match="a name of its own"):

        @sandbox.action("fetch", irreversible=False, concurrency=[Concurrency(1), Concurrency(2)])
        def fetch() -> None: ...


@pytest.mark.parametrize("key", ["", "a\0b", "\udcff", "x" * 5000, 7])
def test_a_key_is_text_that_every_database_holds(live: SandboxOrchestrator, key: Any) -> None:
    """Whatever a key function returns is looked at before anything is written."""
    act = live.action("act", irreversible=True, key=lambda arguments: key)(lambda: None)
    with pytest.raises(ConfigurationError, match="a key is a text"):
        act.enqueue()
    assert live.calls() == []
