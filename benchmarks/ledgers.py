"""Ledgers with a past: filled by the database itself, so that millions of rows take minutes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from gonogo import Limit, SandboxOrchestrator
from gonogo.action import Action
from gonogo.store.engines import make_engine
from gonogo.store.indexes import metadata

KNOWN = 500
"""Calls of every ledger that were really made, spread evenly among the keys of the others."""
AHEAD = 200
"""Jobs of every ledger that are due only in a year."""
YEAR = 366 * 86_400.0
_DAY = 86_400.0

_NUMBERS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})",
    "postgresql": "WITH n(i) AS (SELECT generate_series(1, {rows}))",
}
_HEX = {
    "sqlite": ("printf('%012x', {ms})", "lower(hex(randomblob({bytes})))"),
    "postgresql": ("lpad(to_hex({ms}), 12, '0')", "left(md5(random()::text), 2 * {bytes})"),
}
_PAD = {"sqlite": "printf('%09d', i)", "postgresql": "lpad(i::text, 9, '0')"}

_CALLS = """
INSERT INTO gonogo_calls (id, action, state, created_at, "key", held, fingerprint, args, epoch,
  attempt, max_attempts, queue, priority, run_at, owner, dispatched_at, settled_at, expires_at,
  outcome, result, reservations, slots, correlation_id, repeatable, waits)
{numbers}
SELECT {first} || {rest}, CASE WHEN i % 5 = 0 THEN 'note' ELSE 'payment' END,
  CASE WHEN i % 1000 = 7 THEN 'failed' ELSE 'succeeded' END, {at},
  CASE WHEN i % 5 = 0 THEN NULL ELSE 'payment:INV-' || {padded} END,
  CASE WHEN i % 5 = 0 OR i % 1000 = 7 THEN {false} ELSE {true} END,
  'v1:' || {print}, '{{"cents":' || i % 9000 || ',"invoice":"INV-' || {padded} || '"}}', 1,
  1, 4, CASE WHEN i % 2 = 0 THEN 'default' END, 0, {at}, 'vm:4711:0a1b2c', {at},
  CASE WHEN i % 1000 = 7 THEN {at} + {year} ELSE {at} END,
  CASE WHEN i % 7 = 0 THEN {at} + 2 * {year} END,
  CASE WHEN i % 1000 = 7 THEN 'rejected' ELSE 'succeeded' END, '"ok"',
  '[{{"bucket":29928257.0,"cost":1,"row":"payment","since":null,"window":3600.0}}]', '[]',
  {first} || {rest}, {false}, {false}
FROM n WHERE i % {step} != 1
"""

_ATTEMPTS = """
INSERT INTO gonogo_attempts (call_id, attempt, epoch, owner, started_at, ended_at, outcome)
SELECT id, 1, 1, owner, dispatched_at, settled_at, outcome FROM gonogo_calls
WHERE owner = 'vm:4711:0a1b2c'
"""


class Ledger:
    """A sandbox on a ledger with ``rows`` finished calls.

    Attributes:
        pay: irreversible, with a key and two limits; the sandbox is armed.
        step: every ``step``-th invoice, from the first on, is known: `known` is its number.
    """

    def __init__(self, url: str, rows: int) -> None:
        self.rows = rows
        self.step = rows // KNOWN
        self.sandbox = SandboxOrchestrator(url)
        limits = [
            Limit("payment", 10**12, per="1h"),
            Limit("payment.cents", 10**15, per="1d", cost="{cents}"),
        ]
        declare = self.sandbox.action(
            "payment", key="payment:{invoice}", irreversible=True, limits=limits
        )
        self.pay: Action[..., str] = declare(_pay)
        self.sandbox.arm(by="bench", reason="to measure", seconds=30 * _DAY)

    def known(self, number: int) -> str:
        """The invoice of a call that was really made."""
        return f"INV-{(number % KNOWN) * self.step + 1:09}"

    def any(self, number: int) -> str:
        """The key of some call of the past."""
        invoice = number * 7919 % self.rows // 10 * 10 + 2
        return f"payment:INV-{invoice:09}"


def _pay(invoice: str, cents: int) -> str:
    return invoice


@contextmanager
def ledger(url: str, rows: int) -> Iterator[Ledger]:
    """Fill the empty database at ``url``; what is in it stays there."""
    made = Ledger(url, rows)
    try:
        for number in range(KNOWN):
            made.pay(made.known(number), 100)
        for number in range(AHEAD):
            made.pay.enqueue_in(YEAR, f"AHEAD-{number}", 100)
        engine = make_engine(url)
        _fill(engine, rows, made.step, made.sandbox.clock.now())
        _settle(engine, made.sandbox)
        yield made
    finally:
        made.sandbox.cleanup()


def _fill(engine: Engine, rows: int, step: int, now: float) -> None:
    """One call every few seconds of the past year; indexes are made after the rows.

    Those that failed are not old enough to be pruned, so a list of them stays as long as it is.
    """
    kind = engine.dialect.name
    at = f"({now - YEAR} + i * {(YEAR - _DAY) / rows})"
    first, rest = _HEX[kind]
    words = {
        "numbers": _NUMBERS[kind].format(rows=rows),
        "first": first.format(ms=f"CAST({at} * 1000 AS BIGINT)"),
        "rest": rest.format(bytes=10),
        "print": f"{rest.format(bytes=16)} || {rest.format(bytes=16)}",
        "padded": _PAD[kind],
        "at": at,
        "year": YEAR,
        "step": step,
        "false": "false",
        "true": "true",
    }
    calls = metadata.tables["gonogo_calls"]
    indexes = [index for index in calls.indexes if not index.unique]
    with engine.begin() as connection:
        if kind == "sqlite":
            connection.exec_driver_sql("PRAGMA cache_size = -262144")  # sorts the indexes faster
        for index in indexes:
            index.drop(connection)
        connection.execute(text(_CALLS.format(**words).replace(":", "\\:")))
        connection.exec_driver_sql(_ATTEMPTS)
        for index in indexes:
            index.create(connection)


def _settle(engine: Engine, sandbox: SandboxOrchestrator) -> None:
    """Let the database do what it would have done by itself while the year went by."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()
    sandbox.store.close()  # the last one out folds SQLite's log into the file
