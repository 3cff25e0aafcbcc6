"""The provider's API as our program calls it: plain HTTP, no idempotency key."""

from __future__ import annotations

import json
from typing import Any, TypedDict
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener


class Booking(TypedDict):
    """One line of the provider's books; ``amount`` is decimal text."""

    id: int
    reference: str
    iban: str
    amount: str
    currency: str
    idempotency_key: str | None
    booked_at: str


class Bank:
    """A client for the provider at ``url``.

    ``timeout`` is how many seconds it waits for each answer. Errors are those of `urllib`:
    `HTTPError` for a status of 400 and above, `URLError` around what kept it from connecting,
    `OSError` for what went wrong after that.
    """

    def __init__(self, url: str, *, timeout: float = 1.0) -> None:
        self._url = url
        self._timeout = timeout
        self._open = build_opener(ProxyHandler({})).open  # loopback, whatever the environment says

    def pay(self, reference: str, iban: str, amount: str, currency: str) -> Booking:
        """Pay once more; the provider does not ask whether it has before."""
        order = {"reference": reference, "iban": iban, "amount": amount, "currency": currency}
        booking: Booking = self._ask(Request(f"{self._url}/payments", json.dumps(order).encode()))
        return booking

    def payments(self, reference: str | None = None) -> list[Booking]:
        """The provider's books, or what they have on one reference."""
        query = "" if reference is None else "?" + urlencode({"reference": reference})
        found: list[Booking] = self._ask(Request(f"{self._url}/payments{query}"))["payments"]
        return found

    def faults(self) -> dict[str, int]:
        """What went wrong at the provider so far, by kind."""
        counts: dict[str, int] = self._ask(Request(f"{self._url}/faults"))["faults"]
        return counts

    def _ask(self, request: Request) -> Any:
        try:
            with self._open(request, timeout=self._timeout) as answer:
                return json.load(answer)
        except HTTPError as error:
            error.close()  # it holds the connection
            raise
