"""Where the programs of a run find each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """Where the other programs are. Travels to the worker processes in the environment."""

    ledger: str
    provider: str
    smtp_port: int
    mail: Path

    def environment(self) -> dict[str, str]:
        return {
            "PAYDAY_LEDGER": self.ledger,
            "PAYDAY_PROVIDER": self.provider,
            "PAYDAY_SMTP_PORT": str(self.smtp_port),
            "PAYDAY_MAIL": str(self.mail),
        }

    @classmethod
    def from_environment(cls) -> Places:
        """Raises KeyError naming the variable that is missing."""
        return cls(
            ledger=os.environ["PAYDAY_LEDGER"],
            provider=os.environ["PAYDAY_PROVIDER"],
            smtp_port=int(os.environ["PAYDAY_SMTP_PORT"]),
            mail=Path(os.environ["PAYDAY_MAIL"]),
        )
