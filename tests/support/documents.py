"""The runnable parts of a Markdown file.

What runs: every ``python`` block, and in ``console`` and ``bash`` blocks the lines that begin with
``$ gonogo`` or ``$ python``. HTML comments directly above a block steer it:

- ``<!-- not run: reason -->`` leaves the block out;
- ``<!-- file: name -->`` writes the block, whatever its language, into the working directory
  instead of running it;
- ``<!-- output: exact -->`` compares what the commands print (standard output) with what the
  block shows; ``<!-- output: ellipsis -->`` does so and lets ``...`` stand for anything;
- ``<!-- exit: 3 -->`` expects this exit status of the block's last command instead of 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

FENCE = re.compile(
    r"^(?P<indent>[ ]*)(?P<fence>`{3,})(?P<language>[\w+-]*)[^\n`]*\n"
    r"(?P<body>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
COMMENT = re.compile(r"<!--\s*([a-z ]+?)\s*:\s*(.*?)\s*-->")
KNOWN = {"not run", "file", "output", "exit"}


@dataclass(frozen=True)
class Command:
    """One command line, what the document shows it to print, and what it is to exit with."""

    line: int
    text: str
    shown: str
    compare: str = ""
    status: int = 0


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, code, first line of code, and the comments above it."""

    language: str
    code: str
    line: int
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[Command]:
        """The commands of a console block that run."""
        found: list[Command] = []
        for number, text in enumerate(self.code.splitlines(), self.line):
            if text.startswith("$ "):
                found.append(Command(number, text[2:], "", self.notes.get("output", "")))
            elif found and found[-1].text.endswith("\\"):
                last = found[-1]
                found[-1] = Command(last.line, f"{last.text}\n{text}", "", last.compare)
            elif found:
                last = found[-1]
                found[-1] = Command(last.line, last.text, f"{last.shown}{text}\n", last.compare)
        ours = [c for c in found if c.text.startswith(("gonogo ", "python "))]
        if ours and "exit" in self.notes:
            last = ours[-1]
            status = int(self.notes["exit"])
            ours[-1] = Command(last.line, last.text, last.shown, last.compare, status)
        return ours


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a document, with what the comments above say about them."""
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("body")) + 1
        code = dedent(match["body"])
        found.append(Block(match["language"], code, line, _notes_above(text[: match.start()])))
    return found


def _notes_above(text: str) -> dict[str, str]:
    """The comments on the lines directly above, without a blank line between."""
    notes: dict[str, str] = {}
    for line in reversed(text.splitlines()):
        match = COMMENT.fullmatch(line.strip())
        if match is None:
            break
        if match[1] not in KNOWN or not match[2]:
            raise ValueError(f"not understood: {line.strip()}")
        notes[match[1]] = match[2]
    return notes


def documents(root: Path) -> list[Path]:
    """The documents whose code must run: the README, the guide, and everything in ``docs``."""
    named = [root / "README.md", root / "BATCH_1_SANDBOX_STABILITY_GUIDE.md"]
    return [path for path in (*named, *sorted((root / "docs").rglob("*.md"))) if path.exists()]
