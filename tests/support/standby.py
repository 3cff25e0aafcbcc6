"""A real standby of the run's PostgreSQL server: it follows its primary and only reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from tests.support.postgres import accepts, candidates, options, plain, reachable, run
from tests.support.servers import ServerMissing, Servers, free_port, unprivileged


@contextmanager
def standby_of(url: str) -> Iterator[str]:
    """The URL of the same database on a new standby, which ends with the block."""
    servers, user = Servers.create(), unprivileged()
    folder = servers.folder / "standby"
    home = folder / "home"
    try:
        for one in (folder, home):
            one.mkdir(mode=0o711)
        (home / "data").mkdir(mode=0o700)
        if user is not None:
            os.chown(home / "data", user, user)
        found = next(candidates(), None)
        if found is None or not (found[1] / "pg_basebackup").exists():
            raise ServerMissing("no program 'pg_basebackup' beside the server")
        programs = reachable(found[1], home, user)
        copy = [str(programs / "pg_basebackup"), "-d", plain(url), "-D", str(home / "data")]
        run([*copy, "-R", "--checkpoint=fast", "--no-sync"], home, user)
        port, parts = free_port(), urlsplit(url)
        there = urlunsplit(
            parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{port}"))
        )
        command = [str(programs / "postgres"), "-D", str(home / "data"), *options(port)]
        servers.launch(folder, command, ready=lambda: accepts(there), user=user)
        yield there
    finally:
        servers.close()
