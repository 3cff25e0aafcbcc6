"""Where words go: data to standard output, everything else to standard error.

On a terminal lists are tables; in a pipe they are plain lines, one a row and never wrapped. With
``--json`` standard output gets exactly one document.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from gonogo.lines import clean

LAST_WIDTH = 30
"""The last column of a table has at least this width, also where the terminal is narrower."""


class Output:
    """What one command says.

    Attributes:
        json: whether standard output gets JSON.
    """

    def __init__(self) -> None:
        self.json = False

    def data(self, document: Any, lines: Iterable[str]) -> None:
        """The command's answer: ``document`` as JSON, or ``lines`` for people."""
        if self.json:
            import msgspec  # noqa: PLC0415 - people's answers do without

            self._write(msgspec.json.encode(document).decode())
            return
        for line in lines:
            self._write(clean(line))

    def table(
        self,
        document: Any,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        empty: str,
    ) -> None:
        """A list: ``document`` as JSON, or a table. ``empty`` is noted when there is no row."""
        if self.json:
            self.data(document, ())
            return
        texts = [["" if cell is None else clean(cell) for cell in row] for row in rows]
        if not texts:
            self.note(empty)
        elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            _draw(columns, texts)
        else:
            for line in aligned([[c.upper() for c in columns], *texts]):
                self._write(line)

    def note(self, text: str) -> None:
        """A hint or progress: for people, beside the data."""
        sys.stderr.write(f"{text}\n")

    def _write(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows as lines whose columns begin under each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Only the last column wraps: ids and keys stay whole, so that they can be copied."""
    from rich.console import Console  # noqa: PLC0415 - only terminals pay for it
    from rich.table import Table  # noqa: PLC0415 - same
    from rich.text import Text  # noqa: PLC0415 - same

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name != columns[-1])
    for row in rows:
        table.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    widths = [max(len(row[i]) for row in (columns, *rows)) + 2 for i in range(len(columns))]
    console.width = max(console.width, sum(widths[:-1]) + min(widths[-1], LAST_WIDTH))
    console.print(table)


_STYLES = {
    "GO": "green",
    "ok": "green",
    "succeeded": "green",
    "NO": "bold red",
    "failed": "red",
    "critical": "bold red",
    "error": "red",
    "unknown": "bold yellow",
    "HOLD": "bold yellow",
    "warning": "yellow",
}
