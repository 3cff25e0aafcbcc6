"""Delivery by Celery: what is sent, what a message does, and what is sent again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task, signals
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from gonogo import ConfigurationError, NotApplied, Retry
from gonogo.clock import FakeClock
from gonogo.contrib.celery import TASK, CeleryDelivery
from gonogo.handout import BROKER
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.returns import HELD
from gonogo.settings import Settings

SOON = 30.0
WHO = {"by": "dana", "reason": "a test"}
SIGNALS = (
    *(signals.worker_process_init, signals.worker_ready),
    *(signals.worker_process_shutdown, signals.worker_shutdown),
)


class Scene:
    """A sandbox on a file, its app, and the messages that left it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.clock = FakeClock()
        self.url = f"sqlite:///{folder}/ledger.db"
        self.sandbox = open_sandbox(self.url, self.clock)
        self.app = Celery("shop", broker="memory://")
        self.paid: list[str] = []
        self.broken: Exception | None = None
        self.hangs: threading.Event | None = None
        self.reached = threading.Event()
        self.closed: set[str] = set()
        self.sent: list[tuple[str, str | None]] = []

        @self.sandbox.action(
            "pay",
            key="pay:{invoice}",
            irreversible=True,
            retry=Retry(max_retries=3, base_delay=10.0, jitter="none"),
        )
        def pay(invoice: str) -> str:
            if invoice in self.paid:
                raise AssertionError(f"{invoice} is paid twice")
            if invoice.startswith("BUSY") and invoice not in self.seen:
                self.seen.append(invoice)
                raise NotApplied("the provider is busy")
            self.paid.append(invoice)
            return f"paid {invoice}"

        self.seen: list[str] = []
        self.pay = pay
        self.delivery = CeleryDelivery(self.sandbox, self.app, **options)
        self.app.amqp.send_task_message = self._send

    def _send(self, _: Any, name: str, message: Any, **options: Any) -> None:
        if self.broken is not None:
            raise self.broken
        if self.hangs is not None:
            self.reached.set()
            self.hangs.wait(SOON)
        (call_id,), kwargs, _rest = message.body
        assert (name, kwargs, options["retry"]) == (TASK, {}, False)
        queue = options.get("queue")
        if getattr(queue, "name", queue) in self.closed:
            raise LookupError(f"no queue {queue}")
        self.sent.append((call_id, getattr(queue, "name", queue)))

    @property
    def task(self) -> Any:
        """The one task."""
        return self.app.tasks[TASK]

    def ids(self) -> list[str]:
        """The ids that were sent since the last look."""
        assert self.delivery.flush(SOON)
        ids = [call_id for call_id, _ in self.sent]
        self.sent.clear()
        return ids

    def close(self) -> None:
        """End what was begun."""
        self.delivery.close()
        self.sandbox.cleanup()


def open_sandbox(url: str, clock: FakeClock) -> SandboxOrchestrator:
    """One that looks at no environment."""
    settings = Settings().replaced({"db_url": url, "dry_run": False}, "in a test")
    return SandboxOrchestrator(settings=settings, clock=clock, random=lambda: 0.5)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A scene with room for three messages."""
    made = Scene(tmp_path, resend_after=60.0, ahead=3)
    yield made
    made.close()


def test_a_message_is_a_call_id(scene: Scene) -> None:
    """Nothing else travels: no argument can leak or differ from what was decided."""
    handle = scene.pay.enqueue(invoice="A-1")
    assert scene.ids() == [handle.id]
    assert scene.task(handle.id) == "succeeded"
    assert scene.paid == ["A-1"]


def test_the_task_leaves_everything_to_the_ledger(scene: Scene) -> None:
    """Celery acknowledges late, redelivers what a dead process had, and repeats nothing itself."""
    assert (scene.task.acks_late, scene.task.reject_on_worker_lost) == (True, True)
    assert (scene.task.max_retries, scene.task.ignore_result) == (0, True)
    assert scene.task.serializer == "json"


def test_nothing_is_sent_before_the_commit(scene: Scene) -> None:
    """A job in the user's own transaction is sent when that commits, and only then."""
    scene.pay.enqueue(invoice="A-0")  # makes the tables
    scene.ids()
    engine = create_engine(scene.url)
    with Session(engine) as session:
        session.execute(text("select 1"))
        scene.pay.enqueue(invoice="A-1", session=session)
        assert scene.ids() == []
        session.rollback()
        assert scene.ids() == []
        handle = scene.pay.enqueue(invoice="A-2", session=session)
        assert scene.ids() == []
        session.commit()
    engine.dispose()
    assert scene.ids() == [handle.id]


def test_a_message_that_comes_twice_is_performed_once(scene: Scene) -> None:
    """The second finds the call taken or done."""
    handle = scene.pay.enqueue(invoice="A-1")
    assert scene.task(handle.id) == "succeeded"
    assert scene.task(handle.id) == "not due, or done by another message"
    assert scene.paid == ["A-1"]


def test_a_message_for_a_call_in_other_hands_does_nothing(scene: Scene) -> None:
    """A worker of gonogo's own, or another process of Celery's, has claimed it."""
    handle = scene.pay.enqueue(invoice="A-1")
    scene.ids()
    scene.clock.advance(61.0)
    scene.delivery.run_once()  # the message counts as lost
    other = open_sandbox(scene.url, scene.clock)
    taken = other.delivery.take(handle.id)
    assert taken is not None
    assert scene.task(handle.id) == "not due, or done by another message"
    assert scene.paid == []
    other.cleanup()


@pytest.mark.parametrize("call_id", ["0" * 32, ""])
def test_a_message_for_no_call_does_nothing(scene: Scene, call_id: str) -> None:
    """Whatever a broker delivers, the ledger decides."""
    assert scene.task(call_id) == "not due, or done by another message"


def test_a_direct_call_cannot_be_taken_by_its_id(scene: Scene) -> None:
    """What its caller performs is nobody else's, even while it waits for its retry."""
    stopped: list[str] = []

    def sleep(seconds: float) -> None:
        (call,) = scene.sandbox.calls()
        assert call.state is State.PENDING
        scene.clock.advance(seconds)
        stopped.append(scene.task(call.id))

    scene.sandbox.pipeline.clock.sleep = sleep  # type: ignore[method-assign] # of this one
    scene.pay(invoice="BUSY-1")
    assert stopped == ["not due, or done by another message"]
    assert scene.paid == ["BUSY-1"]


def test_a_retry_waits_in_the_ledger(scene: Scene) -> None:
    """Its delay is the ledger's: a message is sent when due; an early one does nothing."""
    handle = scene.pay.enqueue(invoice="BUSY-1")
    assert scene.ids() == [handle.id]
    assert scene.task(handle.id) == "pending"
    assert scene.ids() == []
    assert scene.task(handle.id) == "not due, or done by another message"
    scene.clock.advance(10.1)
    scene.delivery.run_once()
    assert scene.ids() == [handle.id]
    assert scene.task(handle.id) == "succeeded"
    assert handle.call().attempt == 2


def test_a_job_for_later_is_sent_when_it_is_due(scene: Scene) -> None:
    """Not before: brokers are bad at waiting."""
    handle = scene.pay.enqueue_in(3600.0, invoice="A-1")
    scene.delivery.run_once()
    assert scene.ids() == []
    scene.clock.advance(3600.1)
    scene.delivery.run_once()
    assert scene.ids() == [handle.id]


def test_a_lost_message_is_sent_again_and_costs_no_attempt(scene: Scene) -> None:
    """However often a broker loses it: attempts are counted when a process takes the call."""
    handle = scene.pay.enqueue(invoice="A-1")
    assert scene.ids() == [handle.id]
    for _ in range(10):
        scene.clock.advance(59.0)
        scene.delivery.run_once()
        assert scene.ids() == []
        scene.clock.advance(1.1)
        scene.delivery.run_once()
        assert scene.ids() == [handle.id]
    assert scene.task(handle.id) == "succeeded"
    assert handle.call().attempt == 1


def test_a_late_message_is_still_good(scene: Scene) -> None:
    """Found due again, or on its way again, the call may as well be done at once."""
    handle = scene.pay.enqueue(invoice="A-1")
    assert scene.ids() == [handle.id]
    scene.clock.advance(61.0)
    scene.sandbox.recovery.run_once()
    assert handle.state() is State.PENDING
    assert scene.task(handle.id) == "succeeded"


def test_there_is_room_for_so_many_messages(scene: Scene) -> None:
    """The others wait in the ledger, where priorities hold."""
    handles = scene.pay.enqueue_many({"invoice": f"A-{n}"} for n in range(5))
    assert scene.ids() == [handle.id for handle in handles[:3]]
    urgent = scene.pay.enqueue(invoice="U-1", priority=9)
    assert scene.ids() == []
    scene.task(handles[0].id)
    assert scene.ids() == [urgent.id]


def test_processes_together_send_a_call_once(scene: Scene) -> None:
    """Whoever hands it out claims it."""
    handle = scene.pay.enqueue(invoice="A-1")
    assert scene.ids() == [handle.id]
    assert handle.call().owner == BROKER
    other = open_sandbox(scene.url, scene.clock)
    second = CeleryDelivery(other, Celery("other", broker="memory://"), ahead=3)
    assert second.send_due() == 0
    other.cleanup()


@pytest.mark.parametrize("switch", ["pause", "halt", "hold"])
def test_what_is_stopped_is_neither_sent_nor_performed(scene: Scene, switch: str) -> None:
    """What is on its way already is put back, and goes on when the switch is gone."""
    first = scene.pay.enqueue(invoice="A-1")
    assert scene.ids() == [first.id]
    throw, end = {
        "pause": (scene.sandbox.pause, scene.sandbox.unpause),
        "halt": (scene.sandbox.halt, scene.sandbox.resume),
        "hold": (scene.sandbox.hold, scene.sandbox.release),
    }[switch]
    about = {"pause": ["default"], "halt": ["pay"], "hold": []}[switch]
    throw(*about, **WHO)
    second = scene.pay.enqueue(invoice="A-2")
    assert scene.ids() == []
    assert scene.task(first.id) == "not due, or done by another message"
    assert first.state() is State.PENDING
    end(*about, **WHO)
    scene.clock.advance(HELD if switch == "hold" else 0.0)
    assert sorted(scene.ids()) == sorted([first.id, second.id])


def test_what_is_held_is_not_sent_over_and_over(scene: Scene) -> None:
    """Who hands it out may not know the action, and so not that a hold concerns it."""
    handle = scene.pay.enqueue(invoice="A-1")
    scene.sandbox.hold(**WHO)
    strange = open_sandbox(scene.url, scene.clock)
    sender = CeleryDelivery(strange, Celery("other", broker="memory://"), ahead=3)
    assert sender.send_due() == 1
    assert scene.task(handle.id) == "not due, or done by another message"
    assert sender.send_due() == 0
    scene.clock.advance(HELD)
    assert sender.send_due() == 1
    strange.cleanup()


def test_a_call_on_its_way_can_be_cancelled(scene: Scene) -> None:
    """Its message then does nothing."""
    handle = scene.pay.enqueue(invoice="A-1")
    scene.ids()
    assert handle.cancel()
    assert scene.task(handle.id) == "not due, or done by another message"
    assert scene.paid == []


def test_room_is_not_taken_by_calls_that_run(scene: Scene) -> None:
    """Those that were taken are no longer on their way, however many there are."""
    handles = scene.pay.enqueue_many({"invoice": f"A-{n}"} for n in range(20))
    for _ in range(5):
        for call_id in scene.ids():
            scene.sandbox.delivery.take(call_id)
        scene.delivery.wake()
    states = [handle.call().owner for handle in handles]
    assert states.count(BROKER) <= 3
    assert states.count(None) >= 20 - 15 - 3


def test_a_queue_that_takes_nothing_does_not_starve_the_others(tmp_path: Path) -> None:
    """Each queue of Celery's has room of its own, and is left alone on its own."""
    scene = Scene(tmp_path, queues=["default", "mail"], send_to={"mail": "slow"}, ahead=2)
    scene.closed.add("slow")
    scene.pay.enqueue_many([{"invoice": f"M-{n}"} for n in range(9)], queue="mail", priority=5)
    other = scene.pay.enqueue(invoice="A-1")
    assert scene.ids() == [other.id]
    scene.closed.clear()
    scene.clock.advance(1.1)
    scene.delivery.run_once()
    assert len(scene.ids()) == 2
    another = scene.pay.enqueue(invoice="A-2")
    assert scene.ids() == [another.id]
    scene.close()


def test_a_broker_that_hangs_keeps_no_lease_from_being_renewed(scene: Scene) -> None:
    """Sending has a thread of its own; the one that keeps leases never waits for it."""
    scene.hangs = threading.Event()
    scene.pay.enqueue(invoice="A-1")
    assert scene.reached.wait(SOON)
    assert scene.delivery.send_due() == 0  # somebody is at it
    kept = threading.Event()
    keep = scene.sandbox.delivery.keep
    scene.sandbox.delivery.keep = lambda: (kept.set(), keep())[1]  # type: ignore[method-assign] # of this one
    scene.delivery._begin()
    for _ in range(2):  # it comes round again
        kept.clear()
        assert kept.wait(SOON)
    scene.hangs.set()


def test_what_was_not_sent_in_the_end_is_put_back(scene: Scene) -> None:
    """A program that ends while its broker hangs leaves the call to whoever comes next."""
    scene.hangs = threading.Event()
    handle = scene.pay.enqueue(invoice="A-1")
    assert scene.reached.wait(SOON)
    assert handle.call().owner == BROKER
    assert not scene.delivery.close(timeout=0.0)
    assert handle.state() is State.PENDING
    scene.hangs.set()
    assert scene.delivery.flush(SOON)


def test_a_forked_process_sends_for_itself(scene: Scene) -> None:
    """Though its parent was in the middle of sending."""
    scene.hangs = threading.Event()
    scene.pay.enqueue(invoice="A-1")
    assert scene.reached.wait(SOON)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        ended = 1
        try:
            scene.hangs = None
            scene.pay.enqueue(invoice="A-2")
            ended = (0 if scene.sent else 2) if scene.delivery.flush(SOON) else 3
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(ended)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    scene.hangs.set()  # not before, for it would send what it finds, the child's too
    assert ended == 0


def test_the_app_stays_open_to_what_comes_after(tmp_path: Path) -> None:
    """Handlers that are connected after the delivery is made still hear of the app."""
    sandbox = open_sandbox(f"sqlite:///{tmp_path}/other.db", FakeClock())
    app = Celery("late", broker="memory://", autofinalize=False)
    delivery = CeleryDelivery(sandbox, app)
    heard = []
    app.on_after_finalize.connect(lambda **_: heard.append("finalized"), weak=False)
    app.finalize()
    assert heard == ["finalized"]
    assert TASK in app.tasks
    delivery.close()
    sandbox.cleanup()


def test_the_task_is_whole_whoever_asks_for_it_first(tmp_path: Path) -> None:
    """The thread that sends and the program may both be the first to need it."""
    begun, performed = threading.Event(), threading.Event()

    class Slow(Task):
        @classmethod
        def annotate(cls) -> None:
            if cls.name == TASK and not begun.is_set():
                begun.set()
                performed.wait(0.2)  # if it can be: not before this one is done
            super().annotate()

    sandbox = open_sandbox(f"sqlite:///{tmp_path}/ledger.db", FakeClock())
    pay = sandbox.action("pay", key="pay:{invoice}", irreversible=True)(lambda invoice: invoice)
    app = Celery("shop", broker="memory://", task_cls=Slow)
    delivery = CeleryDelivery(sandbox, app)
    app.amqp.send_task_message = lambda *_args, **_options: None
    try:
        handle = pay.enqueue("A-1")
        assert begun.wait(SOON), "the thread that sends has not asked for it"
        assert app.tasks[TASK](handle.id) == "succeeded"
        performed.set()
    finally:
        delivery.close()
        sandbox.cleanup()


def test_a_worker_that_stops_ends_no_program(scene: Scene) -> None:
    """One that is embedded goes; what the program queues after that is sent all the same."""
    scene.delivery._begin()
    signals.worker_shutdown.send(sender=None)
    handle = scene.pay.enqueue(invoice="A-1")
    assert scene.ids() == [handle.id]


def test_one_app_delivers_one_sandbox(scene: Scene) -> None:
    """The task of a second one would never be performed."""
    with pytest.raises(ConfigurationError, match="delivers one sandbox"):
        CeleryDelivery(scene.sandbox, scene.app)


def test_a_broker_that_is_down_breaks_no_enqueue(scene: Scene) -> None:
    """The job is in the ledger; an alert says what is wrong, without the broker's password."""
    scene.broken = ConnectionError("redis://:hunter2@broker:6379/0 refused")
    handle = scene.pay.enqueue(invoice="A-1")
    assert scene.ids() == []
    assert handle.state() is State.PENDING
    (alert,) = scene.sandbox.alert_system.alerts
    assert (alert["task"], alert["reason"]) == (TASK, "messages cannot be sent")
    assert "hunter2" not in repr(alert)
    assert "hunter2" not in (handle.call().note or "")
    scene.broken = None
    scene.delivery.run_once()
    assert scene.ids() == []  # it is left alone for a second
    scene.clock.advance(1.1)
    scene.delivery.run_once()
    assert scene.ids() == [handle.id]


def test_a_queue_of_the_ledger_goes_to_one_of_celery(tmp_path: Path) -> None:
    """Named in ``send_to``; others go where the app sends by default."""
    scene = Scene(tmp_path, queues=["default", "mail"], send_to={"mail": "slow"})
    mail = scene.pay.enqueue(invoice="M-1", queue="mail")
    other = scene.pay.enqueue(invoice="A-1")
    scene.pay.enqueue(invoice="N-1", queue="nobody's")
    assert scene.delivery.flush(SOON)
    assert sorted(scene.sent) == sorted([(mail.id, "slow"), (other.id, "celery")])
    scene.close()


def test_a_process_whose_beat_fails_takes_nothing(scene: Scene) -> None:
    """It cannot keep a lease, so it does not begin."""
    handle = scene.pay.enqueue(invoice="A-1")
    scene.clock.advance(31.0)

    def keep() -> set[str]:
        raise OSError("no ledger")

    scene.sandbox.delivery.keep = keep  # type: ignore[method-assign] # of this one object
    with pytest.raises(OSError, match="no ledger"):
        scene.task(handle.id)
    assert scene.paid == []


def test_nothing_else_has_to_run(scene: Scene) -> None:
    """A process of Celery's counts as a worker, with a heartbeat, also while nothing is to do."""
    other = open_sandbox(scene.url, scene.clock)
    assert not other.checks.has_worker()[0]
    scene.delivery._begin()
    scene.clock.advance(300.0)
    scene.delivery.run_once()
    scene.sandbox.delivery.keep()
    scene.sandbox.heartbeat.beat_once()
    assert other.checks.has_worker() == (True, "1 elsewhere")
    assert other.checks.has_heartbeat()[0]
    other.cleanup()


def test_a_closed_delivery_is_forgotten(tmp_path: Path) -> None:
    """Neither Celery's signals nor the sandbox call it any more."""
    known = [len(signal.receivers) for signal in SIGNALS]
    scene = Scene(tmp_path)
    assert [len(signal.receivers) for signal in SIGNALS] == [n + 1 for n in known]
    scene.delivery.close()
    assert [len(signal.receivers) for signal in SIGNALS] == known
    scene.pay.enqueue(invoice="A-1")
    assert scene.ids() == []
    scene.close()


def test_a_ledger_in_memory_is_refused() -> None:
    """Celery's processes could not see it."""
    sandbox = SandboxOrchestrator(settings=Settings())
    with pytest.raises(ConfigurationError, match="cannot see a ledger in memory"):
        CeleryDelivery(sandbox, Celery("shop", broker="memory://"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resend_after": 0.0}, "more than 0 seconds"),
        ({"ahead": 0}, "whole number from 1"),
        ({"queues": []}, "at least one queue"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """Each is refused where it is given."""
    with pytest.raises(ConfigurationError, match=message):
        Scene(tmp_path, **options)


def test_without_celery_it_says_what_to_install() -> None:
    """Not a bare ImportError."""
    program = (
        "import sys; sys.modules['celery'] = None\n"
        "from gonogo import ConfigurationError\n"
        "try:\n    import gonogo.contrib.celery\n"
        "except ConfigurationError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 'pip install "gonogo[celery]"' in done.stdout
