"""Identifiers that sort by time."""

from __future__ import annotations

import os


def new_id(now: float) -> str:
    """32 hex digits that sort by creation time, after UUID version 7 (RFC 9562, section 5.7).

    48 bits of milliseconds, then 80 random bits: unique over machines without coordination, and
    rows that are made together lie together in an index.
    """
    return (int(now * 1000).to_bytes(6, "big") + os.urandom(10)).hex()
