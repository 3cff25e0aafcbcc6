"""Three durable queues on SQLite behind one small face."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

Began = Callable[[int], None]


class Queue(Protocol):
    """A queue with one kind of job: note that it began, and return its number."""

    def put(self, number: int) -> None: ...

    def put_many(self, numbers: Iterable[int]) -> None:
        """By the fastest way it has; all or none where it can."""
        ...

    def start(self, threads: int) -> None: ...

    def stop(self) -> None: ...

    def unsettled(self) -> int:
        """How many jobs have no outcome in the file yet."""
        ...


class Gonogo:
    """Ours, as it comes: every job is claimed, admitted, performed and settled on the ledger."""

    def __init__(self, folder: Path | None, began: Began, poll: float = 0.0) -> None:
        from gonogo.orchestrator import SandboxOrchestrator

        self._file = None if folder is None else folder / "gonogo.db"
        options = {"worker_interval": poll} if poll else {}
        self.sandbox = SandboxOrchestrator(
            "sqlite://" if self._file is None else f"sqlite:///{self._file}",
            use_memory_db=self._file is None,
            **options,
        )

        @self.sandbox.action("job", irreversible=False)
        def job(number: int) -> int:
            began(number)
            return number

        self._job = job
        self.sandbox.counts()

    def put(self, number: int) -> None:
        self._job.enqueue(number)

    def put_many(self, numbers: Iterable[int]) -> None:
        self._job.enqueue_many([(number,) for number in numbers])

    def start(self, threads: int) -> None:
        self.sandbox.worker.max_workers = threads
        self.sandbox.worker.start()

    def stop(self) -> None:
        self.sandbox.cleanup()

    def unsettled(self) -> int:
        return sum(n for state, n in self.sandbox.counts().items() if state != "succeeded")


class Huey:
    """``SqliteHuey(fsync=True)``: a job is taken off the file before it runs, its result kept."""

    def __init__(self, folder: Path, began: Began, poll: float = 0.0) -> None:
        from huey import SqliteHuey

        self._file = folder / "huey.db"
        self._huey = SqliteHuey(filename=str(self._file), fsync=True)
        self._poll = {"initial_delay": poll, "max_delay": poll} if poll else {}
        self._put = 0
        self._consumer: Any = None

        @self._huey.task()
        def job(number: int) -> int:
            began(number)
            return number

        self._job = job

    def put(self, number: int) -> None:
        self._job(number)
        self._put += 1

    def put_many(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.put(number)

    def start(self, threads: int) -> None:
        self._consumer = self._huey.create_consumer(workers=threads, periodic=False, **self._poll)
        self._consumer._set_signal_handlers = lambda: None
        self._consumer.start()

    def stop(self) -> None:
        if self._consumer is not None:
            self._consumer.stop(graceful=True)
        self._huey.storage.close()

    def unsettled(self) -> int:
        return self._put - self._huey.storage.result_store_size()


class Dbos:
    """DBOS: a job is a workflow on a queue whose state and result are kept."""

    POLL = 1.0

    def __init__(self, folder: Path, began: Began, poll: float = 0.0) -> None:
        from dbos import DBOS, DBOSClient

        self._file = folder / "dbos.db"
        url = f"sqlite:///{self._file}"
        with closing(sqlite3.connect(self._file)) as made:
            made.execute("PRAGMA journal_mode = WAL")
        self._client = DBOSClient(system_database_url=url)
        self._client._sys_db.run_migrations()
        self._dbos: Any = DBOS
        self._poll = poll or self.POLL
        self._config = {"name": "bench", "system_database_url": url, "run_admin_server": False}
        self._began = began

    def put(self, number: int) -> None:
        self._client.enqueue({"queue_name": "jobs", "workflow_name": "job"}, number)

    def put_many(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.put(number)

    def start(self, threads: int) -> None:
        self._dbos(config=self._config)

        @self._dbos.workflow(name="job")
        def job(number: int) -> int:
            self._began(number)
            return number

        self._dbos.launch()
        self._dbos.register_queue(
            "jobs", worker_concurrency=threads, polling_interval_sec=self._poll
        )

    def stop(self) -> None:
        self._dbos.destroy(destroy_registry=True)
        self._client.destroy()

    def unsettled(self) -> int:
        with closing(sqlite3.connect(self._file)) as look:
            wanted = "SELECT count(*) FROM workflow_status WHERE status IN ('ENQUEUED', 'PENDING')"
            count: int = look.execute(wanted).fetchone()[0]
            return count


KINDS: dict[str, type[Any]] = {"gonogo": Gonogo, "Huey": Huey, "DBOS": Dbos}


@contextmanager
def opened(kind: str, folder: Path, began: Began, poll: float = 0.0) -> Iterator[Queue]:
    """A queue on a file in ``folder``, closed in the end."""
    queue: Queue = KINDS[kind](folder, began, poll)
    try:
        yield queue
    finally:
        queue.stop()
