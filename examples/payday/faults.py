"""Which request meets which fault: decided by seed, reference and attempt, so that runs repeat.

Each block of consecutive reference numbers is dealt one shuffled deck, so that every kind of
fault occurs once in every block, whatever the seed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from random import Random

FINE = "fine"
_LAST_FAULTY_ATTEMPT = 3  # from then on all goes well, so that everything ends


class Dealer:
    """Deals faults from a deck: one card a reference for its first attempt, few for the next.

    Args:
        kinds: the faults of the deck, each once.
        size: cards in the deck; those that are no fault are `FINE`.
        seed: another seed deals other references the faults.
        again: chance of one more fault on attempts two and three.
    """

    def __init__(self, kinds: Sequence[str], *, size: int, seed: int, again: float = 0.15) -> None:
        self._deck = (*kinds, *[FINE] * (size - len(kinds)))
        self._kinds = tuple(kinds)
        self._seed = seed
        self._again = again

    def deal(self, reference: str, attempt: int) -> str:
        """The fault that ``attempt`` (from 1) of ``reference`` meets, or `FINE`."""
        if attempt == 1:
            block, card = divmod(number(reference), len(self._deck))
            deck = list(self._deck)
            Random(f"{self._seed}:{block}").shuffle(deck)
            return deck[card]
        luck = Random(f"{self._seed}:{reference}:{attempt}")
        if attempt <= _LAST_FAULTY_ATTEMPT and luck.random() < self._again:
            return luck.choice(self._kinds)
        return FINE


def number(reference: str) -> int:
    """The last number in ``reference``; of one without, a number made from its letters."""
    digits = re.search(r"([0-9]+)\D*$", reference)
    return int(digits.group(1)) if digits else zlib.crc32(reference.encode())
