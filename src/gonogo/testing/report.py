"""What a crash test found, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

COLUMNS = (
    *("kills", "calls", "duplicates", "lost", "contradicted"),
    *("failed", "unknown", "verified", "slowest"),
)


class Row(Struct, frozen=True, kw_only=True):
    """One way to die, and what became of the calls that were under way.

    Attributes:
        boundary: where it was killed; ``none``, ``random``, or a `Boundary`.
        kills: processes killed there; 0 when the boundary was never reached.
        calls: calls made.
        duplicates: effects beyond the first of each call, by the other side's books.
        lost: calls that succeeded without an effect, stopped moving, are unknown without an
            alert, or are not in the ledger.
        contradicted: calls the ledger has as not happened, and the books as happened.
        failed: calls that ended, and said so, without their effect.
        unknown: calls that wait for evidence or a person.
        verified: calls settled by the action's verifier.
        slowest: seconds from the last kill until the last call was settled.
    """

    boundary: str
    kills: int = 0
    calls: int = 0
    duplicates: int = 0
    lost: int = 0
    contradicted: int = 0
    failed: int = 0
    unknown: int = 0
    verified: int = 0
    slowest: float | None = None

    @property
    def cells(self) -> list[str]:
        """As texts, in the order of the table."""
        slowest = "-" if self.slowest is None else f"{self.slowest:.1f} s"
        name = self.boundary if self.kills or self.boundary == "none" else f"{self.boundary} *"
        return [name, *(f"{getattr(self, c):,}" for c in COLUMNS[:-1]), slowest]


class CrashReport(Struct, frozen=True, kw_only=True):
    """What a crash test found; `print` it for the table.

    Attributes:
        action: its name.
        irreversible: as declared; then a duplicate is a failure.
        seed: of the random kills; the same seed kills at the same times.
        rows: one for each way to die.
        findings: a sentence for each thing that must not be.
    """

    action: str
    irreversible: bool
    seed: int
    rows: tuple[Row, ...]
    findings: tuple[str, ...] = ()

    @property
    def total(self) -> Row:
        """All rows as one."""
        return total(self.rows)

    @property
    def ok(self) -> bool:
        """Whether it was killed at all, and nothing happened twice, got lost or was told wrong."""
        all_of_it = self.total
        wrong = all_of_it.lost or all_of_it.contradicted or self.findings
        twice = self.irreversible and all_of_it.duplicates
        return bool(all_of_it.kills) and not wrong and not twice

    def assert_safe(self) -> None:
        """Raise `AssertionError` with the table unless `ok`."""
        if not self.ok:
            raise AssertionError(f"action {self.action!r} is not safe to crash\n{self}")

    def __str__(self) -> str:
        rows = [["killed at", *COLUMNS]]
        rows += [row.cells for row in (*self.rows, self.total)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        if any(not row.kills and row.boundary != "none" for row in self.rows):
            lines.append("* never reached")
        lines += self.findings
        lines.append(f"{'safe' if self.ok else 'NOT SAFE'}: {self.action}, seed {self.seed}")
        return "\n".join(lines)


def total(rows: Iterable[Row], name: str = "total") -> Row:
    """The sum of ``rows``; the slowest of them is the slowest of all."""
    given = tuple(rows)
    sums = {column: sum(getattr(row, column) for row in given) for column in COLUMNS[:-1]}
    slowest = max((row.slowest for row in given if row.slowest is not None), default=None)
    return Row(boundary=name, slowest=slowest, **sums)
