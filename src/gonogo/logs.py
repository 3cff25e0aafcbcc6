"""Structured logs over the standard ``logging``: correlation ids, redaction, JSON or console."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token, copy_context
from functools import wraps
from typing import IO, Any, ParamSpec, TypeVar

import msgspec

from gonogo.clock import Clock, Stamps, SystemClock, iso
from gonogo.errors import ConfigurationError
from gonogo.ids import new_id
from gonogo.redactor import Redactor
from gonogo.secrets import redact_text, show_error

P = ParamSpec("P")
T = TypeVar("T")

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_RESERVED = frozenset({"timestamp", "level", "action", "correlation_id"})
_MAX_ACTIONS = 4096
_encode = msgspec.json.Encoder().encode

current_id: ContextVar[str | None] = ContextVar("gonogo_correlation_id", default=None)


def get_correlation_id() -> str | None:
    """The id that ties together what belongs together; ``None`` outside of any."""
    return current_id.get()


class correlation:  # noqa: N801 - used as the function it could be
    """Everything inside carries this id (a new one unless given); the one before comes back."""

    __slots__ = ("_clock", "_id", "_token")

    def __init__(self, correlation_id: str | None = None, *, clock: Clock | None = None) -> None:
        self._id = correlation_id
        self._clock = clock

    def __enter__(self) -> str:
        self._token = _enter(self._id, self._clock)
        return current_id.get() or ""

    def __exit__(self, *_: object) -> None:
        current_id.reset(self._token)


def carry(fn: Callable[P, T]) -> Callable[P, T]:
    """``fn`` bound to the present context, correlation id included, for threads and executors.

    It may be called many times and at the same time. Async tasks carry their context themselves.
    """
    context = copy_context()

    @wraps(fn)
    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(fn, *args, **kwargs)

    return carried


class StructuredLogger:
    """Writes records of actions to a standard logger, without secrets. Thread-safe.

    Nothing is printed until the application sets up logging, or calls `configure`. A handler that
    fails never disturbs the caller; it is counted in ``failures``.

    Args:
        logger_instance: the logger to write to; ``logging.getLogger("gonogo")`` unless given.
        secrets: key paths to mask, see `gonogo.redactor.Redactor`.
        level: records below it are not written.

    Raises:
        ConfigurationError: an unknown level, or a malformed key path.
    """

    def __init__(
        self,
        logger_instance: logging.Logger | None = None,
        *,
        clock: Clock | None = None,
        secrets: Iterable[str] = (),
        level: str = "debug",
    ) -> None:
        self.logger = logger_instance or logging.getLogger("gonogo")
        if not self.logger.handlers:
            self.logger.addHandler(logging.NullHandler())
        self._clock = clock or SystemClock()
        self._redactor = Redactor(secrets)
        self._stamps = Stamps()
        self._threshold = _level(level)
        self._lock = threading.Lock()
        self._failures = 0
        self._actions: dict[str, str] = {}  # names that hold no secret

    @property
    def failures(self) -> int:
        """Records that a handler failed to write."""
        return self._failures

    def set_correlation_id(self, id: str | None = None) -> str:  # noqa: A002  the checklist's name
        """Use ``id`` (a new one unless given) from here on in this thread or task."""
        _enter(id, self._clock)
        return current_id.get() or ""

    def get_correlation_id(self) -> str | None:
        """See `get_correlation_id`."""
        return current_id.get()

    def log_action(self, name: str, /, level: str = "info", **fields: Any) -> dict[str, Any]:
        """Write one record and return it: timestamp, level, action, correlation_id and fields.

        Fields are redacted and made plain. A field named like one of the four is kept as
        ``field.<name>``; a level that is not known is written as ``info``.
        """
        if "action" in fields or "timestamp" in fields or "correlation_id" in fields:
            return self.log_action(name, level, **{_free_name(key): fields[key] for key in fields})
        number = LEVELS.get(level)
        if number is None:
            level, number = _mend_level(level)
        action = self._actions.get(name) if type(name) is str else None
        if action is None:
            action = self._learn(name)
        self._redactor.cover(fields)
        now = self._clock.now()
        record: dict[str, Any] = {
            "timestamp": self._stamps.iso(now),
            "level": level,
            "action": action,
            "correlation_id": current_id.get(),
            **fields,
        }
        if number >= self._threshold and self.logger.isEnabledFor(number):
            self._write(number, now, record)
        return record

    def log_request(
        self,
        endpoint: str,
        method: str,
        user_id: str | None = None,
        *,
        correlation_id: str | None = None,
    ) -> str:
        """Begin a request: log it under a new correlation id (or its own), which is returned."""
        chosen = self.set_correlation_id(correlation_id)
        self.log_action("request", endpoint=endpoint, method=method, user_id=user_id)
        return chosen

    def configure(
        self,
        *,
        json: bool = True,
        level: str = "info",
        stream: IO[str] | None = None,
        root: bool = False,
    ) -> logging.Handler:
        """Print records to ``stream`` (standard error unless given), as JSON lines or for people.

        The handler is put on this logger, or with ``root`` on the root logger, which then also
        prints what other libraries log. Configuring again replaces the handler.
        """
        formatter = JsonFormatter() if json else ConsoleFormatter()
        handler = _Sink(stream or sys.stderr, formatter, self._count_failure)
        target = logging.getLogger() if root else self.logger
        for old in [old for old in target.handlers if isinstance(old, _Sink)]:
            target.removeHandler(old)
        target.addHandler(handler)
        target.setLevel(_level(level))
        return handler

    def _write(self, number: int, now: float, record: dict[str, Any]) -> None:
        """Hand the record to every handler, as `logging.Logger.handle` does.

        Own handlers take it as it is; the `logging.LogRecord` that others need is made only for
        them. Each is on its own: a failing one is counted and the next still gets the record.
        """
        line: logging.LogRecord | None = None
        logger: logging.Logger | None = self.logger
        filters = self.logger.filters
        while logger is not None:
            for handler in logger.handlers:
                if number < handler.level:
                    continue
                try:
                    if type(handler) is _Sink and not filters and not handler.filters:
                        handler.put(record)
                    elif type(handler) is not logging.NullHandler:
                        line = line or _line(self.logger.name, number, now, record)
                        if self.logger.filter(line):
                            handler.handle(line)
                except Exception:  # noqa: BLE001  an observer never breaks what it observes
                    self._count_failure()
            logger = logger.parent if logger.propagate else None

    def _learn(self, name: object) -> str:
        """The name as it is shown; one without a secret is remembered, for it comes again."""
        action = redact_text(str(name))
        if type(name) is str and action == name and len(self._actions) < _MAX_ACTIONS:
            self._actions[name] = action
        return action

    def _count_failure(self) -> None:
        with self._lock:
            self._failures += 1


class _Message:
    """A record as the message of a `logging.LogRecord`; its text is made when somebody asks."""

    __slots__ = ("record",)

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record

    def __str__(self) -> str:
        record = self.record
        parts = [f"{key}={_short(record[key])}" for key in record if key not in _RESERVED]
        if record["correlation_id"] is not None:
            parts.append(f"correlation_id={record['correlation_id']}")
        return " ".join([_one_line(record["action"]), *parts])


class JsonFormatter(logging.Formatter):
    """One JSON object a line, from records of this package and of any other library."""

    def format(self, record: logging.LogRecord) -> str:
        return self.render(_record(record))

    def render(self, record: dict[str, Any]) -> str:
        try:
            return _encode(record).decode()
        except (UnicodeEncodeError, OverflowError, TypeError):
            return json.dumps(record, default=repr)


class ConsoleFormatter(logging.Formatter):
    """One line for people: time, level, action, fields."""

    def format(self, record: logging.LogRecord) -> str:
        return self.render(_record(record))

    def render(self, record: dict[str, Any]) -> str:
        time = record["timestamp"][:23].replace("T", " ")
        return f"{time} {record['level']:<8} {_Message(record)}"


class _Sink(logging.StreamHandler[IO[str]]):
    """A stream handler that takes our records as they are, and counts its failures."""

    def __init__(
        self,
        stream: IO[str],
        formatter: JsonFormatter | ConsoleFormatter,
        on_failure: Callable[[], None],
    ) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self._render = formatter.render
        self._on_failure = on_failure

    def put(self, record: dict[str, Any]) -> None:
        text = self._render(record) + self.terminator
        lock, stream = self.lock, self.stream
        assert lock is not None  # noqa: S101 - logging gives every handler one
        lock.acquire()
        try:
            stream.write(text)
            stream.flush()
        finally:
            lock.release()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        self._on_failure()


def _line(name: str, number: int, now: float, record: dict[str, Any]) -> logging.LogRecord:
    line = logging.LogRecord(name, number, "(gonogo)", 0, _Message(record), None, None)
    line.created = now
    line.msecs = (now - int(now)) * 1000
    return line


def _record(line: logging.LogRecord) -> dict[str, Any]:
    return line.msg.record if isinstance(line.msg, _Message) else _foreign(line)


def _free_name(key: str) -> str:
    return f"field.{key}" if key in _RESERVED else key


def _foreign(record: logging.LogRecord) -> dict[str, Any]:
    """The record of another library in our shape."""
    shown: dict[str, Any] = {
        "timestamp": iso(record.created),
        "level": record.levelname.lower(),
        "action": record.name,
        "correlation_id": current_id.get(),
        "message": redact_text(record.getMessage()),
    }
    if record.exc_info and record.exc_info[1] is not None:
        shown["error"] = show_error(record.exc_info[1])
    return shown


def _enter(correlation_id: str | None, clock: Clock | None) -> Token[str | None]:
    """Ids come from outside, too: they are cut to 128 characters and hold no line breaks."""
    kept = str(correlation_id or "")[:128]
    if not kept.isprintable():
        kept = "".join(char for char in kept if char.isprintable())
    return current_id.set(kept or new_id((clock or SystemClock()).now()))


def _level(level: str) -> int:
    number = LEVELS.get(str(level).lower())
    if number is None:
        raise ConfigurationError(f"level {level!r} is not known; use one of {', '.join(LEVELS)}")
    return number


def _mend_level(level: object) -> tuple[str, int]:
    given = str(level).lower()
    known = {"warn": "warning", "fatal": "critical"}.get(given, given)
    return (known, LEVELS[known]) if known in LEVELS else ("info", logging.INFO)


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _short(value: object) -> str:
    if isinstance(value, str):
        text = _one_line(value)
        return text if text and not any(char in text for char in ' ="') else json.dumps(text)
    return json.dumps(value, default=repr)
