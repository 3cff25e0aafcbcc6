"""The profiles: the same counts whoever asks, and every instruction in one place."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import instructions, steps, works
from benchmarks.works import Work


def _square(number: int) -> int:
    return number * number


def _squares() -> None:
    for number in range(10):
        _square(number)


def test_steps_and_calls_are_counted_by_function_and_module() -> None:
    """A function that is entered twice a time has twice the calls."""
    found = steps.counted(_squares, 5)
    (square,) = (name for name in found.steps if name.endswith("test_profile:_square"))
    assert found.calls[square] == 2
    assert found.steps[square] >= 2
    (module,) = (name for name in found.by_module().steps if name.endswith("test_profile"))
    assert found.by_module().steps[module] == pytest.approx(sum(found.steps.values()))
    assert steps.counted(_squares, 5) == found


@pytest.mark.parametrize("name", ["enqueue.sqlite", "lone.sqlite", "job.sqlite"])
def test_a_work_does_what_it_says_so_many_times(name: str, tmp_path: Path) -> None:
    """What is divided by the number of times was done as often, and takes the same each time."""
    with works.warm(name, f"sqlite:///{tmp_path / 'work.db'}") as work:
        few, more = (_counted(work, times) for times in (20, 20))
    assert few == pytest.approx(more, rel=0.02)


def _counted(work: Work, times: int) -> float:
    work.before(times)
    found = steps.counted(lambda: work.run(times), times)
    return sum(found.steps.values())


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (("Python/ceval.c", "_PyEval_EvalFrameDefault'2", "libpython3.11.so"), "loop"),
        (("Include/object.h", "_PyEval_EvalFrameDefault", ""), "loop"),
        (("Objects/frameobject.c", "frame_dealloc", "python3.11"), "calls"),
        (("Objects/unicodeobject.c", "PyUnicode_New", "libpython3.11.so"), "rest"),
        (("Objects/dictobject.c", "insertdict", "libpython3.11.so"), "names"),
        (("Objects/obmalloc.c", "_PyObject_Malloc", "libpython3.11.so"), "memory"),
        (("sysdeps/memset-vec-unaligned-erms.S", "__memset", "/usr/lib/libc.so.6"), "libc"),
        (("???", "0x0", "/x/site-packages/msgspec/_core.so"), "records, JSON"),
        (("sqlite3.c", "sqlite3_step", "/usr/lib/libsqlite3.so.0"), "SQLite"),
        (("???", "PQexec", "/x/site-packages/psycopg_binary.libs/libpq.so"), "psycopg"),
    ],
)
def test_an_instruction_has_one_place(place: tuple[str, str, str], kind: str) -> None:
    """By the library, else by the file of the interpreter."""
    assert instructions._kind(*place) == kind
    assert kind in instructions.KINDS


@pytest.mark.parametrize("name", works.WORKS)
def test_a_work_says_where_it_is_done(name: str) -> None:
    """Its ledger is made by the end of its name."""
    assert name.partition(".")[2] in {"memory", "sqlite", "postgres"}
