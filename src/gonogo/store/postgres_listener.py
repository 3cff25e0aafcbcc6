"""Hearing at once that another process has written a job which is due."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
from sqlalchemy import URL

from gonogo.errors import GonogoError
from gonogo.store.postgres_connection import CHANNEL, connect

_LOOK = 0.5
"""Seconds between two looks at whether it is to end."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Listener:
    """A daemon thread on a connection of its own that calls ``wake`` for every notification.

    It only spares waiting: who never hears of a job finds it at the next look into the ledger. So
    a failure is no error; it connects anew, later each time. Behind PgBouncer, which hands the
    connection to somebody else after each statement, it ends at once.
    """

    def __init__(self, url: URL, timeout: float, wake: Callable[[], None]) -> None:
        self._url = url
        self._timeout = timeout
        self._wake = wake
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gonogo-listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it and wait for its thread, which takes a moment; may be called twice."""
        self._over.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._over.is_set():
            try:
                if not self._listen():
                    return
                pause = _FIRST_PAUSE
            except (psycopg.Error, GonogoError):
                self._over.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _listen(self) -> bool:
        """Listen until it is to end; false where that makes no sense."""
        raw = connect(self._url, self._timeout)
        try:
            found = raw.execute("SELECT pg_backend_pid()").fetchone()
            if found is None or found[0] != raw.info.backend_pid:
                return False
            raw.execute(f"LISTEN {CHANNEL}")
            self._wake()  # for what was written before it listened
            while not self._over.is_set():
                for _ in raw.notifies(timeout=_LOOK):
                    self._wake()
        finally:
            raw.close()
        return True
