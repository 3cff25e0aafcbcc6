"""Actions to be killed, each in the way its name says, and the other side's books.

The books are a file named by ``SHOP_BOOKS``, to which every effect appends a line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gonogo import Retry, SandboxOrchestrator, absent, landed

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


@sandbox.action("pay", key="pay:{invoice}", **DECLARED)
def pay(invoice: str, cents: int = 100) -> str:
    """Its verifier tells the truth."""
    return enter(invoice)


@pay.verify
def _(call: Any) -> Any:
    found = call.arguments["invoice"] in books()
    return landed("in the books") if found else absent()


@sandbox.action("pay_blindly", key="blind:{invoice}", **DECLARED)
def pay_blindly(invoice: str) -> str:
    """It has no verifier: what is in doubt stays so."""
    return enter(invoice)


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
