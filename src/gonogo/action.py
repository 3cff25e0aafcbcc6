"""An action: a function with an effect outside the process, and the policy it declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

import msgspec
from msgspec import Struct

from gonogo.arguments import MAX_BYTES, Parameters
from gonogo.canonical import canonical
from gonogo.durations import parse_duration
from gonogo.errors import ConfigurationError, GonogoError
from gonogo.halts import switches
from gonogo.handle import OPTIONS, JobOptions
from gonogo.policy import KeyTemplate, Policy
from gonogo.records import Call, Charge
from gonogo.said import HOLD
from gonogo.secrets import describe, writable
from gonogo.templates import Template

if TYPE_CHECKING:
    from gonogo.conversation import Receipt
    from gonogo.handle import Handle

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Arguments = Mapping[str, Any]

_FUNCTIONS = {"key": "its key function", "lane": "its lane function"}
MAX_RESULT_BYTES = 1024 * 1024
MAX_KEY = 512


class Given(Struct, frozen=True):
    """Arguments as the caller wrote them."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<given: {len(self.args)} by position, {', '.join(self.kwargs) or 'none'} by name>"


class Runner(Protocol):
    """What an action needs of the orchestrator; see `gonogo.router`."""

    def call(self, action: Action[..., Any], given: Given) -> Receipt:
        """Perform it now, or record it when a rehearsal is on."""
        ...

    async def acall(self, action: Action[..., Any], given: Given) -> Receipt:
        """`call`, awaiting an ``async def`` action."""
        ...

    def enqueue(
        self, action: Action[..., Any], rows: Sequence[Given], options: JobOptions
    ) -> list[Handle]:
        """Make durable jobs of it, all or none."""
        ...

    def now(self) -> float:
        """Epoch seconds."""
        ...


class Action(Generic[P, R]):
    """A declared action. Calling it performs it through the pipeline.

    Made by ``@sandbox.action(...)``, not by hand.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        policy: Policy,
        runner: Runner,
        *,
        secrets: Iterable[str] = (),
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.fn = fn
        self.policy = policy
        self.name = policy.name
        self.stops = frozenset((*switches(policy.name), HOLD))
        self.is_async = inspect.iscoroutinefunction(fn)
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise ConfigurationError(
                f"action {policy.name!r} is a generator (it says yield): calling it would do "
                "nothing. Declare a function that returns when the effect is over"
            )
        self.parameters = Parameters(
            fn, action=policy.name, secrets=tuple(secrets), max_bytes=max_bytes
        )
        self.verifier: Callable[[CallView], Any] | None = None
        self.simulator: Callable[P, Any] | None = None
        self.reader: Callable[P, Any] | None = None
        self._runner = runner
        self._key = self._text_maker(policy.key, "key")
        self._lane = self._text_maker(policy.ordered, "lane")
        for limit in policy.limits:
            self._require_fields(limit.key, f"key of limit {limit.name!r}")
            self._require_fields(limit.cost, f"cost of limit {limit.name!r}")
        self._require_one_slot_each()
        self._has_functions = any(map(callable, _sources(policy)))
        for slots in policy.concurrency:
            self._require_fields(slots.key, "key of a concurrency limit")
        self._fixed = _fixed_charges(policy)
        self._result = _decoder(self.parameters.returns)
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn

    def __repr__(self) -> str:
        return f"<action {self.name!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Perform it now and return its result (an awaitable of it for ``async def`` actions).

        Raises `Refused` kinds when it was not allowed to happen, `EffectFailed` when it is known
        not to have been applied, `OutcomeUnknown` when it may have happened.
        """
        if self.is_async:
            return self._await_value(args, kwargs)  # type: ignore[return-value]  # R is the coroutine's type
        return self._runner.call(self, Given(args, kwargs)).value  # type: ignore[no-any-return]  # results are Any in records

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Like calling it, but returns a `Receipt`: value, call id, whether it was replayed."""
        if self.is_async:
            raise ConfigurationError(
                f"action {self.name!r} is async: await {self.name}.acall(...) instead of call(...)"
            )
        return self._runner.call(self, Given(args, kwargs))

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """`call` for async code; a plain function runs in a helper thread."""
        return await self._runner.acall(self, Given(args, kwargs))

    async def _await_value(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        receipt = await self._runner.acall(self, Given(args, kwargs))
        return receipt.value

    def enqueue(self, *args: Any, **kwargs: Any) -> Handle:
        """Make a durable job; a worker performs it. Returns at once with a `Handle`.

        Takes the action's own arguments and, where the function has no parameter of that name:
        ``priority`` (int, higher first), ``after`` (a handle or call id that must succeed first),
        ``queue``, and ``session``: an SQLAlchemy session or connection, or the driver's own, on the
        ledger's database; then the job exists if and only if that transaction commits.
        """
        return self._enqueue(args, kwargs, run_at=None)

    def enqueue_in(self, delay: float | str | timedelta, *args: Any, **kwargs: Any) -> Handle:
        """`enqueue`, not before ``delay`` from now (seconds, ``"5m"``, or a timedelta)."""
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else parse_duration(delay)
        return self._enqueue(args, kwargs, run_at=self._runner.now() + seconds)

    def enqueue_at(self, when: float | datetime, *args: Any, **kwargs: Any) -> Handle:
        """`enqueue`, not before ``when`` (epoch seconds, or a datetime with a time zone)."""
        if isinstance(when, datetime):
            if when.tzinfo is None:
                raise ConfigurationError(
                    f"action {self.name!r}: enqueue_at({when.isoformat()}) has no time zone"
                )
            when = when.timestamp()
        return self._enqueue(args, kwargs, run_at=float(when))

    def enqueue_many(
        self, rows: Iterable[tuple[Any, ...] | Mapping[str, Any]], **options: Any
    ) -> list[Handle]:
        """`enqueue` once per row (a tuple of arguments, or a mapping), all or none.

        An error names the row (from 1) that it is about, and then nothing was enqueued. So it is in
        a rehearsal: the plan has all rows, or of the batch only the call in conflict.

        ``options`` are ``priority``, ``after``, ``queue`` and ``session``, as in `enqueue`.
        """
        given = [Given((), r) if isinstance(r, Mapping) else Given(tuple(r), {}) for r in rows]
        return self._runner.enqueue(self, given, JobOptions.of(self.name, None, options))

    def _enqueue(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], run_at: float | None
    ) -> Handle:
        options = {
            n: kwargs.pop(n) for n in OPTIONS if n in kwargs and n not in self.parameters.names
        }
        given = Given(args, kwargs)
        return self._runner.enqueue(self, [given], JobOptions.of(self.name, run_at, options))[0]

    def verify(self, fn: Callable[[CallView], Any]) -> Callable[[CallView], Any]:
        """Declare how to find out whether an unknown call landed.

        ``fn`` gets a `CallView` and returns ``landed(result)``, ``absent()`` or
        ``cannot_tell(why)``. Raising, hanging or returning anything else means: cannot tell.
        """
        self.verifier = fn
        return fn

    def simulate(self, fn: Callable[P, Any]) -> Callable[P, Any]:
        """Declare what a rehearsal pretends the action returned; takes the action's arguments."""
        self.simulator = self._plain(fn, "simulate")
        return fn

    def precondition(self, fn: Callable[P, Any]) -> Callable[P, Any]:
        """Declare the facts the effect relies on; takes the action's arguments.

        ``fn`` returns a mapping of facts (read when planned, re-read before the effect: a
        difference is `Drifted`), or ``False`` / raises to say that the effect must not happen.
        """
        self.reader = self._plain(fn, "precondition")
        return fn

    def _plain(self, fn: Callable[..., Any], hook: str) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(fn):
            raise ConfigurationError(
                f"action {self.name!r}: {hook} takes a plain function, also for an async action"
            )
        return fn

    @property
    def runs_code_first(self) -> bool:
        """Whether code of its own runs before it is admitted: a precondition, a function that
        gives the cost or key of a limit or the key of its concurrency, or an argument's type."""
        return self.reader is not None or self._has_functions or self.parameters.run_code

    def key_of(self, arguments: Mapping[str, Any]) -> str | None:
        """The idempotency key for these arguments; ``None`` when the action has none."""
        return self._text("key", self._key, arguments)

    def lane_of(self, arguments: Mapping[str, Any]) -> str | None:
        """The lane its jobs with these arguments stand in; ``None`` when it has none."""
        return self._text("lane", self._lane, arguments)

    def _text(
        self, what: str, maker: Callable[[Arguments], object] | None, arguments: Arguments
    ) -> str | None:
        if maker is None:
            return None
        text = self._ask(_FUNCTIONS[what], maker, arguments)
        if not isinstance(text, str) or not text or len(text) > MAX_KEY or not _storable(text):
            raise ConfigurationError(
                f"action {self.name!r}: its {what} function returned {text!r}; a {what} is a text "
                f"of 1 to {MAX_KEY} characters that UTF-8 can hold, without NUL",
                action=self.name,
            )
        return text

    @property
    def has_fixed_charges(self) -> bool:
        """Whether every call of it takes the same of the same limits."""
        return self._fixed is not None

    def charges(self, arguments: Mapping[str, Any], clock: Callable[[], float]) -> Sequence[Charge]:
        """What performing it with these arguments takes of each limit it declares."""
        if self._fixed is not None:
            return self._fixed
        limits, now = self.policy.limits, clock()
        return self._ask(
            "the key or cost of a limit",
            lambda shown: [x.charge(shown, now) for x in limits],
            arguments,
        )

    def _require_one_slot_each(self) -> None:
        names = [(slots.name or self.name, slots.key) for slots in self.policy.concurrency]
        if len(set(names)) < len(names):
            raise ConfigurationError(
                f"action {self.name!r} declares two concurrency limits over the same slots: give "
                "each a name of its own"
            )

    def slots(self, arguments: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
        """Concurrency slots it fills, each with the number allowed at once."""
        slots = self.policy.concurrency
        if not slots:
            return ()
        return self._ask(
            "the key of its concurrency",
            lambda shown: tuple((c.slot(self.name, shown), c.max) for c in slots),
            arguments,
        )

    def _ask(
        self, what: str, question: Callable[[Mapping[str, Any]], T], arguments: Mapping[str, Any]
    ) -> T:
        """What a declared function says about ``arguments``.

        It is not given the secret ones, because its answer is written down.
        """
        shown, secrets = arguments, self.parameters.secrets
        if secrets:
            shown = {n: v for n, v in arguments.items() if n not in secrets}
        try:
            return question(shown)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"action {self.name!r}: {error}; mend the arguments, or what the action declares "
                f"as {what}",
                action=self.name,
            ) from error
        except GonogoError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"action {self.name!r}: {what} failed with {describe(error)}; it is given the "
                f"arguments {', '.join(shown) or 'none'}",
                action=self.name,
            ) from error

    def encode_result(self, value: Any) -> tuple[str | None, str | None]:
        """``value`` as JSON text, or ``None`` and the reason why it cannot be kept."""
        try:
            text = canonical(value)
        except Exception as error:  # noqa: BLE001 - the effect happened, whatever its result is
            return None, f"the result was not kept: {describe(error)}"
        if len(text) > MAX_RESULT_BYTES:
            return None, f"the result was not kept: {len(text):,} bytes as JSON"
        return text.decode(), None

    def decode_result(self, text: str) -> Any:
        """A stored result in the type the function declares, or as plain JSON if that changed."""
        try:
            return self._result.decode(text)
        except msgspec.MsgspecError:
            return msgspec.json.decode(text)

    def view(self, call: Call) -> CallView:
        """The call as its verifier sees it."""
        return CallView(call, self.parameters.load(call.args).values)

    def _text_maker(
        self, source: KeyTemplate | None, what: str
    ) -> Callable[[Arguments], object] | None:
        if source is None or callable(source):
            return source
        template = Template(source, f"{what} of action {self.name!r}")
        self.require_parameters(template)
        return template.render

    def _require_fields(self, source: object, what: str) -> None:
        if isinstance(source, str):
            self.require_parameters(Template(source, what))

    def require_parameters(self, template: Template) -> None:
        """Raise `ConfigurationError` when a template names something the function does not take."""
        if missing := [n for n in template.fields if n not in self.parameters.names]:
            raise ConfigurationError(
                f"action {self.name!r}: template {template.text!r} names {', '.join(missing)}, but "
                f"the parameters are {', '.join(self.parameters.names) or 'none'}"
            )
        if hidden := [n for n in template.fields if n in self.parameters.secrets]:
            raise ConfigurationError(
                f"action {self.name!r}: template {template.text!r} would show the secret "
                f"{', '.join(hidden)}"
            )


class CallView:
    """A call with its arguments decoded; what `Action.verify` hands to the verifier.

    Attributes:
        id, action, key, attempt, dispatched_at: as in the ledger's record.
        arguments: parameter name → typed value; secrets are not among them.
        record: the ledger's whole record.
    """

    def __init__(self, record: Call, arguments: Mapping[str, Any]) -> None:
        self.record = record
        self.arguments = dict(arguments)
        self.id = record.id
        self.action = record.action
        self.key = record.key
        self.attempt = record.attempt
        self.dispatched_at = record.dispatched_at

    def __repr__(self) -> str:
        return f"<call {self.id} of {self.action!r}, key {self.key!r}>"


def _sources(policy: Policy) -> Iterator[object]:
    """What gives the costs and keys of its limits and slots: constants, templates, functions."""
    for limit in policy.limits:
        yield from (limit.cost, limit.key)
    for slots in policy.concurrency:
        yield slots.key


def _fixed_charges(policy: Policy) -> tuple[Charge, ...] | None:
    """What every call of it uses; ``None`` when that depends on its arguments or the time."""
    fixed = [limit.fixed for limit in policy.limits]
    return None if None in fixed else tuple(filter(None, fixed))


def _decoder(hint: Any) -> msgspec.json.Decoder[Any]:
    try:
        return msgspec.json.Decoder(hint)
    except TypeError:
        return msgspec.json.Decoder(Any)


def _storable(text: str) -> bool:
    """Whether every database can hold it."""
    return "\0" not in text and (text.isascii() or writable(text) == text)
