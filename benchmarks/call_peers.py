"""Who else makes a call safe, and the floor: what a guarded call is measured against."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

_TABLE = """
CREATE TABLE calls (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, args TEXT NOT NULL, at REAL NOT NULL, result TEXT
)
"""
_ADMIT = "INSERT INTO calls (key, state, args, at) VALUES (?, 'dispatched', ?, ?)"
_SETTLE = "UPDATE calls SET state = 'succeeded', result = ? WHERE key = ? AND state = 'dispatched'"


class RawLedger:
    """The two commits of a guarded call and nothing else, on a connection for each thread.

    The first is synced (FULL) before the effect, the second is not (NORMAL), as ours are.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._encode = msgspec.json.Encoder(order="sorted").encode

    def __enter__(self) -> RawLedger:
        self._connection().execute(_TABLE)
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._opened:
            connection.close()

    def call(self, i: int) -> None:
        """Write that payment ``i`` goes out, and then that it did."""
        raw = self._connection()
        key = f"INV-{i}"
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("BEGIN IMMEDIATE")
        raw.execute(_ADMIT, (key, self._encode({"invoice": key, "cents": 100}).decode(), 0.0))
        raw.execute("COMMIT")
        raw.execute("PRAGMA synchronous = NORMAL")
        raw.execute("BEGIN IMMEDIATE")
        raw.execute(_SETTLE, ('{"paid":100}', key))
        raw.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        raw: sqlite3.Connection | None = getattr(self._thread, "raw", None)
        if raw is None:
            raw = sqlite3.connect(
                self._path, timeout=30.0, isolation_level=None, check_same_thread=False
            )
            raw.execute("PRAGMA journal_mode = WAL")
            self._thread.raw = raw
            self._opened.append(raw)
        return raw


@contextmanager
def synced(path: Path) -> Iterator[Callable[[int], object]]:
    """What the disk takes to keep one page, which no durable call can do without."""
    page = bytes(4096)
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    os.write(file, page)
    os.fsync(file)

    def call(i: int) -> None:
        os.pwrite(file, page, 0)
        os.fdatasync(file)

    try:
        yield call
    finally:
        os.close(file)


@contextmanager
def protected(path: Path, *, synced: bool = False) -> Iterator[Callable[[int], object]]:
    """ctrlrun: a policy that allows the action, an effect key, receipts in its own file.

    It syncs no commit; with ``synced`` its connection is told to, which it has no setting for.
    """
    from ctrlrun import Control, Policy, SQLiteStateStore, context, protect

    rules = "schema: ctrlrun.policy/v1\nactions:\n  payment:\n    decision: allow\n"
    store = SQLiteStateStore(path)
    if synced:
        store._connection().execute("PRAGMA synchronous = FULL")
    control = Control(Policy.from_yaml(rules, source="benchmark"), store)

    @protect("payment", effect="payment:{invoice}", control=control)
    def pay(invoice: str, cents: int) -> dict[str, int]:
        return {"paid": cents}

    try:
        with context(agent="benchmark"):
            yield lambda i: pay(invoice=f"INV-{i}", cents=100)
    finally:
        store.close()


@contextmanager
def dbos_step(path: Path) -> Iterator[Callable[[int], object]]:
    """DBOS: a workflow of one step, both recorded in its system database."""
    from dbos import DBOS, SetWorkflowID

    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{path}",
            "log_level": "ERROR",
        }
    )

    @DBOS.step()
    def pay(invoice: str, cents: int) -> dict[str, int]:
        return {"paid": cents}

    @DBOS.workflow()
    def payment(invoice: str, cents: int) -> dict[str, int]:
        return pay(invoice, cents)

    def call(i: int) -> object:
        with SetWorkflowID(f"payment:INV-{i}"):
            return payment(f"INV-{i}", 100)

    DBOS.launch()
    try:
        yield call
    finally:
        DBOS.destroy()
