"""``make profile``: where the time of one operation goes, by counts that anybody can repeat.

For each work: the steps of the interpreter and the calls of functions by module and by function,
its time, and, where valgrind is installed, the processor's instructions by what they are for.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import instructions, steps
from benchmarks.pg import servers
from benchmarks.works import WORKS, warm

_TIMES = 200
_TIMED = 300
_REPEATED = 300


def main() -> int:
    """Print tables in Markdown, the one over all works last."""
    options = _options()
    chosen = [name for name in WORKS if name.startswith(tuple(options.work or ("",)))]
    if not chosen:
        print("\n".join(WORKS))
        return 2
    without = "they were not asked for" if options.quick else instructions.missing()
    rows = []
    with ExitStack() as stack:
        fresh = _databases(stack, chosen)
        for name in chosen:
            found = _steps(name, fresh(name))
            print("\n".join(_tables(name, found, options.top)), flush=True)
            kinds = {} if without else instructions.counted(name, _REPEATED, fresh(name))
            rows.append(_row(name, found, _seconds(name, fresh(name)), kinds))
    print("\n".join([*_head(without), *rows]))
    if without:
        print(f"\nNo instructions: {without}.")
    return 0


def _databases(stack: ExitStack, chosen: list[str]) -> Callable[[str], str | None]:
    """A maker of an empty ledger for a work."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="gonogo-bench-")))
    numbers = iter(range(1 << 62))
    on_server = any(name.endswith(".postgres") for name in chosen)
    made = stack.enter_context(servers.databases()) if on_server else None

    def fresh(name: str) -> str | None:
        if name.endswith(".sqlite"):
            return f"sqlite:///{folder / str(next(numbers))}.db"
        return made() if made is not None and name.endswith(".postgres") else None

    return fresh


def _steps(name: str, url: str | None) -> steps.Steps:
    with warm(name, url) as work:
        work.before(_TIMES)
        return steps.counted(lambda: work.run(_TIMES), _TIMES)


def _seconds(name: str, url: str | None) -> tuple[float, float, float]:
    """Of one operation: all, of the processor for us, and of the kernel for us."""
    with warm(name, url) as work:
        work.before(_TIMED)
        gc.collect()
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        work.run(_TIMED)
        took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    ours, kernel = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return took / _TIMED, ours / _TIMED, kernel / _TIMED


def _tables(name: str, found: steps.Steps, top: int) -> Iterator[str]:
    """By module and by function, the heaviest first."""
    total = sum(found.steps.values())
    yield f"### {name}: {total:,.0f} steps in {sum(found.calls.values()):,.0f} calls"
    yield ""
    for what, counts in (("module", found.by_module()), ("function", found)):
        yield f"| {what} | steps | share | calls |"
        yield "|---|--:|--:|--:|"
        for place, count in list(counts.steps.items())[:top]:
            entered = counts.calls.get(place, 0)
            yield f"| `{place}` | {count:,.1f} | {count / total:.1%} | {entered:,.1f} |"
        yield ""


def _head(without: str) -> list[str]:
    columns = ["", "steps", "calls", "time", "ours", "kernel"]
    columns += [] if without else ["thousand instructions", *instructions.KINDS]
    return [f"| {' | '.join(columns)} |", f"|---|{'--:|' * (len(columns) - 1)}"]


def _row(name: str, found: steps.Steps, seconds: tuple[float, ...], kinds: dict[str, float]) -> str:
    cells = [f"{sum(found.steps.values()):,.0f}", f"{sum(found.calls.values()):,.0f}"]
    cells += [f"{1e6 * value:,.3g} µs" for value in seconds]
    total = sum(kinds.values())
    if total:
        cells.append(f"{total / 1e3:,.0f}")
        cells += [f"{count / total:.0%}" for count in kinds.values()]
    return f"| {name} | {' | '.join(cells)} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("work", nargs="*", help=f"works whose name begins so: {', '.join(WORKS)}")
    parser.add_argument("--top", type=int, default=12, help="rows of each table")
    parser.add_argument("--quick", action="store_true", help="count no instructions")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
