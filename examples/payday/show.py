"""What the demo prints: a progress bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from examples.payday.payouts import Sheet, major
from examples.payday.reconcile import Finding, Line

_PLAIN_STEPS = 10  # lines of progress where there is no terminal
_STYLES = {True: "green", False: "bold red"}


class Screen:
    """Writes to standard output. Text from outside is never read as markup."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    def say(self, text: str = "", style: str = "") -> None:
        self._console.print(Text(text, style=style))

    def step(self, title: str) -> None:
        """Begin a part of the run."""
        self.say()
        self.say(title, "bold")

    def sheet(self, sheet: Sheet) -> None:
        """What was read, and every line that needs a person."""
        totals: Counter[str] = Counter()
        for payout in sheet.payouts:
            totals[payout.currency] += payout.cents
        sums = ", ".join(f"{currency} {major(cents)}" for currency, cents in sorted(totals.items()))
        self.say(f"{len(sheet.payouts)} lines to pay: {sums}")
        if sheet.problems:
            bad = len({problem.line for problem in sheet.problems})
            self.say(f"{bad} lines for a person to look at; they stop nothing else:", "yellow")
        for problem in sheet.problems:
            self.say(f"  {problem}")

    def reconciliation(self, title: str, lines: Sequence[Line]) -> None:
        """One comparison: how many lines of each finding, and every line that is not in order."""
        counts = Counter(line.finding for line in lines)
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("finding")
        table.add_column("lines", justify="right")
        always = (Finding.DONE, Finding.NOT_DONE, Finding.IN_DOUBT, Finding.DUPLICATE, Finding.LOST)
        for finding in Finding:
            if finding in always or counts[finding]:
                good = not counts[finding] or finding in {Finding.DONE, Finding.NOT_DONE}
                table.add_row(finding.value, str(counts[finding]), style="" if good else "bold red")
        self._console.print(table)
        for line in lines:
            if not line.in_order:
                self.say(f"  {line}", "bold red")

    def faults(self, kinds: Mapping[str, int]) -> None:
        """What the provider did to us."""
        met = ", ".join(f"{count} × {kind}" for kind, count in kinds.items())
        self.say(f"What went wrong at the provider: {met or 'nothing'}")

    def verdict(self, agrees: bool) -> None:
        text = "The books agree." if agrees else "The books DISAGREE."
        self.say(text, _STYLES[agrees])

    @contextmanager
    def progress(self, total: int) -> Iterator[Meter]:
        """Follow ``total`` calls to their end."""
        if not self._console.is_terminal:
            yield Meter(self, total)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            yield Bar(self, total, bar)


class Meter:
    """Progress as a line for every tenth of the way."""

    def __init__(self, screen: Screen, total: int) -> None:
        self.total = total
        self._screen = screen
        self._printed = -1

    def update(self, settled: int, waiting_for: str) -> None:
        """``settled`` of ``total`` calls are at their end."""
        step = settled * _PLAIN_STEPS // self.total if self.total else _PLAIN_STEPS
        if step != self._printed:
            self._printed = step
            self._screen.say(f"  {settled:4d} of {self.total} settled, {waiting_for}")

    def say(self, text: str) -> None:
        """Something happened on the way."""
        self._screen.say(f"  {text}", "yellow")


class Bar(Meter):
    """Progress as a live bar."""

    def __init__(self, screen: Screen, total: int, bar: Progress) -> None:
        super().__init__(screen, total)
        self._bar = bar
        self._task = bar.add_task("", total=total)

    def update(self, settled: int, waiting_for: str) -> None:
        self._bar.update(self._task, completed=settled, description=waiting_for)
