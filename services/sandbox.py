"""The sandbox as the stability checklist imports it: the orchestrator and its ten components."""

from gonogo import (
    AlertSystem,
    DryRunLock,
    GovernorEnforcer,
    IdempotencyManager,
    RetryBackoffManager,
    SandboxOrchestrator,
    SandboxReadinessChecker,
    SchedulerHeartbeat,
    StructuredLogger,
    WorkerProcess,
)
from gonogo.database import SandboxDatabaseManager

__all__ = [
    "AlertSystem",
    "DryRunLock",
    "GovernorEnforcer",
    "IdempotencyManager",
    "RetryBackoffManager",
    "SandboxDatabaseManager",
    "SandboxOrchestrator",
    "SandboxReadinessChecker",
    "SchedulerHeartbeat",
    "StructuredLogger",
    "WorkerProcess",
]
