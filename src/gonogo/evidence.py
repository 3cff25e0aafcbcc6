"""What a verifier answers when it is asked whether an unknown effect landed."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, structs

from gonogo.secrets import redact_text, writable


class Evidence(Struct, frozen=True):
    """Proof, or the admission that there is none, about an effect whose outcome was not heard."""

    finding: Literal["landed", "absent", "cannot_tell"]
    result: Any = None
    reason: str = ""


def landed(result: Any = None, reason: str = "") -> Evidence:
    """The effect happened; ``result`` becomes the call's result, and a text is told as found."""
    found = f"the provider has it: {result}" if isinstance(result, str) else "the provider has it"
    return Evidence("landed", result, reason or found)


def absent(reason: str = "the provider does not have it") -> Evidence:
    """The effect did not happen and can no longer arrive; the call may run again."""
    return Evidence("absent", None, reason)


def cannot_tell(reason: str = "no evidence") -> Evidence:
    """Nothing is proven either way; the call stays unknown."""
    return Evidence("cannot_tell", None, reason)


def as_evidence(answer: object) -> Evidence:
    """What a verifier returned, as `Evidence`; anything else proves nothing."""
    if isinstance(answer, Evidence):
        return structs.replace(answer, reason=writable(redact_text(str(answer.reason), 500)))
    return Evidence(
        "cannot_tell", None, f"the verifier returned {type(answer).__name__}, not evidence"
    )
