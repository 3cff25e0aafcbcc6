"""Ten components, each alone, and one workflow with all of them.

    python services/sandbox_examples.py

Every example prints what it shows and takes no time worth mentioning; nothing leaves the process.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

if __name__ == "__main__":  # Python puts only this file's own folder on the path of a script
    _root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(_root))
    if find_spec("gonogo") is None:  # a checkout that was not installed
        sys.path.insert(1, str(_root / "src"))

from sqlalchemy import text

from gonogo import Limit, NotApplied, Retry, current, landed
from gonogo.errors import (
    DryRunBlocked,
    NotReady,
    OutcomeUnknown,
    RateLimited,
)
from services.sandbox import (
    AlertSystem,
    DryRunLock,
    GovernorEnforcer,
    IdempotencyManager,
    RetryBackoffManager,
    SandboxDatabaseManager,
    SandboxOrchestrator,
    SandboxReadinessChecker,
    SchedulerHeartbeat,
    StructuredLogger,
    WorkerProcess,
)


def show(label: str, value: object) -> None:
    """One line of an example."""
    print(f"  {label:<52} {value}")


def database() -> None:
    """A database of one's own: what fails is rolled back, and cleanup leaves nothing behind."""
    with SandboxDatabaseManager(use_memory=True) as db:
        with db.session() as session:
            session.execute(text("CREATE TABLE note (words TEXT)"))
            session.execute(text("INSERT INTO note VALUES ('kept')"))
        try:
            with db.session() as session:
                session.execute(text("INSERT INTO note VALUES ('lost')"))
                raise RuntimeError("no")  # noqa: TRY301 - shows what becomes of the block
        except RuntimeError:
            pass
        with db.get_session() as session:
            rows = session.execute(text("SELECT words FROM note")).scalars().all()
        show("rows after a commit and a failed block", rows)
    secret = SandboxDatabaseManager("postgresql://ana:hunter2@localhost/ops")
    show("its URL, safe to print", secret.database_url)


def dry_run_lock() -> None:
    """What cannot be taken back is held back; everything else runs."""
    lock = DryRunLock()
    show("payment while locked", lock.execute("payment", lambda: "paid"))
    show("read_balance while locked", lock.execute("read_balance", lambda: 120))
    try:
        DryRunLock(strict_mode=True).execute("PAYMENT", lambda: "paid")
    except PermissionError as error:
        show("in strict mode it raises", type(error).__name__)
    lock.arm(by="ana@example.com", reason="month end", seconds=600)
    show("payment while armed for ten minutes", lock.execute("payment", lambda: "paid"))
    show("execution log", [entry["status"] for entry in lock.get_execution_log("payment")])


def worker() -> None:
    """Jobs run in threads, at once; one that fails stops nothing else."""
    begun = threading.Barrier(3)
    pool = WorkerProcess(poll_interval=5.0, max_workers=2)
    pool.start()

    def add(a: int, b: int) -> int:
        begun.wait(5)
        return a + b

    def fail() -> None:
        begun.wait(5)
        raise ValueError("no such file")

    good, bad = pool.submit_job("add", add, 2, 3), pool.submit_job("import", fail)
    begun.wait(5)
    show("stop() waits for the jobs under way", pool.stop())
    show("a good job", pool.get_job_status(good))
    show("a bad job", pool.get_job_status(bad)["error"])
    show("completed and waiting", (len(pool.completed_jobs), len(pool.job_queue)))


def heartbeat() -> None:
    """It is healthy while its beats come and its checks are well, and tells when that changes."""
    disk = {"free": True}
    beat = SchedulerHeartbeat(interval=10.0, timeout=30.0)
    beat.register_check("disk", lambda: (disk["free"], "40 GiB" if disk["free"] else "full"))
    changes: list[bool] = []
    beat.on_change(lambda healthy, status: changes.append(healthy))
    beat.start()
    show("healthy", beat.is_healthy())
    disk["free"] = False
    beat.beat_once()
    show("healthy once the disk is full", beat.is_healthy())
    show("what the check said", beat.get_health_status()["checks"]["disk"]["evidence"])
    show("listeners were told", changes)
    beat.stop()


def retry() -> None:
    """Failures that may pass are tried again, later each time; the rest is not."""
    manager = RetryBackoffManager(max_retries=3, base_delay=0.001, max_delay=0.01)
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionRefusedError("not listening yet")
        return "connected"

    show("third time lucky", manager.execute_with_retry(flaky, "connect", jitter=False))
    log = manager.get_retry_log("connect")
    show("delays between the tries (s)", [entry["delay"] for entry in log[:-1]])


def idempotency() -> None:
    """One key, one effect: whoever comes second gets the first one's answer."""
    manager = IdempotencyManager(ttl_seconds=3600)
    charged: list[int] = []

    def charge(cents: int) -> str:
        charged.append(cents)
        return f"receipt-{len(charged)}"

    show("first call", manager.process_idempotent("order-7", charge, 1200))
    show("second call, same key", manager.process_idempotent("order-7", charge, 1200))
    show("times it was really charged", len(charged))

    def lose_the_reply() -> str:
        raise TimeoutError("no reply within 5 s")

    for _ in range(2):
        try:
            manager.process_idempotent("order-8", lose_the_reply)
        except TimeoutError as error:
            show("a lost reply: the first caller gets", repr(error))
        except OutcomeUnknown as error:
            show("and the second is not allowed to guess", type(error).__name__)


def governor() -> None:
    """No window holds more than its limit; a denial takes nothing and says when to come back."""
    limits = GovernorEnforcer()
    limits.set_limit("payment", max_actions=2, window_seconds=3600)
    for number in (1, 2, 3):
        show(f"payment {number}", limits.check_limit("payment"))
    show("status", limits.get_status("payment"))
    limits.declare(Limit("budget.cents", 10_000, per="day", tz="Europe/Paris"))
    grant = limits.acquire("budget.cents", cost=8_000)
    grant.settle({"budget.cents": 6_500})
    used = limits.get_status("budget.cents")["current_actions"]
    show("budget used: 8,000 reserved, 6,500 spent", used)
    limits.halt(by="ana@example.com", reason="the provider reports an incident")
    show("after the kill switch", limits.check_limit("export")[1][:38] + "…")


def alerts() -> None:
    """Equal alerts are one row with a count; subscribers hear of each and can break nothing."""
    system = AlertSystem()
    heard: list[str] = []
    system.subscribe("payment", lambda alert: heard.append(alert["reason"]))
    system.subscribe("*", lambda alert: 1 // 0)
    for _ in range(3):
        system.alert("payment", "provider timed out", "error", {"invoice": "INV-7"})
    system.flush()
    (one,) = system.get_alerts(severity="error")
    show("rows and count", (len(system.alerts), one["count"]))
    show("heard by its subscriber", len(heard))
    show("a broken subscriber is counted", system.failures[1])
    after = system.resolve(one["id"], by="ana@example.com", reason="it is over")
    show("state after resolve", after["state"])


def logs() -> None:
    """Records carry the correlation id of what they belong to, and no secret."""
    logger = StructuredLogger()
    request = logger.log_request("/payouts", "POST", "user-3")
    record = logger.log_action("payment", invoice="INV-7", api_key="sk_live_51H8")
    show("same id in request and record", record["correlation_id"] == request)
    show("the key it was given", record["api_key"])


def readiness() -> None:
    """GO only when every check says yes in time; a person's HOLD wins over all of them."""
    checker = SandboxReadinessChecker()
    checker.register_check("database_connected", lambda: True)
    show("one check that is well", checker.evaluate().verdict.value)
    checker.register_check("provider", lambda: (False, "answers 503"))
    show("and one that is not", checker.evaluate().verdict.value)
    show("by name", checker.run_all_checks())
    checker.unregister("provider")
    checker.hold(by="ana@example.com", reason="auditors are in the house")
    show("a person said stop", checker.evaluate().verdict.value)
    try:
        checker.require("call", "payment")
    except NotReady as error:
        show("so this is refused", type(error).__name__)


def workflow() -> None:
    """Declare, rehearse, approve, apply; lose a reply; settle it by evidence; pay nobody twice."""
    books: dict[str, int] = {}
    sandbox = SandboxOrchestrator(use_memory_db=True, max_workers=2)

    @sandbox.action(
        "payment",
        key="payment:{invoice}",
        irreversible=True,
        retry=Retry(max_retries=3, base_delay=0.001, max_delay=0.01),
        limits=[Limit("payment.cents", 100_000, per="1d", cost="{cents}")],
        verify_after=0.0,
    )
    def pay(invoice: str, cents: int) -> str:
        if invoice == "INV-2" and current().attempt == 1:
            raise NotApplied("the provider said 503 before it looked")
        books[invoice] = books.get(invoice, 0) + cents
        if invoice == "INV-3":
            raise TimeoutError("the reply was lost")
        return f"receipt for {invoice}"

    @pay.verify
    def ask_the_provider(call: object) -> object:
        return landed(result="found in the provider's books")

    def payday() -> None:
        for invoice, cents in (("INV-1", 12_000), ("INV-2", 9_000), ("INV-3", 7_500)):
            pay(invoice, cents)

    with sandbox:  # initialize() now, cleanup() at the end
        show("verdict", sandbox.readiness_checker.evaluate().verdict.value)
        try:
            payday()
        except DryRunBlocked as error:
            show("without a word from anybody", type(error).__name__)
        with sandbox.rehearse("payday") as plan:
            payday()
        show("the rehearsal paid", books)
        show("the plan", plan.verdicts())
        sandbox.approve(plan, by="ana@example.com", reason="matches the ledger")
        doubtful = None
        for handle in sandbox.apply(plan):
            try:
                show(f"{handle.call().key}", handle.result(timeout=10))
            except OutcomeUnknown as error:
                doubtful = handle
                show(f"{handle.call().key}: did it happen?", error.happened)
                while handle.state() == "unknown":  # the worker looks every second; we look now
                    sandbox.recovery.run_once()
                show(f"{handle.call().key}, settled by evidence", handle.result())
        show("paid", books)
        with sandbox.rehearse("payday again") as again:
            payday()
        show("the same job once more", again.verdicts())
        sandbox.arm(by="ana@example.com", reason="one more by hand", seconds=60)
        try:
            pay("INV-4", 80_000)
        except RateLimited as error:
            show("over the day's budget", type(error).__name__)
        status = sandbox.get_status()
        show("calls by state", status["calls"])
        print("  why INV-3 did what it did:")
        for sentence in sandbox.explain(doubtful) if doubtful else ():
            print(f"    {sentence}")


EXAMPLES: tuple[Callable[[], None], ...] = (
    database,
    dry_run_lock,
    worker,
    heartbeat,
    retry,
    idempotency,
    governor,
    alerts,
    logs,
    readiness,
    workflow,
)


def main() -> None:
    """Run all examples in order."""
    for number, example in enumerate(EXAMPLES, 1):
        title = example.__name__.replace("_", " ")
        name = f"{number:>2}. {title}" if number <= 10 else "All together: one workflow"
        print(f"{name}\n    {(example.__doc__ or '').splitlines()[0]}")
        example()
        print()


if __name__ == "__main__":
    main()
