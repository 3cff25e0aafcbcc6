"""Everything that can go wrong, for long: ``python -m tests.faults.chaos`` or ``make chaos``.

Each part breaks something again and again, and holds the ledger to the other side's books. The
table comes at the end; the exit status is 1 if anything was wrong, or was not tried in time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct
from tests.faults import scenarios
from tests.faults.scenarios import Finding
from tests.support import postgres, shop
from tests.support.restarting import RestartingPostgres, restarting_postgres
from tests.support.servers import Servers

from gonogo.clock import SystemClock
from gonogo.testing import Boundary, crash_test
from gonogo.testing.crash import places_of
from gonogo.testing.report import COLUMNS, Row, total

KINDS = ("pay", "pay_blindly", "pay_known", "remind")
"""Irreversible with a verifier and without one, repeatable, reversible."""

SHARES = 3
"""Trials that run at the same time, each on a ledger of its own."""

CLOCK = SystemClock()


class Part(Struct, frozen=True):
    """One thing to break, on one kind of ledger."""

    name: str
    store: str
    run: Callable[[], list[Finding]]


class Ledgers:
    """Empty ledgers, as many as are asked for."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self._folder = folder
        self._server = postgres.PostgresServer(postgres.address(servers))
        self._open = ExitStack()
        self._made = 0

    def file(self) -> Path:
        """Where a new one can be, on SQLite."""
        self._made += 1
        return self._folder / f"ledger-{self._made}.db"

    def make(self, store: str) -> str:
        """The URL of a new one."""
        if store == "SQLite":
            return f"sqlite:///{self.file()}"
        return self._open.enter_context(self._server.database())

    def close(self) -> None:
        """Drop all of them."""
        self._open.close()
        self._server.close()


def boundaries(ledgers: Ledgers, store: str, kind: str, seed: int) -> list[Finding]:
    """Killed at each boundary that this kind of action can get to, and at random."""
    target = f"tests.support.shop:{kind}"
    places = places_of(getattr(shop, kind))

    def share(number: int) -> Finding:
        report = crash_test(
            *(target, shop.times, scenarios.invoices(f"{kind}-{store}".upper())),
            boundaries=places[number::SHARES],
            random_kills=3,
            seed=seed + number,
            db_url=ledgers.make(store),
            lease=1.0,
            timeout=900.0,
        )
        unreached = [f"{row.boundary} was not reached" for row in report.rows if not row.kills]
        wrong = [*report.findings, *(text for text in unreached if not text.startswith("none "))]
        if kind != "pay_blindly":
            wrong += scenarios.unsettled(report.total)
        return Finding(faults=report.total.kills, row=report.total, wrong=tuple(wrong))

    with ThreadPoolExecutor(SHARES) as pool:
        return list(pool.map(share, range(SHARES)))


def zombies(ledgers: Ledgers, store: str) -> list[Finding]:
    """Stopped at each boundary that a worker passes on its own."""
    places = (
        *(Boundary.AFTER_CLAIM, Boundary.BEFORE_ADMIT, Boundary.AFTER_ADMIT),
        *(Boundary.EFFECT_HAPPENED, Boundary.PERFORMED, Boundary.BEFORE_SETTLE),
    )
    with ThreadPoolExecutor(SHARES) as pool:
        return list(pool.map(lambda at: scenarios.zombie(ledgers.make(store), at), places))


def parts(ledgers: Ledgers, server: RestartingPostgres, kills: int, seed: int) -> Iterator[Part]:
    """All of it, the shortest first."""
    for store in ("SQLite", "PostgreSQL"):
        make = lambda store=store: ledgers.make(store)  # noqa: E731 - bound in a loop
        yield Part("poison", store, lambda make=make: [scenarios.poison(make())])
        for lease in (2.0, 30.0):
            yield Part(
                f"recovery, lease {lease:g} s",
                store,
                lambda make=make, lease=lease: [scenarios.recovery(make(), lease=lease)],
            )
        yield Part("stopped past its lease", store, lambda store=store: zombies(ledgers, store))
    yield Part("disk full", "SQLite", lambda: [full_disk(ledgers)])
    yield Part(
        "commit or answer cut",
        "PostgreSQL",
        lambda: [scenarios.cut_commits(ledgers.make("PostgreSQL"), cuts=200, seed=seed)],
    )
    yield Part(
        "server restarts",
        "PostgreSQL",
        lambda: [scenarios.restarts(server, times=30, seed=seed, pause=4.0, calls=200)],
    )
    for store in ("SQLite", "PostgreSQL"):
        for kind in KINDS:
            yield Part(
                f"boundaries, {kind}",
                store,
                lambda store=store, kind=kind: boundaries(ledgers, store, kind, seed),
            )
    for store in ("SQLite", "PostgreSQL"):
        yield Part(
            "random, with limits",
            store,
            lambda store=store: [
                scenarios.kills_at_random(
                    ledgers.make(store), kills=kills, seed=seed, timeout=1800.0
                )
            ],
        )


def full_disk(ledgers: Ledgers) -> Finding:
    """Three times, on ledgers of their own."""
    found = [scenarios.full_disk(ledgers.file(), calls=300) for _ in range(3)]
    return Finding(
        faults=len(found),
        row=total(one.row for one in found),
        wrong=tuple(text for one in found for text in one.wrong),
    )


def is_sound(row: Row, twice_is_fine: bool) -> bool:
    """Whether nothing happened twice that must not, and nothing was lost or told wrong."""
    return not ((row.duplicates and not twice_is_fine) or row.lost or row.contradicted)


def line_of(part: Part, findings: Sequence[Finding], seconds: float) -> str:
    """A line of the table, in Markdown."""
    row = total(one.row for one in findings)
    faults = sum(one.faults for one in findings)
    slowest = "" if row.slowest is None else f"{row.slowest:.1f} s"
    columns = (c for c in COLUMNS[1:-1] if c != "contradicted")
    cells = [part.name, part.store, f"{faults:,}", *(f"{getattr(row, c):,}" for c in columns)]
    return "| " + " | ".join([*cells, slowest, f"{seconds:.0f} s"]) + " |"


HEAD = (
    "| broken | ledger | faults | calls | twice | lost | failed | unknown | by evidence "
    "| slowest | took |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(kills: int, minutes: float, seed: int, only: str) -> int:
    """All parts, one after the other; returns how many things were wrong."""
    until = CLOCK.monotonic() + minutes * 60
    lines, wrong = [], []
    servers = Servers.create()
    with ExitStack() as stack:
        stack.callback(servers.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gonogo-chaos-")))
        os.environ["SHOP_BOOKS"] = str(folder / "books")
        ledgers = Ledgers(folder, servers)
        stack.callback(ledgers.close)
        server = stack.enter_context(restarting_postgres())
        for number, part in enumerate(parts(ledgers, server, kills, seed)):
            if only not in f"{part.name} {part.store}":
                continue
            if CLOCK.monotonic() > until:
                wrong.append(f"{part.name} on {part.store}: the time was over before it was tried")
                continue
            os.environ["SHOP_BOOKS"] = str(folder / f"books-{number}")
            began = CLOCK.monotonic()
            findings = part.run()
            line = line_of(part, findings, CLOCK.monotonic() - began)
            say(line)
            lines.append(line)
            told = [f"{part.name} on {part.store}: {w}" for one in findings for w in one.wrong]
            twice_is_fine = part.name.endswith("remind")
            if not is_sound(total(one.row for one in findings), twice_is_fine):
                told.append(f"{part.name} on {part.store}: it does not add up")
            for text in told:
                say(f"  WRONG: {text}")
            wrong += told
    say("\n".join(["", HEAD, *lines, ""]))
    say("\n".join(wrong) if wrong else "nothing was wrong")
    return len(wrong)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="random kills on each ledger")
    parser.add_argument("--minutes", type=float, default=60.0, help="no part begins after these")
    parser.add_argument("--seed", type=int, default=20_270_115, help="of all that is by chance")
    parser.add_argument("--only", default="", help="parts whose name and ledger contain this")
    given = parser.parse_args()
    return 1 if run(given.kills, given.minutes, given.seed, given.only) else 0


if __name__ == "__main__":
    sys.exit(main())
