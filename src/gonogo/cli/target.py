"""Finding what the command line works on: ``module:attribute``, by option, environment or file."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gonogo.errors import ConfigurationError
from gonogo.targets import guarded, resolve

if TYPE_CHECKING:
    from gonogo.orchestrator import SandboxOrchestrator

VARIABLE = "GONOGO_APP"
FILES = (
    ("gonogo.toml", ("app",)),
    ("gonogo.toml", ("gonogo", "app")),
    ("pyproject.toml", ("tool", "gonogo", "app")),
)
"""Where the application may be named, the first that counts first: files and the keys in them."""


def find_target(given: str | None) -> str | None:
    """The application's ``module:attribute``: option, environment, gonogo.toml, pyproject.toml."""
    if found := given or os.environ.get(VARIABLE):
        return found
    for name, keys in FILES:
        if (value := _read(Path(name), keys)) is not None:
            return value
    return None


def load_app(given: str | None) -> SandboxOrchestrator:
    """The sandbox the application declares its actions on.

    Raises `ConfigurationError` when no application is named or it cannot be loaded.
    """
    from gonogo.orchestrator import SandboxOrchestrator  # noqa: PLC0415 - help needs none

    target = find_target(given)
    if target is None:
        raise ConfigurationError(
            "no application is named: give --app module:attribute, set GONOGO_APP, or write "
            'app = "module:attribute" into gonogo.toml or [tool.gonogo] of pyproject.toml'
        )
    found = resolve(target)
    made = found
    if inspect.isroutine(found):
        made = guarded(found, f"{target}() raised")
    if not isinstance(made, SandboxOrchestrator):
        what = f"{target}() returned" if made is not found else f"{target} is"
        raise ConfigurationError(
            f"{what} {made!r:.100}, of type {type(made).__name__}: it must be a "
            "SandboxOrchestrator, or a function without arguments that returns one"
        )
    return made


def _read(path: Path, keys: tuple[str, ...]) -> str | None:
    """The text under ``keys`` in a TOML file; ``None`` when file or key are not there."""
    import tomllib  # noqa: PLC0415 - who names the application does without

    try:
        value: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    for number, key in enumerate(keys):
        if not isinstance(value, dict):
            raise ConfigurationError(f"{path}: [{'.'.join(keys[:number])}] must be a table")
        if (value := value.get(key)) is None:
            return None
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{path}: app must be a text such as 'payouts.app:sandbox'")
    return value
