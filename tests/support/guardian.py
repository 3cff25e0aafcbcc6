"""Keeps one server running exactly as long as somebody holds its lifeline open.

Started by ``servers.py`` as a program of its own, so that a server ends with the tests however
they end: finished, interrupted or killed. The lifeline is a named pipe; when the last process that
has it open for writing is gone, the server is stopped and its folder removed.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path


def guard(folder: Path, command: list[str], user: int | None) -> None:
    """Run ``command`` in ``folder`` as ``user`` until the lifeline of the run is cut."""
    lifeline = os.open(folder.parent / "lifeline", os.O_RDONLY | os.O_NONBLOCK)
    watch = select.poll()
    watch.register(lifeline, 0)  # a hang-up is always reported
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
        )
    while not watch.poll(200):
        if server.poll() is not None:
            (folder / "ended").touch()
            watch.poll()
    stop(server)
    shutil.rmtree(folder, ignore_errors=True)
    if not any(entry.is_dir() for entry in folder.parent.iterdir()):
        shutil.rmtree(folder.parent, ignore_errors=True)


def stop(server: subprocess.Popen[bytes]) -> None:
    """Ask the server to end (SIGINT is a fast shutdown to PostgreSQL too), then make it."""
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def main() -> None:
    """Read the order from standard input, step into the background and do it."""
    order = json.load(sys.stdin)
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    guard(Path(order["folder"]), order["command"], order["user"])


if __name__ == "__main__":
    main()
