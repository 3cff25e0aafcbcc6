"""The sandbox as the stability checklist imports it: the orchestrator and its ten components."""

try:
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
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}: this Python does not have gonogo. Run `make test` once and use the Python of "
        "the environment it makes (.venv/bin/python), or `python -m pip install .` here",
        name=error.name,
    ) from error

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
