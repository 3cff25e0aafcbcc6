"""Queues on PostgreSQL: taking jobs in, working them off, picking one up, and doing nothing."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psutil
import psycopg
from tests.support.postgres import plain

from benchmarks.measure import (
    NUMBER,
    RATE,
    Effort,
    Measure,
    Scene,
    Stage,
    Target,
    Together,
    repeated,
)
from benchmarks.pg import servers
from benchmarks.pg.celery_queue import OnRedis
from benchmarks.pg.crew import Crew
from benchmarks.pg.dbos_queue import Dbos
from benchmarks.pg.floor import Floor
from benchmarks.pg.ours import Ours
from benchmarks.pg.pgqueuer import Pgqueuer
from benchmarks.pg.procrastinate import Procrastinate
from benchmarks.pg.queue import Queue

OURS, PGQUEUER, PROCRASTINATE = "gonogo", "PgQueuer", "Procrastinate"
DBOS, CELERY, CELERY_DEFAULT = "DBOS", "Celery, Redis", "Celery, Redis, nothing on disk"
FLOOR = "floor: one connection"
BATCHES = "floor: our rows written twice, in batches"
BARE = "floor: our row, bare driver"
THREADS = 4
"""Of one process of ours where it is to be fast; short jobs are begun together by each."""
TASKS = 32
"""Of Procrastinate, at once."""
FAST = (OURS, PGQUEUER, BATCHES)
"""They have so many more jobs to work off that it takes them about as long as the others."""
_COMES_TO_REST = 11.0
"""Seconds after which every session has told PostgreSQL what it did before; it may take ten."""
IDLE_HANDS = {"ours": 1, "procrastinate": 1, "pgqueuer": 10, "dbos_queue": 1000}
"""Each one's default, of threads, tasks, a batch, and milliseconds between two looks."""
SLOW = (DBOS, CELERY, CELERY_DEFAULT)
"""They have no batch."""
COMMITS = (
    "every contender commits with synchronous_commit on, except that gonogo's claims and settles "
    "are off by design (lost by a crash of the server they are found again); Redis with "
    "appendonly and appendfsync always, beside its default"
)


class Contender:
    """A queue with its module, and how its workers are set where they are to be fast."""

    def __init__(self, queue: Queue, module: str, url: str, hands: int) -> None:
        self.queue, self.module, self.url, self.hands = queue, module, url, hands

    def crew(self, processes: int, hands: int | None = None) -> Crew:
        if isinstance(self.queue, OnRedis):
            return Crew(self.module, self.url, 1, processes)
        return Crew(self.module, self.url, processes, hands or self.hands)


@contextmanager
def _contenders() -> Iterator[dict[str, Contender]]:
    """All of them on one server, each in a database of its own."""
    with ExitStack() as stack:
        fresh = stack.enter_context(servers.databases())
        durable = stack.enter_context(servers.broker(durable=True))
        default = stack.enter_context(servers.broker(durable=False))

        def on_postgres(queue: Callable[[str], Queue], module: str, hands: int) -> Contender:
            url = plain(fresh())
            return Contender(queue(url), module, url, hands)

        found = {
            OURS: on_postgres(Ours, "ours", THREADS),
            PGQUEUER: on_postgres(Pgqueuer, "pgqueuer", 100),
            PROCRASTINATE: on_postgres(Procrastinate, "procrastinate", TASKS),
            DBOS: on_postgres(Dbos, "dbos_queue", 100),
            CELERY: Contender(OnRedis(durable), "celery_queue", durable, 1),
            CELERY_DEFAULT: Contender(OnRedis(default), "celery_queue", default, 1),
            FLOOR: on_postgres(Floor, "floor", 1),
        }
        for contender in found.values():
            stack.callback(contender.queue.close)
        yield found


@contextmanager
def _bookkeeping() -> Iterator[Contender]:
    """Our queue and a worker of the bare driver, on a server where no worker of ours takes jobs."""
    with servers.database() as url:
        queue = Ours(url)
        try:
            yield Contender(queue, "bookkeeping", url, 1)
        finally:
            queue.close()


@contextmanager
def _enqueue(effort: Effort) -> Iterator[Scene]:
    times = effort.of(100, 500)
    with _contenders() as contenders:
        yield Scene(
            "queue one job, PostgreSQL",
            f"{times} a round, one after the other, each committed; {servers.SETTINGS}; {COMMITS}",
            {name: repeated(c.queue.put, times) for name, c in contenders.items()},
            [Target(OURS, PGQUEUER, 1.0)],
            RATE,
        )


@contextmanager
def _enqueue_many(effort: Effort) -> Iterator[Scene]:
    size, few = effort.of(1000, 10_000), effort.of(500, 2000)

    def measure(put: Callable[[range], object], size: int = size) -> Measure:
        once = repeated(lambda n: put(range(n * size, (n + 1) * size)), 1)
        return lambda: once() / size

    with _contenders() as contenders:
        rows = {
            name: measure(c.queue.put_many, few if name in SLOW else size)
            for name, c in contenders.items()
        }
        floor = contenders[FLOOR].queue
        rows["floor: executemany"] = rows.pop(FLOOR)
        rows["floor: COPY"] = measure(floor.copy)
        yield Scene(
            "queue many jobs, PostgreSQL",
            f"{size} in one batch by each one's own way, {few} of those that have none (DBOS: one "
            f"transaction; Celery: one producer); {servers.SETTINGS}; {COMMITS}",
            rows,
            [Target(OURS, PGQUEUER, 1.0)],
            RATE,
            rounds=effort.few,
        )


def _process(processes: int) -> Stage:
    @contextmanager
    def stage(effort: Effort) -> Iterator[Scene]:
        many = effort.of(5000, 20_000) * (1 if processes == 1 else 2)
        few = effort.of(700, 3000)
        workers = "1 worker process" if processes == 1 else f"{processes} worker processes"

        def measure(name: str, queue: Queue, crew: Crew) -> Measure:
            jobs = many if name in FAST else few

            def drained() -> float:
                crew.go_on()
                try:
                    crew.drain(queue, 100)
                    return crew.drain(queue, jobs) / jobs
                finally:
                    crew.pause()

            return drained

        with _contenders() as contenders, ExitStack() as stack:
            ours = contenders[OURS]
            contenders[BATCHES] = Contender(ours.queue, "bookkeeping", ours.url, 100)
            if processes > 1:
                del contenders[CELERY_DEFAULT]  # one process shows what the disk takes of it
            crews = _parked_crews(contenders, stack, processes)
            yield Scene(
                f"work off queued jobs, PostgreSQL, {workers}",
                f"{few:,} trivial jobs to the last one settled, {many:,} of the fastest three; "
                f"2 cores for the workers and the server; gonogo with {THREADS} threads a process, "
                "PgQueuer asyncpg, uvloop and batches of 100, Procrastinate async with concurrency "
                f"{TASKS}, DBOS polling each 100 ms, Celery prefork with acks_late; "
                f"{servers.SETTINGS}; {COMMITS}",
                {name: measure(name, contenders[name].queue, crew) for name, crew in crews.items()},
                [
                    *(Target(OURS, peer, 1 / 2) for peer in (PGQUEUER, PROCRASTINATE, DBOS)),
                    Target(OURS, CELERY, 1 / 3),
                ],
                RATE,
                rounds=effort.few,
                fresh=True,
            )

    return stage


@contextmanager
def _pickup(effort: Effort) -> Iterator[Scene]:
    times, of_dbos = effort.of(25, 200), effort.of(2, 5)

    def measure(contender: Contender, crew: Crew, times: int) -> Callable[[], Mapping[str, float]]:
        def picked() -> Mapping[str, float]:
            waits = []
            for number in range(times):
                time.sleep(random.uniform(0.005, 0.03))
                asked = time.perf_counter()
                contender.queue.put(number)
                waits.append(crew.hear(1)[0] - asked)
            return _cuts(waits)

        return picked

    with _contenders() as contenders, ExitStack() as stack:
        floor = contenders.pop(FLOOR).queue
        peers = [peer for peer in contenders if peer != OURS]
        contenders[BARE] = stack.enter_context(_bookkeeping())
        rows = {"floor: two commits": _commits(floor, times)}
        for name, crew in _idle_crews(contenders, stack).items():
            rows[name] = measure(contenders[name], crew, of_dbos if name == DBOS else times)
        yield Scene(
            "an idle worker picks a job up, PostgreSQL",
            f"{times} jobs a round (DBOS {of_dbos}), from before it is queued until it begins; "
            "each side's worker at its defaults; gonogo, PgQueuer "
            "and Procrastinate hear of it by LISTEN/NOTIFY, Celery by BRPOP, DBOS polls every "
            f"second; {servers.SETTINGS}; {COMMITS}",
            rows,
            [
                Target(f"{OURS} p95", None, 0.005),
                *(Target(f"{OURS} p95", f"{peer} p95", 1.0) for peer in peers),
            ],
            rounds=effort.few,
            fresh=True,
        )


@contextmanager
def _idle(effort: Effort) -> Iterator[Scene]:
    seconds = effort.of(6, 30)
    with _contenders() as contenders, ExitStack() as stack:
        contenders.pop(FLOOR)
        crews = _idle_crews(contenders, stack)
        time.sleep(_COMES_TO_REST)
        together = Together(lambda: _spent(crews, contenders, seconds))
        yield Scene(
            "a worker process that has nothing to do, PostgreSQL",
            f"the same {seconds} s of a round for all, one process each at its defaults: "
            "hundredths of a core, and transactions a second on its database; both of Celery's "
            "processes together",
            {name: together.of(name) for name in crews},
            [Target(f"{OURS} core %", None, 0.5), Target(f"{OURS} queries/s", None, 2.0)],
            NUMBER,
            rounds=effort.of(1, 3),
            fresh=True,
        )


def _idle_crews(contenders: Mapping[str, Contender], stack: ExitStack) -> dict[str, Crew]:
    """A process of each at its defaults, warm."""
    crews = _started(contenders, stack, lambda c: c.crew(1, IDLE_HANDS.get(c.module)))
    for name, crew in crews.items():
        queue = contenders[name].queue
        crew.drain(queue, 20)
        queue.put(0)
        crew.hear(1)
    return crews


def _parked_crews(
    contenders: Mapping[str, Contender], stack: ExitStack, processes: int
) -> dict[str, Crew]:
    """So many processes of each, warm and stopped: who is measured goes on."""
    crews = _started(contenders, stack, lambda contender: contender.crew(processes))
    for crew in crews.values():
        crew.pause()  # two of them share a queue
    for name, crew in crews.items():
        crew.go_on()
        crew.drain(contenders[name].queue, 100)
        crew.pause()
    return crews


def _started(
    contenders: Mapping[str, Contender], stack: ExitStack, crew: Callable[[Contender], Crew]
) -> dict[str, Crew]:
    """A crew of each, started side by side; ended with ``stack``."""
    crews = {name: crew(contender) for name, contender in contenders.items()}
    for each in crews.values():
        stack.push(each)
    for each in crews.values():
        each.__enter__()
    return crews


def _commits(queue: Queue, times: int) -> Callable[[], Mapping[str, float]]:
    """What is to be on the disk before a job begins: that it is wanted, and that it begins."""

    def committed() -> Mapping[str, float]:
        waits = []
        for number in range(times):
            time.sleep(random.uniform(0.005, 0.03))
            began = time.perf_counter()
            queue.put(number)
            queue.put(number)
            waits.append(time.perf_counter() - began)
        return _cuts(waits)

    return committed


def _cuts(waits: list[float]) -> Mapping[str, float]:
    cuts = statistics.quantiles(waits, n=20, method="inclusive")
    return {"p50": cuts[9], "p95": cuts[18]}


def _spent(
    crews: Mapping[str, Crew], contenders: Mapping[str, Contender], seconds: float
) -> dict[str, Mapping[str, float]]:
    def so_far() -> dict[str, tuple[float, int | None]]:
        return {n: (_cpu(crew), _transactions(contenders[n].url)) for n, crew in crews.items()}

    before = so_far()
    time.sleep(seconds)
    found: dict[str, Mapping[str, float]] = {}
    for name, (cpu, asked) in so_far().items():
        used, known = before[name]
        found[name] = {"core %": 100 * (cpu - used) / seconds}
        if asked is not None and known is not None:
            found[name]["queries/s"] = (asked - known) / seconds
    return found


def _cpu(crew: Crew) -> float:
    """Of its processes and of theirs, so far."""
    processes = [psutil.Process(process.pid) for process in crew.processes]
    processes += [child for process in processes for child in process.children(recursive=True)]
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def _transactions(url: str) -> int | None:
    """Of all sessions on the database so far; each tells within ten seconds."""
    if not url.startswith("postgresql"):
        return None
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database "
            "WHERE datname = current_database()"
        ).fetchone()
        return found[0]


SCENES: dict[str, Stage] = {
    "enqueue.postgres": _enqueue,
    "enqueue_many.postgres": _enqueue_many,
    "process.postgres": _process(1),
    "process4.postgres": _process(4),
    "pickup.postgres": _pickup,
    "idle.postgres": _idle,
}
