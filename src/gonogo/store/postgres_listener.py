"""Hearing at once that another process has written a job which is due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import psycopg
from sqlalchemy import URL

from gonogo.errors import GonogoError
from gonogo.secrets import redact_text
from gonogo.store.port import Listening, Wake
from gonogo.store.postgres_connection import connect, own_session
from gonogo.store.postgres_news import CHANNEL, heard
from gonogo.store.urls import shown

_log = logging.getLogger("gonogo.store")
_LOOK = 0.5
"""Seconds between two looks at whether it is to end."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Listener(Listening):
    """A daemon thread on a connection of its own that calls ``wake`` for every notification.

    It only spares waiting: who never hears of a job finds it at the next look into the ledger. So
    a failure is no error; it is told once, as is its end, and it connects anew, later each time.
    Behind PgBouncer, which hands the connection to somebody else after each statement, it ends at
    once.
    """

    def __init__(self, url: URL, timeout: float, wake: Wake) -> None:
        super().__init__()
        self._url = url
        self._where = shown(url)
        self._timeout = timeout
        self._wake = wake
        self._polling = False
        self._after = _FIRST_PAUSE
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gonogo-listener", daemon=True)
        self._thread.start()

    def end(self) -> None:
        super().end()
        self._over.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                if not self._listen():
                    self._tell_polling("PgBouncer is in between")
                    return
            except (psycopg.Error, GonogoError) as error:
                self._tell_polling(redact_text(" ".join(str(error).split())))
                self._over.wait(self._after)
                self._after = min(2 * self._after, _LONGEST_PAUSE)

    def _listen(self) -> bool:
        """Listen until it is to end; false where that makes no sense."""
        raw = connect(self._url, self._timeout)
        try:
            if own_session(raw) is None:
                return False
            raw.execute(f"LISTEN {CHANNEL}")
            self._tell_hearing()
            self._wake(None)  # for what was written before it listened
            with DefaultSelector() as selector:  # the driver would look ten times a second itself
                selector.register(raw, EVENT_READ)
                while not self._over.is_set():
                    if selector.select(_LOOK):
                        for notification in _notifications(raw):
                            self._wake(heard(notification))
        finally:
            raw.close()
        return True

    def _tell_polling(self, why: str) -> None:
        if not self._polling:
            self._polling = True
            _log.warning(
                "nobody tells this process of new jobs in %s, it polls for them: %s",
                self._where,
                why,
            )

    def _tell_hearing(self) -> None:
        self._after = _FIRST_PAUSE
        if self._polling:
            self._polling = False
            _log.warning("this process is told of new jobs in %s again", self._where)


def _notifications(raw: psycopg.Connection[Any]) -> Iterator[str]:
    """What has come by now; the driver's own way makes a dozen calls more for each."""
    raw.pgconn.consume_input()
    while (came := raw.pgconn.notifies()) is not None:
        yield came.extra.decode(raw.info.encoding)
