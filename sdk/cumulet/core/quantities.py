"""Amounts as Kubernetes writes them (`250m`, `512Mi`, `1e3`) and as our documents do (`512MiB`, `10m`)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction

UNITS: Mapping[str, Fraction] = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9),
    "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(1 << 10), "Mi": Fraction(1 << 20), "Gi": Fraction(1 << 30),
    "Ti": Fraction(1 << 40), "Pi": Fraction(1 << 50), "Ei": Fraction(1 << 60),
}  # fmt: skip
# `E` alone is a unit, with digits behind it an exponent. Kubernetes takes `5.` and `.5` as well.
FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,2})|([KMGTPE]i|[numkMGTPE]))?", re.ASCII)
SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SECONDS = {"s": 1, "m": 60, "h": 3600}


@functools.lru_cache(4096)
def parse_quantity(text: str | int) -> Fraction:
    """`1500m` as 3/2. Raises ValueError for what is no amount."""
    found = FORM.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is not an amount")
    number, exponent, unit = Fraction(found[1].rstrip(".")), found[2], found[3] or ""
    return number * Fraction(10) ** int(exponent) if exponent else number * UNITS[unit]


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


def parse_size(text: str) -> int:
    """`512MiB` as bytes. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(KiB|MiB|GiB)", text)
    if found is None:
        raise ValueError(f"not a size: {text!r}; write it like 512MiB")
    return int(Fraction(found[1]) * SIZES[found[2]])


def write_size(size: int) -> str:
    """Bytes as `512MiB`, rounded up to whole mebibytes."""
    mebibytes = -(-size // SIZES["MiB"])
    return f"{mebibytes // 1024}GiB" if mebibytes and mebibytes % 1024 == 0 else f"{mebibytes}MiB"


def parse_seconds(text: str) -> int:
    """`10m` as seconds. Raises ValueError."""
    found = re.fullmatch(r"(\d+)([smh])", text)
    if found is None:
        raise ValueError(f"not a time: {text!r}; write it like 10m")
    return int(found[1]) * SECONDS[found[2]]
