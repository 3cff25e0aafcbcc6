"""Alerts: raised, grouped, kept, handed out, decided."""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from typing import Any

import pytest

from gonogo.alerts import MAX_REASON, AlertSystem
from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError, Refused, StoreUnavailable
from gonogo.secrets import Secret
from gonogo.store.memory import MemoryStore

WAIT = 10.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def alerts(clock: FakeClock) -> AlertSystem:
    return AlertSystem(clock=clock)


class Gate:
    """A subscriber that says when it is in, and stays until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.seen: list[str] = []

    def __call__(self, alert: dict[str, Any]) -> None:
        self.entered.set()
        assert self.go.wait(WAIT)
        self.seen.append(alert["reason"])


# Raising


def test_an_alert_is_what_was_said_and_when(alerts: AlertSystem, clock: FakeClock) -> None:
    """An alert carries task, reason, severity, context and its time in UTC."""
    alert = alerts.alert("payment", "card declined", context={"invoice": "INV-7", "cents": 120})
    assert alert["task"] == "payment"
    assert alert["reason"] == "card declined"
    assert alert["severity"] == "warning"
    assert alert["context"] == {"invoice": "INV-7", "cents": 120}
    assert datetime.fromisoformat(alert["timestamp"]).timestamp() == clock.now()
    assert (alert["count"], alert["state"]) == (1, "open")
    assert alerts.alerts == [alert]


def test_equal_alerts_are_one_with_a_count(alerts: AlertSystem, clock: FakeClock) -> None:
    """Task, severity and reason make an alert the same; the context is that of the last one."""
    first = alerts.alert("payment", "declined", context={"n": 1})
    clock.advance(5)
    again = alerts.alert("payment", "declined", context={"n": 2})
    other = alerts.alert("payment", "declined", "error")
    assert again["id"] == first["id"]
    assert (again["count"], again["context"]) == (2, {"n": 2})
    assert again["first_seen"] == first["first_seen"] < again["last_seen"]
    assert other["fingerprint"] != first["fingerprint"]
    assert len(alerts.alerts) == 2


def test_words_that_only_look_alike_are_different_alerts(alerts: AlertSystem) -> None:
    """What ends the task cannot be mistaken for what begins the reason."""
    a = alerts.alert("a\nb", "c")
    b = alerts.alert("a", "b\nc")
    assert a["fingerprint"] != b["fingerprint"]


@pytest.mark.parametrize("severity", ["fatal", "", "WARNING", None, 3])
def test_an_unknown_severity_names_the_four(alerts: AlertSystem, severity: Any) -> None:
    """A severity that does not exist is an error that lists those that do."""
    for use in (
        lambda: alerts.alert("payment", "declined", severity),
        lambda: alerts.subscribe("*", print, min_severity=severity or "x"),
        lambda: alerts.get_alerts(severity=severity or "x"),
    ):
        with pytest.raises(ConfigurationError, match="info, warning, error, critical"):
            use()
    assert alerts.alerts == []


@pytest.mark.parametrize(("task", "reason"), [("", "x"), ("x", " "), (None, "x"), ("x", None)])
def test_an_alert_says_what_about_and_why(alerts: AlertSystem, task: Any, reason: Any) -> None:
    """An alert without a task or a reason helps nobody and is an error."""
    with pytest.raises(ConfigurationError, match=r"(task|reason) must"):
        alerts.alert(task, reason)


def test_a_context_is_plain_bounded_and_without_secrets(alerts: AlertSystem) -> None:
    """Whatever the context holds, what is kept is bounded JSON material with secrets masked."""
    ring: list[Any] = []
    ring.append(ring)
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"d": deep}
    alert = alerts.alert(
        "payment",
        "declined: password=hunter2 " + "x" * 10_000,
        context={
            "token": "abc",
            "note": Secret("hush"),
            "object": object(),
            "ring": ring,
            "deep": deep,
            "many": list(range(100_000)),
            "long": "y" * 100_000,
        },
    )
    text = str(alert)
    assert len(text) < 10_000
    assert len(alert["reason"]) <= MAX_REASON + 1
    for secret in ("hunter2", "abc", "hush"):
        assert secret not in text


def test_a_context_that_cannot_be_cleaned_is_not_shown(clock: FakeClock) -> None:
    """When the redactor fails nothing of the context is kept, and the alert is raised."""

    def broken(context: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError(context)

    alerts = AlertSystem(clock=clock, redact=broken)
    alert = alerts.alert("payment", "declined", context={"iban": "FR76"})
    assert "FR76" not in str(alert)
    assert "not shown" in str(alert["context"])


def test_the_oldest_alerts_are_forgotten(clock: FakeClock) -> None:
    """In memory at most ``max_alerts`` are remembered."""
    alerts = AlertSystem(clock=clock, max_alerts=3)
    for number in range(5):
        clock.advance(1)
        alerts.alert("payment", f"reason {number}")
    assert [a["reason"] for a in alerts.alerts] == ["reason 4", "reason 3", "reason 2"]


def test_alerts_can_be_filtered(alerts: AlertSystem, clock: FakeClock) -> None:
    """Alerts are listed last seen first, by severity, by task, and up to a limit."""
    for task, severity in (("pay", "info"), ("mail", "error"), ("pay", "error")):
        clock.advance(1)
        alerts.alert(task, "x", severity)
    assert [a["task"] for a in alerts.get_alerts(severity="error")] == ["pay", "mail"]
    assert [a["severity"] for a in alerts.get_alerts(task_name="pay")] == ["error", "info"]
    assert len(alerts.get_alerts(limit=1)) == 1


def test_a_ledger_that_is_down_does_not_silence_an_alert(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An alert that cannot be written is handed out all the same, counted and logged."""

    class Down(MemoryStore):
        def write(self, work: Any, *, durable: bool = True) -> Any:
            raise StoreUnavailable("disk full")

    alerts = AlertSystem(store=Down(), clock=clock)
    seen: list[dict[str, Any]] = []
    alerts.subscribe("*", seen.append)
    with caplog.at_level(logging.WARNING, "gonogo.alerts"):
        alerts.alert("payment", "declined")
    assert alerts.flush(WAIT)
    assert [a["reason"] for a in seen] == ["declined"]
    assert alerts.unrecorded == 1
    assert "disk full" in caplog.text


def test_an_alert_fired_in_a_transaction_lives_and_dies_with_it(clock: FakeClock) -> None:
    """What is rolled back leaves no alert; what is committed leaves one, and may be published."""
    store = MemoryStore()
    alerts = AlertSystem(store=store, clock=clock)
    seen: list[dict[str, Any]] = []
    alerts.subscribe("pay", seen.append)

    def fails(tx: Any) -> None:
        alerts.fire(tx, "pay", "unknown", "critical", {"call": "1"}, clock.now())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.write(fails)
    assert alerts.alerts == []
    fired = store.write(lambda tx: alerts.fire(tx, "pay", "unknown", "critical", None, clock.now()))
    assert seen == []
    alerts.publish(fired)
    assert alerts.flush(WAIT)
    assert [a["id"] for a in seen] == [fired.id] == [a["id"] for a in alerts.alerts]


# Listening


def test_subscribers_hear_what_they_asked_for(alerts: AlertSystem) -> None:
    """A subscriber hears its task or all, from its least severity up, until it unsubscribes."""
    pay: list[str] = []
    every: list[str] = []
    grave: list[str] = []
    alerts.subscribe("pay", lambda a: pay.append(a["reason"]))
    stop = alerts.subscribe("*", lambda a: every.append(a["reason"]))
    alerts.subscribe("*", lambda a: grave.append(a["reason"]), min_severity="error")
    alerts.alert("pay", "one", "warning")
    alerts.alert("mail", "two", "error")
    assert alerts.flush(WAIT)
    stop()
    alerts.alert("pay", "three", "critical")
    assert alerts.flush(WAIT)
    assert pay == ["one", "three"]
    assert every == ["one", "two"]
    assert grave == ["two", "three"]


def test_a_subscriber_that_raises_is_alone_with_it(
    alerts: AlertSystem, caplog: pytest.LogCaptureFixture
) -> None:
    """A raising subscriber is counted and keeps its place; others and the caller notice nothing."""
    seen: list[str] = []

    def broken(alert: dict[str, Any]) -> None:
        raise RuntimeError("token=hunter2")

    def leaves(alert: dict[str, Any]) -> None:
        raise SystemExit

    alerts.subscribe("*", broken)
    alerts.subscribe("*", leaves)
    alerts.subscribe("*", lambda a: seen.append(a["reason"]))
    with caplog.at_level(logging.WARNING, "gonogo"):
        for reason in ("one", "two", "three"):
            alerts.alert("pay", reason)
        assert alerts.flush(WAIT)
    assert seen == ["one", "two", "three"]
    assert [count for _, count in alerts.failures] == [3, 3, 0]
    assert "broken" in caplog.text
    assert "hunter2" not in caplog.text


def test_no_subscriber_can_change_what_others_see(alerts: AlertSystem) -> None:
    """Every subscriber gets a dictionary of its own, nested parts too."""
    seen: list[dict[str, Any]] = []

    def vandal(alert: dict[str, Any]) -> None:
        alert["context"]["items"].clear()
        alert.clear()

    alerts.subscribe("*", vandal)
    alerts.subscribe("*", seen.append)
    returned = alerts.alert("pay", "x", context={"items": [1, 2]})
    assert alerts.flush(WAIT)
    assert seen[0]["context"] == returned["context"] == {"items": [1, 2]}
    returned["context"]["items"].clear()
    assert alerts.alerts[0]["context"] == {"items": [1, 2]}


def test_a_slow_subscriber_delays_nobody(clock: FakeClock) -> None:
    """While a subscriber hangs, alerts return at once; what the full queue drops is counted."""
    alerts = AlertSystem(clock=clock, queue_size=2)
    gate = Gate()
    alerts.subscribe("*", gate)
    alerts.alert("pay", "0")
    assert gate.entered.wait(WAIT)
    for number in range(1, 6):
        alerts.alert("pay", str(number))
    assert not alerts.flush(0)
    gate.go.set()
    assert alerts.flush(WAIT)
    assert gate.seen == ["0", "1", "2"]
    assert alerts.dropped == 3
    assert len(alerts.alerts) == 6


def test_quick_subscribers_have_seen_an_alert_that_returned(alerts: AlertSystem) -> None:
    """`alert` waits a moment for its subscribers, so that what follows may count on them."""
    seen: list[str] = []
    alerts.subscribe("*", lambda a: seen.append(a["reason"]))
    for number in range(100):
        alerts.alert("pay", str(number), patience=WAIT)
        assert seen[-1] == str(number)


def test_nobody_waits_behind_a_subscriber_that_hangs(
    alerts: AlertSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One caller is patient, once; while its alert is still handed out no other one waits."""
    waits: list[float] = []
    flush = alerts._dispatcher.flush
    monkeypatch.setattr(alerts._dispatcher, "flush", lambda t: waits.append(t) or flush(0))
    gate = Gate()
    alerts.subscribe("*", gate)
    for number in range(5):
        alerts.alert("pay", str(number), patience=WAIT)
    assert waits == [WAIT]
    gate.go.set()
    assert flush(WAIT)


def test_one_thread_serves_all_and_ends_when_idle(alerts: AlertSystem) -> None:
    """Alerts are handed out in order by one daemon thread, which is gone when all is said."""
    workers: list[threading.Thread] = []
    order: list[str] = []
    gate = Gate()
    alerts.subscribe("*", gate)
    alerts.subscribe("*", lambda a: workers.append(threading.current_thread()))
    alerts.subscribe("*", lambda a: order.append(a["reason"]))
    for number in range(20):
        alerts.alert("pay", str(number))
    gate.go.set()
    assert alerts.flush(WAIT)
    assert order == [str(number) for number in range(20)]
    (worker,) = set(workers)
    assert worker.daemon
    worker.join(WAIT)
    assert not worker.is_alive()


def test_nobody_listening_starts_no_thread(alerts: AlertSystem) -> None:
    """Without a subscriber that wants it, an alert makes no thread and flush returns at once."""
    alerts.subscribe("mail", print)
    before = threading.active_count()
    alerts.alert("pay", "x")
    assert threading.active_count() == before
    assert alerts.flush(0)


def test_a_subscriber_may_raise_alerts_and_cannot_wait_for_itself(alerts: AlertSystem) -> None:
    """A subscriber can raise another alert; flushing from inside says no instead of hanging."""
    flushed: list[bool] = []
    seen: list[str] = []

    def relay(alert: dict[str, Any]) -> None:
        alerts.alert("mail", "relayed")
        flushed.append(alerts.flush(WAIT))

    alerts.subscribe("pay", relay)
    alerts.subscribe("mail", lambda a: seen.append(a["reason"]))
    alerts.alert("pay", "x")
    assert alerts.flush(WAIT)
    assert flushed == [False]
    assert seen == ["relayed"]


def test_a_subscriber_must_be_callable(alerts: AlertSystem) -> None:
    """What cannot be called is refused when it subscribes, not when the alert comes."""
    with pytest.raises(ConfigurationError, match="callable"):
        alerts.subscribe("*", "ops@example.com")  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [{"max_alerts": 0}, {"queue_size": -1}, {"queue_size": True}])
def test_sizes_must_be_positive(sizes: dict[str, int]) -> None:
    """A history or queue without room is a ConfigurationError naming it."""
    with pytest.raises(ConfigurationError, match=next(iter(sizes))):
        AlertSystem(**sizes)


# Deciding


def test_acknowledged_then_resolved(clock: FakeClock) -> None:
    """Each decision changes the state and is recorded: who, why, when, from what."""
    store = MemoryStore()
    alerts = AlertSystem(store=store, clock=clock)
    alert = alerts.alert("pay", "declined")
    assert (
        alerts.acknowledge(alert["id"], by="ana", reason="calling them")["state"] == "acknowledged"
    )
    assert alerts.alert("pay", "declined")["state"] == "acknowledged"
    resolved = alerts.resolve(alert["id"], by="bo", reason="they fixed it")
    assert (resolved["state"], resolved["changed_by"]) == ("resolved", "bo")
    decisions = store.read(lambda tx: tx.decisions.of(f"alert:{alert['id']}"))
    assert [(d.what, d.actor, d.reason) for d in decisions] == [
        ("alert.acknowledged", "ana", "calling them"),
        ("alert.resolved", "bo", "they fixed it"),
    ]
    assert [d.detail["before"] for d in decisions] == ["open", "acknowledged"]


def test_a_resolved_alert_that_fires_again_is_a_new_one(alerts: AlertSystem) -> None:
    """Resolving ends a group: what comes after is a new alert that is open and counts from one."""
    first = alerts.alert("pay", "declined")
    alerts.resolve(first["id"], by="ana", reason="done")
    again = alerts.alert("pay", "declined")
    assert again["id"] != first["id"]
    assert (again["state"], again["count"]) == ("open", 1)


def test_what_is_resolved_stays_resolved(alerts: AlertSystem) -> None:
    """A second decision on a resolved alert is refused, names who resolved it, changes nothing."""
    alert = alerts.alert("pay", "declined")
    alerts.resolve(alert["id"], by="ana", reason="done")
    for decide in (alerts.resolve, alerts.acknowledge):
        with pytest.raises(Refused, match="resolved by ana"):
            decide(alert["id"], by="bo", reason="again")
    assert alerts.alerts[0]["changed_by"] == "ana"


def test_a_decision_on_what_has_changed_is_refused(alerts: AlertSystem) -> None:
    """A decision that expects another state than the alert has now is refused."""
    alert = alerts.alert("pay", "declined")
    alerts.acknowledge(alert["id"], by="ana", reason="mine", expected="open")
    with pytest.raises(Refused, match="acknowledged by ana"):
        alerts.acknowledge(alert["id"], by="bo", reason="mine", expected="open")
    assert alerts.resolve(alert["id"], by="bo", reason="x", expected="acknowledged")


def test_of_many_who_resolve_at_once_one_does(clock: FakeClock) -> None:
    """The expected state is judged in the write: of eight threads one resolves, once recorded."""
    store = MemoryStore()
    alerts = AlertSystem(store=store, clock=clock)
    alert_id = alerts.alert("pay", "declined")["id"]
    start = threading.Barrier(8)
    outcomes: list[str] = []

    def decide(who: str) -> None:
        start.wait(WAIT)
        try:
            alerts.resolve(alert_id, by=who, reason="done")
            outcomes.append("resolved")
        except Refused:
            outcomes.append("refused")

    threads = [threading.Thread(target=decide, args=(f"p{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(outcomes) == ["refused"] * 7 + ["resolved"]
    assert len(store.read(lambda tx: tx.decisions.of(f"alert:{alert_id}"))) == 1


def test_an_unknown_alert_is_an_error(alerts: AlertSystem) -> None:
    """Deciding about an alert that does not exist names the id."""
    with pytest.raises(ConfigurationError, match="'nope'"):
        alerts.resolve("nope", by="ana", reason="x")


@pytest.mark.parametrize("words", [{"by": "", "reason": "x"}, {"by": "ana", "reason": ""}])
def test_a_decision_needs_who_and_why(alerts: AlertSystem, words: dict[str, str]) -> None:
    """Nobody decides anonymously or without a reason."""
    alert = alerts.alert("pay", "declined")
    with pytest.raises(ConfigurationError, match=r"(by|reason) must"):
        alerts.resolve(alert["id"], **words)
    assert alerts.alerts[0]["state"] == "open"
