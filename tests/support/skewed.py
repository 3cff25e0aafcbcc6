"""A worker on a machine whose clock is wrong: ``python -m tests.support.skewed URL SECONDS``.

Its wall clock is that many seconds off; nothing else is changed. The other side is a table of the
same database, in which the database's own clock says when. One effect is under way for longer than
the lease, which a process that reckons otherwise would take away.
"""

from __future__ import annotations

import sys
import time

import psycopg

LEASE = 2.0
LONG = 3.0
"""Seconds that the long effect takes: longer than the lease."""

PER_SECOND = 5
"""Payments allowed in one second, over all machines."""


def main(url: str, off: float) -> None:
    """Work until told to stop."""
    real = time.time  # noqa: TID251 - the clock that is made wrong
    time.time = lambda: real() + off  # noqa: TID251 - same
    make(url).run()


def make(url: str):  # type: ignore[no-untyped-def]  # gonogo is imported when the clock is wrong
    """The sandbox on this machine."""
    from gonogo import Limit, SandboxOrchestrator

    sandbox = SandboxOrchestrator(
        url, dry_run=False, lease=LEASE, worker_interval=0.1, max_workers=2
    )
    sandbox.action(
        "pay",
        key="pay:{invoice}",
        irreversible=True,
        limits=[Limit("rate", PER_SECOND, per="1s")],
    )(lambda invoice: enter(url, f"{invoice}"))

    @sandbox.action("slow", key="slow:{invoice}", irreversible=True)
    def slow(invoice: str) -> None:
        time.sleep(LONG)  # noqa: TID251 - an effect that takes long
        enter(url, invoice)

    return sandbox


def enter(url: str, invoice: str) -> None:
    """The effect, in the other side's books."""
    with psycopg.connect(url.replace("+psycopg", "")) as books:
        books.execute("INSERT INTO book VALUES (%s, clock_timestamp())", (invoice,))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
