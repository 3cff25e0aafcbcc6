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
    "libc.so": "libc",
}
_FILES = {
    "calls": "abstract call ceval ceval_gil classobject context descrobject exceptions frame "
    "frameobject funcobject genobject getargs methodobject pycore_call pycore_ceval pycore_frame "
    "pycore_pystate pystate _contextvars",
    "names": "cellobject dictobject hamt moduleobject pyhash typeobject",
    "memory": "gcmodule object obmalloc pycore_object tupleobject",
}
KINDS = (LOOP, *_FILES, *dict.fromkeys(_LIBRARIES.values()), "rest")
"""The interpreter's own loop; calls and their frames; attributes and dicts; memory; libraries.

The last of them is that of C, which copies, clears and locks for all the others.
"""


_PROGRAMS = ("valgrind", "callgrind_control", "callgrind_annotate")


def missing() -> str:
    """Why nothing can be counted here; empty where it can."""
    return "" if all(map(shutil.which, _PROGRAMS)) else "valgrind is not installed"


def counted(name: str, times: int, url: str | None) -> dict[str, float]:
    """Instructions of one ``name`` of `benchmarks.works` by kind."""
    kinds: Counter[str] = Counter()
    with TemporaryDirectory(prefix="gonogo-bench-") as folder:
        out = Path(folder) / "counts"
        _run(out, name, str(times), url or "")
        told = _said("callgrind_annotate", "--threshold=100", "--auto=no", str(out))
    for line in filter(None, map(_LINE.match, told.splitlines())):
        count, file, function, library = line.groups()
        kinds[_kind(file, function, library or "")] += int(count.replace(",", ""))
    return {kind: kinds[kind] / times for kind in KINDS}


def _run(out: Path, *words: str) -> None:
    """A work in a process of its own, in which nothing is counted but what it does so often."""
    callgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
    work = [sys.executable, "-m", "benchmarks.works", *words]
    with subprocess.Popen(
        [*callgrind, f"--callgrind-out-file={out}", *work],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    ) as watched:
        for word, counting in (("ready", "on"), ("done", "off")):
            if watched.stdout.readline().strip() != word:
                raise ChildProcessError(f"{' '.join(work)} ended before it was {word}")
            _said("callgrind_control", "-i", counting, str(watched.pid))
            print(file=watched.stdin, flush=True)


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _kind(file: str, function: str, library: str) -> str:
    if function.startswith("_PyEval_EvalFrameDefault"):
        return LOOP
    for part, kind in _LIBRARIES.items():
        if part in library.rpartition("site-packages")[2]:
            return kind
    stem = file.rpartition("/")[2].partition(".")[0].partition("-")[0]
    return next((kind for kind, stems in _FILES.items() if stem in stems.split()), "rest")
