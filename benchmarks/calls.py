"""To be filled."""

from __future__ import annotations

from benchmarks.measure import Stage

SCENES: dict[str, Stage] = {}
