"""Why something is in an image: chains from files, packages and modules to whoever asked for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet_builder.cache import Cache, make_key, open_cache
from cumulet_builder.cli import main
from cumulet_builder.recipe.load import resolve_recipe
from cumulet_builder.tree import Tree, write_tar
from cumulet_builder.why import Image, explain, find_asked_packages, load_image, read_status

STATUS = """Package: nftables
Status: install ok installed
Depends: libnftables1 (= 1.1.3), libc6 (>= 2.38)
 | libc6.1

Package: libnftables1
Pre-Depends: libjansson4 (>= 2.14)
Description: text
 with Depends: nothing

Package: libjansson4

Package: base-files
Essential: yes
Depends: awk

Package: mawk
Provides: awk

Package: stray
"""
DEP = """kernel/nft_ct.ko: kernel/nf_conntrack.ko kernel/nf_defrag_ipv6.ko
kernel/nf_conntrack.ko: kernel/nf_defrag_ipv6.ko
kernel/nf_defrag_ipv6.ko:
kernel/odd.ko:
"""
RECIPE = "version: 1\nimage: edge\nboard: qemu-arm64\nfeatures: [base]\nmodules: [nft_ct]\npackages: [nftables]\n"
Write = Callable[[str, str], Path]


def keep(cache: Cache, name: str, files: dict[str, Tree | str]) -> str:
    """A stage's result in the cache; returns its key."""
    key = make_key(name, {}, {})
    with cache.making(name, key, {}) as folder:
        for file, content in files.items():
            if isinstance(content, Tree):
                with (folder / file).open("wb") as stream:
                    write_tar(content, stream, 1)
            else:
                (folder / file).write_text(content)
    return key


def make_tree(**files: str) -> Tree:
    tree = Tree()
    for path, content in files.items():
        tree.file(path, content)
    return tree


@pytest.fixture
def recipe(write: Write) -> Path:
    return write("edge.yaml", RECIPE)


@pytest.fixture
def image(recipe: Path, tmp_path: Path) -> Image:
    cache = open_cache(tmp_path / "kept")
    packages = make_tree(**{"/usr/sbin/nft": "elf", "/var/lib/dpkg/status": STATUS})
    base = "/usr/lib/modules/6.12"
    kernel = make_tree(
        **{f"{base}/modules.dep": DEP, f"{base}/modules.builtin": "kernel/loop.ko\n", f"{base}/kernel/nft_ct.ko": "m"}
    )
    root = make_tree(
        **{
            "/usr/sbin/nft": "elf",
            "/etc/passwd": "p",
            f"{base}/kernel/nft_ct.ko": "m",
            "/usr/lib/cumulet/report-running": "s",
        }
    )
    root.link("/sbin", "usr/sbin")
    owners = {"nftables": ["/usr/sbin/nft"], "base-files": ["/sbin"]}
    last = {
        "packages": keep(cache, "packages", {"root.tar": packages, "owners.json": json.dumps(owners)}),
        "kernel": keep(cache, "kernel", {"kernel.tar": kernel, "kernel.json": '{"version": "6.12"}'}),
        "root": keep(cache, "root", {"root.tar": root}),
    }
    (cache.root / "last").mkdir()
    (cache.root / "last/edge.json").write_text(json.dumps(last))
    return load_image(resolve_recipe(recipe), cache.root)


@pytest.mark.parametrize(
    ("thing", "lines"),
    [
        ("/usr/sbin/nft", ["/usr/sbin/nft: package nftables", "  nftables: asked for in edge.yaml:6"]),
        ("/sbin/nft", ["/usr/sbin/nft: package nftables", "  nftables: asked for in edge.yaml:6"]),
        (
            "libjansson4",
            [
                "  libjansson4: needed by libnftables1",
                "  libnftables1: needed by nftables",
                "  nftables: asked for in edge.yaml:6",
            ],
        ),
        ("mawk", ["  mawk: needed by base-files", "  base-files: every Debian system has it"]),
        ("stray", ["  stray: nothing that was asked for needs it"]),
        (
            "nf-defrag-ipv6",
            ["  nf_defrag_ipv6: needed by nft_ct", "  nft_ct: asked for in edge.yaml:5"],
        ),
        ("loop", ["  loop: built into the kernel"]),
        ("odd", ["  odd: nothing that was asked for needs it"]),
        (
            "/usr/lib/modules/6.12/kernel/nft_ct.ko",
            ["/usr/lib/modules/6.12/kernel/nft_ct.ko: kernel module nft_ct", "  nft_ct: asked for in edge.yaml:5"],
        ),
        ("/etc/passwd", ["/etc/passwd: package base-passwd (made by its scripts)"]),
        (
            "/usr/lib/cumulet/report-running",
            ["/usr/lib/cumulet/report-running: a setting of Cumulet's own, as this recipe wants it"],
        ),
        ("/usr/sbin", ["/usr/sbin: a folder with files of: nftables"]),
    ],
)
def test_the_chain_up_to_whoever_asked(image: Image, thing: str, lines: list[str]) -> None:
    found = explain(image, thing)
    # The feature base asks for the firewall's package and modules too; the first file that does is named.
    assert [line.replace("recipes/features/base.yaml", "base.yaml") for line in found][:-1] == lines[:-1]
    assert found[-1].split(":")[0] == lines[-1].split(":")[0]
    if "edge.yaml" not in lines[-1]:
        assert found[-1] == lines[-1]


def test_what_is_not_there_comes_with_what_is_near(image: Image) -> None:
    with pytest.raises(UsageError) as caught:
        explain(image, "nftable")
    assert caught.value.message == "nftable: no package, kernel module or file of edge"
    assert caught.value.hint == "did you mean 'nftables'?"
    with pytest.raises(UsageError) as caught:
        explain(image, "/usr/bin/nft")
    assert (caught.value.message, caught.value.hint) == ("/usr/bin/nft: not in edge", "/usr/sbin/nft")


def test_an_image_that_was_never_built(recipe: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", str(recipe), "libc6"]) == 2
    assert "edge: no build of it in the cache" in capsys.readouterr().err


def test_who_asks_for_packages_is_told_by_file_and_line(recipe: Path) -> None:
    asked = find_asked_packages(resolve_recipe(recipe))
    assert "features/base.yaml:" in asked["openssh-server"]
    assert asked["systemd-repart"] == "the first boot grows the data partition with it"


def test_dpkgs_records_are_read() -> None:
    packages = read_status(STATUS)
    assert packages["nftables"].needs == (("libnftables1",), ("libc6", "libc6.1"))
    assert packages["mawk"].provides == ("awk",)
    assert packages["base-files"].essential
    assert packages["libnftables1"].needs == (("libjansson4",),)
