"""Programs run in processes of their own, with compiled modules, as where they were installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_PATIENCE = 3600.0


class Children:
    """Runs Python in ``folder``; what is compiled stays there for the next one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GONOGO"))},
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]),
            "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        }

    def seconds(self, *arguments: str) -> float:
        """From the start of ``python arguments`` to its end."""
        began = time.perf_counter()
        self._run(arguments)
        return time.perf_counter() - began

    def answer(self, *arguments: str) -> Any:
        """The JSON document that ``python arguments`` writes last."""
        return json.loads(self._run(arguments).splitlines()[-1])

    def _run(self, arguments: tuple[str, ...]) -> str:
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if ended.returncode:
            raise RuntimeError(f"python {' '.join(arguments)[:200]}: {ended.stderr[-800:]}")
        return ended.stdout


@contextmanager
def children() -> Iterator[Children]:
    """Children with a folder that is gone afterwards."""
    with TemporaryDirectory(prefix="gonogo-bench-") as folder:
        yield Children(Path(folder))
