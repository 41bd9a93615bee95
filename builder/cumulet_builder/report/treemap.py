"""sizes.html: the size report as one page with a treemap, without anything from outside the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cumulet_builder.render import render
from cumulet_builder.report.sizes import Limits, Row, Sizes, make_budget_text
from cumulet_builder.report.text import make_percent, make_size

WIDTH, HEIGHT = 1600.0, 800.0
# Groups keep their colour from image to image; one that is not named here takes the last.
COLOURS = ("debian", "kubernetes", "kernel", "firmware", "sdk", "system", "other")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the treemap, in percent of its width and height."""

    left: float
    top: float
    width: float
    height: float


def make_html(sizes: Sizes) -> str:
    """The page. Every number in it is text; the script only sorts, filters and points."""
    packed = make_boxes(sizes.rows, lambda row: row.compressed)
    unpacked = make_boxes(sizes.rows, lambda row: row.size)
    empty = Box(0, 0, 0, 0)
    tiles = [
        {"place": place, **_make_tile(row, (packed.get(place, empty), unpacked.get(place, empty)), sizes)}
        for place, row in enumerate(sizes.rows)
    ]
    return render(
        "report/sizes.html.j2",
        image=sizes.image,
        root=make_size(sizes.root),
        unpacked=make_size(sizes.unpacked),
        ratio=make_percent(sizes.root, sizes.unpacked),
        meters=_make_meters(sizes),
        partitions=[_make_bar(part.name, part.used, part.size) for part in sizes.partitions],
        groups=_make_groups(sizes),
        tiles=tiles,
        details=[_make_detail(row, sizes) for row in sizes.rows],
        packages=len(sizes.rows),
    )


def make_boxes(rows: Sequence[Row], size_of: Callable[[Row], int]) -> dict[int, Box]:
    """Row number -> its rectangle. Rows of a group lie together; rows of size 0 have no rectangle."""
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        if size_of(row) > 0:
            groups.setdefault(row.group, []).append(place)
    totals = {group: sum(size_of(rows[place]) for place in places) for group, places in groups.items()}
    order = sorted(totals, key=lambda group: (-totals[group], group))
    boxes: dict[int, Box] = {}
    for group, (x, y, dx, dy) in zip(order, _squarify([totals[g] for g in order], (0, 0, WIDTH, HEIGHT)), strict=True):
        places = sorted(groups[group], key=lambda place: (-size_of(rows[place]), place))
        inside = _squarify([size_of(rows[place]) for place in places], (x, y, dx, dy))
        for place, (left, top, width, height) in zip(places, inside, strict=True):
            boxes[place] = Box(
                round(100 * left / WIDTH, 4),
                round(100 * top / HEIGHT, 4),
                round(100 * width / WIDTH, 4),
                round(100 * height / HEIGHT, 4),
            )
    return boxes


def _squarify(sizes: Sequence[int], area: tuple[float, float, float, float]) -> list[tuple[float, float, float, float]]:
    """Rectangles (x, y, width, height) for sizes in falling order, filling `area`."""
    import squarify  # noqa: PLC0415 - only this page needs it

    x, y, dx, dy = area
    scale = dx * dy / (sum(sizes) or 1)
    found = squarify.squarify([size * scale for size in sizes], x, y, dx, dy)
    return [(each["x"], each["y"], each["dx"], each["dy"]) for each in found]


def _make_tile(row: Row, boxes: tuple[Box, Box], sizes: Sizes) -> dict[str, Any]:
    packed, unpacked = boxes
    return {
        "package": row.package,
        "group": row.group,
        "colour": _colour(row.group),
        "files": row.files,
        "size": row.size,
        "size_text": make_size(row.size),
        "compressed": row.compressed,
        "compressed_text": make_size(row.compressed),
        "share": make_percent(row.compressed, sizes.root),
        "bar": round(100 * row.compressed / (sizes.rows[0].compressed or 1), 2),
        "packed": packed,
        "unpacked": unpacked,
    }


def _make_detail(row: Row, sizes: Sizes) -> dict[str, Any]:
    return {
        "package": row.package,
        "group": row.group,
        "files": row.files,
        "size": make_size(row.size),
        "compressed": make_size(row.compressed),
        "share": make_percent(row.compressed, sizes.root),
        "largest": [(path, make_size(size)) for path, size in row.largest],
    }


def _make_groups(sizes: Sizes) -> list[dict[str, Any]]:
    names = {row.group for row in sizes.rows}
    totals = {name: sum(row.compressed for row in sizes.rows if row.group == name) for name in names}
    return [
        {
            "name": name,
            "colour": _colour(name),
            "text": make_size(totals[name]),
            "share": make_percent(totals[name], sizes.root),
        }
        for name in sorted(names, key=lambda name: (-totals[name], name))
    ]


def _make_meters(sizes: Sizes) -> list[dict[str, Any]]:
    limits: Limits = sizes.limits
    return [
        {
            "name": name,
            "text": make_size(used),
            "budget": make_budget_text(used, limit),
            "percent": min(100.0, round(100 * used / limit, 1)) if limit else None,
            "over": bool(limit and used > limit),
        }
        for name, used, limit in (
            ("root, compressed", sizes.root, limits.root),
            ("disk, stored", sizes.disk, limits.disk),
        )
    ]


def _make_bar(name: str, used: int, size: int) -> dict[str, Any]:
    return {
        "name": name,
        "used": make_size(used),
        "size": make_size(size),
        "share": make_percent(used, size),
        "percent": min(100.0, round(100 * used / size, 1)) if size else 0,
    }


def _colour(group: str) -> str:
    return group if group in COLOURS else COLOURS[-1]
