"""All reports of an image, from the folders of its stages."""

import json
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError
from cumulet_builder.assets import find_assets
from cumulet_builder.engines.debian.lock import Lock, LockedPackage, LockedWheel, Request
from cumulet_builder.kubernetes.inventory import Component, write_inventory
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.report.write import write_reports
from cumulet_builder.tree import Tree, write_tar

EPOCH = 1_700_000_000
DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nLicense: Expat\n"
REPORTS = {"sizes.txt", "sizes.html", "sbom.cdx.json", "manifest.json", "sha256sums"}


def make_lock() -> Lock:
    def package(name: str, source: str, section: str, group: str) -> LockedPackage:
        values = {"name": name, "source": source, "section": section, "group": group}
        rest = {"version": "1", "architecture": "arm64", "sha256": name[0] * 64, "size": 1, "path": f"pool/{name}.deb"}
        return LockedPackage.model_validate(values | rest)

    nothing: dict[str, tuple[str, ...]] = {
        name: () for name in Request.model_fields if name not in ("suite", "architecture", "host_architecture")
    }
    return Lock(
        image="base-arm64",
        epoch=EPOCH,
        request=Request.model_validate(
            {**nothing, "suite": "trixie", "architecture": "arm64", "host_architecture": "amd64"}
        ),
        packages=(
            package("bash", "bash", "shells", "base"),
            package("bash-data", "bash", "shells", "base"),
            package("firmware-x", "firmware-x", "non-free-firmware/kernel", "extra"),
            package("linux-image-6.12", "linux", "kernel", "boot"),
            package("erofs-utils", "erofs-utils", "utils", "tools"),
        ),
        wheels=(LockedWheel(name="PyYAML", version="6.0", file="pyyaml-6.0.whl", sha256="9" * 64, size=1),),
    )


def put(folder: Path, name: str, tree: Tree) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("wb") as stream:
        write_tar(tree, stream, EPOCH)
    return folder


@pytest.fixture
def stages(tmp_path: Path) -> dict[str, Path]:
    root, packages, sdk = Tree(), Tree(), Tree()
    root.file("/usr/bin/bash", b"shell" * 1000, 0o755)
    root.file("/usr/lib/firmware/x.bin", b"blob")
    packages.file("/usr/share/doc/bash/copyright", DEP5)
    sdk.file("/usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/METADATA", "Name: PyYAML\nLicense: MIT\n")
    folders = {
        "root": put(tmp_path / "root", "root.tar", root),
        "packages": put(tmp_path / "packages", "root.tar", packages),
        "sdk": put(tmp_path / "sdk", "sdk.tar", sdk),
        "kernel": put(tmp_path / "kernel", "kernel.tar", Tree()),
    }
    owners = {"bash": ["/usr/bin/bash"], "firmware-x": ["/usr/lib/firmware/x.bin"]}
    (folders["packages"] / "owners.json").write_text(json.dumps(owners))
    (folders["kernel"] / "kernel.json").write_text(json.dumps({"version": "6.12-arm64", "modules": ["ext4"]}))
    for name in ("erofs", "image", "programs"):
        folders[name] = tmp_path / name
        folders[name].mkdir()
    (folders["erofs"] / "root.erofs").write_bytes(b"e" * 3000)
    with (folders["image"] / "disk.img").open("wb") as stream:
        stream.truncate(64 << 20)
        stream.seek(1 << 20)
        stream.write(b"esp" * 4096)
    write_inventory([Component("k8s.io/api", "v1", "go-module", "Apache-2.0")], folders["programs"] / "inventory.json")
    return folders


def recipe_with(*overrides: str) -> Recipe:
    return load_recipe(find_assets("recipes") / "images/base-arm64.yaml", overrides)


def test_every_report_is_written(stages: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "disk.img").write_bytes(b"disk")
    fragment = find_assets("recipes") / "images/base-arm64.yaml"
    own = tmp_path / "mine.yaml"
    own.write_text("version: 1\n")
    write_reports(recipe_with(), make_lock(), {"root": "key"}, stages, out, fragments=[fragment, own])
    assert {path.name for path in out.iterdir()} == {"disk.img", *REPORTS}
    manifest = json.loads((out / "manifest.json").read_text())
    licences = {row["name"]: row["licences"] for row in manifest["packages"]}
    assert licences == {"bash": ["MIT"], "bash-data": ["MIT"], "firmware-x": [], "linux-image-6.12": []}
    assert manifest["firmware"][0]["package"] == "firmware-x"
    assert manifest["firmware"][0]["licence_class"] == "non-free-firmware"
    assert manifest["wheels"][0]["licence"] == "MIT"
    assert manifest["go_modules"][0]["name"] == "k8s.io/api"
    assert manifest["kernel"]["release"] == "6.12-arm64"
    assert [row["name"] for row in manifest["tools"]] == ["erofs-utils"]
    assert [row["path"] for row in manifest["recipe"]["fragments"]] == ["images/base-arm64.yaml", "mine.yaml"]
    listed = {line.split("  ")[1] for line in (out / "sha256sums").read_text().splitlines()}
    assert listed == {path.name for path in out.iterdir()} - {"sha256sums"}
    assert "esp" in (out / "sizes.txt").read_text()


def test_the_same_stages_give_the_same_reports(stages: dict[str, Path], tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        write_reports(recipe_with(), make_lock(), {}, stages, out)
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1]


def test_an_image_over_its_budget_gets_no_reports(stages: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(TargetError, match=r"base-arm64: root takes 2\.9 KiB, .* budget of 1\.0 KiB"):
        write_reports(recipe_with("size_budget.root=1KiB"), make_lock(), {}, stages, out)
    assert list(out.iterdir()) == []
