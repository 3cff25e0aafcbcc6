"""What the documents show, works: their code runs, and prints what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import blocks, documents

ROOT = Path(__file__).parent.parent
RUNNER = ROOT / "tests" / "support" / "run_document.py"


def run(document: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The code of ``document``, run in ``folder`` by a fresh interpreter."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GONOGO_", "SANDBOX_", "PYTEST_", "COV_"))
    }
    clean["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), clean.get("PATH", "")])
    clean["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, str(RUNNER), str(document)],
        cwd=folder,
        env=clean,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("document", documents(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_code_of_a_document_runs(document: Path, tmp_path: Path) -> None:
    """Copied from the page in order, every block runs and prints what the page shows."""
    done = run(document, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def written(folder: Path, text: str) -> Path:
    document = folder / "page.md"
    document.write_text(text.replace("~~~", "```"))
    return document


GOOD = """
# Page

~~~python
x = 1
~~~

<!-- file: app.py -->
~~~python
NAME = "app"
~~~

- in a list:

  ~~~python
  import app
  assert (x, app.NAME, __name__) == (1, "app", "__main__")
  ~~~

<!-- output: exact -->
~~~console
$ python -c "import app; print(app.NAME)"
app
$ make test
never run
~~~

<!-- output: ellipsis -->
<!-- exit: 3 -->
~~~console
$ python -c "print('id 4711'); raise SystemExit(3)"
id ...
~~~

<!-- not run: it needs a payment provider -->
~~~python
raise SystemExit("this block must not run")
~~~
"""


def test_blocks_share_a_namespace_and_commands_run_between(tmp_path: Path) -> None:
    """Python blocks see each other's names; files, exits and shown output are honoured."""
    done = run(written(tmp_path, GOOD), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("4 blocks and commands ran\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("~~~python\n\n1 / 0\n~~~\n", 'page.md", line 3'),
        ("~~~console\n$ python -c 'raise SystemExit(4)'\n~~~\n", "exited with 4, not 0"),
        ("<!-- output: exact -->\n~~~console\n$ python -c 'print(1)'\n2\n~~~\n", "it printed:\n1"),
        ("<!-- not run: -->\n~~~python\n1\n~~~\n", "not understood"),
        ("<!-- no run: why -->\n~~~python\n1\n~~~\n", "not understood"),
        ("<!-- not run: why -->\n\n~~~python\n1 / 0\n~~~\n", "ZeroDivisionError"),
    ],
)
def test_a_wrong_document_is_caught(tmp_path: Path, text: str, complaint: str) -> None:
    """A failing block, a wrong exit or output, and a note that means nothing are all errors."""
    done = run(written(tmp_path, text), tmp_path)
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr


def test_a_command_may_go_on_over_lines() -> None:
    """A backslash at the end of a line continues the command, as in a shell."""
    (block,) = blocks("```console\n$ gonogo check \\\n    --json\n{}\n```\n")
    (command,) = block.commands
    assert command.text == "gonogo check \\\n    --json"
    assert command.shown == "{}\n"
