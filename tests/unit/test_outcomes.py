"""The classifier: only what is proven not to have happened is called so."""

from __future__ import annotations

import asyncio
import io
import smtplib
import socket
import threading
import urllib.request
from collections.abc import Iterator
from email.message import Message
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import pytest

from gonogo.outcomes import classify, retry_after
from gonogo.records import Outcome
from gonogo.signals import Cancel, NotApplied, Rejected, Snooze

NOT_APPLIED, REJECTED, UNKNOWN = Outcome.NOT_APPLIED, Outcome.REJECTED, Outcome.UNKNOWN


def http_error(status: int, **headers: str) -> HTTPError:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return HTTPError("http://127.0.0.1/", status, "said no", message, io.BytesIO())


class ClientError(Exception):
    """What requests and httpx raise: an error with a response on it."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.response = SimpleNamespace(status_code=status, headers=headers or {})


def named(module: str, name: str) -> Exception:
    """An error of a library that is not installed here, as far as its name goes."""
    kind = type(name, (Exception,), {"__module__": module})
    error = kind("as named")
    assert isinstance(error, Exception)
    return error


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


def in_context(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__context__ = inner
    return outer


@pytest.fixture
def closed_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A loopback port where the connection is made and nothing is ever answered."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def hanging_up_port() -> Iterator[int]:
    """A loopback port that reads the request and closes the connection without an answer."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def hang_up() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotApplied(), NOT_APPLIED),
        (Snooze(5), NOT_APPLIED),
        (Cancel(), NOT_APPLIED),
        (Rejected(), REJECTED),
        (ConnectionRefusedError(), NOT_APPLIED),
        (socket.gaierror(), NOT_APPLIED),
        (URLError(socket.gaierror()), NOT_APPLIED),
        (URLError(ConnectionResetError()), UNKNOWN),
        (named("requests.exceptions", "ConnectTimeout"), NOT_APPLIED),
        (named("httpx", "ConnectError"), NOT_APPLIED),
        (named("httpx", "ReadTimeout"), UNKNOWN),
        (named("requests.exceptions", "ReadTimeout"), UNKNOWN),
        (named("somewhere.else", "ConnectTimeout"), UNKNOWN),
        (ConnectionResetError(), UNKNOWN),
        (BrokenPipeError(), UNKNOWN),
        (TimeoutError(), UNKNOWN),
        (ValueError("nobody knows"), UNKNOWN),
        (KeyboardInterrupt(), UNKNOWN),
        (asyncio.CancelledError(), UNKNOWN),
        (SystemExit(), UNKNOWN),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_an_exception_proves(error: BaseException, outcome: Outcome) -> None:
    """Each exception is classified by what it proves, and unknown is the answer to the rest."""
    assert classify(error) is outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, REJECTED),
        (401, NOT_APPLIED),
        (403, NOT_APPLIED),
        (402, REJECTED),
        (404, REJECTED),
        (422, REJECTED),
        (409, UNKNOWN),
        (408, UNKNOWN),
        (425, NOT_APPLIED),
        (429, NOT_APPLIED),
        (500, UNKNOWN),
        (502, UNKNOWN),
        (503, UNKNOWN),
        (504, UNKNOWN),
    ],
)
def test_what_an_http_status_proves(status: int, outcome: Outcome) -> None:
    """A status means the same on every client's error, urllib's and those with a response."""
    assert classify(http_error(status)) is outcome
    assert classify(ClientError(status)) is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (smtplib.SMTPRecipientsRefused({"a@b.example": (550, b"no such user")}), REJECTED),
        (smtplib.SMTPRecipientsRefused({"a@b.example": (450, b"greylisted")}), NOT_APPLIED),
        (
            smtplib.SMTPRecipientsRefused({"a@b.example": (450, b""), "c@b.example": (550, b"")}),
            REJECTED,
        ),
        (smtplib.SMTPSenderRefused(553, b"who are you", "a@b.example"), REJECTED),
        (smtplib.SMTPSenderRefused(451, b"later", "a@b.example"), NOT_APPLIED),
        (smtplib.SMTPDataError(554, b"not this"), REJECTED),
        (smtplib.SMTPDataError(451, b"not now"), NOT_APPLIED),
        (smtplib.SMTPAuthenticationError(535, b"who?"), NOT_APPLIED),
        (smtplib.SMTPConnectError(421, b"busy"), NOT_APPLIED),
        (smtplib.SMTPException("something"), UNKNOWN),
        (smtplib.SMTPServerDisconnected("gone"), UNKNOWN),
        (caused(smtplib.SMTPException(), ConnectionRefusedError()), NOT_APPLIED),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_an_smtp_reply_proves(error: Exception, outcome: Outcome) -> None:
    """Replies before DATA prove that nothing was delivered; 4xx says not now, 5xx never."""
    assert classify(error) is outcome


def test_an_explicit_cause_is_looked_into() -> None:
    """`raise X from refused` is as good a proof as the refusal itself."""
    assert classify(caused(RuntimeError("pay failed"), ConnectionRefusedError())) is NOT_APPLIED


def test_an_implicit_context_proves_nothing() -> None:
    """An error raised while handling a refusal says nothing about the refusal."""
    assert classify(in_context(RuntimeError("in the handler"), ConnectionRefusedError())) is UNKNOWN
    assert retry_after(in_context(RuntimeError(), NotApplied(retry_after=5))) is None


def test_the_outermost_verdict_wins() -> None:
    """What the action says last is believed: unknown HTTP 500 is not overruled by its cause."""
    assert classify(caused(http_error(500), ConnectionRefusedError())) is UNKNOWN
    assert classify(caused(NotApplied(), TimeoutError())) is NOT_APPLIED


def test_a_ring_of_causes_ends() -> None:
    """Errors that are each other's cause are classified, not followed for ever."""
    first, second = RuntimeError(), RuntimeError()
    first.__cause__, second.__cause__ = second, first
    assert classify(first) is UNKNOWN
    assert retry_after(first) is None


def test_a_status_must_be_a_number_of_http() -> None:
    """Attributes that only look like a status (True, 7, '404') prove nothing."""
    for status in (True, 7, "404", 999, None):
        error = RuntimeError()
        error.status = status  # type: ignore[attr-defined]
        assert classify(error) is UNKNOWN


def test_a_closed_port_is_not_applied(closed_port: int) -> None:
    """A real connection refused, as urllib wraps it, proves that nothing was sent."""
    with pytest.raises(URLError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{closed_port}/pay", data=b"{}", timeout=5)
    assert classify(caught.value) is NOT_APPLIED


def test_a_read_time_out_is_unknown(silent_port: int) -> None:
    """A real read time-out leaves open whether the request was carried out."""
    with pytest.raises(TimeoutError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{silent_port}/pay", data=b"{}", timeout=0.05)
    assert classify(caught.value) is UNKNOWN


def test_a_connection_closed_after_the_request_is_unknown(hanging_up_port: int) -> None:
    """A real hang-up after the request was read leaves open whether it was carried out."""
    with pytest.raises((ConnectionError, URLError)) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{hanging_up_port}/pay", data=b"{}", timeout=5)
    assert classify(caught.value) is UNKNOWN


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (NotApplied(retry_after=7), 7),
        (NotApplied(retry_after=-7), 0),
        (NotApplied(), None),
        (Snooze(30), 30),
        (http_error(429, Retry_After="12"), 12),
        (http_error(429, Retry_After="1.5"), 1.5),
        (http_error(429, Retry_After="-3"), 0),
        (http_error(503, Retry_After="soon"), None),
        (http_error(429), None),
        (ClientError(429, {"Retry-After": "9"}), 9),
        (caused(RuntimeError(), http_error(429, Retry_After="12")), 12),
        (ValueError(), None),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_how_long_the_other_side_asked_us_to_wait(error: Exception, seconds: float | None) -> None:
    """Signals and Retry-After headers say how long; what cannot be read says nothing."""
    assert retry_after(error) == seconds


def test_a_retry_after_date_is_measured_by_the_senders_clock() -> None:
    """A date counts from the response's own Date header, so that our clock takes no part."""
    later, now = "Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"
    assert retry_after(http_error(429, Retry_After=later, Date=now)) == 30
    assert retry_after(http_error(429, Retry_After=now, Date=later)) == 0
    assert retry_after(http_error(429, Retry_After=later)) is None


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "-inf"])
def test_a_retry_after_that_is_no_number_is_ignored(value: str) -> None:
    """Infinity would park a call for ever and not-a-number break arithmetic: both say nothing."""
    assert retry_after(http_error(429, Retry_After=value)) is None
    assert retry_after(NotApplied(retry_after=float(value))) is None


class Hostile(Exception):
    """An error whose properties fail, as those of half-built client errors do."""

    @property
    def response(self) -> object:
        raise RuntimeError("the request is not set")

    reason = status = code = headers = response


def test_an_error_whose_properties_fail_is_unknown() -> None:
    """Classifying never raises: what an error cannot tell is not known."""
    assert classify(Hostile()) is UNKNOWN
    assert retry_after(Hostile()) is None
