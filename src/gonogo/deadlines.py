"""A named check: run with a time limit, never twice at once, judged strictly.

Shared by the heartbeat and the readiness verdict. A check runs in a daemon thread of its own, so
that one that hangs costs its caller the time limit once and one thread in all, not one a question.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from gonogo.clock import Clock
from gonogo.errors import ConfigurationError
from gonogo.secrets import describe, redact_text


class CheckResult(Struct, frozen=True, kw_only=True):
    """What one check said.

    Attributes:
        ok: true only when the check answered exactly ``True`` within its time limit.
        evidence: one sentence for people.
        at: when the answer was there, epoch seconds.
        seconds: how long it took, or how long it was waited for.
        hung: whether it had not answered in time.
    """

    name: str
    ok: bool
    evidence: str
    critical: bool
    at: float
    seconds: float
    hung: bool = False


class Run:
    """One execution of a function in a daemon thread."""

    __slots__ = ("_done", "_fn", "error", "late", "result", "started", "value")

    def __init__(self, fn: Callable[[], object], started: float, name: str) -> None:
        self._fn = fn
        self._done = threading.Event()
        self.started = started
        self.value: object = None
        self.error: BaseException | None = None
        self.late = False
        self.result: CheckResult | None = None
        context = contextvars.copy_context()
        try:
            threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True).start()
        except RuntimeError as error:  # no thread to be had: an answer, and not a good one
            self.error = error
            self._done.set()

    def _run(self) -> None:
        try:
            self.value = self._fn()
        except BaseException as error:  # noqa: BLE001  also SystemExit is only a failed check
            self.error = error
        finally:
            self._done.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; false marks the run as late, and nobody waits again."""
        if not self._done.wait(0.0 if self.late else max(0.0, timeout)):
            self.late = True
        return self.done


class Check:
    """A function that says whether something is well, with its time limit and its last answer.

    The function returns a bool, or ``(bool, evidence)``. Anything else than exactly ``True``
    counts as not well: silence is never permission.

    Args:
        timeout: seconds to wait for an answer.
        critical: whether a bad answer changes the verdict it takes part in.
        cache: seconds for which an answer stays good.
        groups: the verdicts it takes part in.

    Raises:
        ConfigurationError: the function is not callable or a number makes no sense.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[[], Any],
        *,
        clock: Clock,
        timeout: float = 5.0,
        critical: bool = True,
        cache: float = 0.0,
        groups: Iterable[str] = (),
    ) -> None:
        if not name or not isinstance(name, str):
            raise ConfigurationError("a check needs a name that is not empty")
        if not callable(fn):
            raise ConfigurationError(f"check {name!r}: {fn!r} is not callable; give a function")
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ConfigurationError(f"check {name!r}: timeout must be above 0 s, not {timeout!r}")
        if not (cache >= 0 and math.isfinite(cache)):
            raise ConfigurationError(f"check {name!r}: cache must be at least 0 s, not {cache!r}")
        self.name = name
        self.fn = fn
        self.timeout = timeout
        self.critical = critical
        self.cache = cache
        self.groups = frozenset(groups)
        self._clock = clock
        self._lock = threading.Lock()
        self._run: Run | None = None

    def start(self) -> Run:
        """The run under way, the last one while its answer is fresh, or a new one."""
        with self._lock:
            run = self._run
            if run is None or (run.done and not self._fresh(self._result(run))):
                name = f"gonogo-check-{self.name}"
                run = self._run = Run(self.fn, self._clock.monotonic(), name)
            return run

    def finish(self, run: Run) -> CheckResult:
        """Wait for ``run`` within what is left of the time limit, and judge it."""
        run.wait(self.timeout - (self._clock.monotonic() - run.started))
        with self._lock:
            return self._result(run)

    def ask(self) -> CheckResult:
        """Start (or join) a run and wait for its answer."""
        return self.finish(self.start())

    def _fresh(self, result: CheckResult) -> bool:
        return not result.hung and self._clock.now() < result.at + self.cache

    def _result(self, run: Run) -> CheckResult:
        if run.result is not None:
            return run.result
        if run.late:
            ok, evidence = False, f"no answer within {self.timeout:g} s"
        elif run.error is not None:
            ok, evidence = False, describe(run.error)
        else:
            ok, evidence = _judge(run.value)
        run.result = CheckResult(
            name=self.name,
            ok=ok,
            evidence=evidence,
            critical=self.critical,
            at=self._clock.now(),
            seconds=self._clock.monotonic() - run.started,
            hung=run.late,
        )
        return run.result


def ask_all(checks: Iterable[Check]) -> tuple[CheckResult, ...]:
    """Ask all ``checks`` at the same time; the answers come in the same order."""
    under_way = [(check, check.start()) for check in checks]
    return tuple(check.finish(run) for check, run in under_way)


def _judge(value: object) -> tuple[bool, str]:
    evidence = None
    if isinstance(value, tuple) and len(value) == 2:
        value, evidence = value
    if value is True:
        return True, redact_text(str(evidence), 500) if evidence is not None else "ok"
    if evidence is not None:
        return False, redact_text(str(evidence), 500)
    if value is False:
        return False, "the check said no"
    return False, f"the check answered {type(value).__name__}, not True"
