"""The stability checklist, item by item, through the door it uses: ``services.sandbox``."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
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
from sqlalchemy import text

import gonogo
from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError, OutcomeUnknown

ROOT = Path(__file__).parent.parent
NAMED = [
    "payment",
    "transfer",
    "delete_permanent",
    "external_call",
    "financial_commit",
    "data_export_external",
    "user_deletion",
    "bulk_update_production",
]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches these tests."""
    for name in list(os.environ):
        if name.startswith("SANDBOX_"):
            monkeypatch.delenv(name)


@pytest.fixture
def sandbox() -> Iterator[SandboxOrchestrator]:
    """An initialized sandbox in memory."""
    made = SandboxOrchestrator(use_memory_db=True)
    made.initialize()
    yield made
    made.cleanup()


def run_to_its_end(worker: WorkerProcess, *jobs: str) -> None:
    """Run what waits in this thread, one job after the other."""
    while worker.run_once():
        pass
    assert not {worker.get_job_status(job)["status"] for job in jobs} & {"queued", "running"}


class TestDoor:
    """``services.sandbox`` gives the very classes the pipeline uses."""

    def test_it_holds_no_copy(self) -> None:
        """Each name is the class of gonogo itself."""
        import services.sandbox as door

        assert len(door.__all__) == 11
        for name in door.__all__:
            made = getattr(door, name)
            assert made.__module__.startswith("gonogo.")
            assert getattr(gonogo, name, made) is made

    def test_the_examples_run_as_a_script(self, tmp_path: Path) -> None:
        """From anywhere, the script shows ten components and one workflow."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "services" / "sandbox_examples.py")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        titles = [line for line in done.stdout.splitlines() if line[2:4] == ". "]
        assert [int(title[:2]) for title in titles] == list(range(1, 11))
        assert "All together: one workflow" in done.stdout


class TestDatabase:
    """Component 1: ``SandboxDatabaseManager``."""

    def test_a_memory_database_answers(self) -> None:
        """With ``use_memory`` there is an engine, a URL that says so, and sessions."""
        manager = SandboxDatabaseManager(use_memory=True)
        assert manager.database_url == "sqlite:///:memory:"
        assert manager.engine is manager.engine
        session = manager.get_session()
        assert session.execute(text("SELECT 1")).scalar() == 1
        session.close()
        manager.cleanup()
        manager.cleanup()

    def test_a_failing_session_rolls_back(self) -> None:
        """What a ``with`` block wrote is gone when it raises, and kept when it commits."""
        manager = SandboxDatabaseManager(use_memory=True)
        with manager.get_session() as session:
            session.execute(text("CREATE TABLE t (n INTEGER)"))
            session.execute(text("INSERT INTO t VALUES (1)"))
            session.commit()

        def fail() -> None:
            with manager.get_session() as session:
                session.execute(text("INSERT INTO t VALUES (2)"))
                raise LookupError("no such row")

        with pytest.raises(LookupError):
            fail()
        with manager.get_session() as session:
            assert session.execute(text("SELECT n FROM t")).scalars().all() == [1]
        manager.cleanup()

    def test_a_file_by_url(self, tmp_path: Path) -> None:
        """A URL names a file that stays after cleanup."""
        url = f"sqlite:///{tmp_path}/box.db"
        manager = SandboxDatabaseManager(db_url=url)
        assert manager.database_url == url
        with manager.session() as session:
            session.execute(text("CREATE TABLE t (n INTEGER)"))
        manager.cleanup()
        assert (tmp_path / "box.db").exists()


class TestDryRunLock:
    """Component 2: ``DryRunLock``."""

    def test_locked_is_the_default(self) -> None:
        """Nobody has to remember to lock it."""
        lock = DryRunLock()
        assert (lock.dry_run, lock.strict_mode) == (True, False)

    @pytest.mark.parametrize("name", [*NAMED, "PAYMENT", "User_Deletion"])
    def test_named_actions_are_blocked(self, name: str) -> None:
        """The eight names are held back whatever their case, and their function is not called."""
        lock = DryRunLock(dry_run=True)
        called: list[int] = []
        assert lock.execute(name, called.append, 1) == {
            "dry_run": True,
            "action": name,
            "result": None,
        }
        assert called == []
        (entry,) = lock.get_execution_log(name)
        assert (entry["action"], entry["status"]) == (name, "dry_run_blocked")

    def test_others_run_with_their_arguments(self) -> None:
        """What is not irreversible runs while locked."""
        lock = DryRunLock()
        assert lock.execute("read", lambda a, b=0: a + b, 1, b=2) == 3
        assert [e["status"] for e in lock.get_execution_log()] == ["executed"]

    def test_strict_mode_raises(self) -> None:
        """Strict, a blocked action is a ``PermissionError``."""
        with pytest.raises(PermissionError, match="payment"):
            DryRunLock(strict_mode=True).execute("payment", lambda: None)

    def test_unlocked_runs_everything(self) -> None:
        """With ``dry_run=False`` the action runs and is logged as executed."""
        lock = DryRunLock(dry_run=False)
        assert lock.execute("payment", lambda: "paid") == "paid"
        assert lock.get_execution_log("payment")[0]["status"] == "executed"

    def test_errors_pass_and_are_logged(self) -> None:
        """An exception reaches the caller, and the log says error."""
        lock = DryRunLock(dry_run=False)
        with pytest.raises(ZeroDivisionError):
            lock.execute("transfer", lambda: 1 // 0)
        (entry,) = lock.get_execution_log("transfer")
        assert entry["status"] == "error"
        assert "ZeroDivisionError" in entry["error"]

    def test_the_set_can_be_extended(self) -> None:
        """More names and patterns can be made irreversible."""
        lock = DryRunLock(irreversible=["refund*"])
        lock.add("send_contract")
        for name in ("refund_all", "SEND_CONTRACT"):
            assert lock.is_irreversible(name)
            assert lock.execute(name, lambda: "done")["dry_run"] is True


class TestWorker:
    """Component 3: ``WorkerProcess``."""

    def test_defaults(self) -> None:
        """Five seconds between idle looks, one thread, not running, nothing queued or done."""
        worker = WorkerProcess()
        assert (worker.poll_interval, worker.max_workers) == (5.0, 1)
        assert not worker.is_running
        assert len(worker.job_queue) == len(worker.completed_jobs) == 0

    def test_jobs_run_in_order_and_tell_their_results(self) -> None:
        """Queued jobs wait in ``job_queue``; finished ones are counted with their results."""
        worker = WorkerProcess()
        done: list[str] = []
        first = worker.submit_job("first", done.append, "first")
        second = worker.submit_job("second", lambda n, times: n * times, 3, times=4)
        assert worker.get_job_status(first) == {"id": first, "name": "first", "status": "queued"}
        assert len(worker.job_queue) == 2
        run_to_its_end(worker, first, second)
        assert done == ["first"]
        assert worker.get_job_status(second)["result"] == 12
        assert worker.get_job_status(second)["status"] == "completed"
        assert (len(worker.job_queue), len(worker.completed_jobs)) == (0, 2)

    def test_a_failing_job_is_recorded(self) -> None:
        """A failed job keeps its error, and the next one runs."""
        worker = WorkerProcess()
        bad = worker.submit_job("bad", lambda: [][1])
        good = worker.submit_job("good", lambda: "fine")
        run_to_its_end(worker, bad, good)
        assert worker.get_job_status(bad)["status"] == "failed"
        assert "IndexError" in worker.get_job_status(bad)["error"]
        assert worker.get_job_status(good)["result"] == "fine"

    def test_an_unknown_job_says_so(self) -> None:
        """An id nobody knows is not an exception."""
        assert WorkerProcess().get_job_status("nothing") == {"status": "not_found"}

    def test_waiting_jobs_start_at_once(self) -> None:
        """The poll interval only bounds idle looks: with an hour of it, a job still runs now."""
        worker = WorkerProcess(poll_interval=3600, max_workers=2)
        worker.start()
        worker.start()
        assert worker.is_running
        ran = threading.Event()
        worker.submit_job("now", ran.set)
        assert ran.wait(10)
        assert worker.stop() is True
        assert not worker.is_running
        assert len(worker.completed_jobs) == 1
        assert worker.stop() is True

    def test_workers_run_side_by_side(self) -> None:
        """Two threads run two jobs at the same time."""
        worker = WorkerProcess(max_workers=2)
        together = threading.Barrier(3)
        worker.start()
        for name in ("a", "b"):
            worker.submit_job(name, together.wait, 10)
        together.wait(10)
        assert worker.stop()
        assert [job["status"] for job in worker.completed_jobs.values()] == ["completed"] * 2


class TestHeartbeat:
    """Component 4: ``SchedulerHeartbeat``."""

    def test_defaults(self) -> None:
        """Ten seconds between beats, thirty until one is too old; dead until started."""
        heartbeat = SchedulerHeartbeat()
        assert (heartbeat.interval, heartbeat.timeout) == (10.0, 30.0)
        assert not heartbeat.is_running
        assert not heartbeat.is_healthy()

    def test_it_beats_and_stops(self) -> None:
        """Started it is healthy with a beat behind it; stopped it is not."""
        heartbeat = SchedulerHeartbeat(interval=10.0, timeout=30.0)
        heartbeat.register_check("fine", lambda: True)
        heartbeat.start()
        status = heartbeat.get_health_status()
        assert heartbeat.is_running is status["is_running"] is True
        assert heartbeat.is_healthy() is status["is_healthy"] is True
        datetime.fromisoformat(status["last_heartbeat"])
        assert 0 <= status["seconds_since_heartbeat"] < 30
        assert status["total_checks"] == 1
        heartbeat.stop()
        heartbeat.stop()
        assert not heartbeat.is_running
        assert not heartbeat.is_healthy()

    def test_health_reflects_its_checks(self) -> None:
        """A check that says no makes it unhealthy with the next beat."""
        fine = [True]
        heartbeat = SchedulerHeartbeat()
        heartbeat.register_check("disk", lambda: fine[0])
        heartbeat.start()
        assert heartbeat.is_healthy()
        fine[0] = False
        heartbeat.beat_once()
        assert not heartbeat.is_healthy()
        heartbeat.stop()

    def test_an_old_beat_is_no_sign_of_life(self, fake_clock: FakeClock) -> None:
        """After ``timeout`` seconds without a beat it is not healthy."""
        heartbeat = SchedulerHeartbeat(interval=3600, timeout=3600, clock=fake_clock)
        heartbeat.start()
        assert heartbeat.is_healthy()
        fake_clock.advance(3601)
        assert not heartbeat.is_healthy()
        assert heartbeat.get_health_status()["seconds_since_heartbeat"] > 3600
        heartbeat.stop()


class TestRetry:
    """Component 5: ``RetryBackoffManager``."""

    @staticmethod
    def failing(times: int) -> tuple[Any, list[int]]:
        """A function that fails so many times, and the list of its calls."""
        calls: list[int] = []

        def fn(value: str = "done") -> str:
            calls.append(1)
            if len(calls) <= times:
                raise ConnectionError(f"failure {len(calls)}")
            return value

        return fn, calls

    def test_it_tries_until_it_succeeds(self, fake_clock: FakeClock) -> None:
        """A function that fails twice is called three times, with its arguments."""
        fn, calls = self.failing(2)
        manager = RetryBackoffManager(max_retries=3, base_delay=1.0, clock=fake_clock)
        assert manager.execute_with_retry(fn, "task", "value") == "value"
        assert len(calls) == 3

    def test_it_gives_up_with_the_last_error(self, fake_clock: FakeClock) -> None:
        """After ``max_retries`` retries the last exception is raised as it is."""
        fn, calls = self.failing(99)
        manager = RetryBackoffManager(max_retries=2, clock=fake_clock)
        with pytest.raises(ConnectionError, match="failure 3"):
            manager.execute_with_retry(fn, "task")
        assert len(calls) == 3
        assert manager.get_retry_log("task")[-1]["status"] == "failed"

    def test_delays_grow_and_are_capped(self, fake_clock: FakeClock) -> None:
        """Without jitter the delay is min(base · multiplier^attempt, max)."""
        fn, _ = self.failing(4)
        manager = RetryBackoffManager(4, base_delay=1.0, max_delay=5.0, clock=fake_clock)
        manager.execute_with_retry(fn, "task", backoff_multiplier=2.0, jitter=False)
        delays = [e["delay"] for e in manager.get_retry_log("task") if e["status"] == "retry"]
        assert delays == [1.0, 2.0, 4.0, 5.0]
        assert manager.get_retry_log("another") == []

    @pytest.mark.parametrize(("random", "factor"), [(0.0, 0.5), (0.5, 1.0), (0.999, 1.499)])
    def test_jitter_scales_by_half_to_one_and_a_half(
        self, fake_clock: FakeClock, random: float, factor: float
    ) -> None:
        """Jitter scales the delay by 0.5 to 1.5."""
        fn, _ = self.failing(1)
        manager = RetryBackoffManager(base_delay=2.0, clock=fake_clock, random=lambda: random)
        manager.execute_with_retry(fn, "task", jitter=True)
        assert manager.get_retry_log()[0]["delay"] == pytest.approx(2.0 * factor)


class TestIdempotency:
    """Component 6: ``IdempotencyManager``."""

    def test_one_key_runs_once(self) -> None:
        """The second call gets the first one's result without running."""
        manager = IdempotencyManager(ttl_seconds=3600)
        calls: list[int] = []
        assert not manager.is_duplicate("k")
        for _ in range(2):
            assert manager.process_idempotent("k", lambda n: calls.append(n) or n, 7) == 7
        assert calls == [7]
        assert manager.is_duplicate("k")
        assert manager.get_cached_result("k") == 7
        assert len(manager.seen_operations) == 1

    def test_keys_are_apart(self) -> None:
        """Different keys run each; an unknown key has no result."""
        manager = IdempotencyManager()
        assert [manager.process_idempotent(k, str.upper, k) for k in "ab"] == ["A", "B"]
        assert manager.get_cached_result("c") is None
        assert len(manager.seen_operations) == 2

    def test_keys_expire(self, fake_clock: FakeClock) -> None:
        """After ``ttl_seconds`` the key is free and ``clear_expired`` forgets it."""
        manager = IdempotencyManager(ttl_seconds=60, clock=fake_clock)
        manager.process_idempotent("k", lambda: "old")
        fake_clock.advance(61)
        assert not manager.is_duplicate("k")
        assert manager.get_cached_result("k") is None
        assert manager.clear_expired() == 1
        assert len(manager.seen_operations) == 0
        assert manager.process_idempotent("k", lambda: "new") == "new"

    def test_concurrent_callers_share_one_run(self) -> None:
        """Eight callers at once: one runs, all get its result."""
        manager = IdempotencyManager()
        gate, calls, results = threading.Barrier(8), [], []

        def work() -> str:
            calls.append(1)
            return "once"

        def caller() -> None:
            gate.wait(10)
            results.append(manager.process_idempotent("k", work))

        threads = [threading.Thread(target=caller) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert (len(calls), results) == (1, ["once"] * 8)

    def test_a_failure_in_doubt_is_not_repeated(self) -> None:
        """When nothing proves that it did not happen, a second caller may not run it again."""
        manager = IdempotencyManager()
        with pytest.raises(TimeoutError):
            manager.process_idempotent("k", self.time_out)
        with pytest.raises(OutcomeUnknown):
            manager.process_idempotent("k", lambda: "again")

    @staticmethod
    def time_out() -> None:
        """Fail as a lost reply does."""
        raise TimeoutError("no reply")


class TestGovernor:
    """Component 7: ``GovernorEnforcer``."""

    def test_a_limit_admits_exactly_its_number(self, fake_clock: FakeClock) -> None:
        """Three of three pass; the fourth is denied with the message and counted."""
        governor = GovernorEnforcer(clock=fake_clock)
        governor.set_limit("api", max_actions=3, window_seconds=60)
        assert len(governor.rate_limits) == 1
        assert [governor.check_limit("api")[0] for _ in range(4)] == [True, True, True, False]
        allowed, message = governor.check_limit("api")
        assert not allowed
        assert message.startswith("Rate limit exceeded")
        status = governor.get_status("api")
        assert {name: status[name] for name in status if name != "retry_after"} == {
            "resource": "api",
            "current_actions": 3,
            "max_actions": 3,
            "window_seconds": 60,
            "denied_count": 2,
        }

    def test_the_window_slides(self, fake_clock: FakeClock) -> None:
        """What is older than the window no longer counts."""
        governor = GovernorEnforcer(clock=fake_clock)
        governor.set_limit("api", 1, 60)
        assert governor.check_limit("api")[0]
        fake_clock.advance(61)
        assert governor.check_limit("api")[0]

    def test_the_default_window_is_an_hour(self) -> None:
        """``window_seconds`` is 3,600 unless given, and all limits are in ``get_status()``."""
        governor = GovernorEnforcer()
        governor.set_limit("export", 10)
        assert governor.get_status()["export"]["window_seconds"] == 3600

    def test_what_has_no_limit_is_allowed(self) -> None:
        """A resource nobody limited passes."""
        assert GovernorEnforcer().check_limit("anything")[0]

    def test_threads_never_over_admit(self) -> None:
        """Of 80 attempts by 8 threads on a limit of 50, exactly 50 pass."""
        governor = GovernorEnforcer()
        governor.set_limit("api", 50)
        allowed: list[bool] = []

        def attempt() -> None:
            allowed.extend(governor.check_limit("api")[0] for _ in range(10))

        threads = [threading.Thread(target=attempt) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert allowed.count(True) == 50


class TestAlerts:
    """Component 8: ``AlertSystem``."""

    def test_an_alert_has_its_five_fields(self) -> None:
        """The alert is returned with timestamp, task, reason, severity and context."""
        system = AlertSystem()
        alert = system.alert("payment", "declined", severity="error", context={"code": 51})
        datetime.fromisoformat(alert["timestamp"])
        assert {n: alert[n] for n in ("task", "reason", "severity", "context")} == {
            "task": "payment",
            "reason": "declined",
            "severity": "error",
            "context": {"code": 51},
        }
        assert len(system.alerts) == 1

    def test_severity_is_one_of_four(self) -> None:
        """Warning unless given; anything but the four is an error."""
        system = AlertSystem()
        assert system.alert("t", "r")["severity"] == "warning"
        for severity in ("info", "warning", "error", "critical"):
            assert system.alert("t", f"is {severity}", severity)["severity"] == severity
        with pytest.raises(ConfigurationError):
            system.alert("t", "r", "urgent")

    def test_alerts_are_filtered(self) -> None:
        """By severity, by task, and by number."""
        system = AlertSystem()
        for task, severity in (("a", "info"), ("a", "error"), ("b", "error")):
            system.alert(task, f"{task} {severity}", severity)
        assert len(system.get_alerts()) == 3
        assert len(system.get_alerts(severity="error")) == 2
        assert len(system.get_alerts(task_name="a")) == 2
        assert len(system.get_alerts("error", "a")) == 1
        assert len(system.get_alerts(limit=2)) == 2

    def test_subscribers_hear_of_their_task(self) -> None:
        """When ``alert`` returns, the task's subscriber has seen it; others have not."""
        system = AlertSystem()
        heard: list[str] = []
        system.subscribe("payment", lambda alert: heard.append(alert["reason"]))
        system.alert("payment", "declined", patience=10)
        system.alert("export", "full", patience=10)
        assert heard == ["declined"]

    def test_a_broken_subscriber_breaks_nothing(self) -> None:
        """A subscriber that raises stops neither the caller nor the others."""
        system = AlertSystem()
        heard: list[str] = []
        system.subscribe("payment", lambda alert: 1 // 0)
        system.subscribe("payment", lambda alert: heard.append(alert["severity"]))
        assert system.alert("payment", "declined", "critical", patience=10)["task"] == "payment"
        assert heard == ["critical"]


class TestLogs:
    """Component 9: ``StructuredLogger``."""

    def test_correlation_ids(self) -> None:
        """An id can be given or made, and every record carries it."""
        logger = StructuredLogger()
        assert logger.set_correlation_id("req-7") == "req-7"
        assert logger.get_correlation_id() == "req-7"
        assert logger.log_action("read")["correlation_id"] == "req-7"
        made = logger.set_correlation_id()
        assert made not in {"", "req-7"}
        assert logger.get_correlation_id() == made

    def test_a_record_says_what_and_how(self) -> None:
        """``log_action`` returns the record: name, level, time and fields."""
        record = StructuredLogger().log_action("payment", level="warning", invoice="INV-7")
        datetime.fromisoformat(record["timestamp"])
        assert (record["action"], record["level"], record["invoice"]) == (
            "payment",
            "warning",
            "INV-7",
        )

    def test_a_request_begins_a_correlation(self) -> None:
        """``log_request`` returns the id under which everything after it is logged."""
        logger = StructuredLogger()
        request = logger.log_request("/pay", "POST", "user-3")
        assert request == logger.get_correlation_id()
        assert logger.log_request("/pay", "POST", "user-3") != request

    def test_it_writes_to_the_logger_it_was_given(self, caplog: pytest.LogCaptureFixture) -> None:
        """An instance of the standard logger gets the lines."""
        import logging

        with caplog.at_level("INFO", "checklist"):
            StructuredLogger(logging.getLogger("checklist")).log_action("payment", invoice="INV-7")
        assert "payment" in caplog.text
        assert "INV-7" in caplog.text


class TestReadiness:
    """Component 10: ``SandboxReadinessChecker``."""

    def test_all_checks_must_pass(self) -> None:
        """GO needs every check; the status counts them."""
        checker = SandboxReadinessChecker()
        checker.register_check("a", lambda: True)
        assert checker.is_ready()
        checker.register_check("b", lambda: False)
        assert set(checker.checks) == {"a", "b"}
        assert checker.run_all_checks() == {"a": True, "b": False}
        assert not checker.is_ready()
        status = checker.get_status()
        datetime.fromisoformat(status["last_check"])
        assert {n: status[n] for n in status if n not in {"last_check", "evidence"}} == {
            "is_ready": False,
            "verdict": "NO-GO",
            "checks": {"a": True, "b": False},
            "total_checks": 2,
            "passed_checks": 1,
            "failed_checks": 1,
        }

    def test_a_raising_check_is_a_no(self) -> None:
        """A check that raises fails, and the others are asked all the same."""
        checker = SandboxReadinessChecker()
        checker.register_check("broken", lambda: 1 // 0)
        checker.register_check("fine", lambda: True)
        assert checker.run_all_checks() == {"broken": False, "fine": True}

    def test_a_hanging_check_is_a_no(self) -> None:
        """A check that does not answer in its time fails."""
        checker, release = SandboxReadinessChecker(), threading.Event()
        checker.register_check("hangs", lambda: release.wait(30), timeout=0.05)
        assert not checker.is_ready()
        release.set()


class TestOrchestrator:
    """All of it together: ``SandboxOrchestrator``."""

    def test_it_has_all_ten(self, sandbox: SandboxOrchestrator) -> None:
        """Each component is there under its name, and is of its class."""
        expected = {
            "db_manager": SandboxDatabaseManager,
            "dry_run_lock": DryRunLock,
            "worker": WorkerProcess,
            "heartbeat": SchedulerHeartbeat,
            "retry_manager": RetryBackoffManager,
            "idempotency_manager": IdempotencyManager,
            "governor": GovernorEnforcer,
            "alert_system": AlertSystem,
            "logger": StructuredLogger,
            "readiness_checker": SandboxReadinessChecker,
        }
        assert {name: type(getattr(sandbox, name)) for name in expected} == expected

    def test_initialize_brings_it_to_go(self) -> None:
        """Not ready before ``initialize``, ready after it, not ready after ``cleanup``."""
        sandbox = SandboxOrchestrator(use_memory_db=True)
        assert not sandbox.is_ready()
        sandbox.initialize()
        sandbox.initialize()
        assert sandbox.is_ready()
        assert sandbox.worker.is_running
        assert sandbox.heartbeat.is_running
        sandbox.cleanup()
        sandbox.cleanup()
        assert not sandbox.is_ready()
        assert not sandbox.worker.is_running
        assert not sandbox.heartbeat.is_running

    def test_any_order_is_fine(self) -> None:
        """Status and cleanup before initialize, status after cleanup, and beginning again."""
        sandbox = SandboxOrchestrator(use_memory_db=True)
        assert sandbox.get_status()["readiness"]["is_ready"] is False
        sandbox.cleanup()
        assert sandbox.get_status()["heartbeat"]["is_running"] is False
        sandbox.initialize()
        assert sandbox.is_ready()
        sandbox.cleanup()

    def test_default_limits(self, sandbox: SandboxOrchestrator) -> None:
        """Payments 100 an hour, API calls 1,000 a minute, exports 10 an hour."""
        assert {
            name: (status["max_actions"], status["window_seconds"])
            for name, status in sandbox.governor.get_status().items()
        } == {"payment": (100, 3600), "api_call": (1000, 60), "data_export": (10, 3600)}

    def test_registered_checks(self, sandbox: SandboxOrchestrator) -> None:
        """The four checks of the checklist are there and well."""
        results = sandbox.readiness_checker.run_all_checks()
        wanted = {
            "database_connected",
            "worker_running",
            "heartbeat_active",
            "governor_configured",
        }
        assert wanted <= set(results)
        assert all(results.values())

    def test_status(self, sandbox: SandboxOrchestrator) -> None:
        """The status has its seven entries, and they count what happened."""
        sandbox.alert_system.alert("t", "r")
        sandbox.idempotency_manager.process_idempotent("k", lambda: 1)
        sandbox.governor.check_limit("payment")
        ran = threading.Event()
        job = sandbox.worker.submit_job("job", ran.set)
        assert ran.wait(10)
        assert sandbox.worker.stop()
        status = sandbox.get_status()
        assert sandbox.worker.get_job_status(job)["status"] == "completed"
        assert status["readiness"]["checks"]["database_connected"] is True
        assert status["heartbeat"]["is_running"] is True
        assert status["governor"]["payment"]["current_actions"] == 1
        assert status["worker_queue_length"] == 0
        assert status["completed_jobs"] == 1
        assert status["alerts"] == 1
        assert status["idempotent_operations"] == 1

    def test_threads(self) -> None:
        """N workers take N + 2 threads: the workers, their keeper, and the heartbeat."""
        before = set(threading.enumerate())

        def ours() -> list[str]:
            new = set(threading.enumerate()) - before
            return sorted(t.name for t in new if not t.name.startswith("gonogo-check"))

        sandbox = SandboxOrchestrator(use_memory_db=True, max_workers=3)
        assert ours() == []
        sandbox.initialize()
        assert len(ours()) == 3 + 2, ours()
        sandbox.cleanup()
        assert ours() == []

    def test_two_share_nothing(self, sandbox: SandboxOrchestrator) -> None:
        """What one does, the other does not see."""
        other = SandboxOrchestrator(use_memory_db=True)
        sandbox.idempotency_manager.process_idempotent("k", lambda: 1)
        sandbox.alert_system.alert("t", "r")
        sandbox.governor.set_limit("mine", 1)
        assert not other.idempotency_manager.is_duplicate("k")
        assert other.alert_system.alerts == []
        assert "mine" not in other.governor.rate_limits

    def test_a_direct_payment_is_locked(self, sandbox: SandboxOrchestrator) -> None:
        """The lock of the checklist is the lock of the pipeline."""

        @sandbox.action("payment", key="payment:{invoice}")
        def pay(invoice: str) -> str:
            return f"paid {invoice}"

        with pytest.raises(PermissionError):
            pay("INV-1")
        assert sandbox.dry_run_lock.get_execution_log("payment")[0]["status"] == "dry_run_blocked"
        sandbox.arm(by="ana@example.com", reason="test", seconds=60)
        assert pay("INV-1") == "paid INV-1"
        assert sandbox.governor.get_status("payment")["current_actions"] == 1
        assert sandbox.dry_run_lock.get_execution_log("payment")[-1]["status"] == "executed"


class TestEnvironment:
    """Settings come from ``SANDBOX_*``."""

    @pytest.mark.parametrize(
        ("variable", "value", "field", "expected"),
        [
            ("SANDBOX_USE_MEMORY_DB", "true", "use_memory_db", True),
            ("SANDBOX_WORKER_INTERVAL", "1.5", "worker_interval", 1.5),
            ("SANDBOX_MAX_WORKERS", "4", "max_workers", 4),
            ("SANDBOX_HEARTBEAT_INTERVAL", "2", "heartbeat_interval", 2.0),
            ("SANDBOX_HEARTBEAT_TIMEOUT", "60", "heartbeat_timeout", 60.0),
            ("SANDBOX_PAYMENT_LIMIT", "7", "payment_limit", 7),
            ("SANDBOX_PAYMENT_WINDOW", "60", "payment_window", 60.0),
            ("SANDBOX_API_LIMIT", "8", "api_limit", 8),
            ("SANDBOX_API_WINDOW", "9", "api_window", 9.0),
            ("SANDBOX_EXPORT_LIMIT", "3", "data_export_limit", 3),
            ("SANDBOX_EXPORT_WINDOW", "5", "data_export_window", 5.0),
        ],
    )
    def test_a_variable_sets_its_field(
        self,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
        value: str,
        field: str,
        expected: object,
    ) -> None:
        """Each variable is read in the type of its setting."""
        monkeypatch.setenv(variable, value)
        assert getattr(SandboxOrchestrator().settings, field) == expected

    def test_they_reach_the_components(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The settings are those of the components."""
        for name, value in (
            ("WORKER_INTERVAL", "1.5"),
            ("MAX_WORKERS", "4"),
            ("HEARTBEAT_INTERVAL", "2"),
            ("HEARTBEAT_TIMEOUT", "6"),
            ("PAYMENT_LIMIT", "7"),
        ):
            monkeypatch.setenv(f"SANDBOX_{name}", value)
        sandbox = SandboxOrchestrator(use_memory_db=True)
        sandbox.initialize()
        assert (sandbox.worker.poll_interval, sandbox.worker.max_workers) == (1.5, 4)
        assert (sandbox.heartbeat.interval, sandbox.heartbeat.timeout) == (2.0, 6.0)
        assert sandbox.governor.get_status("payment")["max_actions"] == 7
        sandbox.cleanup()

    def test_a_database_by_url(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """``SANDBOX_DB_URL`` names the ledger, and another sandbox finds it again."""
        monkeypatch.setenv("SANDBOX_DB_URL", f"sqlite:///{tmp_path}/ops.db")
        one = SandboxOrchestrator()
        one.idempotency_manager.process_idempotent("k", lambda: {"n": 1})
        one.cleanup()
        other = SandboxOrchestrator()
        assert other.idempotency_manager.get_cached_result("k") == {"n": 1}
        other.cleanup()

    def test_an_argument_wins(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """``use_memory_db=True`` in the code is stronger than a URL in the environment."""
        monkeypatch.setenv("SANDBOX_DB_URL", f"sqlite:///{tmp_path}/ops.db")
        sandbox = SandboxOrchestrator(use_memory_db=True)
        sandbox.initialize()
        assert sandbox.is_ready()
        assert sandbox.db_manager.database_url == "sqlite:///:memory:"
        sandbox.cleanup()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("SANDBOX_MAX_WORKER", "4"),
            ("SANDBOX_MAX_WORKERS", "many"),
            ("SANDBOX_PAYMENT_LIMIT", "0"),
        ],
    )
    def test_a_wrong_setting_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
    ) -> None:
        """A variable that is misspelled, of the wrong type or out of range is refused at once."""
        monkeypatch.setenv(variable, value)
        with pytest.raises(ConfigurationError):
            SandboxOrchestrator()


class TestWorkflow:
    """One day with all components on one ledger."""

    @pytest.mark.parametrize("durable", [False, True], ids=["memory", "sqlite"])
    def test_rehearse_approve_apply(self, tmp_path: Path, durable: bool) -> None:
        """Nothing happens in the rehearsal; afterwards exactly the plan does, once."""
        where: dict[str, Any] = {"use_memory_db": True}
        if durable:
            where = {"db_url": f"sqlite:///{tmp_path}/ops.db"}
        paid: list[str] = []
        with SandboxOrchestrator(**where) as sandbox:

            @sandbox.action("payment", key="payment:{invoice}")
            def pay(invoice: str) -> str:
                paid.append(invoice)
                return f"receipt {invoice}"

            with sandbox.rehearse("payday") as plan:
                for invoice in ("INV-1", "INV-2", "INV-1"):
                    pay(invoice)
            assert paid == []
            assert plan.verdicts() == {"new": 2, "duplicate": 1}
            sandbox.approve(plan, by="ana@example.com", reason="checked")
            handles = sandbox.apply(plan)
            assert [h.result(timeout=30) for h in handles] == ["receipt INV-1", "receipt INV-2"]
            assert sorted(paid) == ["INV-1", "INV-2"]
            with sandbox.rehearse("payday") as again:
                pay("INV-2")
            assert again.verdicts() == {"done": 1}


def test_a_python_without_gonogo_is_told_what_to_do() -> None:
    """The door says which Python to use when the library behind it is not installed."""
    code = (
        "import sys; sys.modules['gonogo'] = None\n"
        "try:\n    import services.sandbox\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert ".venv/bin/python" in done.stdout
