"""Worker processes of one contender, and what their jobs tell."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module

from benchmarks.pg.queue import Queue

_MARK = struct.Struct("=d")
_GRACE = 0.5
"""Seconds in which a process may end by itself; by then nothing of what it did is open."""
_PATIENCE = 120.0
"""Seconds without a word after which a contender counts as stuck."""


class Crew:
    """Processes that work one queue off; a context that ends them.

    Args:
        contender: the module in this package that has the worker.
        hands: jobs that a process has under way at once, as its module understands it.
    """

    def __init__(self, contender: str, url: str, processes: int, hands: int) -> None:
        self._heard, said = os.pipe()
        os.set_blocking(self._heard, False)
        words = [sys.executable, "-m", "benchmarks.pg.crew", contender, url]
        self.processes = [
            subprocess.Popen(
                [*words, str(said), str(hands), str(number)],
                pass_fds=[said],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("BENCHMARK_ERRORS") else subprocess.DEVNULL,
                start_new_session=True,
            )
            for number in range(processes)
        ]
        os.close(said)

    def __enter__(self) -> Crew:
        self.hear(len(self.processes))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        self.go_on()  # one that was stopped hears of it only then
        until = time.monotonic() + _GRACE
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        self._signal(signal.SIGKILL)
        for process in self.processes:
            process.wait()
        os.close(self._heard)

    def pause(self) -> None:
        """Stop where it is, so that the others have the machine for themselves; clocks go on."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After a `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)  # and its own processes

    def hear(self, count: int) -> list[float]:
        """The moments at which the next ``count`` jobs began."""
        found = b""
        while len(found) < count * _MARK.size:
            if not select.select([self._heard], [], [], _PATIENCE)[0]:
                raise TimeoutError(f"only {len(found) // _MARK.size} of {count} jobs began")
            more = os.read(self._heard, count * _MARK.size - len(found))
            if not more:
                raise ChildProcessError("the workers ended")
            found += more
        return [moment for (moment,) in _MARK.iter_unpack(found)]

    def drain(self, queue: Queue, count: int) -> float:
        """Seconds from the return of the queueing of ``count`` jobs to the last one settled."""
        queue.put_many(range(count))
        began = time.perf_counter()
        self.hear(count)
        for _ in range(int(_PATIENCE / 0.002)):
            if queue.left() == 0:
                return time.perf_counter() - began
            time.sleep(0.002)
        raise TimeoutError(f"{queue.left()} of {count} jobs were not settled")


def main() -> None:
    """A worker process; see `Crew`."""
    contender, url, said, hands, number = sys.argv[1:]

    def begun() -> None:
        os.write(int(said), _MARK.pack(time.perf_counter()))

    os.environ["WORKER_NUMBER"] = number
    work = import_module(f"benchmarks.pg.{contender}").work
    work(url, begun, int(hands))


if __name__ == "__main__":
    main()
