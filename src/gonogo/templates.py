"""Text made from a call's arguments, for keys and costs: ``"payment:{invoice}"``.

Fields are those of `str.format`: ``{name}``, ``{order.id}``, ``{order[id]}``, with an optional
format such as ``{day:%Y-%m}``. Attributes that begin with an underscore are out of reach.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from string import Formatter
from typing import Any

from gonogo.errors import ConfigurationError

_FIELD = re.compile(r"([A-Za-z]\w*)((?:\.[A-Za-z]\w*|\[[^\[\]{}]+\])*)")
_STEP = re.compile(r"\.(\w+)|\[([^\]]+)\]")
_CONVERT: dict[str, Callable[[object], str]] = {"r": repr, "s": str, "a": ascii}


class Template:
    """A template, parsed once.

    Args:
        text: the template.
        what: whose it is, as errors call it: ``"limit 'payment': key"``.

    Raises:
        ConfigurationError: when it is empty, not text, or cannot be parsed.
    """

    __slots__ = ("_parts", "_what", "fields", "text")

    def __init__(self, text: object, what: str) -> None:
        if not isinstance(text, str) or not text:
            raise ConfigurationError(f"{what} must be a template such as '{{customer}}'")
        self.text = text
        self._what = what
        self._parts = list(self._parse(text))
        self.fields = tuple(part.name for part in self._parts if isinstance(part, _Field))
        """The names of the arguments it reads."""

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def render(self, arguments: Mapping[str, Any]) -> str:
        """The text for ``arguments``.

        Raises:
            ConfigurationError: when an argument is missing, ``None`` or an empty text, for then
                different calls would share what should tell them apart.
        """
        texts = []
        for part in self._parts:
            if isinstance(part, str):
                texts.append(part)
            elif part.is_bare and type(value := arguments.get(part.name)) is str and value:
                texts.append(value)
            else:
                texts.append(self._text(part, arguments))
        return "".join(texts)

    def getter(self) -> Callable[[Mapping[str, Any]], Any]:
        """For a template that is one bare field: what reads its value, ``"{cents}"`` → the int.

        Raises:
            ConfigurationError: when it is anything else.
        """
        part = self._parts[0]
        if len(self._parts) != 1 or isinstance(part, str) or part.spec or part.convert:
            raise ConfigurationError(
                f"{self._what} {self.text!r} must be a single field such as '{{cents}}', or a "
                f"function of the arguments"
            )
        return partial(self._look_up, part)

    def _text(self, field: _Field, arguments: Mapping[str, Any]) -> str:
        value = self._look_up(field, arguments)
        if value is None or (isinstance(value, str) and not value):
            raise ConfigurationError(
                f"{self._what} {self.text!r}: argument {field.path!r} is {value!r}, which cannot "
                f"tell calls apart; give it a value, or use a function instead of a template"
            )
        if field.convert:
            value = _CONVERT[field.convert](value)
        try:
            return format(value, field.spec)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{self._what} {self.text!r}: argument {field.path!r} "
                f"({type(value).__name__}) cannot be formatted: {error}"
            ) from error

    def _look_up(self, field: _Field, arguments: Mapping[str, Any]) -> Any:
        try:
            value = arguments[field.name]
            for attribute, item in field.steps:
                value = getattr(value, attribute) if attribute else _item(value, item)
        except (LookupError, AttributeError, TypeError) as error:
            there = ", ".join(sorted(map(str, arguments))) or "none"
            raise ConfigurationError(
                f"{self._what} {self.text!r} names {field.path!r}, which is not there; "
                f"the arguments are: {there}"
            ) from error
        return value

    def _parse(self, text: str) -> list[str | _Field]:
        parts: list[str | _Field] = []
        try:
            for literal, name, spec, convert in Formatter().parse(text):
                if literal:
                    parts.append(literal)
                if name is not None:
                    parts.append(_Field(name, spec or "", convert or ""))
        except ValueError as error:
            raise ConfigurationError(f"{self._what} {text!r} cannot be parsed: {error}") from error
        return parts


class _Field:
    """One ``{...}``: an argument's name and the steps from it to the value."""

    __slots__ = ("convert", "is_bare", "name", "path", "spec", "steps")

    def __init__(self, path: str, spec: str, convert: str) -> None:
        match = _FIELD.fullmatch(path)
        if match is None:
            raise ValueError(f"{{{path}}} does not name an argument")
        if "{" in spec:
            raise ValueError(f"a field inside the format of {{{path}}} is not supported")
        if convert and convert not in _CONVERT:
            raise ValueError(f"unknown conversion !{convert}")
        self.path = path
        self.name = match[1]
        self.steps = _STEP.findall(match[2])
        self.spec = spec
        self.convert = convert
        self.is_bare = not (self.steps or spec or convert)


def _item(value: Any, item: str) -> Any:
    return value[int(item)] if isinstance(value, (list, tuple)) else value[item]
