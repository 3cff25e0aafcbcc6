"""Texts of others on one line: they can neither begin another one nor steer a terminal."""

from __future__ import annotations

_UNSEEN = (*range(32), *range(127, 160))
_TURNING = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
"""Line separators, and marks that show text in another order than it stands."""

_UNSAFE = {
    **{code: f"\\x{code:02x}" for code in _UNSEEN},
    **{code: f"\\u{code:04x}" for code in _TURNING},
}


def clean(text: object) -> str:
    """One line that cannot steer a terminal: control characters are spelled out."""
    return str(text).replace("\n", " ").replace("\t", " ").translate(_UNSAFE)
