"""The size report: rows, text, treemap page, budget."""

import os
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError
from cumulet_builder.recipe.model import SizeBudget
from cumulet_builder.report.budget import budget_problems, check_budget, make_limits
from cumulet_builder.report.sizes import Limits, Owner, Partition, Row, Sizes, make_owners, make_rows, make_sizes_text
from cumulet_builder.report.text import make_percent, make_size
from cumulet_builder.report.treemap import Box, make_boxes, make_html
from cumulet_builder.tree import Tree

MIB = 1 << 20
ROWS = (
    Row("kube", "kubernetes", 1, 140 * MIB, 40 * MIB, (("/usr/bin/kube", 140 * MIB),)),
    Row("etcd", "kubernetes", 1, 24 * MIB, 7 * MIB),
    Row("libc6", "debian", 23, 4 * MIB, 2 * MIB),
    Row("<b>odd</b>", "strange", 2, 1000, 300),
    Row("links", "debian", 5, 0, 0),
)
SIZES = Sizes(
    "edge",
    root=49 * MIB,
    disk=90 * MIB,
    rows=ROWS,
    partitions=(Partition("esp", 160 * MIB, 40 * MIB),),
    limits=Limits(250 * MIB, 80 * MIB),
)


def make_tree() -> Tree:
    tree = Tree()
    tree.folder("/usr")
    tree.file("/usr/bin/random", os.urandom(200_000), 0o755)
    tree.file("/usr/share/zeros", b"\0" * 200_000)
    tree.file("/usr/lib/python3/x.py", "pass\n")
    tree.file("/usr/lib/python3/__pycache__/x.cpython-313.pyc", b"p" * 50)
    tree.file("/etc/made", "by the build")
    tree.file("/usr/lib/firmware/a.bin", b"f" * 10)
    tree.link("/usr/bin/also", "random")
    return tree


OWNERS = {
    "/usr/bin/random": Owner("random", "debian"),
    "/usr/bin/also": Owner("random", "debian"),
    "/usr/share/zeros": Owner("zeros", "debian"),
    "/usr/lib/python3/x.py": Owner("python", "debian"),
}


def test_rows_sum_up_to_the_tree_and_to_the_measured_root() -> None:
    rows = make_rows(make_tree(), OWNERS, 150_000)
    assert sum(row.size for row in rows) == sum(node.size for node in make_tree().nodes.values())
    assert sum(row.compressed for row in rows) == pytest.approx(150_000, abs=len(rows))
    assert sum(row.files for row in rows) == 7


def test_what_does_not_compress_takes_the_room() -> None:
    rows = {row.package: row for row in make_rows(make_tree(), OWNERS, 150_000)}
    assert rows["random"].compressed > 100 * rows["zeros"].compressed
    assert rows["random"].files == 2
    assert rows["random"].largest == (("/usr/bin/random", 200_000),)


def test_files_without_an_owner() -> None:
    rows = {(row.package, row.group): row for row in make_rows(make_tree(), OWNERS, 1000)}
    assert rows["generated", "system"].size == len("by the build")
    assert rows["generated", "firmware"].size == 10
    assert rows["python", "debian"].files == 2, "a compiled module counts for its source's package"


def test_contents_in_archives_are_sampled_too(tmp_path: Path) -> None:
    content = os.urandom(100_000) + b"\0" * 100_000
    (tmp_path / "big").write_bytes(content)
    on_disk, in_memory = Tree(), Tree()
    on_disk.file("/big", tmp_path / "big")
    in_memory.file("/big", content)
    assert make_rows(on_disk, {}, 500) == make_rows(in_memory, {}, 500)


def test_an_empty_tree_has_no_rows() -> None:
    assert make_rows(Tree(), {}, 100) == ()


def test_layers_win_over_packages_and_split_into_blocks() -> None:
    layer = Tree()
    layer.file("/usr/bin/kube", b"k" * (2 * MIB))
    layer.file("/etc/kubernetes.conf", "small")
    sdk = Tree()
    sdk.file("/usr/lib/python3/dist-packages/yaml/__init__.py", "")
    sdk.file("/usr/lib/python3/dist-packages/yaml-6.0.dist-info/METADATA", "")
    sdk.file("/usr/lib/python3/dist-packages/single.py", "")
    modules = Tree()
    modules.file("/usr/lib/modules/6.12/kernel/fs/ext4.ko", "")
    owners = make_owners(
        {"bash": ["/bin/bash", "/etc/kubernetes.conf"], "blobs": ["/usr/lib/firmware/x"]},
        {"kubernetes": layer, "sdk": sdk, "kernel": modules},
    )
    assert owners == {
        "/bin/bash": Owner("bash", "debian"),
        "/usr/lib/firmware/x": Owner("blobs", "firmware"),
        "/etc/kubernetes.conf": Owner("kubernetes", "kubernetes"),
        "/usr/bin/kube": Owner("kube", "kubernetes"),
        "/usr/lib/python3/dist-packages/yaml/__init__.py": Owner("yaml", "sdk"),
        "/usr/lib/python3/dist-packages/yaml-6.0.dist-info/METADATA": Owner("yaml", "sdk"),
        "/usr/lib/python3/dist-packages/single.py": Owner("single", "sdk"),
        "/usr/lib/modules/6.12/kernel/fs/ext4.ko": Owner("kernel", "kernel"),
    }


def test_the_text_names_partitions_budget_and_packages() -> None:
    text = make_sizes_text(SIZES)
    assert "esp              160 MiB    40.0 MiB    25 %" in text
    assert "root  49.0 MiB compressed, 29 % of 168 MiB" in text
    assert "budget 250 MiB: 20 % used, 201 MiB left" in text
    assert "budget 80.0 MiB: 112 % used, 10.0 MiB too much" in text
    assert re.search(r"^kube +kubernetes +1 +140 MiB +40\.0 MiB +82 %$", text, re.MULTILINE)


def test_the_text_sums_up_what_is_small() -> None:
    many = tuple(Row(f"p{number}", "debian", 1, 1000, 100) for number in range(50))
    assert "10 smaller packages" in make_sizes_text(replace(SIZES, rows=many))


def overlap(one: Box, two: Box) -> bool:
    apart = 1e-3
    return (
        one.left + one.width > two.left + apart
        and two.left + two.width > one.left + apart
        and one.top + one.height > two.top + apart
        and two.top + two.height > one.top + apart
    )


def test_boxes_fill_the_area_without_overlap() -> None:
    boxes = make_boxes(ROWS, lambda row: row.size)
    assert set(boxes) == {0, 1, 2, 3}, "what has no size has no box"
    assert sum(box.width * box.height for box in boxes.values()) == pytest.approx(10_000, rel=1e-3)
    assert not [pair for pair in combinations(boxes.values(), 2) if overlap(*pair)]
    assert boxes[0].width * boxes[0].height / 10_000 == pytest.approx(ROWS[0].size / SIZES.unpacked, rel=1e-3)


def test_the_page_is_self_contained_and_escaped() -> None:
    page = make_html(SIZES)
    assert "<b>odd</b>" not in page
    assert "&lt;b&gt;odd&lt;/b&gt;" in page
    assert not re.search(r"""(src|href)=|@import|url\(|https?://""", page)
    assert page.count('class="tile"') == 4
    assert page.count("<tr data-package=") == 5
    assert page == make_html(SIZES)


def test_a_page_without_packages() -> None:
    assert "0 packages" in make_html(Sizes("empty", 0, 0, ()))


def test_an_image_within_its_budget_is_fine() -> None:
    within = replace(SIZES, limits=Limits(49 * MIB, 90 * MIB))
    assert budget_problems(within) == []
    check_budget(within)


def test_an_image_over_its_budget_fails_and_names_the_biggest() -> None:
    with pytest.raises(TargetError) as caught:
        check_budget(SIZES)
    assert caught.value.message.splitlines()[0] == (
        "edge: disk takes 90.0 MiB, 10.0 MiB more than its budget of 80.0 MiB"
    )
    assert "kube 40.0 MiB, etcd 7.0 MiB, libc6 2.0 MiB" in caught.value.message
    assert "size_budget.disk" in caught.value.hint


def test_limits_of_a_recipe() -> None:
    assert make_limits(SizeBudget(root="250MiB")) == Limits(250 * MIB, None)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 * MIB, "10.0 MiB"),
        (250 * MIB, "250 MiB"),
        (3 << 30, "3.0 GiB"),
    ],
)
def test_sizes_are_short(number: int, text: str) -> None:
    assert make_size(number) == text


def test_percents() -> None:
    assert [make_percent(part, 200) for part in (0, 1, 19, 62)] == ["0 %", "0.5 %", "9.5 %", "31 %"]
    assert make_percent(1, 0) == "0 %"
