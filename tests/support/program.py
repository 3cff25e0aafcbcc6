"""The command line as a user runs it: a process of its own, in a project of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from gonogo.store.sqlite import SqliteStore

COMMAND = [sys.executable, "-m", "gonogo"]


class Done(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document on one line."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The last line of standard error, which must be JSON."""
        return json.loads(self.err.splitlines()[-1])


class Program:
    """Runs ``gonogo`` in ``folder``."""

    def __init__(self, folder: Path, app: str | None = "app:sandbox") -> None:
        self.folder = folder
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GONOGO_", "SANDBOX_", "PYTEST_", "COV_"))
        }
        self.env.update(TERM="xterm", COLUMNS="80")
        self.env.pop("NO_COLOR", None)
        if app is not None:
            self.env["GONOGO_APP"] = app

    def __call__(self, *arguments: str, **env: str) -> Done:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def make_ledger(self) -> None:
        """An empty ledger, where the applications of the tests look for one."""
        store = SqliteStore(f"sqlite:///{self.folder}/ops.db")
        store.read(lambda tx: tx.controls.all())
        store.close()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, still running."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_terminal(self, *arguments: str, answer: str = "", **env: str) -> Done:
        """The same on a terminal, where both outputs are one; ``answer`` is typed beforehand."""
        ours, theirs = pty.openpty()
        os.write(ours, answer.encode())
        running = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
        os.close(ours)
        return Done(running.wait(60), shown.decode().replace("\r\n", "\n"), "")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # how a terminal says that nobody writes any more
        return b""


def with_ledger(folder: Path, app: str) -> Program:
    """The program in a folder that has ``app`` as its ``app.py``, and the ledger that it names."""
    (folder / "app.py").write_text(app)
    program = Program(folder)
    program.make_ledger()
    return program
