"""Runs the code of one Markdown file in the working directory: ``run_document.py FILE``.

A program of its own, so that a document's code meets a fresh interpreter. All Python blocks share
one namespace, in order; commands run in between, where they stand. Tracebacks name the document
and its line.
"""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.support.documents import Block, Command, blocks


def run(path: Path, namespace: dict[str, object]) -> int:
    """Run every block of ``path``; returns how many blocks and commands ran."""
    count = 0
    for block in blocks(path.read_text()):
        if "not run" in block.notes:
            continue
        if "file" in block.notes:
            target = Path(block.notes["file"])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.code)
        elif block.language == "python":
            run_python(path, block, namespace)
            count += 1
        elif block.language in {"console", "bash"}:
            for command in block.commands:
                run_command(path, command)
                count += 1
    return count


def run_python(path: Path, block: Block, namespace: dict[str, object]) -> None:
    """Execute the block as if it stood alone at its line of the document."""
    code = compile("\n" * (block.line - 1) + block.code, str(path), "exec", dont_inherit=True)
    exec(code, namespace)


def run_command(path: Path, command: Command) -> None:
    """Run one command line in a shell and hold it to what the document says of it."""
    where = f"{path.name}:{command.line}: $ {command.text}"
    done = subprocess.run(
        command.text, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    print(f"{where}\n{done.stdout}{done.stderr}")
    if done.returncode != command.status:
        sys.exit(f"{where}\nexited with {done.returncode}, not {command.status}")
    if command.compare and not agrees(command, done.stdout):
        sys.exit(f"{where}\nthe document shows:\n{command.shown}\nit printed:\n{done.stdout}")


def agrees(command: Command, printed: str) -> bool:
    """Whether what was printed is what is shown; spaces at the ends of lines do not count."""
    wanted, got = (
        "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"
        for text in (command.shown, printed)
    )
    flags = doctest.ELLIPSIS if command.compare == "ellipsis" else 0
    return doctest.OutputChecker().check_output(wanted, got, flags)


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    sys.modules["__main__"] = page = ModuleType("__main__")
    print(f"{run(Path(sys.argv[1]), page.__dict__)} blocks and commands ran")
