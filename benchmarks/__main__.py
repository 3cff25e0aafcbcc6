"""``make bench``: gonogo, its peers and the floors, side by side in one run.

Every scene prints what was measured under which settings, as the median of interleaved rounds, and
which target was reached. ``--full`` takes longer: more rounds, larger ledgers, ten minutes of load.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sqlite3
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import tables
from benchmarks.measure import Effort, Result, Stage, play
from benchmarks.scenes import SCENES

PEERS = (
    *("gonogo", "token_bucket", "limits", "throttled-py", "aws-lambda-powertools", "tenacity"),
    *("stamina", "backoff", "structlog", "orjson", "python-json-logger", "loguru", "ctrlrun"),
    *("dbos", "huey", "procrastinate", "pgqueuer", "celery", "SQLAlchemy", "msgspec", "psycopg"),
)

HEADING = "## The last run"


def main() -> int:
    """Play the scenes; 1 when one could not be set or, if that is asked, a target was missed."""
    options = _options()
    effort = Effort(options.rounds or (15 if options.full else 7), options.full, options.seed)
    chosen = {n: s for n, s in SCENES.items() if not options.only or _matches(n, options.only)}
    if options.list or not chosen:
        print("\n".join(SCENES))
        return 0 if options.list else 2
    print(_machine(), f"seed {options.seed}", sep="\n", flush=True)
    found = [_played(name, stage, effort) for name, stage in chosen.items()]
    results = [result for result in found if result is not None]
    missed = tables.missed(results)
    print(f"\n{len(missed)} of {sum(len(r.targets) for r in results)} targets missed")
    print("\n".join(f"  {line}" for line in missed))
    if options.page:
        lines = [line for result in results for line in tables.page(result)]
        _write(options.page, [f"{_machine()}; seed {options.seed}.", "", *lines])
    if options.json:
        samples = {result.title: result.samples for result in results}
        options.json.write_text(json.dumps({"machine": _machine(), "samples": samples}, indent=1))
    return 1 if None in found or (options.strict and missed) else 0


def _played(name: str, stage: Stage, effort: Effort) -> Result | None:
    """What came of a scene; ``None`` where it could not be set, as without a server."""
    random.seed(effort.seed)
    began = time.perf_counter()
    try:
        result = play(stage, effort)
    except Exception as error:
        print(f"\n{name}: not measured: {type(error).__name__}: {error}", flush=True)
        return None
    print(f"\n{name} ({time.perf_counter() - began:.0f} s): ", end="")
    print("\n".join(tables.terminal(result)), flush=True)
    return result


def _write(page: Path, lines: list[str]) -> None:
    """The tables, after what the page says before them."""
    before = page.read_text().partition(HEADING)[0] if page.exists() else ""
    page.write_text("\n".join([f"{before}{HEADING}", "", *lines]).rstrip() + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the long versions")
    parser.add_argument("--rounds", type=int, help="rounds of every scene")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="scenes whose name begins so")
    parser.add_argument("--seed", type=int, default=20270301)
    parser.add_argument(
        "--page",
        type=Path,
        help="a page in Markdown, of which the tables of the last run are replaced",
    )
    parser.add_argument("--json", type=Path, help="write every sample")
    parser.add_argument("--strict", action="store_true", help="fail when a target is missed")
    parser.add_argument("--list", action="store_true", help="name the scenes")
    return parser.parse_args()


def _matches(name: str, wanted: list[str]) -> bool:
    return any(name.startswith(start) for start in wanted)


def _machine() -> str:
    versions = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for package in PEERS:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{platform.system()} {platform.machine()}: " + ", ".join(versions)


if __name__ == "__main__":
    sys.exit(main())
