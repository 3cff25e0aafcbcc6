"""A real PgBouncer for tests, in transaction mode, where the program is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.support.servers import ServerMissing, free_port, pauses, unprivileged


@contextmanager
def running(url: str) -> Iterator[str]:
    """``url`` by way of a PgBouncer with four connections, which ends with the block."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise ServerMissing("the program 'pgbouncer' is not installed")
    parts, port, user = urlsplit(url), free_port(), unprivileged()
    with tempfile.TemporaryDirectory(prefix="gonogo-pgbouncer-") as name:
        settings = _configure(Path(name), url, port, user)
        started = subprocess.Popen(
            [program, str(settings)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
        )
        try:
            _wait(started, port)
            place = parts.netloc.replace(f":{parts.port}", f":{port}")
            yield urlunsplit(parts._replace(netloc=place))
        finally:
            started.kill()
            started.wait()


def _configure(folder: Path, url: str, port: int, user: int | None) -> Path:
    parts = urlsplit(url)
    users, settings = folder / "users", folder / "pgbouncer.ini"
    users.write_text(f'"{parts.username}" "{parts.password}"\n')
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={parts.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {users}\npool_mode = transaction\n"
        "default_pool_size = 4\n"
    )
    if user is not None:
        for path in (folder, users, settings):
            os.chown(path, user, user)
    return settings


def _wait(started: subprocess.Popen[bytes], port: int) -> None:
    for _ in pauses(10):
        if started.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            continue
        return
    raise ServerMissing("pgbouncer did not start")
