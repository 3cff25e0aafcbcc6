"""The one assembly point: settings → store, components, pipeline. No globals."""

from __future__ import annotations

import os
import random as _random
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from gonogo.action import Action
from gonogo.alerts import AlertSystem
from gonogo.arguments import MAX_BYTES
from gonogo.backoff import Retry
from gonogo.checks import Checks
from gonogo.clock import Clock, LedgerClock
from gonogo.closings import Closings
from gonogo.decisions import Resolution
from gonogo.delivery import Delivery
from gonogo.dry_run import DryRunLock
from gonogo.durations import parse_duration
from gonogo.errors import ConfigurationError
from gonogo.events import EventBus, control_changed
from gonogo.governor import GovernorEnforcer
from gonogo.handle import Handle
from gonogo.heartbeat import SchedulerHeartbeat
from gonogo.idempotency import IdempotencyManager
from gonogo.jobs import Jobs
from gonogo.limits import Concurrency, Limit
from gonogo.logs import StructuredLogger
from gonogo.observers import (
    alert_on_refusals,
    alert_on_sickness,
    close_ended_halts,
    close_settled_doubts,
    log_events,
)
from gonogo.owner import Owner
from gonogo.pauses import PREFIX as PAUSE
from gonogo.pauses import QueueStatus, clear_pause, look_at_queues, set_pause
from gonogo.pings import Ping
from gonogo.pipeline import Pipeline
from gonogo.plan import Cancelled, Plan
from gonogo.planner import Planner
from gonogo.policy import Classifier, KeyTemplate, Policy
from gonogo.readiness import SandboxReadinessChecker
from gonogo.records import Call, CallFilter, Control, Decision, PlanRecord, PlanState, State
from gonogo.recovery import Recovery
from gonogo.retry import RetryBackoffManager
from gonogo.router import Router
from gonogo.schedule import CatchUp, Declared, Rhythm, Tick
from gonogo.scheduler import Scheduler
from gonogo.secrets import describe
from gonogo.settings import DEFAULT_LIMITS, Settings
from gonogo.store import open_store
from gonogo.store.port import Store
from gonogo.timetable import ScheduleStatus, Timetable
from gonogo.worker import WorkerProcess

if TYPE_CHECKING:
    import logging
    from pathlib import Path

    from gonogo.database import SandboxDatabaseManager

P = ParamSpec("P")
R = TypeVar("R")


class SandboxOrchestrator:
    """The sandbox: declare actions, rehearse jobs, approve plans, let workers carry them out.

    ::

        sandbox = SandboxOrchestrator("sqlite:///ops.db")

        @sandbox.action("payment", key="payment:{invoice}", irreversible=True)
        def pay(invoice: str, cents: int) -> str: ...

    Locked (dry-run) until a plan is approved or `arm` is called. Nothing is opened or started
    before it is needed; two orchestrators share nothing but a ledger they both name.

    Args:
        db_url: the ledger; without one (and without ``SANDBOX_DB_URL``) it lives in memory.
        settings: ready-made settings; then neither the environment nor a file is read.
        config: a TOML file with a table ``[gonogo]``.
        store: a ledger of your own instead, such as `gonogo.testing.FaultyStore`.
        overrides: any field of `Settings`.
    """

    def __init__(
        self,
        db_url: str | None = None,
        *,
        settings: Settings | None = None,
        config: str | Path | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] | None = None,
        logger_instance: logging.Logger | None = None,
        store: Store | None = None,
        **overrides: Any,
    ) -> None:
        if db_url is not None:
            overrides["db_url"] = db_url
        base = settings or Settings.load(os.environ, file=config)
        self.settings = base.replaced(overrides, "as an argument")
        self.clock: Clock = clock or LedgerClock(self._database_time)
        self.events = EventBus()
        self._database: SandboxDatabaseManager | None = None
        self._random = random or _random.random
        self.started = False
        self._mutex = threading.RLock()
        self._own_database = store is None
        self.store: Store = store if store is not None else self._open_store()
        self._make_components(logger_instance, clock)
        self._join_components()

    def _database_time(self) -> float | None:
        return self.store.time()

    def _open_store(self) -> Store:
        url = None if self.settings.use_memory_db else self.db_manager.url
        return open_store(url, self.settings.environment)

    def _make_components(self, logger_instance: logging.Logger | None, given: Clock | None) -> None:
        s, clock, store, events = self.settings, self.clock, self.store, self.events
        self.logger = StructuredLogger(logger_instance, clock=given, level=s.log_level)
        self.dry_run_lock = DryRunLock(s.dry_run, s.strict, store=store, clock=clock, events=events)
        self.retry_manager = RetryBackoffManager(
            s.max_retries, s.base_delay, s.max_delay, clock=clock, random=self._random
        )
        self.idempotency_manager = IdempotencyManager(s.idempotency_ttl, store=store, clock=clock)
        self.governor = GovernorEnforcer(store=store, clock=clock, events=events)
        self.alert_system = AlertSystem(
            store=store, clock=clock, events=events, max_alerts=s.max_alerts
        )
        self.readiness_checker = SandboxReadinessChecker(clock=clock, store=store, events=events)
        self._owner = Owner()
        self.heartbeat = SchedulerHeartbeat(
            s.heartbeat_interval,
            s.heartbeat_timeout,
            clock=clock,
            store=store,
            name=f"heartbeat {self._owner}",
        )
        if s.log_json is not None:
            self.logger.configure(json=s.log_json)

    def _join_components(self) -> None:
        s = self.settings
        self.pipeline = Pipeline(
            store=self.store,
            clock=self.clock,
            lock=self.dry_run_lock,
            keys=self.idempotency_manager,
            governor=self.governor,
            readiness=self.readiness_checker,
            alerts=self.alert_system,
            logger=self.logger,
            events=self.events,
            random=self._random,
            owner=self._owner,
        )
        self.recovery = Recovery(self.pipeline)
        self.delivery = Delivery(
            self.pipeline,
            self.recovery,
            lease=s.lease,
            queues=s.queue_names,
            retention=s.retention,
        )
        self.worker = WorkerProcess(
            s.worker_interval,
            s.max_workers,
            delivery=self.delivery,
            durable=self.store.shared,
            clock=self.clock,
            logger=self.logger,
            events=self.events,
        )
        self._deliverers = [self.worker.wake]
        self._endings: list[Callable[[], object]] = []
        self.jobs = Jobs(self.pipeline, wake=self._deliver, lease=s.lease)
        self.scheduler = Scheduler(
            store=self.store,
            clock=self.clock,
            jobs=self.jobs,
            alerts=self.alert_system,
            events=self.events,
            logger=self.logger,
            wake=self._deliver,
        )
        self.timetable = Timetable(
            self.store,
            self.clock,
            self.events,
            prepare=self.scheduler.prepare,
            wake=self._wake,
        )
        self.planner = Planner(self.pipeline, self.jobs, wake=self._deliver, ledger=self.ledger)
        self._router = Router(self.pipeline, self.jobs, self.planner)
        log_events(self.events, self.logger)
        alert_on_refusals(self.events, self.alert_system, self.clock)
        closings = Closings(self.store, self.clock, self.alert_system, retention=s.retention)
        close_settled_doubts(self.events, closings)
        close_ended_halts(self.events, closings)
        alert_on_sickness(self.heartbeat, self.alert_system)
        self.checks = Checks(self)

    @property
    def owner(self) -> str:
        """Who this process is, as the ledger knows it."""
        return self._owner.name

    @property
    def ledger(self) -> str:
        """Where the ledger is: its URL, a file's path absolute and without a password; memory."""
        if not self._own_database:
            return repr(self.store)
        return "memory" if self.settings.use_memory_db else self.db_manager.database_url

    def __repr__(self) -> str:
        return f"<SandboxOrchestrator on {self.ledger}>"

    # declaring

    def action(
        self,
        name: str,
        *,
        irreversible: bool | None = None,
        key: KeyTemplate | None = None,
        repeatable: bool | None = None,
        retry: Retry | None = None,
        timeout: float | None = 30.0,
        deadline: float | None = None,
        limits: Iterable[Limit] = (),
        concurrency: int | Concurrency | Iterable[Concurrency] = (),
        ordered: KeyTemplate | None = None,
        needs_approval: bool = False,
        secrets: Iterable[str] = (),
        queue: str = "default",
        priority: int = 0,
        key_ttl: float | None = None,
        verify_after: float | None = None,
        in_flight: Literal["raise", "wait"] = "raise",
        classify: Classifier | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> Callable[[Callable[P, R]], Action[P, R]]:
        """Declare a function as an action. See `Policy` for what each keyword means.

        ``irreversible`` must be said, unless the name is in the lock's named set. ``key`` is
        required then. ``repeatable`` is ``not irreversible`` unless said; ``verify_after`` is the
        time-out unless said.

        Raises `ConfigurationError` at the declaration for whatever does not fit together.
        """
        if not isinstance(name, str):
            raise ConfigurationError(
                "an action is declared with its name: @sandbox.action('payment', irreversible=...)"
            )
        declared = irreversible
        if declared is None:
            if not self.dry_run_lock.is_irreversible(name):
                raise ConfigurationError(
                    f"action {name!r}: say irreversible=True (it cannot be taken back: locked in "
                    "dry-run, needs a key) or irreversible=False; silence is not permission"
                )
            declared = True
        policy = Policy(
            name=name,
            irreversible=declared,
            repeatable=not declared if repeatable is None else repeatable,
            key=key,
            ordered=ordered,
            retry=retry or Retry(),
            timeout=timeout,
            deadline=deadline,
            limits=tuple(limits),
            concurrency=_slots(concurrency),
            needs_approval=needs_approval,
            queue=queue,
            priority=priority,
            key_ttl=key_ttl,
            verify_after=verify_after if verify_after is not None else (timeout or 30.0),
            in_flight=in_flight,
            classify=classify,
        )

        def declare(fn: Callable[P, R]) -> Action[P, R]:
            made = Action(fn, policy, self._router, secrets=secrets, max_bytes=max_bytes)
            with self._mutex:
                if name in self.pipeline.actions:
                    raise ConfigurationError(
                        f"action {name!r} is declared twice; names are what keys are scoped by"
                    )
                for limit in policy.limits:
                    self.governor.declare(limit)
                self.pipeline.actions[name] = made
            return made

        return declare

    def schedule(
        self,
        name: str,
        action: Action[..., Any],
        *,
        cron: str | None = None,
        every: str | float | None = None,
        tz: str = "UTC",
        arguments: Mapping[str, Any] | Callable[[Tick], Mapping[str, Any]] | None = None,
        catch_up: CatchUp = "one",
        grace: str | float = 60.0,
        ping: str | Ping | None = None,
    ) -> None:
        """Queue a call of ``action`` at every tick: one, over any number of processes.

        Declare it in every process that may tick it, before `initialize`; while none of them runs
        it is overdue, and told. See `Rhythm` for how ticks are reckoned.

        Args:
            cron: five fields, read by the wall clock of ``tz``.
            every: seconds, or a duration such as ``"15m"``, instead of ``cron``.
            arguments: what the action is called with, or a function of the `Tick` that says so.
            catch_up: of ticks that nobody made in time: ``skip`` lets them go, ``one`` makes the
                last of them, ``all`` makes each.
            grace: seconds, or a duration, after which a tick counts as missed, as does one that
                is let go; an alert says so.
            ping: the address of a monitor to call when its calls begin and end; see `Ping`.

        Raises:
            ConfigurationError: what does not fit together, or a name that is declared already.
        """
        if not any(action is one for one in self.pipeline.actions.values()):
            raise ConfigurationError(
                f"schedule {name!r}: {action!r:.100} is not an action of this sandbox; declare it "
                "with @sandbox.action(...) first"
            )
        self.scheduler.declare(
            Declared(
                name=name,
                action=action,
                rhythm=Rhythm(name, cron=cron, every=every, tz=tz),
                tz=tz,
                arguments={} if arguments is None else arguments,
                catch_up=catch_up,
                grace=parse_duration(grace),
                ping=Ping.of(ping),
            )
        )
        self.heartbeat.register_check("scheduler", self.scheduler.check)
        if self.started:
            self.scheduler.start()

    @property
    def actions(self) -> Mapping[str, Action[Any, Any]]:
        """The declared actions by name."""
        return dict(self.pipeline.actions)

    # rehearse, approve, apply

    def rehearse(
        self, name: str, *, expires_in: float | None = None
    ) -> AbstractContextManager[Plan]:
        """Run the block in dry-run, recording what it would do; see `Planner.rehearse`."""
        self.set_default_limits()  # a worker goes by them, so a plan must know them
        ttl = self.settings.plan_ttl if expires_in is None else expires_in
        return self.planner.rehearse(name, expires_in=ttl)

    def approve(self, target: Plan | Handle | str, *, by: str, reason: str) -> PlanRecord | Call:
        """A person's yes to a plan, or to a single call that needs it. Ids are fine too."""
        if isinstance(target, Handle):
            return self.jobs.approve(target.id, by=by, reason=reason)
        if isinstance(target, Plan):
            target.record = self.planner.approve(target.id, by=by, reason=reason)
            return target.record
        if self.store.read(lambda tx: tx.plans.get(target)) is not None:
            return self.planner.approve(target, by=by, reason=reason)
        return self.jobs.approve(target, by=by, reason=reason)

    def apply(self, plan: Plan | str, *, by: str | None = None) -> list[Handle]:
        """Queue exactly the plan's calls, and nothing else; see `Planner.apply`."""
        if isinstance(plan, str):
            return self.planner.apply(plan, by=by)
        handles = self.planner.apply(plan.id, by=by)
        plan.record = self.planner.record(plan.id)
        plan.lives()
        return handles

    def discard(self, plan: Plan | str, *, by: str, reason: str) -> PlanRecord:
        """Give a plan up: nothing of it will run; see `Planner.discard`."""
        if isinstance(plan, str):
            return self.planner.discard(plan, by=by, reason=reason)
        plan.record = self.planner.discard(plan.id, by=by, reason=reason)
        plan.lives()
        return plan.record

    def cancel_plan(self, plan: Plan | str, *, by: str, reason: str) -> Cancelled:
        """Cancel what has not begun of an applied plan; see `Planner.cancel`."""
        plan_id = plan if isinstance(plan, str) else plan.id
        return self.planner.cancel(plan_id, by=by, reason=reason)

    def plan(self, plan_id: str) -> Plan:
        """The plan of that id, as it is now; `NotFound` when there is none."""
        return self.planner.get(plan_id)

    def plans(self, *states: PlanState, limit: int = 100) -> list[PlanRecord]:
        """The plans in any of ``states`` (none given: in all), newest first."""
        return self.store.read(lambda tx: tx.plans.find(states=states, limit=limit))

    # people's switches

    def arm(self, *, by: str, reason: str, seconds: float = 3600.0) -> Control:
        """Unlock for a while; see `DryRunLock.arm`."""
        return self.dry_run_lock.arm(by=by, reason=reason, seconds=seconds)

    def lock(self, *, by: str, reason: str) -> None:
        """Lock again now; see `DryRunLock.lock`."""
        self.dry_run_lock.lock(by=by, reason=reason)

    def halt(
        self, action: str | None = None, *, by: str, reason: str, until: float | None = None
    ) -> Control:
        """Refuse an action, or everything, from now on; see `GovernorEnforcer.halt`."""
        return self.governor.halt(action, by=by, reason=reason, until=until)

    def resume(self, action: str | None = None, *, by: str, reason: str) -> bool:
        """End a halt; see `GovernorEnforcer.resume`."""
        resumed = self.governor.resume(action, by=by, reason=reason)
        self._deliver()
        return resumed

    def pause(self, queue: str, *, by: str, reason: str, until: float | None = None) -> Control:
        """Take nothing more from ``queue``, on any machine; what is under way goes on.

        ``until`` (epoch seconds) is when it ends by itself; without it, `unpause` ends it. Raises
        `ConfigurationError` without who and why, or when ``until`` has passed, and `Refused` where
        a pause that lasts longer stands.
        """
        now = self.clock.now()
        control = self.store.write(lambda tx: set_pause(tx, queue, by, reason, until, now))
        control_changed(self.events, now, control.name, by, on=True)
        return control

    def unpause(self, queue: str, *, by: str, reason: str) -> bool:
        """End a pause; false when there was none. Raises `ConfigurationError` as `pause` does."""
        now = self.clock.now()
        cleared = self.store.write(lambda tx: clear_pause(tx, queue, by, reason, now))
        if cleared:
            control_changed(self.events, now, f"{PAUSE}{queue}", by, on=False)
            self._deliver()
        return cleared

    def queues(self) -> dict[str, QueueStatus]:
        """Every queue that has pending calls, is paused or is worked on here, by name."""
        now, mine = self.clock.now(), self.delivery.queues
        return self.store.read(lambda tx: look_at_queues(tx, mine, now))

    def schedules(self) -> dict[str, ScheduleStatus]:
        """Every schedule on the ledger by name; `timetable` pauses, resumes and runs them."""
        return self.timetable.look()

    def hold(self, *, by: str, reason: str, until: float | None = None) -> None:
        """Say stop: the verdict is HOLD; see `SandboxReadinessChecker.hold`."""
        self.readiness_checker.hold(by=by, reason=reason, until=until)

    def release(self, *, by: str, reason: str) -> bool:
        """End a hold; see `SandboxReadinessChecker.release`."""
        released = self.readiness_checker.release(by=by, reason=reason)
        self._deliver()
        return released

    def resolve(
        self,
        call: Handle | str,
        resolution: Resolution,
        *,
        by: str,
        reason: str,
        result: Any = None,
    ) -> Call:
        """Settle an unknown call by a person's word; see `Recovery.resolve`."""
        call_id = call if isinstance(call, str) else call.id
        resolved = self.recovery.resolve(call_id, resolution, by=by, reason=reason, result=result)
        self._deliver()
        return resolved

    # looking

    def call(self, call_id: str) -> Call:
        """The ledger's record of a call; `NotFound` when there is none of that id."""
        return self.jobs.get(call_id)

    def handle(self, call_id: str) -> Handle:
        """A handle to a call by its id."""
        return Handle(self.jobs, self.jobs.get(call_id).id, is_new=False)

    def calls(self, **wanted: Any) -> list[Call]:
        """Calls that match the fields of `CallFilter`, newest first, 100 unless ``limit`` says."""
        return self.store.read(lambda tx: tx.calls.find(CallFilter(**wanted)))

    def counts(self) -> dict[State, int]:
        """Number of calls in each state."""
        return self.store.read(lambda tx: tx.calls.counts())

    def decisions(self, limit: int = 100) -> list[Decision]:
        """Who decided what and why, newest first."""
        return self.store.read(lambda tx: tx.decisions.latest(limit))

    def explain(self, call: Handle | str) -> list[str]:
        """In sentences: why a call did what it did."""
        return self.jobs.explain(call if isinstance(call, str) else call.id)

    # life

    @property
    def db_manager(self) -> SandboxDatabaseManager:
        """The database component; opened when first asked for."""
        with self._mutex:
            if self._database is None:
                from gonogo.database import SandboxDatabaseManager  # noqa: PLC0415 - heavy

                # Said aloud, memory wins over a URL that comes from elsewhere.
                memory = self.settings.use_memory_db
                self._database = SandboxDatabaseManager(
                    None if memory else self.settings.db_url,
                    use_memory=memory,
                    production_url=self.settings.production_url,
                )
            return self._database

    def has_ledger(self) -> bool:
        """Whether the ledger is there already; asking makes none.

        A store of your own is, and a ledger that begins and ends with this process.
        """
        private = self.settings.use_memory_db or self.settings.db_url is None
        if private or not self._own_database:
            return True
        from gonogo.store.presence import holds_ledger  # noqa: PLC0415 - only what is asked for

        return holds_ledger(self.db_manager.url)

    def initialize(self) -> SandboxOrchestrator:
        """Set the default limits and start the worker and the heartbeat. Safe to call twice."""
        with self._mutex:
            self.set_default_limits()
            self.watch()
            self.worker.start()
            self.started = True
        return self

    def watch(self) -> None:
        """Start the scheduler and the heartbeat, for a process whose jobs others perform."""
        self.heartbeat.name = f"heartbeat {self._owner}"  # another one after a fork
        self.scheduler.start()
        self.heartbeat.start()

    def set_default_limits(self) -> None:
        """Declare the limits of the settings; a limit of the same name goes before them."""
        for name, (most, window) in DEFAULT_LIMITS.items():
            limit = Limit(name, getattr(self.settings, most), per=getattr(self.settings, window))
            self.governor.declare(limit, default=True)

    def cleanup(self) -> None:
        """Stop everything and close the ledger. Safe at any time, and twice."""
        with self._mutex:  # not while draining: a job under way may ask for the database
            self.started = False
        for end in self._endings:
            try:
                end()
            except Exception as error:  # noqa: BLE001 - the rest is to be ended all the same
                self.logger.log_action("cleanup.fault", "error", error=describe(error))
        self.scheduler.stop()
        self.worker.stop(self.settings.drain)
        self.scheduler.pinger.flush(1.0)
        self.heartbeat.stop()
        self.alert_system.flush()
        self.store.close()
        if self._database is not None:
            self._database.cleanup()

    def on_due(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` whenever this process made a job due: queued it, or let it go on.

        It is called in the thread that did so, after the commit; it must be quick and not raise.
        Returns how to end it.
        """
        self._deliverers = [*self._deliverers, wake]

        def end() -> None:
            self._deliverers = [one for one in self._deliverers if one is not wake]

        return end

    def on_cleanup(self, end: Callable[[], object]) -> None:
        """Call ``end`` when this sandbox is cleaned up, before its ledger is closed."""
        self._endings.append(end)

    def _deliver(self) -> None:
        for wake in self._deliverers:
            wake()

    def _wake(self) -> None:
        self.scheduler.wake()
        self._deliver()

    def run(self, *, until_idle: float | None = None) -> bool:
        """Work until SIGTERM or SIGINT, then drain. For the main thread of a worker process.

        With ``until_idle`` it also ends when nothing is under way and nothing becomes due within
        so many seconds. Returns whether every job under way ended within the ``drain`` setting.
        """
        import signal  # noqa: PLC0415 - only a worker's main program needs it

        stop = threading.Event()
        before = {
            s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self.initialize()
            while not stop.wait(0.2):
                if until_idle is not None and self.delivery.idle(until_idle):
                    break
            return self.worker.stop(self.settings.drain)
        finally:
            self.cleanup()
            for number, handler in before.items():
                signal.signal(number, handler)

    def __enter__(self) -> SandboxOrchestrator:
        return self.initialize()

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def is_ready(self) -> bool:
        """Whether it is initialized and every check says GO."""
        return self.started and self.readiness_checker.is_ready()

    def get_status(self) -> dict[str, Any]:
        """Everything at a glance."""
        counts = self.counts()
        return {
            "readiness": self.readiness_checker.get_status(),
            "heartbeat": self.heartbeat.get_health_status(),
            "governor": self.governor.get_status(),
            "dry_run": self.dry_run_lock.dry_run,
            "worker_queue_length": len(self.worker.job_queue) + counts.get(State.PENDING, 0),
            "completed_jobs": len(self.worker.completed_jobs),
            "calls": {state.value: count for state, count in counts.items()},
            "alerts": len(self.alert_system.alerts),
            "idempotent_operations": len(self.idempotency_manager.seen_operations),
        }


def _slots(given: int | Concurrency | Iterable[Concurrency]) -> tuple[Concurrency, ...]:
    if isinstance(given, int):
        return (Concurrency(given),)
    return (given,) if isinstance(given, Concurrency) else tuple(given)
