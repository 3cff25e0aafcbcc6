"""Attempts, decisions, alerts, plans, switches and beats."""

from __future__ import annotations

from msgspec import structs
from tests.store.making import NOW, alert, attempt, decision, plan

from gonogo.records import AlertState, Beat, Control, Fault, PlanState, Severity


def test_attempts_are_kept_in_order(store):
    """The attempts of a call are read back in the order they were written."""
    second = attempt("c", 2, fault=Fault("OSError", "gone"), note="n")
    first = attempt("c", 1, owner=None)
    store.write(lambda tx: [tx.attempts.append(a) for a in (second, first, attempt("d", 1))])
    assert store.read(lambda tx: tx.attempts.of("c")) == [second, first]
    assert store.read(lambda tx: tx.attempts.of("nobody")) == []


def test_decisions_are_found_by_subject_and_by_time(store):
    """A subject's decisions come oldest first, the latest of all newest first."""
    one, two, three = decision(1), decision(2, "other"), decision(3)
    store.write(lambda tx: [tx.decisions.append(d) for d in (one, two, three)])
    assert store.read(lambda tx: tx.decisions.of("call-1")) == [one, three]
    assert store.read(lambda tx: tx.decisions.latest(2)) == [three, two]


def test_equal_alerts_are_one_with_a_count(store):
    """A repeated alert is counted onto the first, with the latest time and context."""
    store.write(lambda tx: tx.alerts.fire(alert(1)))
    fired = store.write(lambda tx: tx.alerts.fire(alert(2)))
    expected = structs.replace(alert(1), count=2, last_seen=NOW + 2, context={"n": 2})
    assert fired == expected
    assert store.read(lambda tx: tx.alerts.find()) == [expected]
    assert store.read(lambda tx: tx.alerts.get("a1")) == expected
    assert store.read(lambda tx: tx.alerts.get("a2")) is None


def test_an_alert_keeps_its_latest_time(store):
    """An alert that arrives late does not move the last time back."""
    store.write(lambda tx: tx.alerts.fire(alert(5)))
    fired = store.write(lambda tx: tx.alerts.fire(alert(2)))
    assert (fired.count, fired.last_seen) == (2, NOW + 5)


def test_an_acknowledged_alert_keeps_counting(store):
    """Acknowledging does not split an alert."""
    one = store.write(lambda tx: tx.alerts.fire(alert(1)))
    assert store.write(lambda tx: tx.alerts.change(one, AlertState.ACKNOWLEDGED, "ann"))
    again = store.write(lambda tx: tx.alerts.fire(alert(2)))
    assert (again.id, again.count, again.state) == ("a1", 2, AlertState.ACKNOWLEDGED)
    assert again.changed_by == "ann"


def test_a_resolved_alert_fires_anew(store):
    """After it was resolved the same alert is a new one, open and counted from one."""
    one = store.write(lambda tx: tx.alerts.fire(alert(1)))
    assert store.write(lambda tx: tx.alerts.change(one, AlertState.RESOLVED, "ann"))
    again = store.write(lambda tx: tx.alerts.fire(alert(2)))
    assert again == alert(2)
    assert [a.id for a in store.read(lambda tx: tx.alerts.find())] == ["a2", "a1"]


def test_an_alert_changes_only_from_the_expected_state(store):
    """A change by someone who saw an older state does nothing."""
    one = store.write(lambda tx: tx.alerts.fire(alert(1)))
    assert store.write(lambda tx: tx.alerts.change(one, AlertState.RESOLVED, "ann"))
    assert not store.write(lambda tx: tx.alerts.change(one, AlertState.ACKNOWLEDGED, "bob"))


def test_an_alert_that_was_counted_again_is_not_changed_by_who_has_not_seen_it(store):
    """What it tells of since may be another matter."""
    one = store.write(lambda tx: tx.alerts.fire(alert(1)))
    two = store.write(lambda tx: tx.alerts.fire(alert(2)))
    assert not store.write(lambda tx: tx.alerts.change(one, AlertState.RESOLVED, "ann"))
    assert store.write(lambda tx: tx.alerts.change(two, AlertState.RESOLVED, "ann"))
    assert store.read(lambda tx: tx.alerts.get("a1").changed_by) == "ann"


def test_alerts_are_found_by_severity_and_task(store):
    """Alerts match every given field, last seen first, at most so many."""
    kinds = [
        alert(1, "a"),
        alert(2, "b", severity=Severity.CRITICAL),
        alert(3, "c", task="refund"),
        alert(4, "d"),
    ]
    store.write(lambda tx: [tx.alerts.fire(a) for a in kinds])

    def ids(**wanted):
        return [a.id for a in store.read(lambda tx: tx.alerts.find(**wanted))]

    assert ids() == ["a4", "a3", "a2", "a1"]
    assert ids(severity="critical") == ["a2"]
    assert ids(severity=Severity.WARNING, task="pay") == ["a4", "a1"]
    assert ids(limit=1) == ["a4"]


def test_plans_are_read_back(store):
    """A plan survives with its problems; an unknown one is None."""
    kept = plan(1, problems=("one", "two"), approved_by="ann", approved_at=NOW)
    store.write(lambda tx: tx.plans.insert(kept))
    assert store.read(lambda tx: tx.plans.get("p1")) == kept
    assert store.read(lambda tx: tx.plans.get("p2")) is None


def test_a_plan_is_replaced_from_the_expected_state_only(store):
    """Two people who approve the same plan: the second is told that it did nothing."""
    ready = plan(1)
    store.write(lambda tx: tx.plans.insert(ready))
    ann = structs.replace(ready, state=PlanState.APPROVED, approved_by="ann")
    bob = structs.replace(ready, state=PlanState.APPROVED, approved_by="bob")
    assert store.write(lambda tx: tx.plans.replace(ready, ann))
    assert not store.write(lambda tx: tx.plans.replace(ready, bob))
    assert store.read(lambda tx: tx.plans.get("p1")) == ann


def test_plans_are_found_newest_first(store):
    """Plans match the states asked for, newest first, at most so many."""
    plans = [plan(1), plan(2, PlanState.APPLIED), plan(3), plan(4, PlanState.DISCARDED)]
    store.write(lambda tx: [tx.plans.insert(p) for p in plans])

    def ids(**wanted):
        return [p.id for p in store.read(lambda tx: tx.plans.find(**wanted))]

    assert ids() == ["p4", "p3", "p2", "p1"]
    assert ids(states=[PlanState.READY, PlanState.APPLIED], limit=2) == ["p3", "p2"]


def test_switches_are_put_and_cleared(store):
    """A switch is there until cleared, also after it ran out; the latest setting counts."""
    first = Control(name="hold", actor="ann", reason="r", set_at=NOW, until=NOW - 1)
    second = Control(name="hold", actor="bob", reason="s", set_at=NOW + 1)
    store.write(lambda tx: tx.controls.put(first))
    assert store.read(lambda tx: tx.controls.all()) == {"hold": first}
    store.write(lambda tx: tx.controls.put(second))
    assert store.read(lambda tx: tx.controls.all()) == {"hold": second}
    assert store.write(lambda tx: tx.controls.clear("hold"))
    assert not store.write(lambda tx: tx.controls.clear("hold"))


def test_beats_are_put_and_removed(store):
    """A process has one beat, its latest."""
    beats = [Beat(name=n, kind="worker", at=NOW, detail={"n": 1}) for n in ("b", "a", "b")]
    later = structs.replace(beats[0], at=NOW + 1)
    store.write(lambda tx: [tx.beats.put(b) for b in [*beats, later]])
    assert store.read(lambda tx: tx.beats.all()) == [beats[1], later]
    store.write(lambda tx: [tx.beats.remove("b"), tx.beats.remove("b")])
    assert store.read(lambda tx: tx.beats.all()) == [beats[1]]
