"""Every complete board, built from one recipe and read back with programs that had no part in making it.

The stages come from the user's own cache, so that the boards share what they have in common.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet_builder.assets import find_assets
from cumulet_builder.cache import default_root
from cumulet_builder.recipe.board import Board
from cumulet_builder.recipe.boards import load_board

pytestmark = pytest.mark.build

PHONES = ("oneplus-enchilada", "oneplus-fajita", "fairphone-fp5")
CARDS = ("pinephone", "rockpro64")
MIB = 1 << 20
Built = Callable[[str], Path]


def told(*words: str | Path) -> str:
    """What a program of this computer prints."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def board_of(name: str) -> Board:
    return load_board(name, find_assets("recipes"))


@pytest.fixture(scope="module")
def maker(space, builder_of):
    """A builder over the user's own cache."""
    return builder_of(space / "boards", "--cache", str(default_root()))


@pytest.fixture(scope="module")
def built(maker) -> Built:
    """The published folder of a board's image, built once."""
    done: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in done:
            maker.run("build", "base-phone", "--set", f"board={name}", "--set", f"image=base-{name}")
            done[name] = maker.out / f"base-{name}"
        return done[name]

    return build


def read_initramfs(path: Path, folder: Path) -> set[str]:
    """The names in an initramfs, by cpio."""
    told("zstd", "-q", "-d", "-f", path, "-o", folder / "initrd.cpio")
    return set(told("cpio", "--quiet", "-t", "-F", folder / "initrd.cpio").split())


@pytest.mark.parametrize("name", [*PHONES, *CARDS, "qemu-arm64"])
def test_a_board_builds_and_its_hardware_is_looked_after(name: str, built: Built, tmp_path: Path, need) -> None:
    need("cpio")
    folder = built(name)
    board = board_of(name)
    assert json.loads((folder / "board.json").read_text())["board"] == name
    if not board.kernel.device_trees:
        assert not (folder / "hardware.json").exists()
        return
    found = json.loads((folder / "hardware.json").read_text())
    assert {each["state"] for each in found["drivers"]} <= {"module", "built in", "inside", "without"}
    assert [each["name"] for each in found["firmware"] if each["certain"] and each["state"] == "missing"] == []
    inside = {
        Path(path).name.removesuffix(".ko").replace("-", "_")
        for path in read_initramfs(folder / "initrd.img", tmp_path)
    }
    assert {each["module"] for each in found["initramfs"]} <= inside


@pytest.mark.parametrize("name", PHONES)
def test_a_boot_image_holds_what_was_published(name: str, built: Built, tmp_path: Path, need) -> None:
    need("unpack_bootimg")
    folder, android = built(name), board_of(name).boot.android
    assert android is not None
    text = told("unpack_bootimg", "--boot_img", folder / "boot.img", "--out", tmp_path)
    said = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    places = [int(said[f"{name} load address"], 16) for name in ("kernel", "ramdisk", "kernel tags")]
    assert places == [0x8000, 0x01000000, 0x100]
    assert (said["page size"], said["boot image header version"]) == ("4096", str(android.header_version))
    assert said["command line args"] == (folder / "cmdline.txt").read_text().strip()
    assert said["command line args"].startswith("cumulet.root=PARTLABEL=root-a ro ")
    assert (tmp_path / "ramdisk").read_bytes() == (folder / "initrd.img").read_bytes()
    data = (tmp_path / "kernel").read_bytes()
    end = data.rindex(bytes.fromhex("d00dfeed"))
    assert gzip.decompress(data[:end]) == (folder / "vmlinuz").read_bytes()
    (tmp_path / "appended.dtb").write_bytes(data[end:])
    source = told("dtc", "-q", "-I", "dtb", "-O", "dts", tmp_path / "appended.dtb")
    assert f'compatible = "{board_of(name).compatibles[0]}' in source
    if android.header_version == 2:
        assert (tmp_path / "dtb").read_bytes() == data[end:]


@pytest.mark.parametrize("name", PHONES)
def test_a_sparse_image_is_the_disk_in_sectors_of_4_kib(name: str, built: Built, tmp_path: Path, need) -> None:
    need("simg2img")
    need("fdisk")
    folder = built(name)
    told("simg2img", folder / "disk.simg", tmp_path / "disk.img")
    told("cmp", folder / "disk.img", tmp_path / "disk.img")
    assert (folder / "disk.simg").stat().st_size < (folder / "disk.img").stat().st_size / 2
    rows = told("fdisk", "-b", "4096", "-l", "-o", "Name,Start,Sectors", tmp_path / "disk.img").split("Name", 1)[1]
    table = {row.split()[0]: int(row.split()[1]) for row in rows.splitlines()[1:] if row.strip()}
    assert list(table) == ["root-a", "root-b", "data"]
    assert table["root-a"] * 4096 == MIB
    with (tmp_path / "disk.img").open("rb") as stream:
        stream.seek(table["root-a"] * 4096 + 1024)
        assert stream.read(4) == bytes.fromhex("e2e1f5e0")


def test_only_a_phone_that_looks_for_it_gets_a_vbmeta(built: Built) -> None:
    assert (built("fairphone-fp5") / "vbmeta.img").read_bytes()[:4] == b"AVB0"
    assert not (built("oneplus-enchilada") / "vbmeta.img").exists()


@pytest.mark.parametrize(("name", "offset", "place", "mark"), [
    ("pinephone", 128 << 10, 4, b"eGON.BT0"),
    ("rockpro64", 32 << 10, 0, bytes.fromhex("3b8cdcfcbe9f9d51")),
])  # fmt: skip
def test_u_boot_is_where_its_chip_looks(
    name: str, offset: int, place: int, mark: bytes, built: Built, tmp_path: Path, need
) -> None:
    need("sgdisk")
    disk = built(name) / "disk.img"
    assert "No problems found" in told("sgdisk", "--verify", disk)
    with disk.open("rb") as stream:
        stream.seek(offset + place)
        assert stream.read(len(mark)) == mark


def test_a_menu_of_u_boot_names_what_is_there(built: Built, need) -> None:
    need("mdir")
    disk = built("pinephone") / "disk.img"
    info = told("sgdisk", "--info", "1", disk)
    assert "legacy BIOS bootable" in told("sgdisk", "--attributes=1:show", disk)
    start = int(info.split("First sector: ")[1].split()[0]) * 512
    menu = told("mtype", "-i", f"{disk}@@{start}", "::/extlinux/extlinux.conf")
    names = {name.removeprefix("::") for name in told("mdir", "-b", "-s", "-i", f"{disk}@@{start}", "::").split()}
    assert {"/root-a/vmlinuz", "/root-a/initrd.img", "/root-a/dtbs/allwinner/sun50i-a64-pinephone-1.2.dtb"} <= names
    assert "\tfdtdir /root-a/dtbs\n" in menu.replace("\r", "")
    assert "append root=PARTLABEL=root-a ro console=ttyS0,115200" in menu


def test_a_board_that_u_boots_uefi_starts_has_its_device_tree_in_the_entry(built: Built, need) -> None:
    need("mdir")
    disk = built("rockpro64") / "disk.img"
    entry = told("mtype", "-i", f"{disk}@@{16 * MIB}", "::/loader/entries/root-a.conf")
    assert "devicetree /root-a/dtbs/rockchip/rk3399-rockpro64.dtb" in entry


# What must be refused. The stages before the one that refuses are those of the board's own image.


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        pytest.param(
            ["board.kernel.device_trees=[qcom/sdm845-oneplus-fajita]"],
            2,
            "the device tree qcom/sdm845-oneplus-fajita.dtb is of 'oneplus,fajita', and the board is oneplus,enchilada",
            id="the device tree of another board",
        ),
        pytest.param(
            ["board.boot.android.ramdisk_offset='0x00800000'"],
            2,
            "boot.img: the kernel takes ",
            id="a kernel too big for its window",
        ),
        pytest.param(
            ["board.firmware_from="],
            2,
            "firmware qcom/sdm845/oneplus6/adsp.mbn is in no package of the image, and /remoteproc-adsp asks for it",
            id="firmware that nobody has",
        ),
        pytest.param(
            ["board.kernel.initramfs_modules=[loop, sd_mod, virtio_blk, ufs_qcom, fixed, qcom_rpmh_regulator]"],
            2,
            "the initramfs lacks phy_qcom_qmp_ufs, the driver of /soc@0/phy@1d87000: phys of /soc@0/ufshc@1d84000",
            id="an initramfs that cannot reach the root",
        ),
        pytest.param(["size_budget.root=10MiB"], 4, "root", id="an image over its budget"),
    ],
)
def test_an_image_that_its_board_could_not_use_is_refused(
    changes: list[str], code: int, message: str, built: Built, maker
) -> None:
    built("oneplus-enchilada")
    words = [word for change in [*changes, "image=base-refused"] for word in ("--set", change)]
    done = maker.run("build", "base-phone", *words, code=code)
    assert message in done.err
    assert not (maker.out / "base-refused").exists()


def test_a_board_builds_once_its_boot_loader_is_supplied(built: Built, maker, tmp_path: Path) -> None:
    """U-Boot of another board with the same chip stands in for the one that Debian has not got."""
    with (built("rockpro64") / "disk.img").open("rb") as stream:
        stream.seek(32 << 10)
        (tmp_path / "u-boot-rockchip.bin").write_bytes(stream.read(9 * MIB))
    words = (
        "board=pinephone-pro",
        "image=base-pinephone-pro",
        f"board.boot.loader.file={tmp_path}/u-boot-rockchip.bin",
    )
    maker.run("build", "base-phone", *(word for change in words for word in ("--set", change)))
    disk = maker.out / "base-pinephone-pro/disk.img"
    with disk.open("rb") as stream:
        stream.seek(32 << 10)
        assert stream.read(9 * MIB) == (tmp_path / "u-boot-rockchip.bin").read_bytes()


def test_a_kernel_that_cannot_start_a_board_is_found_out(built: Built, maker) -> None:
    """Debian's own kernel, given to the phone that needs another: its drivers of pins and clocks are missing."""
    lock = json.loads((built("oneplus-enchilada") / "lock.json").read_text())
    digest = next(each["sha256"] for each in lock["packages"] if each["name"].startswith("linux-image-"))
    deb = default_root() / "files" / digest[:2] / digest
    words = ("board=fairphone-fp4", "image=base-fairphone-fp4", f"board.kernel.file={deb}")
    done = maker.run("build", "base-phone", *(word for change in words for word in ("--set", change)), code=2)
    assert "this kernel has no driver for /soc@0/pinctrl@f100000 (qcom,sm6350-tlmm)" in done.err
    assert "this kernel has no driver for /soc@0/clock-controller@100000 (qcom,gcc-sm6350)" in done.err


@pytest.mark.parametrize("name", PHONES + CARDS)
def test_a_board_takes_kubernetes_in(name: str, maker, tmp_path: Path) -> None:
    """k3s from files, which stand in for the release's: the board's kernel and root have what it asks for."""
    for file in ("k3s", "k3s-airgap-images-arm64.tar.zst"):
        (tmp_path / file).write_bytes(file.encode())
    files = f"files: {{binary: {tmp_path}/k3s, images: {tmp_path}/k3s-airgap-images-arm64.tar.zst}}"
    changes = (
        f"board={name}",
        f"image=k3s-{name}",
        "features=[base, containers]",
        f"kubernetes={{distribution: k3s, source: file, {files}}}",
        "node.role=single",
        "test=[]",
    )
    maker.run("build", "base-phone", *(word for change in changes for word in ("--set", change)))
    folder = maker.out / f"k3s-{name}"
    assert "k3s" in (folder / "manifest.json").read_text()
    assert (folder / ("boot.img" if name in PHONES else "disk.img")).stat().st_size > MIB


def test_a_phone_with_everything_keeps_its_budget(maker, tmp_path: Path) -> None:
    """Kubernetes, modem, satellites, GPU, all runtimes in 400 MiB; what stands in for k3s cannot be compressed."""
    sizes = {"k3s": 75 * MIB, "k3s-airgap-images-arm64.tar.zst": 100 * MIB}
    for file, size in sizes.items():
        (tmp_path / file).write_bytes(random.Random(file).randbytes(size))
    files = f"files: {{binary: {tmp_path}/k3s, images: {tmp_path}/k3s-airgap-images-arm64.tar.zst}}"
    words = ("build", "phone-node", "--set", f"kubernetes={{distribution: k3s, source: file, {files}}}")
    maker.run(*words)
    folder = maker.out / "phone-node"
    root = re.search(r"^root  (\d+) MiB compressed", (folder / "sizes.txt").read_text(), re.MULTILINE)
    assert root is not None
    assert sum(sizes.values()) // MIB < int(root[1]) <= 400
    text = (folder / "manifest.json").read_text()
    assert all(name in text for name in ("modemmanager", "gpsd", "onnxruntime", "ai_edge_litert", "ncnn", "k3s"))
    # One that is bigger is no image.
    done = maker.run(*words, "--set", "size_budget.root=200MiB", code=4)
    assert "200" in done.err and "budget" in done.err
