"""A worker process, both ends: ``python -m benchmarks.sqlite_worker KIND FOLDER THREADS POLL``.

It says ``ready``, then ``began NUMBER TIME`` of each job. ``idle SECONDS`` on its input asks for
what it costs meanwhile, answered by ``idle CPU-SECONDS STATEMENTS``; the end of its input ends it.
"""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.sqlite_queues import opened

PATIENCE = 120.0
"""Seconds after which a process that does not answer is given up."""


class Worker:
    """A process of `benchmarks.sqlite_worker`; ended with the block."""

    def __init__(self, kind: str, folder: str, *, threads: int = 1, poll: float = 0.0) -> None:
        self._command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sqlite_worker"]
        self._command += [kind, folder, str(threads), str(poll)]
        self.began: dict[int, float] = {}
        self._answers: list[tuple[float, int]] = []
        self._said = threading.Condition()
        self._ready = False

    def __enter__(self) -> Worker:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True)
        threading.Thread(target=self._listen, daemon=True).start()
        self._await(lambda: self._ready)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, seconds: float) -> None:
        """Begin to watch what it costs while nothing is to be done; see `answer`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"idle {seconds}\n")
        self._process.stdin.flush()

    def answer(self) -> tuple[float, int]:
        """CPU seconds and statements of the time that was asked for."""
        self._await(lambda: bool(self._answers))
        return self._answers.pop()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, *rest = line.split()
            with self._said:
                if word == "began":
                    self.began[int(rest[0])] = float(rest[1])
                elif word == "idle":
                    self._answers.append((float(rest[0]), int(rest[1])))
                self._ready = self._ready or word == "ready"
                self._said.notify_all()

    def _await(self, what: Callable[[], bool]) -> None:
        with self._said:
            if not self._said.wait_for(what, PATIENCE):
                raise TimeoutError("the worker process did not answer")


def main(kind: str, folder: str, threads: str, poll: str) -> None:
    """Be a worker process; see above."""
    statements = counted()

    def began(number: int) -> None:
        sys.stdout.write(f"began {number} {time.monotonic()}\n")
        sys.stdout.flush()

    where = None if folder == "memory" else Path(folder)
    with opened(kind, where, began, float(poll)) as queue:
        queue.start(int(threads))
        if where is None:
            statements = transactions(queue)
        print("ready", flush=True)
        for line in sys.stdin:
            before, cpu = len(statements), time.process_time()
            time.sleep(float(line.split()[1]))
            used, asked = time.process_time() - cpu, len(statements) - before
            print("idle", used, asked, flush=True)


def counted() -> list[str]:
    """Every statement that any connection of this process will run from now on."""
    seen: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(seen.append)
        return connection

    sqlite3.connect = sqlite3.dbapi2.connect = traced
    return seen


def transactions(queue: Any) -> list[str]:
    """Every read and write of a ledger in memory, which knows no statements."""
    seen: list[str] = []
    store = queue.sandbox.store
    for name in ("read", "write"):
        ask = getattr(store, name)
        setattr(store, name, lambda *a, _ask=ask, **o: (seen.append(""), _ask(*a, **o))[1])
    return seen


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    main(*sys.argv[1:])
