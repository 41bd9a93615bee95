"""Amounts as Kubernetes writes them (`250m`, `512Mi`) and as our documents do (`512MiB`)."""

from __future__ import annotations

import re
from fractions import Fraction

UNITS = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12),
    "Ki": Fraction(1 << 10), "Mi": Fraction(1 << 20), "Gi": Fraction(1 << 30), "Ti": Fraction(1 << 40),
}  # fmt: skip
SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_quantity(text: str | int) -> Fraction:
    """`1500m` as 3/2. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(n|u|m|k|M|G|T|Ki|Mi|Gi|Ti|)", str(text))
    if found is None:
        raise ValueError(f"{text!r} is not an amount")
    return Fraction(found[1]) * UNITS[found[2]]


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
