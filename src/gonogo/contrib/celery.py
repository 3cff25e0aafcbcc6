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

import threading
from collections.abc import Iterable, Mapping
from typing import Any

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

PAUSE = 1.0
"""Seconds between two rounds of the chore in a process of Celery's workers."""

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
        ahead: messages on their way at once, over all processes. Among them the broker's order
            holds, so priorities work the better the fewer there are; a few for each process do.

    Raises:
        ConfigurationError: a ledger in memory, or arguments that make no sense.
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
        self._sandbox = sandbox
        self._delivery = sandbox.delivery
        self._hand_out = HandOut(
            sandbox.store,
            sandbox.clock,
            queues=tuple(sandbox.settings.queue_names if queues is None else queues),
            resend_after=resend_after,
            ahead=ahead,
        )
        self._send_to = dict(send_to or {})
        self._task = self._register(app)
        self._clock = sandbox.clock
        self._silence = self._silent_until = 0.0
        self._sending = threading.Lock()
        self._sender: Dispatcher[str] = Dispatcher(1)
        self._sender.subscribe(lambda _: True, lambda _: self._send_in_background(), TASK)
        self._stop = threading.Event()
        self._keeper: threading.Thread | None = None
        self._starting = threading.Lock()
        self._signals = (
            (signals.worker_process_init, self._begin),
            (signals.worker_ready, self._begin_without_children),
            (signals.worker_process_shutdown, self._end),
            (signals.worker_shutdown, self._end),
        )
        for signal, receiver in self._signals:
            signal.connect(receiver, weak=False)
        self._hear_no_more = sandbox.on_due(self.wake)

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
        be asked; a broker that is out of reach raises an alert instead, and the rest is put back.
        """
        with self._sending:
            if self._clock.monotonic() < self._silent_until:
                return 0
            calls = self._hand_out.give()
            for place, call in enumerate(calls):
                try:
                    self._send(call)
                except Exception as error:  # noqa: BLE001 - whatever keeps a message from leaving
                    why = f"the broker did not take it: {describe(error)}"
                    self._hand_out.take_back(calls[place:], why)
                    self._be_silent(why)
                    return place
            self._silence = 0.0
            return len(calls)

    def _send(self, call: Call) -> None:
        queue = self._send_to.get(call.queue or "")
        self._task.apply_async((call.id,), queue=queue, retry=False)

    def _send_in_background(self) -> None:
        try:
            self.send_due()
        except GonogoError as error:  # the chore sends it when the ledger can be asked again
            self._log("celery.not_sent", error)

    def _be_silent(self, why: str) -> None:
        """Leave the broker alone for a while, longer every time, and say why."""
        self._silence = min(max(SILENCE, self._silence * 2), LONGEST_SILENCE)
        self._silent_until = self._clock.monotonic() + self._silence
        self._sandbox.alert_system.alert(
            TASK, "messages cannot be sent", Severity.ERROR.value, {"why": why}, patience=0
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
        pause = min(PAUSE, self._delivery.lease / 3)
        while not self._stop.wait(pause):
            try:
                self._delivery.keep()
                self._delivery.overtime()
                self.run_once()
            except BaseException as error:  # noqa: BLE001 - the keeper must outlive every fault
                self._log("celery.keeper_fault", error)

    def _begin(self, **_: Any) -> None:
        """Keep what this process performs, from now on. A process is begun once."""
        with self._starting:
            if self._keeper is not None and self._keeper.is_alive():  # not after a fork
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

    def close(self, timeout: float = 5.0) -> bool:
        """Send what is due, at most for ``timeout`` seconds, and end what this process began.

        Whether all was sent. For a program that performed calls and is not a worker of Celery's.
        """
        self._hear_no_more()
        sent = self.flush(timeout)
        for signal, receiver in self._signals:
            signal.disconnect(receiver)
        self._end()
        return sent

    def _end(self, **_: Any) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is None or not keeper.is_alive():
            return
        self._stop.set()
        keeper.join(PAUSE)
        self._sandbox.scheduler.stop()
        self._sandbox.heartbeat.stop()
        self._delivery.leave()

    def _log(self, event: str, error: BaseException) -> None:
        self._sandbox.logger.log_action(event, "error", error=describe(error))
