"""Amounts in all of Kubernetes' forms, and sizes and times as documents write them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from cumulet.core.quantities import add_amounts, parse_quantity, parse_seconds, parse_size, write_quantity, write_size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", Fraction(1, 2)),
        ("1500m", Fraction(3, 2)),
        ("2", 2),
        (2, 2),
        ("0", 0),
        ("1Ki", 1024),
        ("2.5Gi", 5 << 29),
        ("1Ti", 1 << 40),
        ("3Pi", 3 << 50),
        ("1Ei", 1 << 60),
        ("1k", 1000),
        ("3M", 3 * 10**6),
        ("1G", 10**9),
        ("2T", 2 * 10**12),
        ("4P", 4 * 10**15),
        ("1E", 10**18),
        ("7n", Fraction(7, 10**9)),
        ("7u", Fraction(7, 10**6)),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12e-1", Fraction(6, 5)),
        ("1.5E+2", 150),
        ("-250m", Fraction(-1, 4)),
        ("+2", 2),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_amounts_are_read_as_kubernetes_writes_them(text: str | int, value: Fraction | int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "x", "1.2.3", "5 Gi", "Gi", "1e", "e3", "1ki", "1KiB", "1mm", ".", "-", "1e3Ki", "٣", "1\n", "1e999"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        parse_quantity(text)


def test_sums_keep_their_units() -> None:
    found = add_amounts(
        [{"cpu": "1500m", "memory": "1Gi"}, {"cpu": "2", "memory": "512Mi", "pods": "110"}, {"cpu": "?"}]
    )
    assert found == {"cpu": "3500m", "memory": "1572864Ki", "pods": "110"}


@pytest.mark.parametrize("name", ["cpu", "memory", "cumulet.dev/gpu-percent"])
@pytest.mark.parametrize("amount", [Fraction(0), Fraction(1), Fraction(7, 2), Fraction(3 << 30), Fraction(1025)])
def test_what_is_written_is_read_as_the_same(amount: Fraction, name: str) -> None:
    assert parse_quantity(write_quantity(amount, name)) == amount


def test_sizes_and_times_of_documents() -> None:
    assert [parse_size(text) for text in ("512MiB", "1.5KiB", "2GiB")] == [512 << 20, 1536, 2 << 30]
    assert [write_size(size) for size in (0, 1, 512 << 20, 2 << 30, (2 << 30) + 1)] == [
        "0MiB",
        "1MiB",
        "512MiB",
        "2GiB",
        "2049MiB",
    ]
    assert [parse_seconds(text) for text in ("30s", "10m", "2h")] == [30, 600, 7200]
    for parse, text, kind in ((parse_size, "512", "size"), (parse_size, "1Mi", "size"), (parse_seconds, "1d", "time")):
        with pytest.raises(ValueError, match=f"^not a {kind}: '{text}'; write it like "):
            parse(text)
