"""What goes wrong with processes, machines and servers, made to go wrong; and what came of it.

Each scenario runs processes on a ledger, breaks something, lets the others finish, and holds the
ledger to the other side's books. The quick tests run each once; `tests.faults.chaos` runs them for
as long as it is told.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct
from tests.support import shop
from tests.support.proxy import Proxy
from tests.support.restarting import CRASH, FAST, RestartingPostgres

from gonogo.action import Action
from gonogo.clock import SystemClock
from gonogo.errors import GonogoError
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.records import State
from gonogo.settings import Settings
from gonogo.testing import Boundary, soak
from gonogo.testing.child import Order, Seen
from gonogo.testing.report import Row
from gonogo.testing.subject import Subject
from gonogo.testing.victims import Victim

CLOCK = SystemClock()
SOON = 60.0
"""Seconds within which what is bound to happen has happened."""

LEASE = 1.0
ROOM = 512 * 1024
"""Bytes by which a file can grow until its disk is full."""

CLOCKS = 0.02
"""Seconds by which the clocks of processes on PostgreSQL may differ, busy as they are."""

BEAT = 1.0
"""Seconds between two looks of a worker for leases that are over, at most."""

_NUMBERS = itertools.count()


class Finding(Struct, frozen=True, kw_only=True):
    """What a scenario found.

    Attributes:
        faults: how often something was broken.
        row: the calls, held against the books.
        wrong: a sentence for each thing that must not be.
    """

    faults: int
    row: Row
    wrong: tuple[str, ...] = ()


def invoices(name: str = "INV") -> Iterator[tuple[str]]:
    """Invoices that nobody has seen."""
    return ((f"{name}-{next(_NUMBERS)}",) for _ in itertools.repeat(None))


def bills() -> Iterator[tuple[str, int]]:
    """The same, with what they cost."""
    return ((invoice, shop.cents_of(invoice)) for (invoice,) in invoices("BILL"))


# random kills under load, with limits


def kills_at_random(
    url: str, *, kills: int, seed: int, processes: int = 4, threads: int = 2, timeout: float = 900.0
) -> Finding:
    """Processes under load, killed by chance; payments have a rate, a budget and three tills."""
    report = soak(
        *("tests.support.shop:pay_at_till", shop.times, bills()),
        kills=kills,
        processes=processes,
        threads=threads,
        seed=seed,
        db_url=url,
        timeout=timeout,
    )
    row = report.total
    wrong = [*report.findings, *_limits(url)]
    wrong += unsettled(row)
    return Finding(faults=row.kills, row=row, wrong=tuple(wrong))


def unsettled(row: Row) -> list[str]:
    """What must not be left of an action that has a verifier, or may be repeated."""
    if not (row.unknown or row.failed):
        return []
    return [f"{row.unknown} unknown and {row.failed} failed: every doubt can be settled"]


def _limits(url: str) -> list[str]:
    """Which limits were exceeded, by the ledger's times and the other side's books."""
    wrong = ["more payments at once than tills"] if shop.crowded() else []
    sandbox = open_ledger(url)
    try:
        sandbox.governor.declare(shop.BUDGET)
        spent = sandbox.governor.get_status(shop.BUDGET.name)["current_actions"]
        paid = sum(map(shop.cents_of, shop.books()))
        if spent != paid:
            wrong.append(f"the ledger says that {spent} cents are spent, the books say {paid}")
        calls = sandbox.calls(action="pay_at_till", limit=1_000_000)
        if taken := sandbox.store.write(lambda tx: tx.calls.in_slot("till")):
            wrong.append(f"{taken} tills are taken by payments that nobody makes")
    finally:
        sandbox.cleanup()
    begun = sorted(call.dispatched_at for call in calls if call.dispatched_at is not None)
    most = shop.RATE.max
    full = [b - a for a, b in zip(begun, begun[most:], strict=False)]
    if full and min(full) < 1.0 - CLOCKS:
        wrong.append(f"{most + 1} payments began within {min(full):.3f} s")
    return wrong


def open_ledger(url: str, **settings: object) -> SandboxOrchestrator:
    """A sandbox on the ledger that starts no worker."""
    wanted = Settings().replaced({"db_url": url, **settings}, "of a scenario")
    return SandboxOrchestrator(settings=wanted)


# how long a dead process's work waits


def recovery(url: str, *, lease: float) -> Finding:
    """One dies of a claimed job beside another that has nothing to do."""
    subject = Subject("tests.support.shop:pay", shop.times, invoices())
    texts = subject.take(1)
    order = Order(target=subject.target, url=url, lease=lease)
    dying = Order(target=subject.target, url=url, lease=lease, boundary=Boundary.AFTER_CLAIM.value)
    with Victim(dying, CLOCK) as first, Victim(order, CLOCK) as other:
        first.begin()
        other.begin()
        first.enqueue("recovery", texts)
        first.work()
        _until(lambda: _state_of(first.pid) in "ZX")
        killed_at = CLOCK.now()
        other.work()
        seen = _finish(other, "recovery", lease + SOON)
    row, told = subject.judge(f"lease {lease:g} s", texts, seen, kills=1, killed_at=killed_at)
    told += unsettled(row)
    if row.slowest is None or row.slowest > lease + BEAT + 5.0:
        told.append(f"it was recovered {row.slowest} s after the kill; its lease is {lease:g} s")
    return Finding(faults=1, row=row, wrong=tuple(told))


# a process that is stopped past its lease, and wakes up


def zombie(url: str, place: Boundary) -> Finding:
    """One is stopped at ``place`` until another has finished its work; then it goes on."""
    subject = Subject("tests.support.shop:pay", shop.times, invoices())
    texts = subject.take(1)
    order = Order(target=subject.target, url=url, lease=LEASE)
    wrong = []
    with Victim(_stopping(order, place), CLOCK) as sleeper, Victim(order, CLOCK) as other:
        sleeper.begin()
        sleeper.enqueue("zombie", texts)
        sleeper.work()
        if not _until(lambda: _state_of(sleeper.pid) == "T"):
            wrong.append(f"{place} was not reached")
        other.begin()
        other.work()
        before = _finish(other, "zombie")
        os.kill(sleeper.pid, signal.SIGCONT)
        asleep = sleeper.look("zombie")  # it answers again
        if asleep is None or not _until(lambda: _state_of(sleeper.pid) != "T"):
            wrong.append("the zombie did not wake up")
        _rest(sleeper)
        after = _finish(other, "zombie")
    if [(one.state, one.settled_at) for one in before] != [(o.state, o.settled_at) for o in after]:
        wrong.append(f"the zombie overwrote what had been settled: {before} became {after}")
    row, told = subject.judge(f"stopped at {place}", texts, after, kills=1, killed_at=None)
    told += unsettled(row)
    return Finding(faults=1, row=row, wrong=(*wrong, *told))


def _stopping(order: Order, place: Boundary) -> Order:
    return Order(
        target=order.target, url=order.url, lease=order.lease, boundary=place.value, stops=True
    )


def _state_of(pid: int) -> str:
    """As the kernel calls it: ``T`` stopped, ``Z`` dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0].upper()
    except FileNotFoundError:  # dead, and its parent has heard of it
        return "Z"


def _rest(victim: Victim) -> None:
    """Wait until nothing of its ledger changes any more: two looks that agree, a lease apart."""
    before = victim.count()
    for _ in range(10):
        CLOCK.sleep(LEASE)
        now = victim.count()
        if now == before:
            return
        before = now


# a database server that goes away and comes back


def restarts(
    server: RestartingPostgres, *, times: int, seed: int, pause: float, calls: int
) -> Finding:
    """Four processes under load, while the server is stopped or crashed and started again."""
    subject = Subject("tests.support.shop:pay", shop.times, invoices())
    order = Order(target=subject.target, url=server.url, lease=LEASE, threads=2)
    chance = random.Random(seed)
    texts: list[str] = []
    with ExitStack() as stack:
        crew = [stack.enter_context(Victim(order, CLOCK)) for _ in range(4)]
        for victim in crew:
            victim.begin()
        batches = 0
        for victim in crew:
            victim.work()
        for restart in range(times):
            if crew[0].count().get(State.PENDING, 0) < calls // 2:
                more = subject.take(calls)
                crew[0].enqueue(f"batch-{batches}", more)
                texts += more
                batches += 1
            CLOCK.sleep(chance.random() * pause)
            server.stop(CRASH if restart % 2 else FAST)
            CLOCK.sleep(chance.random() * 0.5)
            server.start()
        killed_at = CLOCK.now()
        seen: list[Seen] = []
        for batch in range(batches):
            seen += _finish(crew[0], f"batch-{batch}", SOON + calls / 20)
    row, told = subject.judge("restarts", texts, seen, kills=times, killed_at=killed_at)
    told += unsettled(row)
    return Finding(faults=times, row=row, wrong=tuple(told))


# a connection that breaks between a commit and its acknowledgement


@contextmanager
def through_a_proxy(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy to the server of ``url``, and the URL that leads through it."""
    parts = urlsplit(url)
    proxy = Proxy(parts.port or 5432)
    place = parts.netloc.replace(f":{parts.port}", f":{proxy.port}")
    try:
        yield proxy, urlunsplit(parts._replace(netloc=place))
    finally:
        proxy.close()


def cut_commits(url: str, *, cuts: int, seed: int) -> Finding:
    """Jobs and direct calls, while every so often the server or the client loses a commit."""
    subject = Subject("tests.support.shop:pay", shop.times, invoices())
    chance = random.Random(seed)
    texts = subject.take(2 * cuts)
    direct = [next(invoices("DIRECT"))[0] for _ in range(cuts)]
    wrong: list[str] = []
    with through_a_proxy(url) as (proxy, detour):
        order = Order(target=subject.target, url=detour, lease=LEASE, threads=2)
        with Victim(order, CLOCK) as worker:
            worker.begin()
            worker.enqueue("cuts", texts)
            worker.work()
            for cut in range(cuts):
                proxy.lose(b"COMMIT\0", forward=chance.random() < 0.5)
                if not _until(lambda done=cut + 1: proxy.cuts >= done):
                    wrong.append("no commit was cut")
                    break
            seen = _finish(worker, "cuts")
        wrong += _call_directly(detour, proxy, direct, chance)
        faults = proxy.cuts
    wrong += [f"{one} was paid {n} times" for one in direct if (n := shop.books().count(one)) != 1]
    row, told = subject.judge("cuts", texts, seen, kills=faults, killed_at=None)
    wrong += unsettled(row)
    return Finding(faults=faults, row=row, wrong=(*wrong, *told))


def _call_directly(url: str, proxy: Proxy, direct: list[str], chance: random.Random) -> list[str]:
    """Call until each has succeeded, as a person would who is told what happened."""
    sandbox = open_ledger(url, dry_run=False, lease=LEASE)
    action = shop.declare(sandbox)
    wrong = []
    try:
        for invoice in direct:
            proxy.lose(b"COMMIT\0", forward=chance.random() < 0.5)
            if not _until(lambda invoice=invoice: _succeeds(sandbox, action, invoice)):
                wrong.append(f"{invoice}: its direct call does not succeed")
    finally:
        sandbox.cleanup()
    return wrong


def _succeeds(sandbox: SandboxOrchestrator, action: Action[..., str], invoice: str) -> bool:
    before = shop.books().count(invoice)
    try:
        return action(invoice=invoice) == f"paid {invoice}"
    except GonogoError as error:
        if error.happened == "no" and shop.books().count(invoice) > before:
            raise AssertionError(f"{invoice} was paid, and the error says no: {error}") from error
        sandbox.recovery.run_once()
        return False


# a disk without room


def full_disk(file: Path, *, calls: int) -> Finding:
    """A worker whose files may not grow for a while: what it cannot write it does not do."""
    url = f"sqlite:///{file}"
    subject = Subject("tests.support.shop:pay", shop.times, invoices())
    order = Order(target=subject.target, url=url, lease=LEASE, threads=2)
    texts = subject.take(calls)
    wrong = []
    with Victim(order, CLOCK) as worker:
        worker.begin()
        worker.enqueue("disk", texts)
        limits = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
        before = len(shop.books())
        full = file.with_name(f"{file.name}-wal").stat().st_size + ROOM
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (full, limits[1]))
        worker.work()
        if not _stalls(lambda: len(shop.books())) or not 0 < len(shop.books()) - before < calls:
            wrong.append("the disk was never full")
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, limits)
        mended_at = CLOCK.now()
        seen = _finish(worker, "disk")
    row, told = subject.judge("full disk", texts, seen, kills=1, killed_at=mended_at)
    wrong += unsettled(row)
    return Finding(faults=1, row=row, wrong=(*wrong, *told))


def _stalls(count: Callable[[], int]) -> bool:
    """Whether ``count()`` soon stays the same for two leases."""
    for _ in range(20):
        before = count()
        CLOCK.sleep(2 * LEASE)
        if count() == before:
            return True
    return False


# a job that kills whoever performs it


def poison(url: str, *, lives: int = 12) -> Finding:
    """It is given to one process after the other."""
    subject = Subject("tests.support.shop:poison", lambda arguments: 0, invoices("POISON"))
    order = Order(target=subject.target, url=url, lease=LEASE)
    texts = subject.take(1)
    deaths, seen = 0, ()
    for _ in range(lives):
        with Victim(order, CLOCK) as victim:
            victim.begin()
            victim.enqueue("poison", texts)
            victim.work()
            seen = _finish(victim, "poison")
            if seen:
                break
            deaths += 1
    attempts = subject.action.policy.retry.max_retries + 1
    row, told = subject.judge("poison", texts, seen, kills=deaths, killed_at=None)
    if deaths != attempts:
        told.append(f"it killed {deaths} processes; {attempts} attempts were allowed")
    if not (row.failed or row.unknown):
        told.append("it did not end")
    return Finding(faults=deaths, row=row, wrong=tuple(told))


def _finish(victim: Victim, trial: str, seconds: float = SOON) -> tuple[Seen, ...]:
    """The trial's calls when they are over; none when the process died of them."""
    until = CLOCK.monotonic() + seconds
    while True:
        seen = victim.look(trial)
        if seen is None:
            return ()
        if (seen and all(one.over for one in seen)) or CLOCK.monotonic() > until:
            return seen
        CLOCK.sleep(0.05)


def _until(holds: Callable[[], bool]) -> bool:
    """Whether ``holds()`` becomes true soon."""
    until = CLOCK.monotonic() + SOON
    while not holds():
        if CLOCK.monotonic() > until:
            return False
        CLOCK.sleep(0.02)
    return True
