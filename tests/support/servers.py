"""Servers that all processes of one test run share, each started when it is first asked for."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class ServerMissing(Exception):
    """There is no such server here, or it does not start; the message says why."""


class Servers:
    """One test run's folder: its lifeline, and one folder for each server.

    The process that calls `create` owns the run: what it started ends with it. Other processes
    (pytest-xdist's workers) `attach` themselves by the folder's name.
    """

    def __init__(self, folder: Path, lifeline: int | None = None) -> None:
        self.folder = folder
        self._lifeline = lifeline

    @classmethod
    def create(cls) -> Servers:
        folder = Path(tempfile.mkdtemp(prefix="gonogo-tests-"))
        folder.chmod(0o711)  # a server that runs as another user must reach its own folder
        os.mkfifo(folder / "lifeline", 0o600)
        return cls(folder, os.open(folder / "lifeline", os.O_RDWR))

    @classmethod
    def attach(cls, folder: str) -> Servers:
        return cls(Path(folder))

    def close(self) -> None:
        """Cut the lifeline and wait until the servers are gone, at most 10 seconds."""
        if self._lifeline is None:
            return
        os.close(self._lifeline)
        self._lifeline = None
        for _ in pauses(10):
            if not any(self.folder.glob("*/guarded")):
                break
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self, name: str, start: Callable[[Servers, Path], str]) -> str:
        """The address of server ``name``; the first caller of the run starts it.

        Raises `ServerMissing` to every caller of the run when the first could not.
        """
        answer = self.folder / f"{name}.json"
        with self._locked(name):
            if not answer.exists():
                answer.touch(0o600)
                answer.write_text(json.dumps(self._start(name, start)))
            known = json.loads(answer.read_text())
        if known["problem"]:
            raise ServerMissing(known["problem"])
        return str(known["address"])

    def _start(self, name: str, start: Callable[[Servers, Path], str]) -> dict[str, str]:
        folder = self.folder / name
        folder.mkdir(mode=0o711)
        try:
            return {"address": start(self, folder), "problem": ""}
        except (ServerMissing, OSError, subprocess.SubprocessError) as error:
            return {"address": "", "problem": str(error) or repr(error)}

    def launch(
        self,
        folder: Path,
        command: list[str],
        *,
        ready: Callable[[], bool],
        user: int | None = None,
    ) -> None:
        """Start ``command`` under a guardian and wait, at most 30 seconds, until it is ready."""
        (folder / "guarded").touch()
        (folder / "ended").unlink(missing_ok=True)
        order = {"folder": str(folder), "command": command, "user": user}
        guardian = str(Path(__file__).with_name("guardian.py"))
        subprocess.run(
            [sys.executable, "-I", guardian], input=json.dumps(order), text=True, check=True
        )
        for _ in pauses(30):
            if ready():
                return
            if (folder / "ended").exists():
                break
        log = (folder / "log").read_text(errors="replace") if (folder / "log").exists() else ""
        raise ServerMissing(f"{command[0]} did not start: {log[-800:]}")

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self.folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def pauses(seconds: float) -> Iterator[None]:
    """Yields until about ``seconds`` are over, pausing a little after each round."""
    waiting = threading.Event()
    for _ in range(int(seconds / 0.05)):
        yield
        waiting.wait(0.05)


def free_port() -> int:
    """A port of the loopback address that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unprivileged() -> int | None:
    """The user id for servers that refuse to run as root; ``None`` when we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534
