"""Schedules: kept by name, moved only by whoever saw them as they are."""

from __future__ import annotations

from msgspec import structs
from tests.store.making import NOW

from gonogo.records import Schedule


def schedule(name: str = "payday", **fields: object) -> Schedule:
    fields = {
        "digest": "d",
        "spec": "every 60",
        "tz": "UTC",
        "catch_up": "one",
        "grace": 60.0,
        **fields,
    }
    return Schedule(name=name, action="pay", anchor=NOW, **{"next_at": NOW + 60, **fields})


def put(store, *schedules):
    store.write(lambda tx: [tx.schedules.put(one) for one in schedules])


def test_a_schedule_is_kept_as_it_is(store):
    """Every field comes back; putting it again replaces it."""
    full = schedule(last_at=NOW, last_call="c", missed=3, note="late")
    put(store, full, schedule("audit"))
    assert store.read(lambda tx: tx.schedules.get("payday")) == full
    assert [one.name for one in store.read(lambda tx: tx.schedules.all())] == ["audit", "payday"]
    put(store, schedule())
    assert store.read(lambda tx: tx.schedules.get("payday")) == schedule()
    assert store.read(lambda tx: tx.schedules.get("nowhere")) is None


def test_a_tick_is_taken_once(store):
    """Of two who saw the same tick only the first moves it on."""
    put(store, before := schedule())
    after = structs.replace(before, next_at=NOW + 120, last_at=NOW + 60)
    assert store.write(lambda tx: tx.schedules.replace(before, after))
    assert not store.write(lambda tx: tx.schedules.replace(before, after))
    assert store.read(lambda tx: tx.schedules.get("payday")) == after


def test_another_declaration_is_left_alone(store):
    """A process that declares it otherwise does not move it."""
    put(store, schedule(digest="new"))
    stale = schedule(digest="old")
    assert not store.write(lambda tx: tx.schedules.replace(stale, stale))


def test_a_schedule_can_be_forgotten(store):
    """Removing says whether there was one."""
    put(store, schedule())
    assert store.write(lambda tx: tx.schedules.remove("payday"))
    assert not store.write(lambda tx: tx.schedules.remove("payday"))
    assert store.read(lambda tx: tx.schedules.all()) == []
