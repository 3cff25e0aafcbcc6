"""Instructions of the processor by what they are for, as callgrind (of valgrind) counts them.

They vary by a percent or two from run to run. What the kernel does, as a sync, is not among them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

_LINE = re.compile(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+(.*?):(\S+)(?: \[(.*)\])?$")
LOOP = "loop"
_LIBRARIES = {
    "sqlite": "SQLite",
    "msgspec": "records, JSON",
    "crypto": "SHA-256",
    "_hashlib": "SHA-256",
    "psycopg": "psycopg",
    "libpq": "psycopg",
    "libssl": "psycopg",
}
_FILES = {
    "calls": "ceval frame pycore_frame pycore_ceval call pycore_call genobject methodobject "
    "descrobject classobject funcobject getargs abstract _contextvars context pystate",
    "names": "dictobject typeobject object pyhash moduleobject cellobject hamt",
    "memory": "obmalloc gcmodule malloc memset memmove pycore_object tupleobject",
}
KINDS = (LOOP, *_FILES, *dict.fromkeys(_LIBRARIES.values()), "rest")
"""The interpreter's own loop; calls and their frames; attributes and dicts; memory; libraries."""


def missing() -> str:
    """Why nothing can be counted here; empty where it can."""
    found = shutil.which("valgrind") and shutil.which("callgrind_annotate")
    return "" if found else "valgrind is not installed: no instructions are counted"


def counted(name: str, times: int, url: str | None) -> dict[str, float]:
    """Instructions of one ``name`` of `benchmarks.works` by kind: twice as many less so many."""
    with TemporaryDirectory(prefix="gonogo-bench-") as folder:
        few, many = (_run(Path(folder), name, count, url) for count in (times, 2 * times))
    kinds: Counter[str] = Counter()
    for place in many:
        kinds[_kind(*place)] += many[place] - few.get(place, 0)
    return {kind: kinds[kind] / times for kind in KINDS}


Place = tuple[str, str, str]
"""File, function and library, as far as they are known."""


def _run(folder: Path, name: str, times: int, url: str | None) -> dict[Place, int]:
    out = folder / f"{times}.out"
    own = folder / f"{times}.db"
    where = f"sqlite:///{own}" if name.endswith(".sqlite") else url or ""
    watched = [sys.executable, "-m", "benchmarks.works", name, str(times), where]
    subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *watched],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    told = subprocess.run(
        ["callgrind_annotate", "--threshold=100", "--auto=no", str(out)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: Counter[Place] = Counter()
    for line in filter(None, map(_LINE.match, told.stdout.splitlines())):
        count, file, function, library = line.groups()
        found[file, function, library or ""] += int(count.replace(",", ""))
    return found


def _kind(file: str, function: str, library: str) -> str:
    if function.startswith("_PyEval_EvalFrameDefault"):
        return LOOP
    for part, kind in _LIBRARIES.items():
        if part in library.rpartition("site-packages")[2]:
            return kind
    stem = file.rpartition("/")[2].partition(".")[0].partition("-")[0]
    return next((kind for kind, stems in _FILES.items() if stem in stems.split()), "rest")
