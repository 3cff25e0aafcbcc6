"""Idempotency alone: one key, one effect, in memory and on a ledger."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.sandboxes import STORES

from gonogo.canonical import canonical, digest
from gonogo.clock import FakeClock
from gonogo.errors import (
    ConfigurationError,
    EffectRejected,
    InFlight,
    KeyConflict,
    OutcomeUnknown,
    ResultUnavailable,
)
from gonogo.idempotency import IdempotencyManager
from gonogo.keys import SCOPE
from gonogo.signals import NotApplied, Rejected
from gonogo.store.memory import MemoryStore
from gonogo.store.port import Store
from gonogo.store.sqlite import SqliteStore
from gonogo.testing import FaultyStore


@pytest.fixture(params=("alone", *STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store | None]:
    """What a manager is given: none where it is alone."""
    made: Store | None = None if request.param == "alone" else MemoryStore()
    if request.param == "sqlite":
        made = SqliteStore(f"sqlite:///{tmp_path}/ledger.db")
    yield made
    if made is not None:
        made.close()


@pytest.fixture
def keys(store: Store | None, fake_clock: FakeClock) -> IdempotencyManager:
    return IdempotencyManager(60, store=store, clock=fake_clock, in_flight="raise")


class Work:
    """Counts how often it runs; raises or returns what it was given."""

    def __init__(self, result: Any = "done") -> None:
        self.result = result
        self.ran = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.ran += 1
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def test_the_work_runs_once(keys: IdempotencyManager) -> None:
    """The second caller gets the first one's result."""
    work = Work({"id": 7})
    assert [keys.process_idempotent("k", work) for _ in range(3)] == [{"id": 7}] * 3
    assert work.ran == 1
    assert keys.is_duplicate("k")
    assert not keys.is_duplicate("other")
    assert keys.get_cached_result("k") == {"id": 7}
    assert keys.get_cached_result("other") is None
    assert keys.seen_operations == {"k": "succeeded"}


def test_the_work_gets_its_arguments(keys: IdempotencyManager) -> None:
    """Positional and keyword arguments are handed on."""
    assert keys.process_idempotent("k", lambda a, b: (a, b), 1, b=2) == (1, 2)


def test_a_replay_looks_at_the_arguments_as_they_were(keys: IdempotencyManager) -> None:
    """Work or a caller that changes the arguments afterwards makes no other effect of them."""
    order = {"cents": 7}
    assert keys.process_idempotent("k", lambda given: given.update(paid=True), order) is None
    assert keys.process_idempotent("k", Work("again"), {"cents": 7}) is None
    for other in (order, {"cents": 7.0}, {"cents": True}):
        with pytest.raises(KeyConflict):
            keys.process_idempotent("k", Work(), other)


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (None, math.nan),
        (None, math.inf),
        ("NaN", Decimal("NaN")),
        ("Infinity", Decimal("Infinity")),
        ("-Infinity", Decimal("-Infinity")),
    ],
)
def test_what_json_cannot_hold_is_not_taken_for_what_it_can(
    keys: IdempotencyManager, first: object, other: object
) -> None:
    """NaN, which would be written like another value, is another argument than that."""
    for _ in range(2):
        assert keys.process_idempotent("k", Work(), first) == "done"
    with pytest.raises(KeyConflict):
        keys.process_idempotent("k", Work(), other)


def test_arguments_that_json_must_be_helped_with_are_told_from_others(
    keys: IdempotencyManager,
) -> None:
    """Numbers as keys of a dict, and arguments without any JSON form, are replayed too."""
    for key, given in (("numbers", {1: "a"}), ("none", object())):
        assert [keys.process_idempotent(key, Work(), given) for _ in range(2)] == ["done", "done"]
        with pytest.raises(KeyConflict):
            keys.process_idempotent(key, Work(), {"1": "b"})


def test_arguments_by_name_are_told_from_those_by_place(keys: IdempotencyManager) -> None:
    """Lists and dicts that look like what is written of a call are arguments like others."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((1,), {}),
        ((1,), {"b": 2}),
        (([1], {"b": 2}), {}),
        (([[1], {"b": 2}],), {}),
        (({"": [[1], {"b": 2}]},), {}),
        ((), {"b": 2}),
        ((1,), {"": 2}),
        ((), {}),
    ]
    for number, (args, kwargs) in enumerate(calls):
        key = f"k{number}"
        for _ in range(2):
            assert keys.process_idempotent(key, Work(number), *args, **kwargs) == number
        for others, named in calls[:number] + calls[number + 1 :]:
            with pytest.raises(KeyConflict):
                keys.process_idempotent(key, Work(), *others, **named)


@pytest.mark.parametrize("kwargs", [{}, {"b": 2, "a": "x"}])
def test_a_ledger_knows_the_arguments_of_earlier_versions(
    fake_clock: FakeClock, kwargs: dict[str, Any]
) -> None:
    """The fingerprint on a ledger is that of the canonical JSON of both kinds of arguments."""
    ledger = MemoryStore()
    args = ({"cents": 7},)
    IdempotencyManager(store=ledger, clock=fake_clock).process_idempotent(
        "k", Work(), *args, **kwargs
    )
    holder = ledger.read(lambda tx: tx.calls.holder(SCOPE, "k"))
    assert holder is not None
    assert holder.fingerprint == digest(canonical((args, kwargs)))


def test_other_arguments_conflict(keys: IdempotencyManager) -> None:
    """The same key with other arguments is another effect: refused."""
    work = Work()
    keys.process_idempotent("k", work, 1, to="ann")
    keys.process_idempotent("k", work, 1, to="ann")
    with pytest.raises(KeyConflict, match="'k'"):
        keys.process_idempotent("k", work, 1, to="bob")
    assert work.ran == 1


def test_arguments_without_a_json_form_are_told_by_their_key(keys: IdempotencyManager) -> None:
    """An object among the arguments is no reason to run twice."""
    work = Work()
    for _ in range(2):
        keys.process_idempotent("k", work, object())
    assert work.ran == 1


def test_an_answer_lives_as_long_as_its_ttl(
    keys: IdempotencyManager, fake_clock: FakeClock
) -> None:
    """After ``ttl_seconds`` the key is free; until then it is not."""
    work = Work()
    keys.process_idempotent("k", work)
    fake_clock.advance(59.9)
    keys.process_idempotent("k", work)
    assert work.ran == 1
    fake_clock.advance(0.1)
    assert not keys.is_duplicate("k")
    assert keys.get_cached_result("k") is None
    keys.process_idempotent("k", work)
    assert work.ran == 2


def test_expired_keys_are_cleared_and_counted(
    keys: IdempotencyManager, fake_clock: FakeClock
) -> None:
    """`clear_expired` forgets what is over, and says how much that was."""
    for n in range(5):
        keys.process_idempotent(f"k{n}", Work())
    fake_clock.advance(60.0)
    keys.process_idempotent("fresh", Work())
    keys.clear_expired()
    fake_clock.advance(0.1)
    keys.process_idempotent("fresher", Work())
    assert list(keys.seen_operations) == ["fresher", "fresh"]
    assert keys.clear_expired() == 0


@pytest.mark.parametrize("store", [None, MemoryStore()], ids=["alone", "memory"])
def test_memory_follows_what_is_alive(store: Store | None, fake_clock: FakeClock) -> None:
    """Without anybody clearing, results whose time is over are let go."""
    keys = IdempotencyManager(60, store=store, clock=fake_clock)
    for n in range(500):
        keys.process_idempotent(f"k{n}", Work("x" * 100))
        fake_clock.advance(1.0)
    assert len(keys._answers) < 80
    assert len(keys.seen_operations) < 80


def test_an_unproven_failure_is_unknown_for_ever(
    keys: IdempotencyManager, fake_clock: FakeClock
) -> None:
    """The first caller gets its own exception; nobody runs it again until a person says so."""
    work = Work(ValueError("who knows"))
    with pytest.raises(ValueError, match="who knows"):
        keys.process_idempotent("k", work)
    fake_clock.advance(10_000.0)
    keys.clear_expired()
    with pytest.raises(OutcomeUnknown, match="who knows"):
        keys.process_idempotent("k", work)
    assert work.ran == 1
    assert keys.forget("k", reason="not in their books")
    work.result = "done"
    assert keys.process_idempotent("k", work) == "done"


def test_only_the_unknown_can_be_forgotten(keys: IdempotencyManager) -> None:
    """A result that is known stays."""
    keys.process_idempotent("k", Work())
    assert not keys.forget("k", reason="why not")
    assert not keys.forget("nobody", reason="why not")
    assert keys.is_duplicate("k")


def test_proof_that_nothing_happened_frees_the_key(keys: IdempotencyManager) -> None:
    """A refused connection may be tried again."""
    for error in (ConnectionRefusedError(), NotApplied()):
        with pytest.raises(type(error)):
            keys.process_idempotent("k", Work(error))
    assert keys.process_idempotent("k", Work("now")) == "now"


def test_a_rejection_is_replayed(keys: IdempotencyManager, fake_clock: FakeClock) -> None:
    """A no stays a no, as long as an answer lives."""
    work = Work(Rejected("account closed"))
    with pytest.raises(Rejected):
        keys.process_idempotent("k", work)
    with pytest.raises(EffectRejected, match="account closed"):
        keys.process_idempotent("k", work)
    assert work.ran == 1
    fake_clock.advance(60.0)
    with pytest.raises(Rejected):
        keys.process_idempotent("k", work)


def test_a_stop_is_unknown(keys: IdempotencyManager) -> None:
    """KeyboardInterrupt in the middle of the work may have come after the effect."""
    with pytest.raises(KeyboardInterrupt):
        keys.process_idempotent("k", Work(KeyboardInterrupt()))
    with pytest.raises(OutcomeUnknown):
        keys.process_idempotent("k", Work())


def test_a_second_caller_is_refused_while_the_first_runs(keys: IdempotencyManager) -> None:
    """``in_flight="raise"``: the key is being processed right now."""

    def work() -> str:
        with pytest.raises(InFlight):
            keys.process_idempotent("k", Work())
        assert keys.is_duplicate("k")
        return "done"

    assert keys.process_idempotent("k", work) == "done"


def test_what_counts_as_unknown_is_not_answered_from_memory(
    store: Store | None, fake_clock: FakeClock
) -> None:
    """A result that comes after its lease was over leaves the key in doubt."""
    keys = IdempotencyManager(store=store, clock=fake_clock, lease_seconds=30)

    def slow() -> str:
        fake_clock.advance(31)
        with pytest.raises(OutcomeUnknown):
            keys.process_idempotent("k", Work())
        return "late"

    assert keys.process_idempotent("k", slow) == "late"
    with pytest.raises(OutcomeUnknown):
        keys.process_idempotent("k", Work())
    assert keys.forget("k", reason="looked")
    assert keys.process_idempotent("k", Work("anew")) == "anew"


def test_a_late_end_is_not_taken_for_that_of_who_has_the_key_now(
    store: Store | None, fake_clock: FakeClock
) -> None:
    """Whoever lost the key changes nothing of what the next one's work gave, however it ends."""
    keys = IdempotencyManager(store=store, clock=fake_clock, lease_seconds=30)

    def slow(key: str, end: Callable[[], Any]) -> Any:
        fake_clock.advance(31)
        with pytest.raises(OutcomeUnknown):
            keys.process_idempotent(key, Work(), key, end)
        assert keys.forget(key, reason="looked")
        assert keys.process_idempotent(key, Work("anew")) == "anew"
        return end()

    assert keys.process_idempotent("late", slow, "late", lambda: "late") == "late"
    for key, error in (("no", Rejected()), ("not", NotApplied()), ("?", ValueError())):
        with pytest.raises(type(error)):
            keys.process_idempotent(key, slow, key, Work(error))
    for key in ("late", "no", "not", "?"):
        assert keys.process_idempotent(key, Work()) == "anew"


def test_a_caller_that_went_silent_leaves_an_unknown_key(
    store: Store | None, fake_clock: FakeClock
) -> None:
    """When its lease is over the work counts as unknown, not as free."""
    keys = IdempotencyManager(store=store, clock=fake_clock, lease_seconds=30)

    def work() -> str:
        fake_clock.advance(31.0)
        with pytest.raises(OutcomeUnknown, match="silent"):
            keys.process_idempotent("k", Work())
        return "done"

    keys.process_idempotent("k", work)


def test_waiting_gives_up(store: Store | None, fake_clock: FakeClock) -> None:
    """A caller waits at most ``wait_seconds``."""
    keys = IdempotencyManager(store=store, clock=fake_clock, wait_seconds=0)

    def work() -> None:
        with pytest.raises(InFlight):
            keys.process_idempotent("k", Work())

    keys.process_idempotent("k", work)


def in_threads(count: int, fn: Callable[[], Any]) -> list[Any]:
    """What ``fn`` returns in each of ``count`` threads that start at once."""
    barrier, results = threading.Barrier(count), []

    def run() -> None:
        barrier.wait()
        results.append(fn())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_execution_under_many_threads(store: Store | None) -> None:
    """Sixteen callers at once: one runs, the others wait for its result."""
    keys, work = IdempotencyManager(store=store), Work(42)
    assert in_threads(16, lambda: keys.process_idempotent("k", work)) == [42] * 16
    assert work.ran == 1


def test_a_key_whose_time_is_over_goes_to_one_of_many(
    store: Store | None, fake_clock: FakeClock
) -> None:
    """Sixteen callers find it free at once: one runs, and all get its result."""
    keys = IdempotencyManager(60, store=store, clock=fake_clock)
    for result in range(5):
        work = Work(result)
        assert in_threads(16, lambda work=work: keys.process_idempotent("k", work)) == [result] * 16
        assert work.ran == 1
        fake_clock.advance(60)


def test_a_call_is_named_alike_to_all_who_meet_it(keys: IdempotencyManager) -> None:
    """Errors about one key name one call, by an id as all calls have."""
    with pytest.raises(ValueError, match="lost"):
        keys.process_idempotent("k", Work(ValueError("lost")))
    named = set()
    for given in ((), (), (1,)):
        with pytest.raises((OutcomeUnknown, KeyConflict)) as caught:
            keys.process_idempotent("k", Work(), *given)
        named.add(caught.value.call_id)
    (call_id,) = named
    assert call_id is not None
    assert re.fullmatch("[0-9a-f]{32}", call_id)


def test_any_result_in_memory(fake_clock: FakeClock) -> None:
    """Without a ledger a result is the very object."""
    keys, thing = IdempotencyManager(clock=fake_clock), object()
    assert keys.process_idempotent("k", lambda: thing) is thing
    assert keys.process_idempotent("k", lambda: None) is thing


def test_a_ledger_keeps_json_for_every_process(tmp_path: Path, fake_clock: FakeClock) -> None:
    """What another process remembers is the JSON of the result, or that there was one."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    first = IdempotencyManager(store=SqliteStore(url), clock=fake_clock)
    second = IdempotencyManager(store=SqliteStore(url), clock=fake_clock)
    first.process_idempotent("k", lambda: {"tuple": (1, 2)})
    assert second.process_idempotent("k", Work()) == {"tuple": [1, 2]}
    thing = object()
    assert first.process_idempotent("odd", lambda: thing) is thing
    with pytest.raises(ResultUnavailable):
        second.process_idempotent("odd", Work())


@pytest.mark.parametrize("key", ["", None, 7])
def test_a_key_is_a_text(keys: IdempotencyManager, key: Any) -> None:
    """No key is an error, not an unguarded run."""
    with pytest.raises(ConfigurationError, match="key"):
        keys.process_idempotent(key, Work())


@pytest.mark.parametrize("options", [{"ttl_seconds": 0}, {"in_flight": "hope"}])
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    """A value that makes no sense is a `ConfigurationError`."""
    with pytest.raises(ConfigurationError):
        IdempotencyManager(**options)


def test_a_result_that_cannot_be_written_is_unknown(fake_clock: FakeClock) -> None:
    """The ledger failed after the work: it happened, and nobody can say so."""
    store = FaultyStore(MemoryStore())
    keys = IdempotencyManager(store=store, clock=fake_clock)
    store.fail_when(lambda write: not write.durable)
    with pytest.raises(OutcomeUnknown) as caught:
        keys.process_idempotent("k", Work())
    assert caught.value.happened == "maybe"
    with pytest.raises(ZeroDivisionError) as own:
        keys.process_idempotent("k2", lambda: 1 / 0)
    assert "not written" in own.value.__notes__[0]


def test_work_that_is_still_to_be_done_is_no_result() -> None:
    """A coroutine that nobody awaited has not happened, so it is not remembered as a success."""
    manager = IdempotencyManager()

    async def work() -> None: ...

    with pytest.raises(TypeError, match="instead of its result"):
        manager.process_idempotent("k", work)
    assert manager.get_cached_result("k") is None
    with pytest.raises(OutcomeUnknown):
        manager.process_idempotent("k", lambda: 1)
