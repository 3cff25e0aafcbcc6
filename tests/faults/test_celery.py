"""Celery's workers are killed and its broker forgets: the ledger stays right."""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from tests.support import redis
from tests.support.shop import books

from gonogo.clock import SystemClock
from gonogo.records import TERMINAL, State

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

CLOCK = SystemClock()
SOON = 90.0
"""Seconds within which what is bound to happen has happened."""

PAYMENTS = 30


@pytest.fixture(params=["sqlite", "postgres"])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ModuleType]:
    """The shop on an empty ledger, an empty broker and empty books, as whoever queues sees it."""
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    if request.param == "postgres":
        ledger = request.getfixturevalue("postgres_url")
    monkeypatch.setenv("SHOP_LEDGER", ledger)
    monkeypatch.setenv("SHOP_BROKER", redis_url)
    monkeypatch.setenv("SHOP_BOOKS", str(tmp_path / "books"))
    sys.modules.pop("tests.support.celery_shop", None)
    module = importlib.import_module("tests.support.celery_shop")
    yield module
    assert module.delivery.flush()
    module.app.close()
    module.sandbox.cleanup()


class Workers:
    """Celery's worker: one process that receives, two that perform."""

    def __init__(self, log: Path) -> None:
        self._command = [sys.executable, "-m", "celery", "-A", "tests.support.celery_shop"]
        self._command += ["worker", "--concurrency=2", "--pool=prefork", "--loglevel=INFO"]
        self._log = log
        self.start()

    def start(self) -> None:
        """Start it, in a process group of its own."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True
            )

    def children(self) -> list[int]:
        """The processes that perform."""
        pid = self._process.pid
        try:
            found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except FileNotFoundError:
            return []
        return [int(child) for child in found.split()]

    def kill(self) -> None:
        """SIGKILL to all of them at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self._process.terminate()
        return self._process.wait(30)


@contextmanager
def workers(folder: Path) -> Iterator[Workers]:
    """Workers that end with the test; what they say is shown when it fails."""
    log = folder / "celery.log"
    running = Workers(log)
    try:
        yield running
    except BaseException:
        print(log.read_text()[-8000:])
        raise
    finally:
        if running._process.poll() is None:
            running.kill()


def wait_for(paid: int) -> None:
    """Until so many are paid; fails when it takes too long."""
    until = CLOCK.monotonic() + SOON
    while len(books()) < paid:
        assert CLOCK.monotonic() < until, f"only {len(books())} of {paid} are paid"
        CLOCK.sleep(0.05)


def wait_for_the_end(shop: ModuleType) -> None:
    """Until every call is over; fails when it takes too long."""
    until = CLOCK.monotonic() + SOON
    while set(shop.sandbox.counts()) - TERMINAL:
        assert CLOCK.monotonic() < until, f"not over: {shop.sandbox.counts()}"
        CLOCK.sleep(0.1)


def test_killed_workers_and_a_broker_that_forgets(
    shop: ModuleType, redis_url: str, tmp_path: Path
) -> None:
    """Performing processes die, the whole worker dies, messages are lost: each is paid once."""
    chance = random.Random(20_270_115)
    with workers(tmp_path) as crew:
        invoices = [f"INV-{number}" for number in range(PAYMENTS)]
        handles = shop.pay.enqueue_many({"invoice": invoice} for invoice in invoices)
        for paid in (2, 5, 8, 11):
            wait_for(paid)
            CLOCK.sleep(chance.random() * 0.1)
            os.kill(chance.choice(crew.children()), signal.SIGKILL)
        wait_for(14)
        redis.flush(redis_url)
        wait_for(18)
        crew.kill()
        crew.start()
        for handle in handles:  # every message once more, and a stranger's
            shop.app.send_task("gonogo.perform", (handle.id,))
        shop.app.send_task("gonogo.perform", ("0" * 32,))
        wait_for_the_end(shop)
        assert sorted(books()) == sorted(invoices)
        assert shop.sandbox.counts() == {State.SUCCEEDED: PAYMENTS}


def test_a_message_after_the_effect_of_a_killed_process(shop: ModuleType, tmp_path: Path) -> None:
    """Celery gives it to the next process, which leaves it to the evidence."""
    with workers(tmp_path) as crew:
        handle = shop.pay.enqueue(invoice="INV-1")
        wait_for(1)
        for child in crew.children():
            os.kill(child, signal.SIGKILL)
        wait_for_the_end(shop)
        assert handle.state() is State.SUCCEEDED
        assert books() == ["INV-1"]
        assert crew.stop() == 0
