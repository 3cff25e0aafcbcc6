"""Whether a database holds a ledger; looking makes none."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from gonogo.store.revisions import PREFIX
from gonogo.store.urls import FileUrl, in_memory

if TYPE_CHECKING:
    from sqlalchemy import URL

_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ? LIMIT 1"


def holds_ledger(url: URL | FileUrl) -> bool:
    """Whether there is a ledger, be it of an older schema or a broken one.

    True as well where that cannot be seen: opening it says what is wrong, and makes nothing.

    Raises:
        ConfigurationError, SchemaError, StoreUnavailable: as `gonogo.store.upgrade.status`.
    """
    if url.get_backend_name() == "postgresql":
        from gonogo.store.upgrade import status  # noqa: PLC0415 - heavy; files need none
        from gonogo.store.urls import full  # noqa: PLC0415 - same

        found = status(full(url))
        return found.current is not None or not found.readable
    path = url.database or ""
    if in_memory(url) or path.startswith("file:"):
        return True
    try:
        os.stat(path)  # noqa: PTH116 - tells apart why it is not there
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return _has_tables(path)


def _has_tables(path: str) -> bool:
    try:
        raw = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True)
        try:
            return raw.execute(_TABLE, (len(PREFIX), PREFIX)).fetchone() is not None
        finally:
            raw.close()
    except sqlite3.Error:
        return True
