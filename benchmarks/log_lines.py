"""One JSON line of a log, with what looks secret masked."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

import loguru
import msgspec
import orjson
import structlog
from pythonjsonlogger.orjson import OrjsonFormatter

from benchmarks.measure import Effort, Scene, Stage, Target, repeated
from gonogo import StructuredLogger
from gonogo.clock import Stamps, SystemClock
from gonogo.logs import current_id

Fields = MutableMapping[str, Any]

FIELDS: Fields = {
    "invoice": "INV-7",
    "cents": 12_000,
    "customer": "ACME Steel",
    "attempt": 1,
    "api_token": "not to be seen",
}
TEXTS: Fields = {
    "request": "01a204f6-5889-7960-e6b6-439789acf450",
    "customer": "Straße der Einheit 7, 12345 Berlin",
    "email": "ana.lopez@example.com",
    "url": "https://api.example.com/orders/77?page=2",
    "note": "The invoice INV-7 of ACME Steel was paid in full",
}
FLOOR = "floor: the same line, nothing hidden"
_SECRET = re.compile(r"passw|secret|token|authorization|api[-_]?key|cookie|credential", re.I)


def json_line(effort: Effort) -> AbstractContextManager[Scene]:
    """Five short fields, as lines mostly have."""
    return _lines("redacted", "five fields, one of them masked by its name", FIELDS, 1 / 2)


def json_texts(effort: Effort) -> AbstractContextManager[Scene]:
    """Five longer texts, each of which has to be looked through."""
    return _lines("of texts", "five texts of 21 to 48 characters, none to be masked", TEXTS, None)


@contextmanager
def _lines(kind: str, what: str, fields: Fields, asked: float | None) -> Iterator[Scene]:
    """Each as its own documents set it up for speed, into a stream that throws everything away."""
    structured = repeated(_structlog(fields), 2000)
    standard = repeated(_standard(fields), 2000)
    with _loguru(fields) as loguru_line:
        peers = {
            "structlog, orjson": structured,
            "python-json-logger, orjson": standard,
            "loguru, serialize": repeated(loguru_line, 500),
        }
        yield Scene(
            f"Log: one JSON line, {kind}",
            f"{what}; time, level, action; into an object "
            "whose write() and flush() do nothing. The others mask keys by a remembered pattern; "
            "gonogo also looks for secrets in the texts and follows a correlation id",
            {
                "gonogo": repeated(our_line(fields), 5000),
                **peers,
                FLOOR: repeated(_bare(fields), 5000),
            },
            [Target("gonogo", peer, asked) for peer in peers if asked is not None],
        )


def _bare(fields: Fields) -> Callable[[int], object]:
    """The same line in one straight function: nothing is looked at, no level, no other handler."""
    clock, stamps, stream, lock = SystemClock(), Stamps(), _Nowhere(), threading.RLock()
    encode = msgspec.json.Encoder().encode

    def log_action(name: str, /, level: str = "info", **given: Any) -> dict[str, Any]:
        record = {
            "timestamp": stamps.iso(clock.now()),
            "level": level,
            "action": name,
            "correlation_id": current_id.get(),
            **given,
        }
        text = encode(record).decode() + "\n"
        with lock:
            stream.write(text)
            stream.flush()
        return record

    return lambda _: log_action("payment", **fields)


class _Nowhere:
    """A stream, of text or bytes, that throws everything away."""

    def write(self, text: str | bytes) -> None:
        pass

    def flush(self) -> None:
        pass


@lru_cache(maxsize=4096)
def _is_secret(key: str) -> bool:
    return _SECRET.search(key) is not None


def _mask(fields: Fields) -> Fields:
    for key in fields:
        if _is_secret(key):
            fields[key] = "[secret]"
    return fields


def our_line(fields: Fields) -> Callable[[int], object]:
    log = StructuredLogger(_logger("benchmark.gonogo"))
    log.configure(json=True, stream=_Nowhere())
    return lambda _: log.log_action("payment", **fields)


def _structlog(fields: Fields) -> Callable[[int], object]:
    log = structlog.wrap_logger(
        structlog.BytesLogger(_Nowhere()),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            lambda _logger, _method, event: _mask(event),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    ).bind()
    return lambda _: log.info("payment", **fields)


class _Masking(OrjsonFormatter):
    def process_log_record(self, log_data: Fields) -> Fields:
        return _mask(log_data)


def _standard(fields: Fields) -> Callable[[int], object]:
    log = _logger("benchmark.standard")
    handler = logging.StreamHandler(_Nowhere())
    handler.setFormatter(_Masking("{asctime}{levelname}{message}", style="{"))
    log.addHandler(handler)
    return lambda _: log.info("payment", extra=fields)


def _logger(name: str) -> logging.Logger:
    log = logging.getLogger(name)
    log.handlers.clear()
    log.propagate = False
    log.setLevel(logging.INFO)
    return log


@contextmanager
def _loguru(fields: Fields) -> Iterator[Callable[[int], object]]:
    log = loguru.logger.patch(lambda record: _mask(record["extra"]) and None)
    log.remove()
    sink = log.add(_Nowhere(), serialize=True, format="{message}", diagnose=False)
    try:
        yield lambda _: log.info("payment", **fields)
    finally:
        log.remove(sink)


SCENES: dict[str, Stage] = {"log.json": json_line, "log.texts": json_texts}
