"""gonogo makes actions that cannot be taken back safe to run.

Declare an action once, rehearse a whole job, read the plan, say GO; workers do exactly that plan,
never twice, and say *unknown* when the world may have changed and nobody heard.
"""

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
