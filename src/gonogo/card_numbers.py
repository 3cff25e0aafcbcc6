"""Payment card numbers in texts: told by their form, and not mistaken for account numbers."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,}(?!\w|\.\d)")
LEAST = 13
"""The digits that a card number has at least."""

_IBAN_HEAD = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){0,7}[ -]?\Z")


def mask_cards(text: str, mask: str) -> str:
    """``text`` with every card number replaced by ``mask``.

    That is 13 to 19 digits, grouped or not, that pass the Luhn test (ISO/IEC 7812-1, annex B) and
    are not the tail of a valid IBAN (ISO 13616).
    """
    return _DIGITS.sub(lambda match: _masked(match, mask), text)


def may_hold_card(text: str) -> bool:
    """Whether so many digits follow each other, grouped or not."""
    return _DIGITS.search(text) is not None


def _masked(match: re.Match[str], mask: str) -> str:
    """A run of digits in groups, with the groups that make up a card number masked."""
    groups = re.findall(r"\d+|[ -]", match.group())  # digits, separator, digits, …
    place = max(0, 2 * _groups_of_iban(match, groups[::2]) - 1)
    shown = groups[:place]
    while place < len(groups):
        length = _groups_of_card(groups[place::2])
        shown.append(mask if length else groups[place])
        place += 2 * length - 1 if length else 1
    return "".join(shown)


def _groups_of_card(groups: list[str]) -> int:
    """How many of the leading ``groups`` are one card number; 0 when they begin with none.

    First digits 2–6 are those of payment cards (ISO/IEC 7812-1); milliseconds begin with 1.
    """
    number, found = "", 0
    for count, group in enumerate(groups[:19], start=1):
        number += group
        if len(number) > 19:
            break
        if len(number) >= 13 and number[0] in "23456" and _luhn(number):
            found = count
    return found


def _groups_of_iban(match: re.Match[str], groups: list[str]) -> int:
    """How many of ``groups`` are the tail of a valid IBAN that begins before them."""
    head = _IBAN_HEAD.search(match.string, max(0, match.start() - 40), match.start())
    if head is None:
        return 0
    number, found = re.sub(r"[ -]", "", head.group()), 0
    for count, group in enumerate(groups[:9], start=1):
        number += group
        if len(number) <= 34 and _iban(number):
            found = count
    return found


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _iban(text: str) -> bool:
    """The check of ISO 7064 MOD 97-10 over the rearranged number."""
    turned = text[4:] + text[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1
