"""Celery performs a ledger's jobs: the ledger decides what is done, Celery carries the ids.

::

    app = Celery("ops", broker="redis://localhost")
    celery = CeleryDelivery(sandbox, app)

A message holds nothing but a call's id. Who takes it off the broker claims that call in the ledger
first, so that a message which comes twice, late or never does no harm: twice is refused, late is
looked at as it is now, and never is sent again. Retries, delays, limits and order are the
ledger's; Celery's own are not used.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gonogo.clock import Clock
from gonogo.dispatcher import Dispatcher
from gonogo.errors import ConfigurationError, GonogoError
from gonogo.handout import HandOut
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import Call, Severity
from gonogo.secrets import describe

try:
    from celery import Celery, signals
except ImportError as error:
    raise ConfigurationError('Celery is not installed: pip install "gonogo[celery]"') from error

TASK = "gonogo.perform"
"""The name of the one task."""

MARK = "gonogo_delivery"
"""The attribute of an app by which it is known that it delivers a sandbox."""

PAUSE = 1.0
"""Seconds between two rounds of the chore in a process of Celery's workers."""

BATCHES = 50
"""Batches that are sent to a queue before the next queue has its turn."""

SILENCE = 1.0
LONGEST_SILENCE = 30.0
"""Seconds for which a broker that takes no message is left alone: at first, and at most."""


class CeleryDelivery:
    """Delivers the calls of one sandbox through one Celery app.

    Make it where the app is made, with the actions declared: in the programs that queue and in
    Celery's workers alike. In a worker each process keeps the leases of what it performs, and does
    the chore (`run_once`), so nothing else needs to run.

    Args:
        sandbox: on a ledger that processes share (SQLite, PostgreSQL).
        queues: the ledger's queues to deliver; those of its settings unless given.
        send_to: the Celery queue for a queue of the ledger; the app's default unless named.
        resend_after: seconds after which a message that nobody took off the broker counts as lost
            and is sent again.
        ahead: messages on their way at once to each Celery queue, over all processes. Among them
            the broker's order holds, so priorities work the better the fewer there are; a few for
            each process do.

    Raises:
        ConfigurationError: a ledger in memory, an app that delivers another sandbox already, or
            arguments that make no sense.
    """

    def __init__(
        self,
        sandbox: SandboxOrchestrator,
        app: Celery,
        *,
        queues: Iterable[str] | None = None,
        send_to: Mapping[str, str] | None = None,
        resend_after: float = 60.0,
        ahead: int = 100,
    ) -> None:
        if not sandbox.store.shared:
            raise ConfigurationError(
                "Celery's workers are processes of their own and cannot see a ledger in memory: "
                "give the sandbox a db_url (sqlite:///… or postgresql://…)"
            )
        if getattr(app, MARK, None) is not None:  # to ask for its tasks would make it final
            raise ConfigurationError(
                f"the app {app.main!r} has a task {TASK} already: it delivers one sandbox, and "
                "would perform nothing of a second one. Declare all actions on one sandbox"
            )
        self._app = app
        self._sandbox = sandbox
        self._delivery = sandbox.delivery
        names = tuple(sandbox.settings.queue_names if queues is None else queues)

        def hand_out(some: Sequence[str]) -> HandOut:
            return HandOut(
                sandbox.store,
                sandbox.clock,
                sandbox.pipeline.actions,
                queues=some,
                resend_after=resend_after,
                ahead=ahead,
            )

        by_target = _by_target(names, send_to or {}) or {None: ()}
        self._routes = [Route(target, hand_out(some)) for target, some in by_target.items()]
        setattr(app, MARK, self)
        self._task = self._register(app)
        self._begin_anew()
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _in_child(me()))
        self._signals = (
            (signals.worker_process_init, self._begin),
            (signals.worker_ready, self._begin_without_children),
            (signals.worker_process_shutdown, self._end),
            (signals.worker_shutdown, self._end),
        )
        for signal, receiver in self._signals:
            signal.connect(receiver, weak=False)
        self._hear_no_more = sandbox.on_due(self.wake)
        sandbox.on_cleanup(self.close)

    def _begin_anew(self) -> None:
        """Threads and their locks, which a fork leaves behind."""
        self._sending = threading.Lock()
        self._sender: Dispatcher[str] = Dispatcher(1)
        self._sender.subscribe(lambda _: True, lambda _: self._send_in_background(), TASK)
        for route in self._routes:
            route.forget()
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._keeper: threading.Thread | None = None

    def _register(self, app: Celery) -> Any:
        def perform(call_id: str) -> str:
            return self._perform(call_id)

        return app.task(
            name=TASK,
            acks_late=True,
            reject_on_worker_lost=True,
            ignore_result=True,
            serializer="json",
            max_retries=0,
            shared=False,
        )(perform)

    # sending

    def wake(self) -> None:
        """Send what is due, on a thread of its own; called when this process queued something."""
        self._sender.put("due")

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to ``timeout`` seconds until that is sent; whether it was.

        For a program that ends after it queued. What it leaves unsent a worker's chore sends.
        """
        return self._sender.flush(timeout)

    def send_due(self) -> int:
        """Send the ids of the calls that are due, as many as there is room for; returns how many.

        What cannot be sent is put back and sent later. Raises `StoreError` when the ledger cannot
        be asked; a queue that takes no message raises an alert instead, and does not keep the
        others waiting. Returns 0 at once while another thread of this process sends.
        """
        if not self._sending.acquire(blocking=False):
            return 0
        try:
            return self._send_all()
        finally:
            self._sending.release()

    def _send_all(self) -> int:
        return sum(self._send_along(route) for route in self._routes)

    def _send_along(self, route: Route) -> int:
        sent = 0
        for _ in range(BATCHES):
            if route.is_silent(self._sandbox.clock) or not (calls := route.take()):
                break
            for call in calls:
                try:
                    self._app.finalize(auto=True)  # its lock: two threads must not make the task
                    self._task.apply_async((call.id,), queue=route.target, retry=False)
                except Exception as error:  # noqa: BLE001 - whatever keeps a message from leaving
                    why = f"the broker did not take it: {describe(error)}"
                    route.give_back(why, self._sandbox.clock)
                    self._alert(route.target, why)
                    return sent
                route.sent()
                sent += 1
        return sent

    def _send_in_background(self) -> None:
        try:
            with self._sending:  # this thread has nothing else to do
                self._send_all()
        except GonogoError as error:  # the chore sends it when the ledger can be asked again
            self._log("celery.not_sent", error)

    def _alert(self, queue: str | None, why: str) -> None:
        context = {"queue": queue, "why": why}
        self._sandbox.alert_system.alert(
            TASK, "messages cannot be sent", Severity.ERROR.value, context, patience=0
        )

    # performing

    def _perform(self, call_id: str) -> str:
        """The task: what the ledger says of this call, done if it is to be done."""
        self._begin()
        if not self._delivery.fit:
            self._delivery.keep()
        call = self._delivery.take(call_id)
        if call is None:
            return "not due, or done by another message"
        after = self._delivery.perform(call)
        self.wake()
        return after.state.value

    # the chore

    def run_once(self) -> int:
        """One round of the chore: recovery, evidence, housekeeping, and what is due is sent.

        Returns how many calls changed. Raises `StoreError` when the ledger cannot be asked.
        """
        self._delivery.asks()
        return self._delivery.maintain() + self.send_due()

    def _keep(self) -> None:
        """Keep the leases. Nothing here waits for a broker: it may take minutes to say no."""
        pause = min(PAUSE, self._delivery.lease / 3)
        while not self._stop.wait(pause):
            try:
                self._delivery.asks()
                self._delivery.keep()
                self._delivery.overtime()
                self._delivery.maintain()
                self.wake()
            except BaseException as error:  # noqa: BLE001 - the keeper must outlive every fault
                self._log("celery.keeper_fault", error)

    def _begin(self, **_: Any) -> None:
        """Keep what this process performs, from now on. A process is begun once."""
        with self._starting:
            if self._keeper is not None and self._keeper.is_alive():
                return
            self._stop = threading.Event()
            self._keeper = threading.Thread(target=self._keep, name="gonogo-keeper", daemon=True)
            self._keeper.start()
        self._sandbox.watch()

    def _begin_without_children(self, sender: Any = None, **_: Any) -> None:
        """Begin in a worker that has no processes for its tasks; one that has must fork cleanly."""
        pool = getattr(sender, "pool", None)
        if "prefork" not in type(pool).__module__:
            self._begin()

    def close(self, timeout: float = 2.0) -> bool:
        """Send what is due, at most for ``timeout`` seconds, and end what this process began.

        Whether all was sent; what was not is put back. The sandbox's `cleanup` calls it.
        """
        self._hear_no_more()
        for signal, receiver in self._signals:
            signal.disconnect(receiver)
        return self._end(timeout)

    def _end(self, timeout: float = 2.0, **_: Any) -> bool:
        sent = self.flush(timeout)
        try:
            for route in self._routes:
                route.give_back("the process that was to send it ended", self._sandbox.clock)
        except GonogoError as error:  # the hand-out's lease ends by itself
            self._log("celery.not_put_back", error)
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper.is_alive():
            self._stop.set()
            keeper.join(PAUSE)
            self._sandbox.scheduler.stop()
            self._sandbox.heartbeat.stop()
            self._delivery.leave()
        return sent

    def _log(self, event: str, error: BaseException) -> None:
        self._sandbox.logger.log_action(event, "error", error=describe(error))


class Route:
    """The way to one queue of Celery's, and what is on it.

    Attributes:
        target: the queue; ``None`` is the app's default.
    """

    def __init__(self, target: str | None, hand_out: HandOut) -> None:
        self.target = target
        self._hand_out = hand_out
        self._unsent: list[Call] = []
        self._silence = self._silent_until = 0.0

    def forget(self) -> None:
        """Leave what is being sent to the process that forked this one."""
        self._unsent = []

    def is_silent(self, clock: Clock) -> bool:
        """Whether it is left alone for now, because it took no message."""
        return clock.monotonic() < self._silent_until

    def take(self) -> Sequence[Call]:
        """Some of the calls that are to be sent."""
        self._unsent = self._hand_out.give()
        return tuple(self._unsent)

    def sent(self) -> None:
        """The first of them was."""
        self._unsent = self._unsent[1:]
        self._silence = 0.0

    def give_back(self, why: str, clock: Clock) -> None:
        """Those that were not are pending again, and it is left alone, longer every time."""
        calls, self._unsent = self._unsent, []
        if calls:
            self._silence = min(max(SILENCE, self._silence * 2), LONGEST_SILENCE)
            self._silent_until = clock.monotonic() + self._silence
            self._hand_out.take_back(calls, why)


def _by_target(
    queues: Iterable[str], send_to: Mapping[str, str]
) -> dict[str | None, tuple[str, ...]]:
    """The ledger's queues by the queue of Celery's that they go to."""
    found: dict[str | None, tuple[str, ...]] = {}
    for queue in queues:
        target = send_to.get(queue)
        found[target] = (*found.get(target, ()), queue)
    return found


def _in_child(delivery: CeleryDelivery | None) -> None:
    if delivery is not None:
        delivery._begin_anew()
