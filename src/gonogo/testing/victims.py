"""The parent's side of the processes that are killed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import msgspec

from gonogo.clock import Clock
from gonogo.errors import ConfigurationError
from gonogo.records import State
from gonogo.secrets import redact_text
from gonogo.testing.child import Answer, Command, Order, Seen

_PROGRAM = "from gonogo.testing.child import main; main()"

STARTS = 60.0
"""Seconds a process may take to begin: an interpreter, and the user's imports."""


class Victim:
    """A process that works until it is killed; gone, with all it started, when the block ends."""

    def __init__(self, order: Order, clock: Clock) -> None:
        self._order = order
        self._clock = clock
        self._rest = b""
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,
        )

    def __enter__(self) -> Victim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def begin(self) -> bool:
        """Let it load the action; false when it died. Waits for the interpreter to start."""
        return self._ask(self._order, STARTS) is not None

    def enqueue(self, trial: str, calls: tuple[str, ...], *, planned: bool = False) -> bool:
        """Let it make jobs of ``calls`` (arguments in JSON), once; false when it died of it."""
        command = Command(do="enqueue", trial=trial, calls=calls, planned=planned)
        return self._ask(command, STARTS) is not None

    def work(self) -> bool:
        """Let its workers begin; false when it died."""
        return self._ask(Command(do="work"), STARTS) is not None

    def look(self, trial: str) -> tuple[Seen, ...] | None:
        """The trial's calls as its ledger has them; ``None`` when it died."""
        answer = self._ask(Command(do="look", trial=trial), STARTS)
        return None if answer is None else answer.calls

    def count(self) -> dict[State, int]:
        """How many calls its whole ledger has in each state; none when it died."""
        answer = self._ask(Command(do="count"), STARTS)
        return {} if answer is None else answer.counts

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, to it and to whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill what is left of it and bury it."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout, self._words):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _ask(self, question: Order | Command, seconds: float) -> Answer | None:
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        try:
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._bury()
            return None
        line = self._line(self._clock.monotonic() + seconds)
        if line is None:
            self._bury()
            return None
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error is not None:
            raise ConfigurationError(f"crash test of {self._order.target}: {answer.error}")
        return answer

    def _line(self, until: float) -> bytes | None:
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            left = until - self._clock.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise ConfigurationError(
                    f"crash test of {self._order.target}: a process gave no answer in time: "
                    f"{self._last_words()}"
                )
            chunk = os.read(pipe, 65_536)
            if not chunk:
                return None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _bury(self) -> None:
        """It is dead. Only of the kill it was made for, or there is something to tell."""
        code = self._process.wait()
        if code != -signal.SIGKILL:
            raise ConfigurationError(
                f"crash test of {self._order.target}: a process ended by itself with status "
                f"{code}: {self._last_words()}"
            )

    def _last_words(self) -> str:
        self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, self._words.tell() - 2000))
        words = self._words.read().decode(errors="replace").strip()
        return redact_text(words, 1000) or "it said nothing"
