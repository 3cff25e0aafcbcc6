"""Values that a rehearsal hands out: they look like results and admit that they are not.

A made-up id that looks real finds its way into real calls. So a rehearsal returns one of two typed
values: `Simulated` when the action says what it would have returned, `Undetermined` when it does
not. Both are *tainted*: an action that gets one as an argument is planned as undetermined, and
turning one into text or a number, or deciding on one that is not known, is noted in the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from gonogo.containers import items

Report = Callable[[str], None]


class Undetermined(Exception):
    """The rehearsal cannot go on honestly: it would have to guess. The plan stays incomplete."""


class Tainted:
    """Base of the values of a rehearsal; ``source`` names the call they come from."""

    __slots__ = ("_report", "_source")

    _source: str
    _report: Report

    def __init__(self, source: str, report: Report) -> None:
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "_report", report)

    def _stop(self, use: str) -> NoReturn:
        message = f"{use} needs the result of {self._source}, which does not exist before it ran"
        self._report(message)
        raise Undetermined(message)

    def __str__(self) -> str:  # noqa: PLE0307 - it always raises
        self._stop("text made of it")

    def __format__(self, spec: str) -> str:
        self._stop("text made of it")

    def __int__(self) -> int:
        self._stop("a number made of it")

    def __float__(self) -> float:
        self._stop("a number made of it")

    def __index__(self) -> int:  # noqa: PLE0305 - it always raises
        self._stop("a number made of it")

    def __bytes__(self) -> bytes:  # noqa: PLE0308 - it always raises
        self._stop("bytes made of it")

    def __hash__(self) -> int:  # noqa: PLE0309 - it always raises
        self._stop("a dictionary key")


class Unknown(Tainted):
    """The result of a call that says nothing about its result before it ran."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<unknown result of {self._source}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._stop(f"reading .{name}")

    def __getitem__(self, key: Any) -> Any:
        self._stop(f"reading [{key!r}]")

    def __bool__(self) -> bool:  # noqa: PLE0304 - it always raises
        self._stop("a decision")

    def __eq__(self, other: object) -> bool:
        self._stop("a comparison")

    def __lt__(self, other: object) -> bool:
        self._stop("a comparison")

    __le__ = __gt__ = __ge__ = __lt__
    __hash__ = Tainted.__hash__

    def __len__(self) -> int:  # noqa: PLE0303 - it always raises
        self._stop("its length")

    def __iter__(self) -> Iterator[Any]:
        self._stop("going through it")


class Simulated(Tainted):
    """What the action's simulator returned. Reading into it stays simulated.

    Decisions (``if``, comparisons, loops) are taken on the simulated value; ``value`` is the bare
    one for code that knows what it does.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any, source: str, report: Report) -> None:
        super().__init__(source, report)
        object.__setattr__(self, "value", value)

    def _inner(self, value: Any) -> Simulated:
        return Simulated(value, self._source, self._report)

    def __repr__(self) -> str:
        return f"<simulated {self.value!r}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._inner(getattr(self.value, name))

    def __getitem__(self, key: Any) -> Any:
        return self._inner(self.value[key])

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, Simulated) else other))

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < other)

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= other)

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > other)

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= other)

    __hash__ = Tainted.__hash__

    def __len__(self) -> int:
        return len(self.value)

    def __contains__(self, item: object) -> bool:
        return item in self.value

    def __iter__(self) -> Iterator[Any]:
        return (self._inner(item) for item in self.value)


PLAIN = frozenset({str, int, float, bool, type(None), bytes})
"""Types whose values hold no others."""


def find_tainted(value: Any, depth: int = 6) -> Tainted | None:
    """The first tainted value inside containers, dataclasses and their like; ``None`` if clean."""
    if type(value) in PLAIN:
        return None
    if isinstance(value, Tainted):
        return value
    if depth:
        for item in items(value):
            if (found := find_tainted(item, depth - 1)) is not None:
                return found
    return None
