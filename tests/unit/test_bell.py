"""The bell."""

from __future__ import annotations

import threading

from gonogo.bell import Bell


def test_all_who_wait_are_woken() -> None:
    """Ringing wakes everybody long before their time is over."""
    bell = Bell()
    waiting = [threading.Thread(target=bell.wait, args=(60.0,), daemon=True) for _ in range(3)]
    for thread in waiting:
        thread.start()
    while bell.waiting < len(waiting):
        threading.Event().wait(0.001)
    bell.ring()
    for thread in waiting:
        thread.join(10)
    assert not any(thread.is_alive() for thread in waiting)
    assert bell.waiting == 0


def test_who_waits_in_vain_goes_on() -> None:
    """Waiting ends with its time, and a bell that rang before is not heard later."""
    bell = Bell()
    bell.ring()
    bell.wait(0.001)
    assert bell.waiting == 0
