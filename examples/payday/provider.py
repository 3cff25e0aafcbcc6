"""A payment provider: another company's program, with its own books and its own bad days.

``python -m examples.payday.provider --port 0 --db books.db`` prints the port it listens on
(127.0.0.1 only). What it offers:

==========================  =====================================================================
POST /payments              ``{reference, iban, amount, currency}`` → 201 and the booking. Two
                            requests are two payments, unless both carry one ``Idempotency-Key``
GET /payments               the books; ``?reference=`` for one payment's bookings
GET /faults                 the faults it has shown so far, by kind
GET /health                 204
==========================  =====================================================================

Every booking is on disk before the answer leaves. What goes wrong, by seed, is in `FAULTS`.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from examples.payday import children
from examples.payday.books import Books, Order
from examples.payday.faults import FINE, Dealer, number

FAULTS = {
    "deaf": "answers, then refuses connections for 0.4 s",
    "unavailable": "503 before booking",
    "busy": "429 with Retry-After: 1",
    "reply lost": "books it and hangs up without a word",
    "slow": "books it and answers after 1.6 s",
    "late": "books it after 1.5 s, when the client has given up",
}
REFUSED = "refused"  # not a fault: 422, a firm no
_DECK = 24
_ONE_REFUSED_IN = 90
_REFUSED_FIRST = 34
_DEAF = 0.4
_SLOW = 1.6
_LATE = 1.5


class Provider:
    """The service. ``port`` is fixed by `start` and stays the same when it goes deaf.

    Args:
        books: where it keeps its bookings.
        seed: deals the faults; ``None`` is a good day without any.
        work: seconds a payment takes.
    """

    def __init__(self, books: Path, *, seed: int | None = 0, work: float = 0.0) -> None:
        self.books = Books(books)
        self.work = work
        self._seed = seed
        self._dealer = Dealer(tuple(FAULTS), size=_DECK, seed=seed or 0)
        self.port = 0
        self._stopping = threading.Event()
        self._deaf = threading.Event()
        self._reopened = threading.Event()
        self._listening: _Listener | None = None
        self._thread = threading.Thread(target=self._serve, name="provider")

    def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1, on any free port when ``port`` is 0."""
        self._listening = _Listener(self, port)
        self.port = self._listening.server_address[1]
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.books.close()

    def deal(self, reference: str, attempt: int) -> str:
        """The fault that ``attempt`` (from 1) of ``reference`` meets."""
        if self._seed is None:
            return FINE
        if (number(reference) - self._seed) % _ONE_REFUSED_IN == _REFUSED_FIRST:
            return REFUSED
        return self._dealer.deal(reference, attempt)

    def go_deaf(self) -> None:
        """Refuse connections for a moment: the listening socket is really closed."""
        self._deaf.set()

    def pause(self, seconds: float) -> None:
        """Wait, unless the service ends meanwhile."""
        self._stopping.wait(seconds)

    def _serve(self) -> None:
        while self._listening is not None:
            self._listening.timeout = 0.05
            while not self._stopping.is_set() and not self._deaf.is_set():
                self._listening.handle_request()
            self._listening.server_close()
            self._listening = None
            if not self._stopping.is_set():
                self._stopping.wait(_DEAF)
                self._deaf.clear()
                self._listening = _Listener(self, self.port)
                self._reopened.set()


class _Listener(ThreadingHTTPServer):
    """One life of the listening socket."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, provider: Provider, port: int) -> None:
        self.provider = provider
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        reference = parse_qs(url.query).get("reference", [None])[0]
        books = self.server.provider.books
        if url.path == "/health":
            self._answer(204)
        elif url.path == "/payments":
            self._answer(200, {"payments": books.payments(reference)})
        elif url.path == "/faults":
            self._answer(200, {"faults": books.faults()})
        else:
            self._answer(404, {"error": f"there is no {url.path}"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if urlsplit(self.path).path != "/payments":
            self._answer(404, {"error": f"there is no {self.path}"})
            return
        try:
            order = Order.parse(body)
        except ValueError as error:
            self._answer(422, {"error": str(error)})
            return
        provider = self.server.provider
        self._pay(provider, order, provider.books.arrived(order.reference, provider.deal))

    def _pay(self, provider: Provider, order: Order, fault: str) -> None:
        provider.pause(provider.work)
        if fault == "unavailable":
            return self._answer(503, {"error": "down for maintenance"})
        if fault == "busy":
            return self._answer(429, {"error": "too many requests"}, {"Retry-After": "1"})
        if fault == REFUSED:
            return self._answer(422, {"error": "refused by our fraud check; call us"})
        if fault == "late":
            provider.pause(_LATE)
        booking = provider.books.book(order, self.headers.get("Idempotency-Key"))
        if fault == "reply lost":
            return self._hang_up()
        if fault == "slow":
            provider.pause(_SLOW)
        self._answer(201, booking)
        if fault == "deaf":
            provider.go_deaf()
        return None

    def _answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the books tell what happened."""


def main() -> None:
    parser = argparse.ArgumentParser(description="A payment provider with faults, on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0: any free port (printed)")
    parser.add_argument("--db", type=Path, required=True, help="SQLite file of its books")
    parser.add_argument("--seed", type=int, default=0, help="deals the faults")
    parser.add_argument("--work", type=float, default=0.0, help="seconds a payment takes")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    provider = Provider(options.db, seed=options.seed, work=options.work)
    provider.start(options.port)
    children.ready(provider.port)
    children.wait_for_the_end(until_eof=options.until_eof)
    provider.stop()


if __name__ == "__main__":
    main()
