"""The reference lists what there is: all of it, and as it is in the code."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from gonogo import errors
from gonogo.boundaries import Boundary
from gonogo.events import NAMES
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.outcomes import classify
from gonogo.plan import Plan
from gonogo.records import TRANSITIONS, Outcome, State
from gonogo.settings import Settings
from tests.support.documents import documents

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "BATCH_1_SANDBOX_STABILITY_GUIDE.md"
REFERENCE = ROOT / "docs" / "reference"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)")


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without backticks."""
    found = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip().replace("`", "") for cell in row.split(" | ")] for row in found]


@pytest.mark.parametrize(
    ("page", "column"), [(GUIDE, 1), (REFERENCE / "settings.md", 2)], ids=["guide", "reference"]
)
def test_every_setting_is_listed_with_its_default(page: Path, column: int) -> None:
    """The tables of settings hold every field, under its variable, with its default."""
    listed = {}
    for cells in rows(page.read_text()):
        if variable := next((c for c in cells[:2] if re.fullmatch(r"SANDBOX_\w+", c)), None):
            listed[variable] = cells[column].strip('"')
    defaults = Settings()
    assert listed == {
        f"SANDBOX_{name.upper()}": str(getattr(defaults, name))
        for name in Settings.__struct_fields__
    }


def test_every_event_is_listed() -> None:
    """Each event has its row; no row is invented."""
    text = (REFERENCE / "events.md").read_text()
    assert {c[0] for c in rows(text) if "." in c[0]} == NAMES


def test_every_error_says_whether_it_happened() -> None:
    """Each error class has its row, with what its attribute says."""
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.GonogoError)
    }
    del kinds["GonogoError"]
    found = [c for c in rows((REFERENCE / "errors.md").read_text()) if len(c) > 1]
    listed = {c[0].split()[0]: c[1].split()[0] for c in found}
    assert {name: listed.get(name) for name in kinds} == {
        name: kind.happened for name, kind in kinds.items()
    }


def test_the_diagram_is_the_state_machine() -> None:
    """The diagram of the states has every transition, and no other."""
    text = (REFERENCE / "states.md").read_text()
    drawn = set(re.findall(r"^    (\w+) --> (\w+)", text, re.MULTILINE))
    assert drawn == {(a.value, b.value) for a, after in TRANSITIONS.items() for b in after}
    assert {c[0] for c in rows(text)} >= {state.value for state in State}


def test_the_diagram_of_the_readme_draws_only_what_there_is() -> None:
    """The README's diagram leaves out rare moves and invents none."""
    drawn = re.findall(r"^    (\w+) --> (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(drawn) > 8
    assert [(a, b) for a, b in drawn if State(b) not in TRANSITIONS[State(a)]] == []


def test_every_boundary_is_listed() -> None:
    """The table of boundaries says of each, once, what a process that dies there leaves."""
    found = [c[0] for c in rows((REFERENCE / "boundaries.md").read_text()) if len(c) > 1]
    listed = [name for cell in found[1:] for name in cell.split(", ")]
    assert sorted(listed) == sorted(place.value for place in Boundary)


def test_every_keyword_of_an_action_is_listed() -> None:
    """The table of keywords holds those that can be declared, and no other."""
    keywords = set(inspect.signature(SandboxOrchestrator.action).parameters) - {"self", "name"}
    text = (REFERENCE / "actions.md").read_text().partition("## Decorators")[0]
    listed = {c[0] for c in rows(text)} - {"keyword", "---|---|---"}
    assert listed == keywords


def test_every_verdict_is_listed() -> None:
    """Plans give the verdicts that the reference explains."""
    known = set(re.findall(r"^    ``(\w+)``  ", Plan.__doc__ or "", re.MULTILINE))
    text = (REFERENCE / "plans.md").read_text().partition("## States of a plan")[0]
    assert len(known) > 5
    assert {c[0] for c in rows(text)} - {"verdict", "---|---|---"} == known


def test_links_lead_somewhere() -> None:
    """Every relative link of the documents names a file that is there."""
    pages = [*documents(ROOT), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def texts_of_the_code() -> list[str]:
    """Every string of the package, what is filled in shown as ``...``."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "..." for p in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_messages_to_look_up_are_those_of_the_code() -> None:
    """What the troubleshooting table quotes is what gonogo says."""
    table = GUIDE.read_text().partition("## Troubleshooting")[2]
    quoted = re.findall(r"^\| `([^`]+)` \(", table, re.MULTILINE)
    assert len(quoted) > 15
    code = texts_of_the_code()
    pieces = [piece.strip(" :") for quote in quoted for piece in quote.split("...")]
    wanted = [piece for piece in pieces if len(piece) > 3]
    assert [piece for piece in wanted if not any(piece in text for text in code)] == []


def test_http_statuses_are_listed_under_their_outcome() -> None:
    """The table of outcomes names the statuses that the classifier knows, each in its row."""
    cells = {c[0]: c[1] for c in rows((REFERENCE / "outcomes.md").read_text()) if len(c) > 4}

    def listed(outcome: str) -> set[Outcome]:
        found = re.search(r"HTTP ([\d, ]+);", cells[outcome])
        assert found is not None
        codes = [int(code) for code in found[1].split(",")]
        assert len(codes) > 4
        return {classify(Replied(code)) for code in codes}

    assert listed("not applied") == {Outcome.NOT_APPLIED}
    assert listed("rejected") == {Outcome.REJECTED}
    named = {int(code) for row in cells.values() for code in re.findall(r"\b4\d\d\b", row)}
    known = {c for c in range(400, 500) if classify(Replied(c)) is not Outcome.UNKNOWN}
    assert named == known


class Replied(Exception):
    """What a client raises for an HTTP status."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
