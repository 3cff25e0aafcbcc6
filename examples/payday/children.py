"""Child processes that cannot outlive their parent: each ends when its standard input closes.

The kernel closes the pipe however the parent dies, SIGKILL included, so nobody is left behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

ROOT = Path(__file__).resolve().parents[2]


class ChildFailed(Exception):
    """A child process ended before it said that it was ready; the message has its last words."""


class Child:
    """A running ``python -m module``; ``said`` is the first line it printed: it is ready.

    Args:
        arguments: for the module's command line.
        environment: added to this process's own.
        log: file that its standard error is appended to.
        keep: file descriptors it inherits, so that they stay open while it lives.

    Raises:
        ChildFailed: it ended without a word.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
    ) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, "--until-eof"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                cwd=ROOT,
                pass_fds=keep,
                start_new_session=True,  # Ctrl-C is for the parent, which then ends its children
            )
        self.pid = self._process.pid
        self.module = module
        self.said = _stream(self._process.stdout).readline().decode().strip()
        if not self.said:
            code = self._finish()
            raise ChildFailed(f"{module} ended at once (exit {code}); see {log}:\n{_tail(log)}")

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs; negative when a signal ended it."""
        return self._process.poll()

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL): no clean-up code of it runs."""
        self._process.send_signal(signal.SIGKILL)
        self._finish()

    def stop(self, timeout: float = 10.0) -> int:
        """Ask it to end; after ``timeout`` seconds end it. May be called twice."""
        _stream(self._process.stdin).close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._finish()

    def _finish(self) -> int:
        code = self._process.wait()
        _stream(self._process.stdin).close()
        _stream(self._process.stdout).close()
        return code


def ready(word: object) -> None:
    """Tell the parent that this child is at work."""
    print(word, flush=True)


def wait_for_the_end(*, until_eof: bool) -> None:
    """Block until SIGTERM or SIGINT arrives or, with ``until_eof``, standard input closes."""
    ending = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if until_eof:
        threading.Thread(target=_read_to_end, args=(ending,), name="parent", daemon=True).start()
    while not ending.wait(0.5):  # returns now and then, so that the signal handlers can run
        pass


def _read_to_end(ending: threading.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be in the way at exit
        pass
    ending.set()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the child was started without a pipe")
    return stream


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
