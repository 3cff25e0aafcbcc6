"""Rules about the code itself: what it may import, read, name, ship."""

from __future__ import annotations

import ast
import importlib
import io
import json
import re
import subprocess
import sys
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import gonogo

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "gonogo"
MODULES = sorted(PACKAGE.rglob("*.py"))
CLOCKS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep"},
    "datetime": {"now", "utcnow", "today"},
}
HEAVY = ("sqlalchemy", "alembic", "click", "rich", "asyncio", "concurrent.futures", "psycopg")
PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
# Joined here, so that this file does not name what it looks for.
REGISTRIES = [
    "".join(parts)
    for parts in (
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("pypi", ".python.org"),
        ("arti", "factory"),
        ("index", "-url"),
    )
]
MACHINE_PATH = re.compile(
    r"(?<![\w./~$}\-])/(?:work|root|home|tmp|Users|opt)(?:/[\w.]|\b(?![\w/]))"
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def repository() -> list[Path]:
    """Every text file of the repository that is, or is about to be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [Path(ROOT, name.decode()) for name in listed.stdout.split(b"\0") if name]
        files = [path for path in names if path.is_file()]
    else:
        hidden = (".git/", ".venv", "build/", "dist/", "var/")
        files = [p for p in ROOT.rglob("*") if p.is_file() and not relative(p).startswith(hidden)]
    return [path for path in files if b"\0" not in path.read_bytes()[:1024]]


def sources() -> list[Path]:
    return [path for path in repository() if path.suffix == ".py"]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Every (module, name) a file imports; the name is empty for ``import module``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def clock_reads(path: Path) -> Iterator[str]:
    """Where a file reads or waits on the machine's clock, however it imported it."""
    for module, name in imports(path):
        if name in CLOCKS.get(module, ()):
            yield f"{relative(path)}: from {module} import {name}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            known = CLOCKS.get(
                owner, CLOCKS["datetime"] if owner.endswith(("datetime", "date")) else ()
            )
            if node.attr in known:
                yield f"{relative(path)}:{node.lineno}: {owner}.{node.attr}"


def test_only_the_clock_reads_the_machines_clocks() -> None:
    """Time comes from the injected clock; one module knows where the clock gets it."""
    found = {path: list(clock_reads(path)) for path in MODULES}
    assert found.pop(PACKAGE / "clock.py"), "the rule no longer sees what it forbids"
    assert not [read for reads in found.values() for read in reads]


def loaded_by(module: str) -> set[str]:
    """What a fresh interpreter has loaded after importing ``module``, heavy names only."""
    program = (
        f"import sys, json, {module}\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_gonogo_is_light() -> None:
    """``import gonogo`` loads no database, no command line and no event loop."""
    assert loaded_by("sqlalchemy") >= {"sqlalchemy"}, "the probe no longer sees what is loaded"
    assert loaded_by("gonogo") == set()


def test_no_component_is_heavy_to_import() -> None:
    """Every module below the surfaces can be imported without what only some need."""
    surfaces = "__main__|awaiting|cli|dashboard|contrib|testing"
    heavy = "compiling|engines|indexes|joined|migrations|postgres|schema|statements|upgrade"
    allowed = re.compile(rf"gonogo\.({surfaces}|store\.({heavy}|environment|sqlite_joined))")
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
    ]
    light = [name for name in names if not allowed.match(name)]
    assert loaded_by(", ".join(light)) == set()


def test_the_public_names_are_few_sorted_and_there() -> None:
    """``gonogo.__all__`` is the whole public surface: 20 to 40 names, in order, all real."""
    names = gonogo.__all__
    assert names == sorted(names)
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(gonogo, name)] == []
    assert 20 <= len(names) <= 40


def test_public_names_are_those_that_type_checkers_see() -> None:
    """Each is found, when it is first used, in the module a type checker was told; no other is."""
    told = {name: module for module, name in imports(PACKAGE / "__init__.py") if name}
    assert {name: f"gonogo.{home}" for name, home in gonogo._HOME.items()} == told
    assert sorted(told) == gonogo.__all__
    assert set(gonogo.__all__) <= set(dir(gonogo))
    with pytest.raises(AttributeError, match="no attribute 'unheard_of'"):
        gonogo.unheard_of  # noqa: B018 - to look is what is tested


def test_public_names_tell_what_they_are() -> None:
    """Everything a user can import from the root has a docstring of its own."""
    silent = [
        name
        for name in gonogo.__all__
        if callable(value := getattr(gonogo, name)) and not (value.__doc__ or "").strip()
    ]
    assert silent == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_public_class_and_function_has_a_docstring(path: Path) -> None:
    """A module, and each public class and function in it, says what it is for.

    The store's port says it once for all its implementations, which need not repeat it.
    """
    tree = ast.parse(path.read_text())
    public = [
        node
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("_")
        and not ("store" in path.parts and path.name != "port.py")
    ]
    missing = [node.name for node in public if not ast.get_docstring(node)]
    if path.name != "__init__.py" and not ast.get_docstring(tree):
        missing.append("the module")
    assert missing == []


def pickling(path: Path) -> list[str]:
    return [module for module, _ in imports(path) if module.partition(".")[0] in PICKLING]


def test_nothing_is_pickled(tmp_path: Path) -> None:
    """Only JSON travels: nothing but a test (of what refuses it) imports a pickling module."""
    example = tmp_path / "example.py"
    example.write_text("def f():\n    from pickle import loads\n")
    assert pickling(example) == ["pickle"]
    ours = [path for path in sources() if not relative(path).startswith("tests/")]
    assert {relative(path): found for path in ours if (found := pickling(path))} == {}


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    """The repository works wherever it is cloned: no absolute home, no registry's host."""
    assert MACHINE_PATH.search("see " + "/".join(("", "home", "x")))
    assert not MACHINE_PATH.search("https://example.com/home/x and docs/work/x")
    guilty = []
    for path in repository():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            named = [host for host in REGISTRIES if host in line.lower()]
            if path != Path(__file__) and (named or MACHINE_PATH.search(line)):
                guilty.append(f"{relative(path)}:{number}: {line.strip()[:80]}")
    assert guilty == []


UNEXPLAINED = re.compile(
    r"#\s*(?:noqa(?::\s*[A-Z]+\d+(?:[,\s]+[A-Z]+\d+)*)?"
    r"|type:\s*ignore(?:\[[\w\-, ]*\])?|pragma:\s*no cover)\s*$"
)


def test_the_rule_on_exceptions_sees_a_bare_one() -> None:
    """An exception without its reason is recognised, one with a reason is not."""
    assert UNEXPLAINED.search("# noqa" + ": BLE001")
    assert UNEXPLAINED.search("# type" + ": ignore[arg-type]")
    assert not UNEXPLAINED.search("# noqa" + ": BLE001 - observers cannot break a call")
    assert not UNEXPLAINED.search("# type" + ": ignore[arg-type]  # the stub is wrong")


def test_every_lint_exception_says_why() -> None:
    """Beside each silenced rule stands the reason, on the same line.

    A test that passes a wrong type on purpose has said why in its docstring.
    """
    guilty = []
    for path in sources():
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            silenced = token.type == tokenize.COMMENT and UNEXPLAINED.search(token.string)
            if silenced and not (relative(path).startswith("tests/") and "type:" in token.string):
                guilty.append(f"{relative(path)}:{token.start[0]}: {token.string}")
    assert guilty == []


def test_the_wheel_has_every_file_of_the_package(tmp_path: Path) -> None:
    """What is installed is complete: the typing marker, the migrations, every data file."""
    importlib.import_module("hatchling")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path), str(ROOT)),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("gonogo-*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    package = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "gonogo/py.typed" in shipped
    assert package - shipped == set()
    assert any(name.endswith("licenses/LICENSE") for name in shipped)
    assert not [name for name in shipped if name.startswith(("tests", "examples", "services"))]


def test_the_map_names_every_module() -> None:
    """What a newcomer reads first shows the package as it is: no module missing, none made up."""
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line for line in guide.split("## Tests")[0].splitlines() if line.startswith("|")]
    named = {name.rstrip("/") for name in re.findall(r"`([a-z_]+/?)`", "\n".join(rows))}
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert named - {"port"} == {name for name in there if not name.startswith("__")}
