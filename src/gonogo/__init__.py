"""gonogo makes actions that cannot be taken back safe to run.

Declare an action once, rehearse a whole job, read the plan, say GO; workers do exactly that plan,
never twice, and say *unknown* when the world may have changed and nobody heard.
"""

import importlib

TYPE_CHECKING = False  # that of typing costs more than all of this
if TYPE_CHECKING:
    from gonogo.alerts import AlertSystem
    from gonogo.backoff import Retry
    from gonogo.context import current
    from gonogo.dry_run import DryRunLock
    from gonogo.errors import (
        ConfigurationError,
        EffectFailed,
        GonogoError,
        OutcomeUnknown,
        Refused,
    )
    from gonogo.evidence import absent, cannot_tell, landed
    from gonogo.governor import GovernorEnforcer
    from gonogo.heartbeat import SchedulerHeartbeat
    from gonogo.idempotency import IdempotencyManager
    from gonogo.limits import Concurrency, Limit
    from gonogo.logs import StructuredLogger, carry
    from gonogo.orchestrator import SandboxOrchestrator
    from gonogo.pings import Ping
    from gonogo.readiness import SandboxReadinessChecker
    from gonogo.retry import RetryBackoffManager
    from gonogo.schedule import Tick
    from gonogo.secrets import Secret
    from gonogo.settings import Settings
    from gonogo.signals import Cancel, NotApplied, Rejected, Snooze
    from gonogo.worker import WorkerProcess

__all__ = [
    "AlertSystem",
    "Cancel",
    "Concurrency",
    "ConfigurationError",
    "DryRunLock",
    "EffectFailed",
    "GonogoError",
    "GovernorEnforcer",
    "IdempotencyManager",
    "Limit",
    "NotApplied",
    "OutcomeUnknown",
    "Ping",
    "Refused",
    "Rejected",
    "Retry",
    "RetryBackoffManager",
    "SandboxOrchestrator",
    "SandboxReadinessChecker",
    "SchedulerHeartbeat",
    "Secret",
    "Settings",
    "Snooze",
    "StructuredLogger",
    "Tick",
    "WorkerProcess",
    "absent",
    "cannot_tell",
    "carry",
    "current",
    "landed",
]

_HOME = {
    "AlertSystem": "alerts",
    "Cancel": "signals",
    "Concurrency": "limits",
    "ConfigurationError": "errors",
    "DryRunLock": "dry_run",
    "EffectFailed": "errors",
    "GonogoError": "errors",
    "GovernorEnforcer": "governor",
    "IdempotencyManager": "idempotency",
    "Limit": "limits",
    "NotApplied": "signals",
    "OutcomeUnknown": "errors",
    "Ping": "pings",
    "Refused": "errors",
    "Rejected": "signals",
    "Retry": "backoff",
    "RetryBackoffManager": "retry",
    "SandboxOrchestrator": "orchestrator",
    "SandboxReadinessChecker": "readiness",
    "SchedulerHeartbeat": "heartbeat",
    "Secret": "secrets",
    "Settings": "settings",
    "Snooze": "signals",
    "StructuredLogger": "logs",
    "Tick": "schedule",
    "WorkerProcess": "worker",
    "absent": "evidence",
    "cannot_tell": "evidence",
    "carry": "logs",
    "current": "context",
    "landed": "evidence",
}
"""The module of each public name, which is imported when the name is first used."""


def _load(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker would believe that there is every name
    __getattr__ = _load
