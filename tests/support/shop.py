"""Actions to be killed, each in the way its name says, and the other side's books.

The books are a file named by ``SHOP_BOOKS``, to which every effect appends a line.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gonogo import Concurrency, Limit, Retry, SandboxOrchestrator, absent, landed
from gonogo.action import Action

sandbox = SandboxOrchestrator("sqlite:////dev/null/ledger.db")
"""Nobody may open this one."""

DECLARED: dict[str, Any] = {
    "irreversible": True,
    "timeout": 10.0,
    "verify_after": 0.2,
    "retry": Retry(max_retries=5, base_delay=0.05),
}


def books() -> list[str]:
    """The lines of the books."""
    path = Path(os.environ["SHOP_BOOKS"])
    return path.read_text().split() if path.exists() else []


def enter(invoice: str) -> str:
    """The effect."""
    file = os.open(os.environ["SHOP_BOOKS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    try:
        os.write(file, f"{invoice}\n".encode())
    finally:
        os.close(file)
    return f"paid {invoice}"


def times(arguments: Mapping[str, Any]) -> int:
    """The probe: how often an invoice was paid."""
    return books().count(arguments["invoice"])


RATE = Limit("shop.rate", 20, per="1s")
BUDGET = Limit("shop.cents", 1_000_000_000, per="30d", cost="{cents}")
TILLS = 3
"""Payments at the tills that may be under way at once, over all processes."""


def cents_of(invoice: str) -> int:
    """What an invoice costs: some number of cents, always the same."""
    return zlib.crc32(invoice.encode()) % 1000 + 1


def crowded() -> bool:
    """Whether somebody ever found every till taken: there were more payments than tills."""
    return Path(os.environ["SHOP_BOOKS"] + ".crowd").exists()


@contextmanager
def till() -> Iterator[None]:
    """One of the tills; the lock on it ends with the process, however that ends."""
    for number in range(TILLS):
        file = os.open(f"{os.environ['SHOP_BOOKS']}.till-{number}", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
            return
        except BlockingIOError:
            continue
        finally:
            os.close(file)
    Path(os.environ["SHOP_BOOKS"] + ".crowd").touch()
    yield


def look(call: Any) -> Any:
    """The verifier that tells the truth."""
    found = call.arguments["invoice"] in books()
    return landed(f"paid {call.arguments['invoice']}") if found else absent()


@sandbox.action("pay", key="pay:{invoice}", **DECLARED)
def pay(invoice: str, cents: int = 100) -> str:
    """Its verifier tells the truth."""
    return enter(invoice)


pay.verify(look)


def declare(other: SandboxOrchestrator) -> Action[..., str]:
    """``pay`` on another sandbox."""
    declared = other.action("pay", key="pay:{invoice}", **DECLARED)(pay.fn)
    declared.verify(look)
    return declared


@sandbox.action("pay_blindly", key="blind:{invoice}", **DECLARED)
def pay_blindly(invoice: str) -> str:
    """It has no verifier: what is in doubt stays so."""
    return enter(invoice)


@sandbox.action(
    "jot", key="jot:{invoice}", **{**DECLARED, "irreversible": False, "repeatable": False}
)
def jot(invoice: str) -> str:
    """No check runs before it, so it is admitted in the commit that settles the one before."""
    return enter(invoice)


jot.verify(look)


@sandbox.action("pay_again", key="again:{invoice}", repeatable=True, **DECLARED)
def pay_again(invoice: str) -> str:
    """It is not repeatable, whatever it says."""
    return enter(invoice)


@sandbox.action("pay_known", key="known:{invoice}", repeatable=True, **DECLARED)
def pay_known(invoice: str) -> str:
    """It is repeatable: the other side knows the invoice."""
    return f"paid {invoice}" if invoice in books() else enter(invoice)


@sandbox.action("pay_with_a_lie", key="lie:{invoice}", **DECLARED)
def pay_with_a_lie(invoice: str) -> str:
    """Its verifier says that nothing happened."""
    return enter(invoice)


@pay_with_a_lie.verify
def _(call: Any) -> Any:
    return absent("or so it says")


@sandbox.action("pay_with_hope", key="hope:{invoice}", **DECLARED)
def pay_with_hope(invoice: str) -> str:
    """Its verifier says that everything happened."""
    return enter(invoice)


@pay_with_hope.verify
def _(call: Any) -> Any:
    return landed("or so it says")


@sandbox.action("remind", **{**DECLARED, "irreversible": False})
def remind(invoice: str) -> str:
    """It may happen twice, and has no key."""
    return enter(invoice)


@sandbox.action(
    "pay_at_till",
    key="till:{invoice}",
    limits=[RATE, BUDGET],
    concurrency=Concurrency(TILLS, name="till"),
    **DECLARED,
)
def pay_at_till(invoice: str, cents: int) -> str:
    """It may be done so often, cost so much, and at so many tills at once."""
    with till():
        threading.Event().wait(0.01)
        return enter(invoice)


pay_at_till.verify(look)


@sandbox.action("poison", repeatable=True, key="poison:{invoice}", **DECLARED)
def poison(invoice: str) -> str:
    """It kills whoever performs it."""
    enter(invoice)
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"
