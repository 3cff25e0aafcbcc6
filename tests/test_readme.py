"""The README's command line, with the ids that its reader would copy."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.documents import blocks

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


class Desk:
    """A shell in one folder, and the ids that stand for PLAN and CALL there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {n: v for n, v in os.environ.items() if not n.startswith(("GONOGO_", "SANDBOX_"))}
        self.environ = {
            **clean,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), clean.get("PATH", "")]),
        }

    def run(self, line: str, code: int = 0) -> str:
        words = [self.id_of(word) for word in shlex.split(line)]
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, line: str) -> Any:
        return json.loads(self.run(f"{line} --json"))

    def id_of(self, word: str) -> str:
        if word == "PLAN":
            return str(self.ask("gonogo plan list")[0]["id"])
        if word == "CALL":
            found = self.ask("gonogo calls list --key payment:INV-9 --state unknown")
            found = found or self.ask("gonogo calls list --key payment:INV-9 --state succeeded")
            return str(found[0]["id"])
        return word


def test_the_command_line_of_the_readme(tmp_path: Path) -> None:
    """Whoever follows the README pays twice and no more, meets a lost reply, and settles it."""
    desk = Desk(tmp_path)
    lines, code = [], ""
    for block in blocks(README.read_text()):
        if "file" in block.notes:
            (tmp_path / block.notes["file"]).write_text(block.code)
        elif block.language == "python":
            code += block.code
        lines += [c.text for c in block.commands if c.text.startswith("gonogo ")]
    assert len(lines) > 10
    desk.run(shlex.join([sys.executable, "-c", code]))
    printed = {line: desk.run(line, 9 if "worker" in line else 0) for line in lines}
    assert (tmp_path / "bank.txt").read_text() == "INV-7 12000\nINV-8 9000\nINV-9 4000\n"
    told = [text for line, text in printed.items() if line.startswith("gonogo calls explain")]
    assert "resolved as landed by ana@example.com: on the bank statement" in told[-1]
    states = desk.ask("gonogo status")["calls"]
    assert states["succeeded"] == 3
