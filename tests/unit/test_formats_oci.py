"""The container image: what a registry client reads from the archive."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cumulet_builder.formats import FORMATS, Bench, DiskInputs, blockmap, directory, disk, oci, tar
from cumulet_builder.recipe.model import Disk, Recipe
from cumulet_builder.tree import Tree

EPOCH = 1_700_000_000


@dataclass
class Tools:
    """A toolbox whose `zstd` copies, and which keeps what it was asked."""

    asked: list[list[str]] = field(default_factory=list)

    def run(self, argv: list[str | Path], **_: object) -> None:
        words = [str(word) for word in argv]
        self.asked.append(words)
        if words[0] == "zstd":
            Path(words[-1]).write_bytes(b"packed " + Path(words[-3]).read_bytes())


@pytest.fixture
def inputs(tmp_path: Path) -> DiskInputs:
    (tmp_path / "root.tar").write_bytes(b"root")
    nothing = tmp_path / "nothing"
    return DiskInputs(
        image="edge",
        architecture="arm64",
        seed="edge",
        version="6.12",
        epoch=EPOCH,
        sizes=Disk(),
        root=nothing,
        root_tree=tmp_path / "root.tar",
        data_tree=None,
        kernel=nothing,
        initramfs=nothing,
        device_trees=nothing,
        boot_loader=nothing,
        command_line=(),
    )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    folder = tmp_path / "result"
    folder.mkdir()
    with (tmp_path / "log").open("w") as log:
        yield Bench(Tools(), folder, log)  # type: ignore[arg-type, misc]


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read(tree: Tree, digest: str) -> Any:
    return json.loads(tree.read(f"/blobs/{digest.replace(':', '/')}"))


def test_every_blob_is_named_by_its_digest_and_leads_to_the_next(inputs: DiskInputs, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.write_bytes(b"layer")
    archive = oci.make_archive(inputs, layer, "0" * 64)
    assert json.loads(archive.read("/oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(archive.read("/index.json"))["manifests"]
    assert entry["platform"] == {"architecture": "arm64", "os": "linux"}
    manifest = read(archive, entry["digest"])
    assert [(each["digest"], each["size"]) for each in manifest["layers"]] == [(sha256(b"layer"), 5)]
    config = read(archive, manifest["config"]["digest"])
    assert config["rootfs"] == {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}
    assert config["created"] == "2023-11-14T22:13:20Z"
    for path in archive.nodes:
        if path.startswith("/blobs/sha256/"):
            assert sha256(archive.read(path)) == f"sha256:{path.rsplit('/', 1)[1]}"


def test_the_archive_is_written_whole_with_nothing_beside_it(inputs: DiskInputs, bench: Bench) -> None:
    oci.write(inputs, bench)
    assert [path.name for path in bench.folder.iterdir()] == ["root.oci.tar"]
    with tarfile.open(bench.folder / "root.oci.tar") as archive:
        names = archive.getnames()
        assert {member.mtime for member in archive} == {EPOCH}
    assert f"blobs/sha256/{sha256(b'packed root')[7:]}" in names


def test_the_archive_of_the_root_is_packed_the_same_on_any_number_of_processors(
    inputs: DiskInputs, bench: Bench
) -> None:
    tar.write(inputs, bench)
    target = bench.folder / "root.tar.zst"
    assert bench.toolbox.asked == [  # type: ignore[attr-defined]
        ["zstd", "-q", "-6", "-T0", str(inputs.root_tree), "-o", str(target)]
    ]
    assert target.read_bytes() == b"packed root"


def test_the_root_as_a_folder_keeps_owners_and_attributes(inputs: DiskInputs, bench: Bench) -> None:
    directory.write(inputs, bench)
    (words,) = bench.toolbox.asked  # type: ignore[attr-defined]
    assert {"--numeric-owner", "--xattrs", "-p"} <= set(words)
    assert words[-1] == str(bench.folder / "root")


def test_the_table_names_every_format_that_a_recipe_may_ask_for() -> None:
    from typing import get_args

    allowed = get_args(get_args(Recipe.model_fields["formats"].annotation)[0])
    assert set(FORMATS) == set(allowed)
    # The block map is of the disk, so the disk comes first.
    assert list(FORMATS).index("disk") < list(FORMATS).index("blockmap")


def test_a_block_map_alone_makes_the_disk_that_it_is_of(
    inputs: DiskInputs, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_disk(_: DiskInputs, place: Bench) -> None:
        (place.folder / disk.NAME).write_bytes(b"d" * 4096)

    monkeypatch.setattr(disk, "write", write_disk)
    blockmap.write(inputs, bench)
    assert "<MappedBlocksCount> 1 " in (bench.folder / "disk.bmap").read_text()
