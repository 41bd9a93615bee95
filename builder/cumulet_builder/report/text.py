"""How numbers are written in reports."""

from __future__ import annotations

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def make_size(number: int) -> str:
    """`12.3 MiB` for a number of bytes: one decimal below 100, whole numbers from there on."""
    value, unit = float(number), 0
    while round(value) >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if unit == 0 or value >= 99.95 else f"{value:.1f} {UNITS[unit]}"


def make_percent(part: int, whole: int) -> str:
    """`31 %`, or `3.1 %` below ten."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share >= 9.95 or share == 0 else f"{share:.1f} %"
