"""For tests of what you build on gonogo: time that obeys, ledgers that fail, processes that die."""

from gonogo.boundaries import Boundary, Step
from gonogo.clock import FakeClock
from gonogo.testing.boundaries import instrument
from gonogo.testing.crash import crash_test
from gonogo.testing.faulty import FaultyStore, Write
from gonogo.testing.report import CrashReport, Row
from gonogo.testing.sandboxes import capture_events, sandbox_for_tests
from gonogo.testing.soak import soak

__all__ = [
    "Boundary",
    "CrashReport",
    "FakeClock",
    "FaultyStore",
    "Row",
    "Step",
    "Write",
    "capture_events",
    "crash_test",
    "instrument",
    "sandbox_for_tests",
    "soak",
]
