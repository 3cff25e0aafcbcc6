"""The versions of the ledger's schema."""

from __future__ import annotations

REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""Every revision this code knows, oldest first."""
REVISION = REVISIONS[-1]
VERSION_TABLE = "gonogo_alembic_version"
PREFIX = "gonogo_"
"""With which the name of every table of the ledger begins."""
