"""Finding what the command line works on: ``module:attribute``, by option, environment or file."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from gonogo.errors import ConfigurationError, GonogoError
from gonogo.orchestrator import SandboxOrchestrator
from gonogo.secrets import describe

VARIABLE = "GONOGO_APP"


@contextmanager
def users_code() -> Iterator[None]:
    """Run the block with standard output going to standard error, so that ours stays data."""
    with redirect_stdout(sys.stderr):
        yield


def find_target(given: str | None) -> str | None:
    """The application's ``module:attribute``: option, environment, gonogo.toml, pyproject.toml."""
    if found := given or os.environ.get(VARIABLE):
        return found
    for name, keys in (("gonogo.toml", ("app",)), ("pyproject.toml", ("tool", "gonogo", "app"))):
        if (value := _read(Path(name), keys)) is not None:
            return value
    return None


def load_app(given: str | None) -> SandboxOrchestrator:
    """The sandbox the application declares its actions on.

    Raises `ConfigurationError` when no application is named or it cannot be loaded.
    """
    target = find_target(given)
    if target is None:
        raise ConfigurationError(
            "no application is named: give --app module:attribute, set GONOGO_APP, or write "
            'app = "module:attribute" into gonogo.toml or [tool.gonogo] of pyproject.toml'
        )
    found = resolve(target)
    made = found
    if inspect.isroutine(found):
        made = _guarded(found, f"{target}() raised")
    if not isinstance(made, SandboxOrchestrator):
        what = f"{target}() returned" if made is not found else f"{target} is"
        raise ConfigurationError(
            f"{what} {made!r:.100}, of type {type(made).__name__}: it must be a "
            "SandboxOrchestrator, or a function without arguments that returns one"
        )
    return made


def resolve(target: str) -> Any:
    """What ``module:attribute`` names; the working directory can be imported from.

    Raises `ConfigurationError` naming the part that is missing or that raised.
    """
    module_name, colon, attributes = target.partition(":")
    if not (module_name and colon and attributes):
        raise ConfigurationError(
            f"{target!r} is not of the form module:attribute, for example payouts.app:sandbox"
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    value = _guarded(lambda: _import(module_name), f"importing {module_name} raised")
    for name in attributes.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise ConfigurationError(
                f"{target}: there is no {name!r} in {getattr(value, '__name__', repr(value))}"
            ) from None
    return value


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"there is no module {error.name!r} in {Path.cwd()} or among the installed packages"
            ) from None
        raise


def _guarded(fn: Callable[[], Any], what: str) -> Any:
    """Call the user's ``fn``; whatever it raises becomes an error that says where."""
    try:
        with users_code():
            return fn()
    except (GonogoError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ConfigurationError(f"{what} {describe(error)}{_where(error)}") from error


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""
    trace, last = error.__traceback__, None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith("<frozen") and Path(name) != Path(__file__):
            last = trace
        trace = trace.tb_next
    return "" if last is None else f" ({last.tb_frame.f_code.co_filename}:{last.tb_lineno})"


def _read(path: Path, keys: tuple[str, ...]) -> str | None:
    """The text under ``keys`` in a TOML file; ``None`` when file or key are not there."""
    try:
        value: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{path}: app must be a text such as 'payouts.app:sandbox'")
    return value
