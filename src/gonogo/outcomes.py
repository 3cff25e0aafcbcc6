"""One classifier: what does an exception raised by an effect say about the world?

Retry, idempotency, budgets and alerts all follow from its answer, so there is only one. Only what
is *proven* not to have happened is called so; whatever it does not know is `Outcome.UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from math import isfinite
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from gonogo.records import Outcome
from gonogo.signals import Cancel, NotApplied, Rejected, Snooze

# Raised before a byte of the request could leave. Named, so that no HTTP client is imported here.
_NEVER_SENT = frozenset(
    {
        "requests.exceptions.ConnectTimeout",
        "urllib3.exceptions.NewConnectionError",
        "urllib3.exceptions.ConnectTimeoutError",
        "urllib3.exceptions.NameResolutionError",
        "httpx.ConnectError",
        "httpx.ConnectTimeout",
        "httpx.PoolTimeout",
        "aiohttp.client_exceptions.ClientConnectorError",
    }
)
# The request was read and refused. 409 is missing on purpose: it often means "seen before".
_REFUSING = frozenset({400, 402, 404, 405, 406, 410, 411, 413, 414, 415, 422, 451})
# The request was turned away before it was looked at. 401, 403 and 407 judge who asks, not what is
# asked: once the credentials are mended the same call must be able to run, so its key is not kept.
_TURNED_AWAY = frozenset({401, 403, 407, 425, 429})
OVER = frozenset({type(None), bool, int, float, str, bytes, dict, list, tuple})
"""Types of answers that are no work still to be done; there are others."""


def classify(error: BaseException) -> Outcome:
    """What ``error``, raised by an effect, proves about it.

    ============================================================  ===========
    `NotApplied`, `Snooze`, `Cancel`; connection refused, name    not applied
    resolution failed, connect time-out; HTTP 401, 403, 407,
    425, 429; SMTP 4xx replies, failed greeting or login
    `Rejected`; HTTP 4xx that judge the request; SMTP 5xx         rejected
    replies to a sender, to every recipient or to the message
    everything else: read time-outs, resets, HTTP 5xx,            unknown
    cancellation, exceptions nobody has classified
    ============================================================  ===========
    """
    for cause in _chain(error):
        outcome = _classify_one(cause)
        if outcome is not None:
            return outcome
    return Outcome.UNKNOWN


def retry_after(error: BaseException) -> float | None:
    """Seconds the other side asked us to wait: from the signal or from a ``Retry-After`` header.

    The header's two forms are those of RFC 9110, section 10.2.3. A date is measured against the
    response's own ``Date`` header, so that no clock of ours takes part; without one it is ignored.
    """
    for cause in _chain(error):
        if isinstance(cause, NotApplied) and cause.retry_after is not None:
            return _seconds(str(cause.retry_after), None)
        if isinstance(cause, Snooze):
            return _seconds(str(cause.seconds), None)
        if value := _header(cause, "Retry-After"):
            return _seconds(value, _header(cause, "Date"))
    return None


def require_over(value: Any) -> None:
    """Refuse an answer that is work still to be done: nobody would do it, or hear how it ended."""
    if type(value) in OVER:
        return
    if isinstance(value, (Awaitable, GeneratorType, AsyncGeneratorType)):
        if isinstance(value, (CoroutineType, GeneratorType)):
            value.close()
        raise TypeError(
            f"it returned a {type(value).__name__} instead of its result, so nobody knows "
            "whether it happened: declare it as async def, or run it to its end inside"
        )


def _classify_one(error: BaseException) -> Outcome | None:
    import socket  # noqa: PLC0415 - slow to import, and loaded already by whoever raised its errors

    if isinstance(error, (NotApplied, Snooze, Cancel)):
        return Outcome.NOT_APPLIED
    if isinstance(error, Rejected):
        return Outcome.REJECTED
    if isinstance(error, (ConnectionRefusedError, socket.gaierror)):
        return Outcome.NOT_APPLIED
    if any(kind.__module__ == "smtplib" for kind in type(error).__mro__):
        return _classify_smtp(error)
    if f"{type(error).__module__}.{type(error).__qualname__}" in _NEVER_SENT:
        return Outcome.NOT_APPLIED
    status = _status(error)
    if status in _TURNED_AWAY:
        return Outcome.NOT_APPLIED
    if status in _REFUSING:
        return Outcome.REJECTED
    return Outcome.UNKNOWN if status is not None else None


def _classify_smtp(error: BaseException) -> Outcome | None:
    """A reply that refuses means that nothing was accepted (RFC 5321, section 4.2.1 and 6.1).

    A 4xx code only says not now. What fails before the message is offered is not applied; a lost
    connection proves nothing, and is left to the exceptions it wraps.
    """
    import smtplib  # noqa: PLC0415 - heavy, and loaded already by whoever raised this

    if isinstance(
        error,
        (
            smtplib.SMTPConnectError,
            smtplib.SMTPHeloError,
            smtplib.SMTPAuthenticationError,
            smtplib.SMTPNotSupportedError,
        ),
    ):
        return Outcome.NOT_APPLIED
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
    elif isinstance(error, (smtplib.SMTPSenderRefused, smtplib.SMTPDataError)):
        codes = [error.smtp_code]
    else:
        return None
    temporary = bool(codes) and all(400 <= code < 500 for code in codes)
    return Outcome.NOT_APPLIED if temporary else Outcome.REJECTED


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it explicitly wraps: ``from`` causes and ``reason`` (urllib, urllib3).

    Implicit contexts are left out: an error raised while handling another one proves nothing
    about the other. Bounded, because a chain may be a ring.
    """
    current: object = error
    for _ in range(8):
        if not isinstance(current, BaseException):
            return
        yield current
        wrapped = _get(current, "reason")
        current = wrapped if isinstance(wrapped, BaseException) else current.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status an exception carries, as requests, httpx, aiohttp and urllib spell it."""
    response = _get(error, "response")
    for owner, name in (
        (response, "status_code"),
        (response, "status"),
        (error, "status_code"),
        (error, "status"),
        (error, "code"),
    ):
        value = _get(owner, name)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600:
            return value
    return None


def _header(error: BaseException, name: str) -> str | None:
    for owner in (_get(error, "response"), error):
        headers = _get(owner, "headers")
        if isinstance(headers, Mapping) or hasattr(headers, "get"):
            try:
                value = headers.get(name)
            except Exception:  # noqa: BLE001  a foreign object; what it cannot tell is not known
                return None
            return None if value is None else str(value)
    return None


def _get(owner: object, name: str) -> Any:
    """An attribute of a foreign object; ``None`` when it has none or a property of it fails."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001  classifying an error must never raise another
        return None


def _seconds(value: str, date: str | None) -> float | None:
    try:
        seconds = float(value)
        return max(0.0, seconds) if isfinite(seconds) else None
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - heavy, and rarely needed

    try:
        wanted = parsedate_to_datetime(value)
        return max(0.0, (wanted - parsedate_to_datetime(date)).total_seconds()) if date else None
    except (ValueError, TypeError):
        return None
