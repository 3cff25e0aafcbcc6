"""Keys of work that is done once: who holds one, and what is asked of those who keep them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from gonogo.errors import KeyConflict
from gonogo.records import TERMINAL, State

SCOPE = "idempotent"
"""The action name under which `IdempotencyManager.process_idempotent` keeps its keys."""

SWEPT = 8
"""Keys whose time is over that are let go as others come, so that memory follows what is alive."""

SILENT = "its caller went silent"
"""The note of work that became unknown because it was not heard of in time."""

Write = Callable[[Any], bytes]
"""What writes arguments as JSON."""

NOT_YET = -math.inf
"""Until when an answer may be given that is none yet."""


class Holder(Protocol):
    """What holds a key: work that runs, or what came of it. For its fields see `Call`."""

    @property
    def id(self) -> str: ...
    @property
    def key(self) -> str | None: ...
    @property
    def state(self) -> State: ...
    @property
    def note(self) -> str | None: ...
    @property
    def expires_at(self) -> float | None: ...


H = TypeVar("H", bound=Holder)


class Answer(Protocol):
    """What work gave, for this process: the value itself, and how its arguments were written."""

    @property
    def text(self) -> bytes | None:
        """The arguments as JSON, ``None`` when they have none: ``[…]`` by place, and where there
        are some by name as well ``{"":[[…],{…}]}``."""
        ...

    @property
    def write(self) -> Write:
        """How others are written to be compared: plainly where none but the same could be written
        so, else canonically."""
        ...

    @property
    def value(self) -> Any: ...

    @property
    def until(self) -> float:
        """Epoch seconds until when it may be given without asking further: not before it is known
        that the work succeeded, and not after its time is over."""
        ...


class Keys(Protocol[H]):
    """The keys of a manager, and what became of the work behind each.

    What a holder is depends on who keeps them; whoever gets one hands it back as it is.
    """

    @property
    def answers(self) -> Mapping[str, Answer]:
        """Answers by key, for replays that need ask nobody."""
        ...

    def take(self, key: str, text: bytes | None, write: Write) -> tuple[H, bool]:
        """Who holds ``key`` now, and whether it is the caller, whose work is to run.

        Raises `KeyConflict` when the holder's arguments were others.
        """
        ...

    def succeed(self, mine: H, value: Any, text: bytes | None, write: Write) -> None:
        """Keep what the work behind a key that was taken gave."""
        ...

    def fail(self, mine: H, error: BaseException) -> None:
        """Keep what ``error``, raised by the work, proves about it."""
        ...

    def value_of(self, holder: H) -> Any:
        """What its work gave, which succeeded; `ResultUnavailable` when that was not kept."""
        ...

    def find(self, key: str) -> H | None:
        """Who holds ``key``, also when its time is over."""
        ...

    def held(self) -> Iterable[H]:
        """Who holds a key now, newest first."""
        ...

    def forget(self, key: str, reason: str) -> bool:
        """Free a key whose work is unknown; false when it is not."""
        ...

    def release_lapsed(self, now: float, limit: int) -> int:
        """Give back up to ``limit`` keys whose time is over; returns how many."""
        ...


def lapsed(holder: Holder, now: float) -> bool:
    """Whether a key may be given back: what holds it is settled and its time is over."""
    return holder.state in TERMINAL and holder.expires_at is not None and holder.expires_at <= now


def paired(text: bytes) -> bytes:
    """The JSON of a call's arguments by place and by name, from that of `Answer.text`."""
    return b"[%b,{}]" % text if text.startswith(b"[") else text[4:-1]


def conflict(action: str, key: str | None, holder: Holder, differs: str = "") -> KeyConflict:
    """The error for a key that comes again with other arguments, ``differs`` as it says."""
    remedy = "if it is the same, send the same arguments"
    if holder.state is State.FAILED and action != SCOPE:
        remedy = (
            "if it is the same and was turned away for what is mended now, "
            f"`gonogo resolve {holder.id} absent` frees its key"
        )
    told = f": {differs}" if differs else ""
    return KeyConflict(
        f"{action}: key {key!r} was used with different arguments by call "
        f"{holder.id} ({holder.state.value}){told}. If this is another effect give it another "
        f"key; {remedy}",
        action=action,
        key=key,
        call_id=holder.id,
    )
