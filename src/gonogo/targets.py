"""What ``module:attribute`` names: loading users' code, with errors that say where it failed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from gonogo.errors import ConfigurationError, GonogoError
from gonogo.secrets import describe


@contextmanager
def users_code() -> Iterator[None]:
    """Run the block with standard output going to standard error, so that ours stays data."""
    with redirect_stdout(sys.stderr):
        yield


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
    value = guarded(lambda: _import(module_name), f"importing {module_name} raised")
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


def guarded(fn: Callable[[], Any], what: str) -> Any:
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
