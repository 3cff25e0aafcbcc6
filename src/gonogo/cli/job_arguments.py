"""A job's arguments as given on the command line, converted by the function's annotations."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Sequence
from typing import Any

import msgspec


def bind(fn: Callable[..., Any], given: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments for ``fn``.

    ``name=value`` is a keyword argument, a JSON object gives several, a JSON list gives positional
    ones, anything else is one positional argument. Text is converted to the parameter's
    annotation; without one it is JSON where it can be read as such, and text where it cannot.

    Raises `ValueError` when they do not fit the function.
    """
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if text.startswith("{"):
            named.update(_load(text))
        elif text.startswith("["):
            positional.extend(_load(text))
        elif sign and name.isidentifier():
            named[name] = _Text(value)
        else:
            positional.append(_Text(text))
    signature = inspect.signature(fn)
    try:
        bound = signature.bind(*positional, **named)
    except TypeError as error:
        raise ValueError(f"{error}; the job takes {signature}") from None
    hints = _hints(fn)
    for name, value in bound.arguments.items():
        bound.arguments[name] = _converted(value, hints.get(name, Any), name)
    return list(bound.args), dict(bound.kwargs)


class _Text(str):
    """A value as typed, which may have to become something else."""


def _converted(value: Any, hint: Any, name: str) -> Any:
    if isinstance(value, tuple):  # *args
        return tuple(_converted(item, hint, name) for item in value)
    if isinstance(value, dict) and any(isinstance(item, _Text) for item in value.values()):
        return {key: _converted(item, hint, key) for key, item in value.items()}  # **kwargs
    try:
        if not isinstance(value, _Text):
            return msgspec.convert(value, hint)
        return _read(str(value), hint)
    except TypeError:  # a type that msgspec does not know: the job gets what was given
        return str(value) if isinstance(value, _Text) else value
    except msgspec.ValidationError as error:
        raise ValueError(f"argument {name!r}: {error}") from None


def _read(text: str, hint: Any) -> Any:
    if hint is Any:
        try:
            return json.loads(text)
        except ValueError:
            return text
    try:
        return msgspec.convert(text, hint, strict=False)
    except msgspec.ValidationError:
        try:
            return msgspec.json.decode(text, type=hint)
        except msgspec.DecodeError:
            pass
        raise


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not JSON: {error}") from None


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(fn))
    except Exception:  # noqa: BLE001 - an annotation that cannot be resolved converts nothing
        return {}
