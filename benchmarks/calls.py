"""The guarded direct call: admitted, performed and settled in the caller's thread."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec import structs

from benchmarks.call_peers import RawLedger, dbos_step, protected, synced
from benchmarks.measure import RATE, Effort, Measure, Scene, Stage, Target, repeated
from benchmarks.sqlite_floors import table
from gonogo import Limit, SandboxOrchestrator, Settings
from gonogo.canonical import digest
from gonogo.ids import new_id
from gonogo.records import Call as Record
from gonogo.records import Outcome, State

OURS = "gonogo"
FLOOR = "locked dict, sorted JSON"
RAW = "two raw commits"
LEAST = "two records, a key, a limit"
ROWS = "our rows, bare driver"
ROWS_TOGETHER = "our rows, bare driver, 8 a commit"
SYNC = "syncs of 4 KiB, no database"
CTRLRUN = "ctrlrun protect"
CTRLRUN_SYNCED = "ctrlrun protect, made to sync"
DBOS = "DBOS step"

GUARDS = "irreversible action with a key, two arguments and one limit, armed"
DURABLE = "WAL, first commit FULL, second NORMAL on both sides"

Call = Callable[[int], object]


@contextmanager
def guarded(db_url: str | None) -> Iterator[Call]:
    """An armed sandbox with one action; what it gives performs payment number ``i``."""
    sandbox = SandboxOrchestrator(settings=Settings(db_url=db_url, use_memory_db=db_url is None))

    @sandbox.action(
        "payment",
        key="payment:{invoice}",
        irreversible=True,
        limits=[Limit("payment", 1_000_000_000, per="1h")],
    )
    def pay(invoice: str, cents: int) -> dict[str, int]:
        return {"paid": cents}

    sandbox.arm(by="benchmark", reason="nothing leaves this process", seconds=86_400)
    try:
        yield lambda i: pay(f"INV-{i}", 100)
    finally:
        sandbox.cleanup()


def locked_dict() -> Call:
    """What remembering a call costs at least: its arguments as text, behind a lock."""
    ledger: dict[str, bytes] = {}
    lock = threading.Lock()
    encode = msgspec.json.Encoder(order="sorted").encode

    def call(i: int) -> None:
        invoice = f"INV-{i}"
        text = encode({"invoice": invoice, "cents": 100})
        with lock:
            ledger[invoice] = text

    return call


def two_records() -> Call:
    """The least bookkeeping there is: a record before the effect, and another one after it.

    A key that is claimed once, arguments as sorted JSON with their digest, an id, a context, an
    exact window of one limit. Nobody's switch is read, nothing indexed, listed, bounded or judged.
    """
    records: dict[str, Record] = {}
    holders: dict[str, str] = {}
    used: list[float] = []
    lock = threading.Lock()
    write = msgspec.json.Encoder(order="sorted").encode
    current: ContextVar[str | None] = ContextVar("current", default=None)

    def call(i: int) -> None:
        invoice = f"INV-{i}"
        text = write({"invoice": invoice, "cents": 100})
        key, now = f"payment:{invoice}", time.time()
        begun = Record(
            id=new_id(now),
            action="payment",
            state=State.DISPATCHED,
            created_at=now,
            key=key,
            held=True,
            fingerprint=digest(text),
            args=text.decode(),
            epoch=1,
            attempt=1,
            dispatched_at=now,
            lease_until=now + 60,
        )
        with lock:
            if key in holders:
                raise KeyError(key)
            used.append(now)
            holders[key] = begun.id
            records[begun.id] = begun
        token = current.set(begun.id)
        result = write({"paid": 100})
        current.reset(token)
        ended = structs.replace(
            begun,
            state=State.SUCCEEDED,
            outcome=Outcome.SUCCEEDED,
            result=result.decode(),
            lease_until=None,
            settled_at=time.time(),
        )
        with lock:
            if records[begun.id] is not begun:
                raise KeyError(begun.id)
            records[begun.id] = ended

    return call


@contextmanager
def memory(effort: Effort) -> Iterator[Scene]:
    """One caller, the ledger in memory."""
    with guarded(None) as ours:
        times = effort.of(1_000, 5_000)
        yield Scene(
            title="guarded direct call, in memory",
            settings=f"{GUARDS}; 1 caller, {times:,} calls a round",
            contenders={
                OURS: repeated(ours, times),
                FLOOR: repeated(locked_dict(), 10 * times),
                LEAST: repeated(two_records(), times),
            },
            targets=[Target(OURS, FLOOR, 12), Target(OURS, None, 25e-6)],
        )


@contextmanager
def sqlite(effort: Effort) -> Iterator[Scene]:
    """One caller, the ledger in a file."""
    times = effort.of(100, 250)
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory()))
        ours = stack.enter_context(guarded(f"sqlite:///{place / 'gonogo.db'}"))
        raw = stack.enter_context(RawLedger(place / "raw.db"))
        rows = stack.enter_context(table(place, indexed=True))
        yield Scene(
            title="guarded direct call, SQLite file, 1 caller",
            settings=(
                f"{GUARDS}; {DURABLE}; ctrlrun: WAL at NORMAL, no commit is synced, without limit; "
                f"DBOS: a workflow of one step, its own settings (rollback journal at FULL), "
                f"without key or limit; {times} calls a round"
            ),
            contenders={
                OURS: repeated(ours, times),
                RAW: repeated(raw.call, times),
                ROWS: partial(rows.guarded, times, 1),
                SYNC: repeated(stack.enter_context(synced(place / "synced")), times),
                **{
                    name: repeated(stack.enter_context(peer), times // 2)
                    for name, peer in (
                        (CTRLRUN, protected(place / "ctrlrun.db")),
                        (CTRLRUN_SYNCED, protected(place / "synced.db", synced=True)),
                        (DBOS, dbos_step(place / "dbos.db")),
                    )
                },
            },
            targets=[
                Target(OURS, RAW, 1.3),
                Target(OURS, CTRLRUN, 1 / 5),
                Target(OURS, CTRLRUN_SYNCED, 1 / 5),
                Target(OURS, DBOS, 1 / 10),
            ],
        )


@contextmanager
def crowded(effort: Effort) -> Iterator[Scene]:
    """Eight threads on one file; what they gain depends on what a sync takes, so that is shown."""
    times = effort.of(60, 200)
    with ExitStack() as stack:
        ours, raw = _two_files(stack)
        place = Path(stack.enter_context(TemporaryDirectory()))
        sync = stack.enter_context(synced(place / "synced"))
        rows = stack.enter_context(table(place, indexed=True))
        yield Scene(
            title="guarded direct calls, SQLite file, 8 callers",
            settings=(
                f"{GUARDS}; {DURABLE}; 8 threads, {times} calls each a round; raw: a connection "
                "each, BEGIN IMMEDIATE, busy time-out 30 s"
            ),
            contenders={
                OURS: _crowd(ours, 8, times),
                RAW: _crowd(raw, 8, times),
                ROWS_TOGETHER: partial(rows.guarded, 8 * times, 8),
                SYNC: repeated(sync, 8 * times),
            },
            targets=[Target(OURS, RAW, 1 / 4)],
            unit=RATE,
        )


@contextmanager
def scaling(effort: Effort) -> Iterator[Scene]:
    """From one thread to many on one file."""
    times = effort.of(60, 200)
    crowds = (1, 2, 4, 8, 16, 32) if effort.full else (1, 4, 16)
    with ExitStack() as stack:
        ours, raw = _two_files(stack)
        contenders = {
            f"{name}, {callers} callers": _crowd(call, callers, times)
            for callers in crowds
            for name, call in ((OURS, ours), (RAW, raw))
        }
        yield Scene(
            title="guarded direct calls, SQLite file, more and more callers",
            settings=f"{GUARDS}; {DURABLE}; threads of one process, {times} calls each a round",
            contenders=contenders,
            unit=RATE,
            rounds=effort.of(3, 5),
        )


@contextmanager
def latency(effort: Effort) -> Iterator[Scene]:
    """How long one of eight callers waits."""
    times = effort.of(100, 500)
    with ExitStack() as stack:
        ours, raw = _two_files(stack)
        yield Scene(
            title="how long a guarded direct call takes among 8 callers, SQLite file",
            settings=f"{GUARDS}; {DURABLE}; 8 threads without a pause, {times} calls each a round",
            contenders={OURS: _latencies(ours, 8, times), RAW: _latencies(raw, 8, times)},
            rounds=effort.of(3, 5),
        )


def _two_files(stack: ExitStack) -> tuple[Call, Call]:
    """Our call and the raw one, each on a file of its own."""
    place = Path(stack.enter_context(TemporaryDirectory()))
    ours = stack.enter_context(guarded(f"sqlite:///{place / 'gonogo.db'}"))
    return ours, stack.enter_context(RawLedger(place / "raw.db")).call


def _crowd(call: Call, callers: int, times: int) -> Measure:
    """Seconds of one call, as a crowd of ``callers`` gets through ``times`` each."""

    def measure() -> float:
        took, _ = _together(call, callers, times)
        return took / (callers * times)

    return measure


def _latencies(call: Call, callers: int, times: int) -> Measure:
    def measure() -> Mapping[str, float]:
        _, each = _together(call, callers, times)
        cuts = statistics.quantiles(each, n=100)
        return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}

    return measure


def _together(call: Call, callers: int, times: int) -> tuple[float, list[float]]:
    """Every caller in a thread of its own: seconds in all, and of each call."""
    each: list[float] = []
    failures: list[BaseException] = []
    first = next(_numbers) * 1_000_000
    gate = threading.Barrier(callers + 1)

    def run(caller: int) -> None:
        begin = first + caller * times
        took = []
        gate.wait()
        try:
            for i in range(begin, begin + times):
                began = time.perf_counter()
                call(i)
                took.append(time.perf_counter() - began)
        except BaseException as error:
            failures.append(error)
        each.extend(took)

    threads = [threading.Thread(target=run, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - began, each


_numbers = iter(range(1, 1 << 31))

SCENES: dict[str, Stage] = {
    "calls.memory": memory,
    "calls.sqlite": sqlite,
    "calls.crowded": crowded,
    "calls.scaling": scaling,
    "calls.latency": latency,
}
