"""What stands around a run: the state that is kept, and the processes that take part."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from examples.payday.children import ROOT, Child
from examples.payday.places import Places
from gonogo.clock import Clock

STATE = ROOT / "var" / "payday"
_PATIENCE = 20.0  # seconds for the processes of a killed run to end


class Busy(Exception):
    """Another run uses the same state."""


class Stage:
    """The state folder, locked for this run, and the programs that work on it.

    A context manager: leaving it ends every process it started. The lock is inherited by them, so
    that the next run begins only when all of the last one are gone, however it ended.

    Args:
        folder: the ledger, the provider's books and the mail are kept here between runs.
        seed: deals the faults.
        work: seconds a payment takes at the provider.

    Raises:
        Busy: on entering, when another run does not let go of the folder.
    """

    def __init__(self, folder: Path, *, clock: Clock, seed: int = 0, work: float = 0.3) -> None:
        self.folder = folder
        self._clock = clock
        self._seed = seed
        self._work = work
        self._stack = ExitStack()
        self._lock = -1
        self._started: list[Child] = []

    def __enter__(self) -> Stage:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR)
        self._stack.callback(os.close, self._lock)
        deadline = self._clock.monotonic() + _PATIENCE
        while not self._locked():
            if self._clock.monotonic() > deadline:
                self._stack.close()
                raise Busy(f"another run uses {self.folder}: wait for it, or give --state another")
            self._clock.sleep(0.1)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for child in reversed(self._started):
            child.stop()
        self._stack.close()

    def clear(self) -> None:
        """Forget all earlier runs. Only before `open`."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def open(self) -> Places:
        """Start the provider and the mail server; say where everything is."""
        books, mail = self.folder / "provider.db", self.folder / "mail"
        provider = self._start(
            "provider", "--db", str(books), "--seed", str(self._seed), "--work", str(self._work)
        )
        mailbox = self._start("mailbox", "--folder", str(mail), "--seed", str(self._seed))
        return Places(
            ledger=f"sqlite:///{self.folder / 'ledger.db'}",
            provider=f"http://127.0.0.1:{provider.said}",
            smtp_port=int(mailbox.said),
            mail=mail,
        )

    def worker(self, places: Places) -> Child:
        """Start one more worker process."""
        return self._start("worker", environment=places.environment())

    def _start(
        self, name: str, *arguments: str, environment: dict[str, str] | None = None
    ) -> Child:
        child = Child(
            f"examples.payday.{name}",
            *arguments,
            log=self.folder / f"{name}.log",
            environment=environment,
            keep=(self._lock,),
        )
        self._started.append(child)
        return child

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
