"""Fixtures every test may use: a clock that obeys, and real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from gonogo.clock import FakeClock
from gonogo.logs import current_id
from tests.support import pgbouncer, postgres, redis
from tests.support.servers import ServerMissing, Servers

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

RUN = pytest.StashKey[Servers]()


def pytest_configure(config: pytest.Config) -> None:
    """One run, one set of servers, however many worker processes take part."""
    known = getattr(config, "workerinput", {}).get("gonogo_servers")
    config.stash[RUN] = Servers.attach(known) if known else Servers.create()
    _keep_what_is_compiled(config.stash[RUN].folder)


def _keep_what_is_compiled(folder: Path) -> None:
    """Where nothing may be written beside the sources, each child would compile them anew."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(folder / "compiled"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a worker process of pytest-xdist where the run's servers are."""
    node.workerinput["gonogo_servers"] = str(node.config.stash[RUN].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers with the run."""
    if (servers := config.stash.get(RUN, None)) is not None:
        servers.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly which servers the tests had to do without."""
    reasons = {
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple) and "no server for this test" in report.longrepr[2]
    }
    for reason in sorted(reasons):
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        terminalreporter.line(reason)


@pytest.fixture(autouse=True)
def outside_of_any_correlation() -> None:
    """An id that a test sets holds in its thread, which the next one shares."""
    current_id.set(None)


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that moves only when the test says so."""
    return FakeClock()


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[postgres.PostgresServer]:
    """The run's PostgreSQL; skips, and says so at the end, where there is none."""
    try:
        server = postgres.PostgresServer(postgres.address(pytestconfig.stash[RUN]))
    except ServerMissing as missing:
        pytest.skip(f"no server for this test: PostgreSQL: {missing}")
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres_server: postgres.PostgresServer) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def pgbouncer_url(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database, through PgBouncer in transaction mode."""
    try:
        with pgbouncer.running(postgres_url) as url:
            yield url
    except ServerMissing as missing:
        pytest.skip(f"no server for this test: PgBouncer: {missing}")


@pytest.fixture
def redis_url(pytestconfig: pytest.Config) -> str:
    """The URL of an empty Redis database that no other worker process uses."""
    try:
        server = redis.address(pytestconfig.stash[RUN])
    except ServerMissing as missing:
        pytest.skip(f"no server for this test: Redis: {missing}")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    url = f"{server}/{int(worker) % 16}"
    redis.flush(url)
    return url
