"""A whole build with the real kas and a bitbake that is a script: documents in, a published image out."""

from __future__ import annotations

import json
import os
import struct
import tarfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet_builder.build import build, make_lock, plan, vendor_lock
from cumulet_builder.engines.debian.artefacts import make_seed
from cumulet_builder.engines.locks import make_lock_text
from cumulet_builder.engines.yocto import bitbake
from cumulet_builder.formats.layout import Layout, make_layout
from cumulet_builder.plan import Step
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.settings import Settings
from cumulet_qemu.published import load_published

Write = Callable[[str, str], Path]
RECIPE = """
version: 1
image: edge
board: qemu-arm64
engine: yocto
features: [base]
disk: {esp: 1MiB, root: 1MiB, data: 2MiB}
formats: [disk, blockmap, tar]
"""
MACHINE = "cumulet-qemuarm64"
CONFIG = "version: 1\nyocto: {clones: %s, container: never}\n"
# Says what bitbake says, does what bitbake does in the end, and counts its runs.
BITBAKE = """#!/bin/sh
echo "$@" >>{clones}/runs
echo 'Parsing of 3 .bb files complete (0 cached, 3 parsed). 3 targets, 0 skipped, 0 masked, 0 errors.'
echo 'NOTE: Running task 1 of 2 (/clones/openembedded-core/meta/recipes-core/zlib/zlib_1.3.bb:do_fetch)'
grep -q 'CUMULET_IMAGE = "edge"' conf/local.conf || exit 9
grep -q meta-cumulet-bsp conf/bblayers.conf || exit 8
[ -e ../handover/system.tar ] || exit 7
if [ -e {clones}/break ]; then
    mkdir -p tmp
    printf 'cc: no such file\\n' >tmp/log.do_compile.7
    echo "ERROR: zlib-1.3-r0 do_compile: oe_runmake failed"
    echo "ERROR: Logfile of failure stored in: $PWD/tmp/log.do_compile.7"
    echo "ERROR: Task (/clones/core/zlib/zlib_1.3.bb:do_compile) failed with exit code '1'"
    exit 1
fi
mkdir -p tmp/deploy/images
cp -r {clones}/deploy tmp/deploy/images/{machine}
echo 'NOTE: Running task 2 of 2 (/clones/meta-cumulet/recipes-core/images/cumulet-image.bb:do_image_complete)'
"""
SETUP = """
mkdir -p "$1/conf"
cd "$1"
export BUILDDIR=$PWD
export PATH={clones}/bin:$PATH
"""


@dataclass
class Said:
    """A reporter that remembers."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def step(self, step: Step, seconds: float) -> None:
        if seconds < 0:
            self.lines.append(step.stage.name)

    def download(self) -> None:
        return None


def make_disk(layout: Layout) -> bytes:
    """A disk with the partition table and just the bytes of the file systems that a check looks at."""
    disk = bytearray(layout.size)
    entries = b""
    for part in layout.partitions:
        kinds = uuid.UUID(part.kind).bytes_le + uuid.UUID(part.identifier).bytes_le
        span = struct.pack("<QQQ", part.start // 512, (part.start + part.size) // 512 - 1, 0)
        entries += kinds + span + part.name.encode("utf-16-le").ljust(72, b"\0")
    disk[512:604] = b"EFI PART" + bytes(64) + struct.pack("<QII", 2, len(layout.partitions), 128) + bytes(4)
    disk[1024 : 1024 + len(entries)] = entries
    root, data = layout.partition("root-a").start, layout.partition("data").start
    disk[root + 1024 : root + 1028] = struct.pack("<I", 0xE0F5E1E2)
    disk[root + 1036] = 12
    disk[data + 1024 + 56 : data + 1024 + 58] = struct.pack("<H", 0xEF53)
    disk[data + 1024 + 120 : data + 1024 + 124] = b"data"
    return bytes(disk)


def make_root() -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in (
            "./usr/bin/zlib-flate",
            "./usr/lib/modules/6.18.39/kernel/fs/overlay.ko",
            "./usr/lib/firmware/a.bin",
        ):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, BytesIO(b"zlib"))
    return buffer.getvalue()


def make_facts() -> str:
    package = {
        "name": "zlib", "version": "1.3-r0", "architecture": "cortexa72", "recipe": "zlib", "recipe_version": "1.3",
        "layer": "", "licence": "Zlib & (MIT | BSD-3-Clause)", "files": ["/usr/bin/zlib-flate"],
    }  # fmt: skip
    kernel = {"recipe": "linux-yocto", "release": "6.18.39-yocto-standard"}
    return json.dumps({"version": 1, "packages": [package], "kernel": kernel})


@pytest.fixture
def clones(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the repositories; what bitbake will leave lies in `deploy`."""
    folder = tmp_path / "clones"
    for name in ("bitbake", "openembedded-core/meta", "bin", "deploy"):
        (folder / name).mkdir(parents=True)
    for name in ("meta-oe", "meta-python", "meta-networking"):
        (folder / "meta-openembedded" / name).mkdir(parents=True)
    (folder / "openembedded-core/oe-init-build-env").write_text(SETUP.format(clones=folder))
    (folder / "bin/bitbake").write_text(BITBAKE.format(clones=folder, machine=MACHINE))
    (folder / "bin/bitbake").chmod(0o755)
    config = Path(os.environ["XDG_CONFIG_HOME"]) / "cumulet/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG % folder)
    return folder


@pytest.fixture
def recipe(write: Write, clones: Path) -> Path:
    path = write("edge.yaml", RECIPE)
    made = load_recipe(path)
    stem = f"edge-{MACHINE}"
    spdx = {"@graph": [{"type": "software_Package", "software_packageUrl": "pkg:yocto/core/zlib@1.3"}]}
    files: dict[str, bytes] = {
        f"{stem}.wic": make_disk(make_layout(made.disk, "arm64", make_seed(made))),
        f"{stem}.erofs-root": b"erofs",
        f"{stem}.tar": make_root(),
        f"{stem}.facts.json": make_facts().encode(),
        f"{stem}.spdx.json": json.dumps(spdx).encode(),
        "Image": b"kernel",
        f"cumulet-initramfs-{MACHINE}.cpio.zst": b"initramfs",
        "kernel.config": b"CONFIG_EROFS_FS=y\n",
        "kernel.builtin": b"kernel/fs/erofs/erofs.ko\n",
    }
    for name, content in files.items():
        (clones / "deploy" / name).write_bytes(content)
    return path


@pytest.fixture
def settings(here: Path) -> Settings:
    return Settings(out=Path("out"), cache=Path("cache"))


def test_a_build_publishes_the_files_of_every_image_and_a_second_does_nothing(
    recipe: Path, settings: Settings, clones: Path, here: Path
) -> None:
    said = Said()
    image = build(recipe, settings, said)
    assert image.changed
    assert [line for line in said.lines if "%" in line or "parsed" in line] == [
        "    3 recipes parsed",
        "    50 %: task 1 of 2: zlib_1.3 do_fetch",
        "    100 %: task 2 of 2: cumulet-image do_image_complete",
    ]
    assert [line for line in said.lines if line.isalpha()] == [
        "layers", "bitbake", "kernel", "initramfs", "packages", "root", "erofs", "image"
    ]  # fmt: skip
    published = {path.name for path in image.folder.iterdir()}
    assert published == {
        "disk.img", "disk.bmap", "root.tar.zst", "vmlinuz", "initrd.img", "cmdline.txt", "board.json", "image.json",
        "lock.json", "manifest.json", "sbom.cdx.json", "sbom.spdx.json", "sizes.txt", "sizes.html", "sha256sums",
        "build.log", "build.json",
    }  # fmt: skip
    # What `cumulet boot` and `cumulet test` read.
    read = load_published(image.folder)
    assert (read.image, read.board, read.qemu.program) == ("edge", "qemu-arm64", "qemu-system-aarch64")
    assert (image.folder / "cmdline.txt").read_text().startswith("root=PARTLABEL=root-a ro console=ttyAMA0")

    manifest = json.loads((image.folder / "manifest.json").read_text())
    assert manifest["suite"] == "wrynose"
    assert [each["name"] for each in manifest["repositories"]] == ["bitbake", "meta-openembedded", "openembedded-core"]
    assert manifest["layer_packages"] == [
        {
            "name": "zlib", "version": "1.3-r0", "architecture": "cortexa72", "recipe": "zlib", "recipe_version": "1.3",
            "layer": "core", "licence": "Zlib AND (MIT OR BSD-3-Clause)",
        }
    ]  # fmt: skip
    assert manifest["kernel"]["release"] == "6.18.39-yocto-standard"
    sbom = json.loads((image.folder / "sbom.cdx.json").read_text())
    purls = [each["purl"] for each in sbom["components"]]
    assert "pkg:yocto/core/zlib@1.3?arch=cortexa72&package=zlib" in purls
    assert "zlib" in (image.folder / "sizes.txt").read_text()
    sums = dict(line.split("  ")[::-1] for line in (image.folder / "sha256sums").read_text().splitlines())
    assert {"disk.img", "sbom.spdx.json", "manifest.json"} <= set(sums)

    assert build(recipe, settings, Said()).changed is False
    assert (clones / "runs").read_text() == "-c build cumulet-image\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def make_program(folder: Path, script: str) -> list[str]:
    path = folder / "kas"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return [str(path)]


def test_a_failed_task_is_named_with_its_recipe_and_its_log(workspace: Path) -> None:
    log = workspace / "log.do_compile.7"
    log.write_text("gcc -c x.c\nx.c: no such file\n")
    command = make_program(
        workspace,
        f"echo 'ERROR: zlib-1.3-r0 do_compile: oe_runmake failed'\necho 'ERROR: Logfile of failure stored in: {log}'\n"
        "echo \"ERROR: Task (virtual:native:/a/zlib_1.3.bb:do_compile) failed with exit code '1'\"\nexit 1",
    )
    with pytest.raises(ToolError) as caught:
        bitbake.run_kas(command, workspace, lambda text: None)
    assert caught.value.message == "zlib_1.3: do_compile failed\n  gcc -c x.c\n  x.c: no such file"
    assert caught.value.hint == f"its log is {log}"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("ERROR: Do not use Bitbake as root.", "build as an ordinary user"),
        ("ERROR: Nothing RPROVIDES 'htpo' (but x.bb RDEPENDS on or otherwise requires it)", "name a package that"),
        ("ERROR: zlib: Fetcher failure for URL", "look at the network"),
        ("ERROR: something else", "its whole output is "),
    ],
)
def test_what_fails_before_any_task_comes_with_what_to_do(workspace: Path, line: str, hint: str) -> None:
    with pytest.raises(ToolError) as caught:
        bitbake.run_kas(make_program(workspace, f'echo "{line}"; exit 1'), workspace, lambda text: None)
    assert caught.value.message == line.removeprefix("ERROR: ")
    assert caught.value.hint.startswith(hint)


def test_output_that_is_cut_off_in_a_line_is_read_to_the_end(workspace: Path) -> None:
    with pytest.raises(ToolError, match=r"^no newline$"):
        bitbake.run_kas(make_program(workspace, "printf 'ERROR: no newline'; exit 1"), workspace, lambda text: None)


@pytest.fixture
def no_kas(monkeypatch: pytest.MonkeyPatch, clones: Path, here: Path) -> None:
    """kas replaced by a copy: for what comes after it."""

    def run(command: list[str], folder: Path, tell: Callable[[str], None]) -> None:
        (folder / bitbake.LOG).write_text("")
        target = folder / "build/tmp/deploy/images" / MACHINE
        target.mkdir(parents=True, exist_ok=True)
        for path in (clones / "deploy").iterdir():
            (target / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(bitbake, "run_kas", run)


@pytest.mark.usefixtures("no_kas")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"edge-{MACHINE}.wic", f"bitbake ended well and left no edge-{MACHINE}.wic"),
        ("kernel.config", "bitbake ended well and left no kernel.config"),
    ],
)
def test_a_file_that_bitbake_did_not_leave_is_named(
    recipe: Path, settings: Settings, clones: Path, name: str, message: str
) -> None:
    (clones / "deploy" / name).unlink()
    with pytest.raises(TargetError, match=message):
        build(recipe, settings, Said())


@pytest.mark.usefixtures("no_kas")
def test_a_disk_with_another_layout_is_refused(recipe: Path, settings: Settings, clones: Path) -> None:
    made = load_recipe(recipe, ("disk.data=3MiB",))
    disk = make_disk(make_layout(made.disk, "arm64", make_seed(made)))
    (clones / f"deploy/edge-{MACHINE}.wic").write_bytes(disk)
    with pytest.raises(TargetError, match="partition data is 3145728 bytes from 4194304, not 2097152 from 4194304"):
        build(recipe, settings, Said())


@pytest.mark.usefixtures("no_kas")
def test_a_change_of_the_recipe_is_a_reason_to_build_again(recipe: Path, settings: Settings) -> None:
    build(recipe, settings, Said())
    changed = Settings(**{**vars(settings), "overrides": ("yocto.packages+=htop",)})
    reasons = {step.stage.name: step.reason for step in plan(recipe, changed).steps}
    assert reasons["layers"] == "changed: document"
    assert reasons["bitbake"] == "changed: layers"


def test_a_lock_names_the_commits_and_is_kept_to(recipe: Path, settings: Settings, write: Write) -> None:
    lock = make_lock(recipe, settings)
    write("edge.lock.json", make_lock_text(lock).replace(lock.repositories[0].commit, "1" * 40))  # type: ignore[union-attr]
    planned = plan(recipe, settings)
    assert planned.lock_origin.endswith("edge.lock.json")
    assert planned.lock.repositories[0].commit == "1" * 40  # type: ignore[union-attr]
    other = Settings(**{**vars(settings), "overrides": ("yocto.layers=[onnxruntime]",)})
    with pytest.raises(UsageError, match=r"not of this recipe: repositories \+meta-onnxruntime"):
        plan(recipe, other)


def test_vendoring_is_bitbakes_own_business(recipe: Path, settings: Settings) -> None:
    with pytest.raises(UsageError, match="keeps its sources itself"):
        vendor_lock(recipe, settings, Path("store"), Said())
