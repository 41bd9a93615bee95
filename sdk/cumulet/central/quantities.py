"""Amounts as Kubernetes writes them (`500m`, `2Gi`, `1e3`): read, added, written."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction

BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60}
DECIMAL = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
}
FORM = re.compile(r"([+-]?\d+(?:\.\d+)?)(?:[eE]([+-]?\d{1,2})|(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E))?")


@functools.lru_cache(4096)
def parse_quantity(text: str | int) -> Fraction:
    """The amount. Raises ValueError for what is none."""
    found = FORM.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is not an amount")
    number, exponent, unit = Fraction(found[1]), found[2], found[3] or ""
    if exponent:
        return number * Fraction(10) ** int(exponent)
    return number * (BINARY[unit] if unit in BINARY else DECIMAL[unit])


def write_quantity(amount: Fraction, name: str) -> str:
    """The amount of a resource: whole kibibytes for memory and storage, thousandths where it is not whole."""
    binary = name in ("memory", "ephemeral-storage", "storage") or name.startswith("hugepages-")
    if binary and amount.denominator == 1 and amount % 1024 == 0 and amount:
        return f"{amount // 1024}Ki"
    return str(amount) if amount.denominator == 1 else f"{-(-amount * 1000 // 1)}m"


def add_amounts(lists: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The sums of several resource lists; an amount that cannot be read counts as nothing."""
    sums: dict[str, Fraction] = {}
    for each in lists:
        for name, text in each.items():
            try:
                sums[name] = sums.get(name, Fraction(0)) + parse_quantity(text)
            except ValueError:
                continue
    return {name: write_quantity(amount, name) for name, amount in sorted(sums.items())}
