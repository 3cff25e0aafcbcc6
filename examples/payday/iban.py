"""International bank account numbers: their form and their check digits (ISO 13616)."""

from __future__ import annotations

import re

# Account part by country, after the IBAN registry: n digits, a capital letters, c either.
_FORMS = {
    "AT": "16n",
    "BE": "12n",
    "CH": "5n12c",
    "DE": "18n",
    "ES": "20n",
    "FR": "10n11c2n",
    "GB": "4a14n",
    "IE": "4a14n",
    "IT": "1a10n12c",
    "JP": "",  # known, and without IBANs
    "LU": "3n13c",
    "NL": "4a10n",
    "PL": "24n",
    "PT": "21n",
    "US": "",
}
_CLASSES = {"n": "[0-9]", "a": "[A-Z]", "c": "[A-Z0-9]"}


def compact(text: str) -> str:
    """The IBAN as machines write it: capitals, without the blanks people group it by."""
    return "".join(text.split()).upper()


def check_digits(country: str, account: str) -> str:
    """The two digits that make ``country + digits + account`` valid (ISO 7064, MOD 97-10)."""
    return f"{98 - _remainder(country + '00' + account):02d}"


def why_invalid(iban: str) -> str | None:
    """What is wrong with a compact IBAN, in one sentence; ``None`` when nothing is."""
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}", iban):
        return "an IBAN is two letters, two check digits and the account"
    form = _FORMS.get(iban[:2])
    if form is None:
        return f"we do not pay into accounts in {iban[:2]}"
    if not form:
        return f"{iban[:2]} has no IBANs"
    if not re.fullmatch(_pattern(form), iban[4:]):
        return f"an account in {iban[:2]} has the form {iban[:2]} + 2 digits + {form}"
    if not 2 <= int(iban[2:4]) <= 98 or _remainder(iban) != 1:
        return "the check digits do not fit the account: a digit is mistyped"
    return None


def _remainder(iban: str) -> int:
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97


def _pattern(form: str) -> str:
    parts = re.findall(r"(\d+)([nac])", form)
    return "".join(f"{_CLASSES[kind]}{{{count}}}" for count, kind in parts)
