"""From one call to the next: its settlement and that one's admission in one commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from gonogo.store.fates import Fate, Write
from gonogo.store.port import Store, Transaction

T = TypeVar("T")
R = TypeVar("R")
N = TypeVar("N")


class Relay(Generic[N]):
    """The `Write` of a settlement, which lets an admission have the same commit.

    Each has a fate of its own: a refused admission takes nothing of the settlement back, and where
    no admission comes to write, the settlement is committed alone.

    Args:
        admit: admits the next call by the `Write` it is given.

    Attributes:
        following: what ``admit`` returned or raised; ``None`` before it was asked.
    """

    def __init__(self, store: Store, admit: Callable[[Write], N]) -> None:
        self._store = store
        self._admit = admit
        self.following: Fate | None = None

    def __call__(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        settlement, settled = (work, durable), list[Fate]()

        def together(work: Callable[[Transaction], R], *, durable: bool = True) -> R:
            if settled:  # the admission writes a second time
                return self._store.write(work, durable=durable)
            fate, admitted = self._store.write_all([settlement, (work, durable)])
            settled.append(fate)
            answer: R = admitted.get()
            return answer

        try:
            self.following = Fate(self._admit(together))
        except Exception as error:  # noqa: BLE001 - it is the next call's affair
            self.following = Fate(error=error)
        if not settled:
            return self._store.write(work, durable=durable)
        result: T = settled[0].get()
        return result
