"""``make bench``: gonogo, its peers and the floors, side by side in one run.

Every scene prints what was measured under which settings, as the median of interleaved rounds, and
which target was reached; one table of all of them ends the run. ``--full`` takes longer: more
rounds, larger ledgers, ten minutes of load. What was measured is kept however the run ends.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import signal
import sqlite3
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import scenes, summary, tables
from benchmarks.measure import Effort, Result, play

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
    chosen = scenes.chosen(options.only, full=options.full)
    if options.list or not chosen:
        print("\n".join(scenes.NAMES))
        return 0 if options.list else 2
    print(_machine(), f"seed {options.seed}", sep="\n", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.filterwarnings("ignore", message="there was no ledger")  # so every one begins here
    found: dict[str, Result | None] = {}
    status, began = 0, time.perf_counter()
    try:
        for name in chosen:
            found[name] = _played(name, effort)
            _keep(found, options)
    except KeyboardInterrupt:
        status = 130
    missed = _sum_up(found, time.perf_counter() - began)
    return status or (1 if None in found.values() or (options.strict and missed) else 0)


def _keep(found: Mapping[str, Result | None], options: argparse.Namespace) -> None:
    """Write the files that were asked for, with what there is by now."""
    results = _measured(found)
    if options.page:
        tables_of_all = [line for result in results.values() for line in tables.page(result)]
        table = summary.page(summary.lines(results))
        head = f"{_machine()}; seed {options.seed}."
        lost = [f"Not measured: {_lost(found)}.", ""] if _lost(found) else []
        _write(options.page, [head, "", *lost, *table, "", *tables_of_all])
    if options.json:
        samples = {result.title: result.samples for result in results.values()}
        options.json.write_text(json.dumps({"machine": _machine(), "samples": samples}, indent=1))


def _sum_up(found: Mapping[str, Result | None], seconds: float) -> list[str]:
    """Print the one table over all scenes; the targets that were missed."""
    results = _measured(found)
    missed = tables.missed(results.values())
    played = "1 scene" if len(results) == 1 else f"{len(results)} scenes"
    print(f"\n{played} in {seconds / 60:.1f} minutes: ours beside the others")
    print("\n".join(summary.terminal(summary.lines(results))))
    print(f"\n{len(missed)} of {sum(len(r.targets) for r in results.values())} targets missed")
    print("\n".join(f"  {line}" for line in missed), flush=True)
    if _lost(found):
        print(f"not measured: {_lost(found)}", flush=True)
    return missed


def _measured(found: Mapping[str, Result | None]) -> dict[str, Result]:
    return {name: result for name, result in found.items() if result is not None}


def _lost(found: Mapping[str, Result | None]) -> str:
    return ", ".join(name for name, result in found.items() if result is None)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """`TimeoutError` in this block when it takes longer, and after as long again.

    A contender that hangs must keep neither the others nor the scenes that follow.
    """

    def give_up(*_: object) -> None:
        raise TimeoutError(f"not over after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _played(name: str, effort: Effort) -> Result | None:
    """What came of a scene; ``None`` where it could not be set, as without a server."""
    random.seed(effort.seed)
    began = time.perf_counter()
    try:
        with _at_most(effort.of(600, 2400)):
            result = play(scenes.stage(name), effort)
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
