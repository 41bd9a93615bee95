"""The last stages: the root partition, and the formats of the image."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.engines.debian import artefacts
from cumulet_builder.engines.debian.artefacts import (
    LoaderSource,
    Sources,
    Toolboxes,
    load_efi,
    make_erofs_stage,
    make_image_stage,
    make_seed,
    make_words,
)
from cumulet_builder.engines.debian.lock import Lock, LockedPackage, Request
from cumulet_builder.formats import Bench, DiskInputs, choose_writers
from cumulet_builder.formats.esp import BOOT_LOADERS
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Tree, write_tar

Deb = Callable[..., Path]
Write = Callable[[str, str], Path]
EPOCH = 1_700_000_000
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"
LOADER = {"usr/lib/systemd/boot/efi/systemd-bootaa64.efi": b"aa64", "usr/lib/systemd/boot/efi/linuxaa64.efi.stub": b""}


class FakeTools:
    """Remembers what it is asked to run."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def run(self, argv: Sequence[str | Path], **_: Any) -> proc.Result:
        self.calls.append([str(word) for word in argv])
        return proc.Result((), 0, "", "")


TOOLS = Toolboxes(lambda: cast(Toolbox, FakeTools()))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


@pytest.fixture
def loader(make_deb: Deb, cache: Cache) -> LockedPackage:
    deb = make_deb("systemd-boot-efi", dict(LOADER))
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    cache.add_file(deb, digest)
    fields = {"name": "systemd-boot-efi", "version": "1", "architecture": "all", "sha256": digest, "size": 1}
    more = {"source": "x", "section": "x", "path": "x", "group": "boot"}
    return LockedPackage.model_validate({**fields, **more})


def make_recipe(write: Write, text: str = "") -> Recipe:
    return load_recipe(write("r.yaml", HEAD + text))


def make_lock() -> Lock:
    nothing: dict[str, object] = dict.fromkeys(Request.model_fields, ())
    text: dict[str, object] = dict.fromkeys(("suite", "architecture", "host_architecture"), "arm64")
    return Lock(image="edge", epoch=EPOCH, request=Request.model_validate({**nothing, **text}), packages=())


def changed(one: Stage, other: Stage) -> set[str]:
    return {name for name in one.inputs if one.inputs[name] != other.inputs[name]}


# Words and seeds.


def test_the_console_of_the_board_is_on_the_command_line_once(write: Write) -> None:
    assert make_words(make_recipe(write)) == ("console=ttyAMA0", "quiet", "panic=10", "transparent_hugepage=never")
    board = (
        "version: 1\nboard: mine\ntitle: M\narchitecture: arm64\nkernel: {package: linux-image-arm64}\n"
        "qemu: {program: q, machine: m, cpu: c, console: ttyS7}\n"
    )
    write("board.yaml", board)
    recipe = load_recipe(write("m.yaml", "version: 1\nimage: edge\nboard: board.yaml\n"))
    assert make_words(recipe)[0] == "console=ttyS7"


def test_identifiers_come_from_the_images_name_alone(write: Write) -> None:
    assert make_seed(make_recipe(write)) == make_seed(make_recipe(write, "packages: [vim]\n")) == "cumulet edge"


# The boot loader.


def test_the_loader_is_the_one_of_the_architecture(make_deb: Deb) -> None:
    deb = make_deb("systemd-boot-efi", dict(LOADER))
    assert load_efi(deb, BOOT_LOADERS["arm64"][0]) == b"aa64"
    with pytest.raises(ToolError) as caught:
        load_efi(deb, BOOT_LOADERS["amd64"][0])
    assert caught.value.message == f"{deb.name}: no usr/lib/systemd/boot/efi/systemd-bootx64.efi in it"
    assert caught.value.hint == "the package must be systemd-boot-efi"


# The root partition.


def test_the_root_is_packed_as_the_recipe_says_and_dated_by_the_lock(
    write: Write, cache: Cache, tmp_path: Path
) -> None:
    tools = FakeTools()
    recipe = make_recipe(write, "disk: {compression: lz4}\n")
    stage = make_erofs_stage(recipe, make_lock(), lambda: cast(Toolbox, tools))
    (tmp_path / "root").mkdir()
    with (tmp_path / "root/root.tar").open("wb") as stream:
        write_tar(Tree(), stream, EPOCH)
    stage.make(Workshop(tmp_path, {"root": tmp_path / "root"}, cache, io.StringIO(), EPOCH))
    (words,) = [call for call in tools.calls if call[0] == "mkfs.erofs"]
    assert {f"-T{EPOCH}", "-zlz4", str(tmp_path / "root.erofs"), str(tmp_path / "root/root.tar")} <= set(words)
    other = make_erofs_stage(make_recipe(write), make_lock(), lambda: cast(Toolbox, tools))
    assert changed(stage, other) == {"compression"}


# Formats.


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, DiskInputs]]:
    """What was written, by fake formats; the loader is read while it is there."""
    seen: list[tuple[str, DiskInputs]] = []

    def writer(name: str) -> Callable[[DiskInputs, Bench], None]:
        def write(inputs: DiskInputs, bench: Bench) -> None:
            assert inputs.boot_loader.read_bytes() == b"aa64"
            (bench.folder / name).touch()
            seen.append((name, inputs))

        return write

    names = ("disk", "blockmap", "directory", "tar", "oci")
    monkeypatch.setattr(
        artefacts, "choose_writers", lambda boot, formats: {name: writer(name) for name in names if name in formats}
    )
    return seen


def needs(folder: Path, root_size: int = 100) -> dict[str, Path]:
    for name in ("tools", "root", "erofs", "kernel", "initramfs"):
        (folder / name).mkdir()
    (folder / "erofs/root.erofs").write_bytes(b"x" * root_size)
    (folder / "kernel/kernel.json").write_text(json.dumps({"version": "6.12"}))
    return {path.name: path for path in folder.iterdir()}


def run(stage: Stage, cache: Cache, inputs: dict[str, Path]) -> Path:
    folder = cache.root / "made"
    folder.mkdir()
    stage.make(Workshop(folder, inputs, cache, io.StringIO(), EPOCH))
    return folder


def test_the_formats_of_the_recipe_are_written_the_disk_first(
    write: Write, cache: Cache, tmp_path: Path, loader: LockedPackage, written: list[tuple[str, DiskInputs]]
) -> None:
    recipe = make_recipe(write, "formats: [tar, blockmap, disk]\n")
    stage = make_image_stage(recipe, make_lock(), cache, Sources(loader, None), TOOLS)
    (tmp_path / "stages").mkdir()
    folder = run(stage, cache, needs(tmp_path / "stages"))
    assert [name for name, _ in written] == ["disk", "blockmap", "tar"]
    assert (
        folder / "cmdline.txt"
    ).read_text() == "root=PARTLABEL=root-a ro console=ttyAMA0 quiet panic=10 transparent_hugepage=never\n"
    inputs = written[0][1]
    assert (inputs.version, inputs.epoch, inputs.data_tree) == ("6.12", EPOCH, None)
    assert inputs.initramfs == tmp_path / "stages/initramfs/initrd.img"
    assert list((cache.root / "tmp").iterdir()) == []
    assert stage.files == (loader.sha256,)


def test_the_data_of_kubernetes_is_on_the_disk_if_there_is_any(
    write: Write, cache: Cache, tmp_path: Path, loader: LockedPackage, written: list[tuple[str, DiskInputs]]
) -> None:
    stage = make_image_stage(make_recipe(write), make_lock(), cache, Sources(loader, None), TOOLS)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/kubernetes").mkdir()
    (tmp_path / "stages/kubernetes/data.tar").touch()
    run(stage, cache, needs(tmp_path / "stages"))
    assert written[0][1].data_tree == tmp_path / "stages/kubernetes/data.tar"


def test_a_root_that_does_not_fit_is_said_before_anything_is_written(
    write: Write, cache: Cache, tmp_path: Path, loader: LockedPackage, written: list[tuple[str, DiskInputs]]
) -> None:
    recipe = make_recipe(write, "disk: {root: 1MiB}\nsize_budget: {root: 1MiB}\n")
    stage = make_image_stage(recipe, make_lock(), cache, Sources(loader, None), TOOLS)
    (tmp_path / "stages").mkdir()
    with pytest.raises(UsageError, match=r"disk.root: the root file system takes 1.1 MiB"):
        run(stage, cache, needs(tmp_path / "stages", root_size=1_200_000))
    assert written == []


def test_the_image_knows_what_decides_it(write: Write, cache: Cache, loader: LockedPackage) -> None:
    def make(text: str = "", package: LockedPackage = loader) -> Stage:
        return make_image_stage(make_recipe(write, text), make_lock(), cache, Sources(package, None), TOOLS)

    other = loader.model_copy(update={"sha256": "other"})
    assert changed(make(), make("formats: [tar]\n")) == {"formats"}
    assert changed(make(), make("disk: {data: 1GiB}\n")) == {"sizes"}
    assert changed(make(), make(package=other)) == {"boot loader"}
    assert changed(make(), make("packages: [vim]\n")) == set()


PHONE = """version: 1
board: phone
title: P
architecture: arm64
kernel: {package: linux-image-arm64, command_line: [console=ttyMSM0]}
boot: {method: android, android: {disable_verification: true}}
"""


def test_a_phone_has_its_boot_image_and_names_its_root_by_a_word_of_its_own(
    write: Write, cache: Cache, tmp_path: Path, loader: LockedPackage, written: list[tuple[str, DiskInputs]]
) -> None:
    write("phone.yaml", PHONE)
    recipe = load_recipe(write("r.yaml", "version: 1\nimage: edge\nboard: phone.yaml\ntest: []\n"))
    stage = make_image_stage(recipe, make_lock(), cache, Sources(loader, None), TOOLS)
    (tmp_path / "stages").mkdir()
    folder = run(stage, cache, needs(tmp_path / "stages"))
    assert (folder / "cmdline.txt").read_text().startswith("cumulet.root=PARTLABEL=root-a ro console=ttyMSM0 ")
    assert list(choose_writers(recipe.board.boot, recipe.formats)) == [
        "disk", "blockmap", "boot-image", "sparse", "vbmeta"
    ]  # fmt: skip
    assert list(choose_writers(recipe.board.boot, ["tar"])) == ["tar"]


def test_a_boards_own_boot_loader_is_taken_out_of_its_package(make_deb: Deb, tmp_path: Path) -> None:
    deb = make_deb("u-boot-acme", {"usr/lib/u-boot/acme/u-boot.bin": b"u-boot"})
    assert LoaderSource(deb, "digest", "/usr/lib/u-boot/acme/u-boot.bin").load("u-boot-acme") == b"u-boot"
    with pytest.raises(UsageError, match="u-boot-acme: no /usr/lib/u-boot/other in it"):
        LoaderSource(deb, "digest", "/usr/lib/u-boot/other").load("u-boot-acme")
    (tmp_path / "mine.bin").write_bytes(b"mine")
    mine = LoaderSource(tmp_path / "mine.bin", "", "")
    assert mine.load("") == b"mine"
    assert mine.digest == hashlib.sha256(b"mine").hexdigest()
