"""ModemManager's numbers for bands and generations, and the names that its own tools have for them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cumulet.core.errors import UsageError

GENERATIONS = {"2g": 1 << 1, "3g": 1 << 2, "4g": 1 << 3, "5g": 1 << 4}
ANY_BAND = 256
# The families that are numbered through; the first of them were numbered as they came.
NAMED = {"egsm": 1, "dcs": 2, "pcs": 3, "g850": 4, "any": ANY_BAND}
UTRAN = {1: 5, 2: 12, 3: 6, 4: 7, 5: 9, 6: 8, 7: 13, 8: 10, 9: 11}
FAMILIES = {"utran": 200, "eutran": 30, "ngran": 300}


def make_band(name: str) -> int:
    """ModemManager's number of a band such as `eutran-3`. Raises UsageError."""
    if name in NAMED:
        return NAMED[name]
    match = re.fullmatch(r"(utran|eutran|ngran)-([1-9]\d{0,2})", name)
    if match is None:
        raise UsageError(f"{name!r} is not a band", hint="write it like eutran-3, ngran-78, utran-1 or egsm")
    family, number = match[1], int(match[2])
    return UTRAN[number] if family == "utran" and number in UTRAN else FAMILIES[family] + number


def name_band(number: int) -> str:
    """The name of a band; `band-N` of one that has none here."""
    for name, known in NAMED.items():
        if known == number:
            return name
    for band, known in UTRAN.items():
        if known == number:
            return f"utran-{band}"
    for family, start, end in (("eutran", 31, 200), ("utran", 210, 256), ("ngran", 301, 600)):
        if start <= number < end:
            return f"{family}-{number - FAMILIES[family]}"
    return f"band-{number}"


def make_modes(generations: Iterable[str]) -> int:
    """The mask of generations such as `4g`. Raises UsageError."""
    mask = 0
    for name in generations:
        if name not in GENERATIONS:
            raise UsageError(f"{name!r} is not a generation", hint=f"there are: {', '.join(GENERATIONS)}")
        mask |= GENERATIONS[name]
    return mask


def name_modes(mask: int) -> tuple[str, ...]:
    """The names of the generations in a mask."""
    return tuple(name for name, bit in GENERATIONS.items() if mask & bit)
