"""An action's parameters: bound, checked by their annotations, and written in canonical JSON.

The canonical form is msgspec's JSON with sorted keys. What is fingerprinted, stored, planned and
later handed to the function is that one form, so a direct call and a queued one see equal values.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from gonogo.canonical import canonical, digest, encode, fingerprint
from gonogo.errors import ConfigurationError
from gonogo.hints import is_decimal, is_secret, runs_code
from gonogo.redactor import Redactor
from gonogo.secrets import MASK, spellings
from gonogo.signals import Cancel
from gonogo.simulated import PLAIN, find_tainted

MAX_BYTES = 256 * 1024
"""Largest canonical form of one call's arguments, in bytes, unless the action says otherwise."""

_SHORT = 2
_EXACT = (str, int, bool)
"""Types whose values have one JSON form, so that converting them changes nothing."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Bound(msgspec.Struct, frozen=True):
    """Arguments of one call.

    Attributes:
        text: canonical JSON as the ledger keeps it, secrets replaced by ``[secret]``.
        fingerprint: digest of ``text``, see `fingerprint`.
        values: parameter → converted value, secrets included; for templates and the function.
        has_secrets: a secret was given, so ``text`` alone cannot run the call.
    """

    text: str
    fingerprint: str
    values: Mapping[str, Any]
    has_secrets: bool = False

    def __repr__(self) -> str:
        return f"Bound({self.text})"

    def secret_texts(self) -> tuple[str, ...]:
        """The secrets as they would stand in a text; not the ones too short to be told from it."""
        if not self.has_secrets:
            return ()
        plain = msgspec.json.decode(self.text)
        hidden = (v for n, v in self.values.items() if plain.get(n) == MASK)
        texts = {text for v in hidden for text in spellings(v)}
        return tuple(sorted((t for t in texts if len(t) > _SHORT), key=len, reverse=True))


class TaintedArgument(Exception):
    """An argument is, or contains, a value that a rehearsal made up."""


class Parameters:
    """The parameters of ``fn``, ready to bind and to load.

    Attributes:
        run_code: making one of their values may run code of the user's, such as a
            ``__post_init__``.

    Raises `ConfigurationError` when an annotation cannot be resolved or cannot travel as JSON.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        action: str,
        secrets: Collection[str] = (),
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._action = action
        self._max_bytes = max_bytes
        self._signature = _signature(fn, action)
        self._parameters = list(self._signature.parameters.values())
        hints = _hints(fn, action)
        self.names = tuple(p.name for p in self._parameters)
        if unknown := set(secrets) - set(self.names):
            raise ConfigurationError(
                f"action {action!r} declares secrets {sorted(unknown)} that are not its parameters"
            )
        redactor = Redactor()
        self.secrets = frozenset(
            n
            for n in self.names
            if n in secrets or redactor.is_secret(n) or is_secret(hints.get(n))
        )
        self._shown = _without_secrets(self._signature, self.secrets)
        self._is_secret_name = redactor.is_secret
        self._open = next((p.name for p in self._parameters if p.kind is p.VAR_KEYWORD), None)
        self.returns = hints.get("return", Any)
        self._simple = all(p.kind is _POSITIONAL[1] for p in self._parameters)
        self._known = frozenset(self.names)
        self._required = frozenset(p.name for p in self._parameters if p.default is p.empty)
        self._fields = [n for n in self.names if n not in self.secrets]
        self._struct = self._make_struct(hints)
        self._decoder = self._make_decoder()
        self._exact = all(hints.get(n) in _EXACT for n in self._fields)
        self.run_code = any(runs_code(hints.get(n, Any)) for n in self._fields)
        plain = self._simple and self._exact and not self.secrets
        self._kinds = tuple(hints[n] for n in self.names) if plain else None
        self._decimals = [n for n in self._fields if is_decimal(hints.get(n))]

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        """Bind and convert one call's arguments.

        Raises `ConfigurationError` naming the action and the argument when one is missing,
        unknown, of the wrong type, not storable or too large, and `TaintedArgument` when one
        comes from a rehearsal.
        """
        if not kwargs and tuple(map(type, args)) == self._kinds:
            return self._bind_plain(args)
        return self._bind_any(args, kwargs)

    def _bind_plain(self, args: tuple[Any, ...]) -> Bound:
        """Arguments by position, of types that need no converting."""
        values = dict(zip(self.names, args, strict=True))
        try:
            text = encode(values)
        except (ValueError, OverflowError):
            return self._bind_any(args, {})  # which says what is wrong
        if len(text) > self._max_bytes:
            raise self._too_large(text)
        return Bound(text.decode(), digest(text), values)

    def _bind_any(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        given = self._given(args, kwargs)
        plain = given
        if self.secrets:
            plain = {n: v for n, v in given.items() if n not in self.secrets}
        try:
            text, values = self._convert(plain)
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError, RecursionError) as e:
            raise self._explain(plain, e) from e
        if len(text) > self._max_bytes:
            raise self._too_large(text)
        if not self.secrets:
            return Bound(text.decode(), digest(text), values)
        hidden = {n: given[n] for n in self.secrets if n in given}
        if hidden:
            values.update(hidden)
            text = self._with_markers(text, hidden)
        return Bound(text.decode(), digest(text), values, bool(hidden))

    def load(self, text: str) -> Bound:
        """Arguments as stored; `ConfigurationError` when they no longer fit the function."""
        try:
            values = self._load(self._without_markers(text))
        except msgspec.MsgspecError as error:
            raise ConfigurationError(
                f"action {self._action!r}: its stored arguments no longer fit the function "
                f"({error}): keep old parameters working until the queue is empty",
                action=self._action,
            ) from error
        hidden = self.secrets and MASK in text
        kept = msgspec.json.decode(text) if hidden else {}
        return Bound(
            text, fingerprint(text), values, any(kept.get(name) == MASK for name in self.secrets)
        )

    def fresh(self, bound: Bound) -> Mapping[str, Any]:
        """The values anew, as they were fingerprinted.

        Whoever had ``bound.values`` before, an earlier attempt too, may have changed them in place.
        Raises `Cancel` when they lack a secret that the call was made with.
        """
        if bound.has_secrets and not self.secrets & bound.values.keys():
            raise Cancel(
                "it was called with a secret argument, which the ledger does not keep: only its "
                "caller can make the call again"
            )
        if self._exact:
            return bound.values
        hidden = {n: bound.values[n] for n in self.secrets if n in bound.values}
        return {**self._load(self._without_markers(bound.text)), **hidden}

    def invoke(self, fn: Callable[..., Any], values: Mapping[str, Any]) -> Any:
        """Call ``fn`` with ``values`` put back where its signature wants them."""
        if self._simple:
            return fn(**values)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for p in self._parameters:
            if p.name not in values:
                continue
            if p.kind is p.VAR_POSITIONAL:
                args.extend(values[p.name])
            elif p.kind is p.VAR_KEYWORD:
                kwargs.update(values[p.name])
            elif p.kind is p.POSITIONAL_ONLY or (p.kind in _POSITIONAL and not kwargs):
                args.append(values[p.name])
            else:
                kwargs[p.name] = values[p.name]
        return fn(*args, **kwargs)

    def _given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        given = self._matched(args, kwargs)
        if self._open is not None:
            self._refuse_unnamed_secrets(given)
        if PLAIN.issuperset(map(type, given.values())):
            return given
        if (tainted := find_tainted(given)) is not None:
            raise TaintedArgument(f"an argument is {tainted!r}")
        return given

    def _matched(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Parameter → argument; by hand for the common signature, which is five times as fast."""
        if self._simple and not kwargs and len(args) == len(self.names):
            return dict(zip(self.names, args, strict=True))
        if self._simple and len(args) <= len(self.names):
            given = dict(zip(self.names, args, strict=False))
            if kwargs.keys() <= self._known and given.keys().isdisjoint(kwargs):
                given.update(kwargs)
                if self._required <= given.keys():
                    return given
        self._refuse_unknown(kwargs)
        try:
            return self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise ConfigurationError(
                f"action {self._action!r}: {error}; it takes {self._shown}",
                action=self._action,
            ) from error

    def _refuse_unknown(self, kwargs: Mapping[str, Any]) -> None:
        """Name what it has no parameter for, and the one that may be meant."""
        unknown = [name for name in kwargs if name not in self._known]
        if not unknown or self._open is not None:
            return
        from difflib import get_close_matches  # noqa: PLC0415 - only mistakes pay for it

        meant = get_close_matches(str(unknown[0]), self.names, 1)
        hint = f"; did you mean {meant[0]}?" if meant else ";"
        raise ConfigurationError(
            f"action {self._action!r} has no parameter {', '.join(map(str, unknown))}{hint} "
            f"it takes {self._shown}",
            action=self._action,
        )

    def _convert(self, plain: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """The canonical form of the converted values, so that equal arguments have one form."""
        for name in self._decimals:
            if isinstance(plain.get(name), float):
                raise TypeError(
                    f"`{name}` is a Decimal and was given a float; give Decimal('1.10')"
                )
        text = canonical(self._struct(**plain))
        struct = self._decoder.decode(text)
        if not self._exact:
            text = canonical(struct)
        return text, {name: getattr(struct, name) for name in self._fields}

    def _refuse_unnamed_secrets(self, given: Mapping[str, Any]) -> None:
        for name in given.get(self._open or "", ()):
            if self._is_secret_name(name):
                raise ConfigurationError(
                    f"action {self._action!r}: {name!r} looks like a secret and would be stored "
                    f"among **{self._open}; declare it as a parameter of its own",
                    action=self._action,
                )

    def _load(self, text: str | bytes) -> dict[str, Any]:
        struct = self._decoder.decode(text)
        return {name: getattr(struct, name) for name in self._fields}

    def _without_markers(self, text: str) -> str | bytes:
        if not self.secrets:
            return text
        stored = msgspec.json.decode(text)
        return canonical({n: v for n, v in stored.items() if n not in self.secrets})

    @staticmethod
    def _with_markers(text: bytes, hidden: Collection[str]) -> bytes:
        stored = msgspec.json.decode(text)
        stored.update(dict.fromkeys(hidden, MASK))
        return canonical(stored)

    def _make_struct(self, hints: Mapping[str, Any]) -> type[msgspec.Struct]:
        fields: list[Any] = []
        for p in self._parameters:
            if p.name in self.secrets:
                continue
            hint = hints.get(p.name, Any)
            if p.kind is p.VAR_POSITIONAL:
                fields.append((p.name, list[hint], msgspec.field(default_factory=list)))  # type: ignore[valid-type]  # built from the annotation
            elif p.kind is p.VAR_KEYWORD:
                fields.append((p.name, dict[str, hint], msgspec.field(default_factory=dict)))  # type: ignore[valid-type]  # built from the annotation
            elif p.default is p.empty:
                fields.append((p.name, hint))
            else:
                fields.append((p.name, hint, _default(p.default)))
        try:
            return msgspec.defstruct(
                f"{self._action}_arguments", fields, kw_only=True, forbid_unknown_fields=True
            )
        except TypeError as error:
            raise ConfigurationError(
                f"action {self._action!r}: a default cannot be used: {error}"
            ) from error

    def _make_decoder(self) -> msgspec.json.Decoder[Any]:
        try:
            return msgspec.json.Decoder(self._struct)
        except TypeError as error:
            raise ConfigurationError(
                f"action {self._action!r}: {error}. Annotate its parameters with types that have "
                "a JSON form (dataclass, TypedDict, Enum, Decimal, datetime, UUID, bytes, ...)"
            ) from error

    def _too_large(self, text: bytes) -> ConfigurationError:
        return ConfigurationError(
            f"action {self._action!r}: the arguments take {len(text):,} bytes as JSON, more "
            f"than the {self._max_bytes:,} allowed: pass a reference (a path, an id) instead",
            action=self._action,
        )

    def _explain(self, given: Mapping[str, Any], error: Exception) -> ConfigurationError:
        culprit = ""
        for name, value in given.items():
            try:
                canonical(value)
            except (TypeError, ValueError, OverflowError, RecursionError) as cause:
                culprit, error = f" argument {name!r} ({type(value).__name__})", cause
                break
        return ConfigurationError(
            f"action {self._action!r}:{culprit} does not fit: {error}. Arguments travel as JSON "
            f"and are checked against {self._shown}",
            action=self._action,
        )


def _signature(fn: Callable[..., Any], action: str) -> inspect.Signature:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"action {action!r}: its parameters cannot be told ({error}); declare a Python function"
        ) from error


def _without_secrets(signature: inspect.Signature, secrets: Collection[str]) -> inspect.Signature:
    """As it may be shown: a default of a secret parameter is a secret too."""
    return signature.replace(
        parameters=[
            p.replace(default=MASK) if p.name in secrets and p.default is not p.empty else p
            for p in signature.parameters.values()
        ]
    )


def _hints(fn: Callable[..., Any], action: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except TypeError as error:
        raise ConfigurationError(
            f"action {action!r}: declare a Python function, not a {type(fn).__name__} ({error})"
        ) from error
    except Exception as error:
        raise ConfigurationError(
            f"action {action!r}: an annotation cannot be resolved ({error}); define the type "
            "where the module can see it, outside the function that declares the action"
        ) from error


def _default(value: Any) -> Any:
    if isinstance(value, (list, dict, set)):
        return msgspec.field(default_factory=lambda: type(value)(value))
    return value
