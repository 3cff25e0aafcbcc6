"""The payment provider of the example: its faults are real, seeded, and all occur."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples.payday import provider as service
from examples.payday.books import Books, Order
from examples.payday.children import ROOT, Child, ChildFailed
from examples.payday.faults import FINE, Dealer
from examples.payday.provider import FAULTS, REFUSED, Provider

ORDER = {"reference": "INV-1", "iban": "DE89", "amount": "10.00", "currency": "EUR"}


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    """A provider on a good day; `meets` gives it a bad one."""
    made = Provider(tmp_path / "books.db", seed=None)
    made.start()
    yield made
    made.stop()


def meets(provider: Provider, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt of every reference meets ``fault``."""

    def deal(_reference: str, attempt: int) -> str:
        return fault if attempt == 1 else FINE

    monkeypatch.setattr(provider, "deal", deal)


def request(
    provider: Provider,
    method: str = "POST",
    path: str = "/payments",
    body: object = ORDER,
    timeout: float = 5.0,
    **headers: str,
) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", provider.port, timeout=timeout)
    try:
        content = json.dumps(body) if method == "POST" else None
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            method, path, content, {k.replace("_", "-"): v for k, v in headers.items()}
        )
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None, dict(answer.headers)
    finally:
        connection.close()


def test_a_payment_is_in_the_books_before_the_answer(provider: Provider) -> None:
    """201 carries the booking, and the books show it by reference and among all."""
    status, booking, _ = request(provider)

    assert status == 201
    assert booking["amount"] == "10.00"
    for path in ("/payments?reference=INV-1", "/payments"):
        assert request(provider, "GET", path)[1] == {"payments": [booking]}
    assert request(provider, "GET", "/payments?reference=INV-2")[1] == {"payments": []}
    assert request(provider, "GET", "/health")[0] == 204


def test_two_requests_are_two_payments(provider: Provider) -> None:
    """Nothing at the provider holds back a second payment of one reference."""
    request(provider)
    request(provider)

    assert len(provider.books.payments("INV-1")) == 2


def test_an_idempotency_key_is_honoured_when_sent(provider: Provider) -> None:
    """Requests with one Idempotency-Key are one payment and get the same answer."""
    first = request(provider, Idempotency_Key="k")[1]
    second = request(provider, Idempotency_Key="k")[1]

    assert first == second
    assert len(provider.books.payments()) == 1


@pytest.mark.parametrize("body", [None, [], {}, {**ORDER, "amount": 10}, {**ORDER, "more": "x"}])
def test_a_request_that_is_no_order_is_refused(provider: Provider, body: object) -> None:
    """Anything but the four text fields is 422, and nothing is booked."""
    assert request(provider, body=body)[0] == 422
    assert not provider.books.payments()


def test_an_unknown_path_is_404(provider: Provider) -> None:
    """There is nothing beside the documented paths."""
    assert request(provider, "GET", "/")[0] == 404
    assert request(provider, "POST", "/")[0] == 404


@pytest.mark.parametrize(
    ("fault", "status", "booked"),
    [("unavailable", 503, 0), ("busy", 429, 0), (REFUSED, 422, 0), ("deaf", 201, 1)],
)
def test_answered_faults(
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    status: int,
    booked: int,
) -> None:
    """503, 429 and a refusal come before the booking; a provider about to go deaf still books."""
    meets(provider, fault, monkeypatch)

    got, _, headers = request(provider)

    assert got == status
    assert len(provider.books.payments()) == booked
    assert provider.books.faults() == {fault: 1}
    assert headers.get("Retry-After") == ("1" if fault == "busy" else None)


def test_a_lost_reply_is_booked_and_never_answered(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection closes without a byte, and the payment is in the books."""
    meets(provider, "reply lost", monkeypatch)

    with pytest.raises(http.client.RemoteDisconnected):
        request(provider)
    assert len(provider.books.payments()) == 1


def test_a_slow_reply_is_booked_before_the_client_gives_up(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The booking is there while the answer is not."""
    meets(provider, "slow", monkeypatch)
    booked: list[int] = []
    monkeypatch.setattr(provider, "pause", lambda _: booked.append(len(provider.books.payments())))

    assert request(provider)[0] == 201
    assert booked == [0, 1]


def test_a_late_booking_comes_after_the_wait(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the client waits nothing is booked; afterwards it is, though nobody listens."""
    meets(provider, "late", monkeypatch)
    arrived, gone, booked = threading.Event(), threading.Event(), threading.Event()

    def pause(seconds: float) -> None:
        if seconds:
            arrived.set()
            gone.wait(5)

    book = provider.books.book

    def watched(order: Order, key: str | None) -> dict[str, Any]:
        try:
            return book(order, key)
        finally:
            booked.set()

    monkeypatch.setattr(provider, "pause", pause)
    monkeypatch.setattr(provider.books, "book", watched)
    with pytest.raises(TimeoutError):
        request(provider, timeout=0.05)
    assert arrived.wait(5)
    assert not provider.books.payments()
    gone.set()
    assert booked.wait(5)
    assert len(provider.books.payments()) == 1


def test_it_goes_deaf_after_it_has_answered(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payment that makes it deaf is answered; the connections after it are refused."""
    meets(provider, "deaf", monkeypatch)
    went = threading.Event()
    monkeypatch.setattr(provider, "go_deaf", went.set)

    assert request(provider)[0] == 201
    assert went.wait(5)


def test_a_deaf_provider_refuses_connections_and_comes_back_on_its_port(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listening socket is really closed for a while, then open at the same port."""
    deaf, heard = threading.Event(), threading.Event()
    make = service._Listener

    def reopen(*arguments: Any) -> service._Listener:
        deaf.set()
        heard.wait(5)
        return make(*arguments)

    monkeypatch.setattr(service, "_Listener", reopen)
    monkeypatch.setattr(service, "_DEAF", 0.0)
    provider.go_deaf()
    assert deaf.wait(5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", provider.port), timeout=1)
    heard.set()
    provider._reopened.wait(5)
    assert request(provider)[0] == 201


def test_every_fault_occurs_for_every_seed() -> None:
    """Among 40 invoices in a row each kind of fault is met, and half of them meet none."""
    for seed in range(20):
        dealer = Dealer(tuple(FAULTS), size=24, seed=seed)
        dealt = [dealer.deal(f"INV-{number:04d}", 1) for number in range(1, 48)]

        assert set(dealt) == {*FAULTS, FINE}
        assert dealt.count(FINE) > len(dealt) / 2


def test_faults_repeat_by_seed_and_end() -> None:
    """One seed deals one reference the same faults, another other ones, and none for ever."""
    first, same, other = (Dealer(tuple(FAULTS), size=24, seed=seed) for seed in (1, 1, 2))
    names = [f"INV-{number}" for number in range(100)]

    def deal(dealer: Dealer, attempt: int) -> list[str]:
        return [dealer.deal(name, attempt) for name in names]

    for attempt in range(1, 4):
        assert deal(first, attempt) == deal(same, attempt)
        assert set(deal(first, attempt)) > {FINE}
    assert deal(first, 1) != deal(other, 1)
    assert set(deal(first, 4)) == {FINE}


def test_a_firm_refusal_stays_one(tmp_path: Path) -> None:
    """A refused reference is refused at every attempt."""
    provider = Provider(tmp_path / "books.db", seed=0)

    assert {provider.deal("INV-34", attempt) for attempt in range(1, 9)} == {REFUSED}
    provider.books.close()


def test_two_processes_can_keep_one_set_of_books(tmp_path: Path) -> None:
    """Bookings and the count of attempts are shared by whoever opens the file."""
    one, two = Books(tmp_path / "books.db"), Books(tmp_path / "books.db")
    attempts: list[int] = []

    def deal(_reference: str, attempt: int) -> str:
        attempts.append(attempt)
        return FINE

    one.book(Order(**ORDER), None)
    two.book(Order(**ORDER), None)
    one.arrived("INV-1", deal)
    two.arrived("INV-1", deal)

    assert len(one.payments()) == len(two.payments()) == 2
    assert attempts == [1, 2]
    one.close()
    two.close()


@pytest.mark.faults
def test_the_process_keeps_its_books_when_killed_and_ends_with_its_parent(tmp_path: Path) -> None:
    """It prints its port, what it booked survives SIGKILL, and it ends when its stdin closes."""
    arguments = ("--db", str(tmp_path / "books.db"), "--seed", "0")
    first = Child("examples.payday.provider", *arguments, log=tmp_path / "log")
    status = _post(int(first.said), {**ORDER, "reference": _fine(0)})
    first.kill()
    second = Child("examples.payday.provider", *arguments, log=tmp_path / "log")

    assert status == 201
    connection = http.client.HTTPConnection("127.0.0.1", int(second.said), timeout=5)
    connection.request("GET", "/payments")
    assert len(json.load(connection.getresponse())["payments"]) == 1
    connection.close()
    assert second.stop() == 0
    assert first.exit_code == -9


@pytest.mark.faults
def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error of a child that ended at once carries its last words."""
    with pytest.raises(ChildFailed, match="unable to open database file"):
        Child("examples.payday.provider", "--db", "/nowhere/books.db", log=tmp_path / "log")


@pytest.mark.faults
def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the parent leaves no child behind."""
    program = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from examples.payday.children import Child\n"
        "child = Child('examples.payday.provider', '--db', sys.argv[1], log=Path(sys.argv[2]))\n"
        "print(child.said, flush=True)\n"
        "threading.Event().wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "books.db"), str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        assert connection.recv(1) == b""  # the child's end of the connection closed with it


def _post(port: int, body: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/payments", json.dumps(body))
    status = connection.getresponse().status
    connection.close()
    return status


def _fine(seed: int) -> str:
    dealer = Dealer(tuple(FAULTS), size=24, seed=seed)
    return next(f"INV-{n}" for n in range(24) if dealer.deal(f"INV-{n}", 1) == FINE)
