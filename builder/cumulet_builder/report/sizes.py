"""Who takes the room: the size of an image by package, as values and as the text `sizes.txt`.

A package's share of the compressed root is an estimate: samples of its files are
compressed here, and the shares are scaled so that they sum up to the measured whole.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cumulet_builder.report.text import make_percent, make_size
from cumulet_builder.tree import Node, Slice, Tree

OWN_BLOCK = 1 << 20
SAMPLE = 16 << 10
LARGEST = 5
TOP = 40
NAME = 36
PLACES = (
    ("/usr/lib/firmware/", "firmware"),
    ("/lib/firmware/", "firmware"),
    ("/usr/lib/modules/", "kernel"),
    ("/lib/modules/", "kernel"),
    ("/boot/", "kernel"),
)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who put a file there: a package (or a block of ours), and the group that it is drawn in."""

    package: str
    group: str


@dataclass(frozen=True, slots=True)
class Row:
    """One package's part of the root. `size` is uncompressed, `compressed` is estimated; both in bytes."""

    package: str
    group: str
    files: int
    size: int
    compressed: int
    largest: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of the disk: its bytes, and how many of them its content takes."""

    name: str
    size: int
    used: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The recipe's size budget in bytes; None is no limit."""

    root: int | None = None
    disk: int | None = None


@dataclass(frozen=True)
class Sizes:
    """All that the size report of one image says.

    `root` is the compressed root file system, `disk` the bytes stored in the disk
    image (holes not counted), both measured; `rows` come from `make_rows`.
    """

    image: str
    root: int
    disk: int
    rows: tuple[Row, ...]
    partitions: tuple[Partition, ...] = ()
    limits: Limits = Limits()

    @property
    def unpacked(self) -> int:
        """Bytes of all files in the root, uncompressed."""
        return sum(row.size for row in self.rows)


@dataclass
class _Count:
    files: int = 0
    size: int = 0
    weight: float = 0.0
    all: list[tuple[str, int]] = field(default_factory=list)


def make_owners(
    packages: Mapping[str, Sequence[str]], layers: Mapping[str, Tree], group: str = "debian"
) -> dict[str, Owner]:
    """The owner of every path: `packages` maps a package to its paths, `layers` a layer's name to its tree.

    `group` is what the packages are drawn in.

    A later layer wins. Of a layer, a Python package and a file of 1 MiB and more are blocks of their own.
    """
    owners: dict[str, Owner] = {}
    for package, paths in packages.items():
        for path in paths:
            owners[path] = Owner(package, _group_of(path, group))
    for layer, tree in layers.items():
        for path, node in tree.nodes.items():
            if node.kind == "folder":
                continue
            owners[path] = Owner(_block_of(path, node) or layer, _group_of(path, layer))
    return owners


def make_rows(tree: Tree, owners: Mapping[str, Owner], root: int) -> tuple[Row, ...]:
    """One row per package, the biggest compressed first. `root` is the measured compressed size in bytes.

    Reads samples of the tree's files. What nobody owns was made by the build: `generated`.
    """
    counts: dict[Owner, _Count] = defaultdict(_Count)
    for path, node in tree.nodes.items():
        if node.kind == "folder":
            continue
        owner = owners.get(path) or owners.get(_source_of(path))
        count = counts[owner or Owner("generated", _group_of(path, "system"))]
        count.files += 1
        if node.kind == "file" and node.size:
            count.size += node.size
            count.weight += node.size * _ratio(node)
            count.all.append((path, node.size))
    scale = root / (sum(count.weight for count in counts.values()) or 1.0)
    rows = [_make_row(owner, count, scale) for owner, count in counts.items()]
    return tuple(sorted(rows, key=lambda row: (-row.compressed, -row.size, row.package, row.group)))


def make_sizes_text(sizes: Sizes) -> str:
    """`sizes.txt`: partitions, the root with its budget, the biggest packages."""
    lines = [f"{sizes.image}: where the bytes are", ""]
    if sizes.partitions:
        lines.append(f"{'partition':<12}{'size':>12}{'used':>12}")
        lines += [_partition_line(partition) for partition in sizes.partitions]
        lines.append("")
    ratio = make_percent(sizes.root, sizes.unpacked)
    lines.append(f"root  {make_size(sizes.root)} compressed, {ratio} of {make_size(sizes.unpacked)}")
    lines.append(f"      {make_budget_text(sizes.root, sizes.limits.root)}")
    lines.append(f"disk  {make_size(sizes.disk)} stored")
    lines.append(f"      {make_budget_text(sizes.disk, sizes.limits.disk)}")
    lines += ["", f"{'package':<{NAME}}{'group':<12}{'files':>7}{'unpacked':>13}{'compressed':>13}{'share':>8}"]
    lines += [_row_line(row, sizes.root) for row in sizes.rows[:TOP]]
    rest = sizes.rows[TOP:]
    if rest:
        more = Row(
            f"{len(rest)} smaller packages",
            "",
            sum(row.files for row in rest),
            sum(row.size for row in rest),
            sum(row.compressed for row in rest),
        )
        lines.append(_row_line(more, sizes.root))
    lines += ["", "Compressed sizes of packages are estimated from samples and scaled to the measured root."]
    return "\n".join(lines) + "\n"


def make_budget_text(used: int, limit: int | None) -> str:
    """One line about a budget, as `budget 250 MiB: 39 % used, 151 MiB left`."""
    if limit is None:
        return "no budget"
    share = make_percent(used, limit)
    if used > limit:
        return f"budget {make_size(limit)}: {share} used, {make_size(used - limit)} too much"
    return f"budget {make_size(limit)}: {share} used, {make_size(limit - used)} left"


def _partition_line(partition: Partition) -> str:
    share = make_percent(partition.used, partition.size)
    return f"{partition.name:<12}{make_size(partition.size):>12}{make_size(partition.used):>12}{share:>8}"


def _row_line(row: Row, root: int) -> str:
    numbers = f"{row.files:>7}{make_size(row.size):>13}{make_size(row.compressed):>13}"
    name = row.package if len(row.package) < NAME else f"{row.package[: NAME - 2]}\N{HORIZONTAL ELLIPSIS}"
    return f"{name:<{NAME}}{row.group:<12}{numbers}{make_percent(row.compressed, root):>8}"


def _make_row(owner: Owner, count: _Count, scale: float) -> Row:
    largest = sorted(count.all, key=lambda entry: (-entry[1], entry[0]))[:LARGEST]
    compressed = round(count.weight * scale)
    return Row(owner.package, owner.group, count.files, count.size, compressed, tuple(largest))


def _block_of(path: str, node: Node) -> str:
    """The name of the block that a layer's file is drawn in; empty for the layer's own."""
    match = re.search(r"/(?:dist|site)-packages/(.+?)(?:-\d[^/]*|\.py)?(?:/|$)", path)
    if match:
        return match[1]
    return path.rpartition("/")[2] if node.kind == "file" and node.size >= OWN_BLOCK else ""


def _source_of(path: str) -> str:
    """The Python source that a compiled module was made from, so that it counts for the same package."""
    return re.sub(r"__pycache__/([^/.]+)\.[^/]*\.pyc$", r"\1.py", path)


def _group_of(path: str, otherwise: str) -> str:
    return next((group for prefix, group in PLACES if path.startswith(prefix)), otherwise)


def _ratio(node: Node) -> float:
    """How much of a file is left after compression, told from its first and its middle part."""
    sample = _sample(node)
    return min(1.0, len(zlib.compress(sample, 1)) / len(sample))


def _sample(node: Node) -> bytes:
    content, middle = node.content, node.size // 2
    if isinstance(content, Slice):
        with content.path.open("rb") as stream:
            stream.seek(content.offset)
            start = stream.read(min(SAMPLE, content.size))
            if content.size <= 2 * SAMPLE:
                return start
            stream.seek(content.offset + middle)
            return start + stream.read(min(SAMPLE, content.size - middle))
    return content if len(content) <= 2 * SAMPLE else content[:SAMPLE] + content[middle : middle + SAMPLE]
