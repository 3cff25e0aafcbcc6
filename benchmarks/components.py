"""The components alone, in memory: each beside its peers and the least it could cost."""

from __future__ import annotations

from benchmarks import governor, idempotency, log_lines, promises, retry
from benchmarks.measure import Stage

SCENES: dict[str, Stage] = {
    **governor.SCENES,
    **idempotency.SCENES,
    **retry.SCENES,
    **log_lines.SCENES,
    **promises.SCENES,
}
