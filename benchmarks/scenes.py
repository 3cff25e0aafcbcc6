"""All scenes there are, in the order in which they are played."""

from __future__ import annotations

from benchmarks import (
    calls,
    components,
    queues_long,
    queues_postgres,
    queues_sqlite,
    scale,
    start,
)
from benchmarks.measure import Stage

SCENES: dict[str, Stage] = {
    **components.SCENES,
    **calls.SCENES,
    **queues_sqlite.SCENES,
    **queues_postgres.SCENES,
    **queues_long.SCENES,
    **scale.SCENES,
    **start.SCENES,
}
"""By name: ``what.where``, so that ``--only queue`` plays all queues."""
