"""The layers as folders of files: whole, consistent with the recipes and with what Kubernetes asks of a kernel."""

from __future__ import annotations

import importlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from cumulet_builder.assets import find_assets
from cumulet_builder.engines.debian.resolve import SDK_WHEELS
from cumulet_builder.engines.yocto import deploy
from cumulet_builder.engines.yocto.document import K3S_PACKAGES, SDK_PACKAGES
from cumulet_builder.engines.yocto.handover import make_sdk_tree
from cumulet_builder.engines.yocto.machines import load_machines
from cumulet_builder.kubernetes.preflight import K3S
from cumulet_builder.recipe.load import load_recipe

ROOT = find_assets("layers")
LAYERS = ("meta-cumulet-bsp", "meta-cumulet-distro", "meta-cumulet")
RECIPES = sorted(ROOT.glob("meta-*/**/*.bb"))
FEATURES = {
    path.stem: yaml.safe_load(path.read_text()) for path in (find_assets("recipes") / "features").glob("*.yaml")
}
# Where a layer's package has another name than Python's, or comes with another one.
STAND_FOR = {
    "ai-edge-litert": "python3-tensorflow-lite",
    "ml-dtypes": "python3-tensorflow-lite",
    "onnxruntime": "onnxruntime",
}
# Kernel modules that boards, and features on some boards, ask for -> what builds them.
OPTIONS = {
    "ahci": "SATA_AHCI",
    "ax88179_178a": "USB_NET_AX88179_178A",
    "cdc_acm": "USB_ACM",
    "cdc_ether": "USB_NET_CDCETHER",
    "cdc_mbim": "USB_NET_CDC_MBIM",
    "cdc_ncm": "USB_NET_CDC_NCM",
    "cdc_wdm": "USB_WDM",
    "dm_mod": "BLK_DEV_DM",
    "iosm": "IOSM",
    "ipa": "QCOM_IPA",
    "mhi_net": "MHI_NET",
    "mhi_pci_generic": "MHI_BUS_PCI_GENERIC",
    "mhi_wwan_ctrl": "MHI_WWAN_CTRL",
    "mhi_wwan_mbim": "MHI_WWAN_MBIM",
    "mtk_t7xx": "MTK_T7XX",
    "nls_ascii": "NLS_ASCII",
    "nls_cp437": "NLS_CODEPAGE_437",
    "nvme": "BLK_DEV_NVME",
    "option": "USB_SERIAL_OPTION",
    "ppp_async": "PPP_ASYNC",
    "ppp_generic": "PPP",
    "pps_ldisc": "PPS_CLIENT_LDISC",
    "qcom_pd_mapper": "QCOM_PD_MAPPER",
    "qcom_q6v5_mss": "QCOM_Q6V5_MSS",
    "qcom_q6v5_pas": "QCOM_Q6V5_PAS",
    "qcserial": "USB_SERIAL_QUALCOMM",
    "qmi_wwan": "USB_NET_QMI_WWAN",
    "qrtr": "QRTR",
    "qrtr_smd": "QRTR_SMD",
    "r8152": "USB_RTL8152",
    "realtek": "REALTEK_PHY",
    "rmtfs_mem": "QCOM_RMTFS_MEM",
    "rtw88_8723cs": "RTW88_8723CS",
    "vfat": "VFAT_FS",
    "vgem": "DRM_VGEM",
}
# Asked for by what every board includes, for QEMU: no board but its own has them.
QEMU_ONLY = {"virtio_net": "VIRTIO_NET", "virtio_rng": "HW_RANDOM_VIRTIO", "qemu_fw_cfg": "FW_CFG_SYSFS"}
Import = Callable[[str, str], ModuleType]
Write = Callable[[str, str], Path]


@pytest.fixture
def layer_module(monkeypatch: pytest.MonkeyPatch) -> Import:
    """`layer_module("meta-cumulet-bsp", "cumulet_bsp.bootimg")`: a module of a layer's own library."""

    def load(layer: str, name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(ROOT / layer / "lib"))
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_says_what_it_is_and_what_it_needs(layer: str) -> None:
    for name in ("README.md", "LICENSE", "SECURITY.md", "MAINTAINERS.md", "conf/layer.conf"):
        assert (ROOT / layer / name).stat().st_size > 100, name
    text = (ROOT / layer / "conf/layer.conf").read_text()
    name = layer.removeprefix("meta-")
    assert f'LAYERSERIES_COMPAT_{name} = "wrynose"' in text
    assert re.search(rf'^LAYERDEPENDS_{name} = "core\b', text, re.MULTILINE)
    readme = (ROOT / layer / "README.md").read_text()
    assert "@" in readme and "patch" in readme.lower() and "maintainer" in readme.lower()


def test_no_layer_has_both_machines_and_a_distribution() -> None:
    found = {layer: {path.name for path in (ROOT / layer / "conf").iterdir() if path.is_dir()} for layer in LAYERS}
    assert found == {"meta-cumulet-bsp": {"machine"}, "meta-cumulet-distro": {"distro"}, "meta-cumulet": set()}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_is_under_which_licence(recipe: Path) -> None:
    text = recipe.read_text()
    wanted = ["SUMMARY", "DESCRIPTION"]
    if "packagegroup" not in recipe.stem and "cumulet_handover" not in text:
        wanted.append("LICENSE")
    assert [name for name in wanted if not re.search(rf"^{name} = ", text, re.MULTILINE)] == []
    # A source from elsewhere is one commit.
    assert "git://" not in text or re.search(r'^SRCREV\w* = "[0-9a-f]{40}"$', text, re.MULTILINE)
    assert "AUTOREV" not in text


@pytest.mark.parametrize("path", [*RECIPES, *ROOT.glob("meta-*/**/*.bbappend")], ids=lambda path: path.name)
def test_local_sources_are_there(path: Path) -> None:
    stem = path.stem.partition("_")[0]
    for name in re.findall(r"file://([\w.-]+)", "\n".join(re.findall(r"^SRC_URI.*", path.read_text(), re.MULTILINE))):
        assert any((path.parent / folder / name).exists() for folder in (stem, "files")), name


@pytest.mark.parametrize("path", [*ROOT.glob("meta-*/**/*.bbappend")], ids=lambda path: path.name)
def test_a_recipe_of_another_layer_is_changed_for_our_distribution_and_machines_alone(path: Path) -> None:
    ours = {"cumulet", "cumulet-board", *(machine.name for machine in load_machines(ROOT).values())}
    names = re.findall(r"^([A-Za-z_][\w:${}./-]*(?:\[[\w-]+\])?)(?:\s*[:?+.]*=|\s*\()", path.read_text(), re.MULTILINE)
    assert names
    assert [name for name in names if not ours & set(name.split(":")) and name != "FILESEXTRAPATHS:prepend"] == []


def test_every_package_that_a_recipe_asks_for_is_a_recipe_of_ours() -> None:
    known = {path.stem.partition("_")[0] for path in RECIPES}
    asked = {*K3S_PACKAGES, *SDK_PACKAGES}
    for path in (find_assets("recipes")).glob("*/*.yaml"):
        document = yaml.safe_load(path.read_text())
        asked |= set((document.get("yocto") or {}).get("packages", []))
    assert {name for name in asked if "cumulet" in name} - known == set()


def packages_of(names: list[str]) -> set[str]:
    """Packages, with all that recipes of ours among them ask for."""
    recipes = {path.stem.partition("_")[0]: path.read_text() for path in RECIPES}
    found: set[str] = set()
    while names:
        name = names.pop()
        if name not in found and name in recipes:
            for words in re.findall(r'^RDEPENDS:\$\{PN\} \+?= "([^"]*)"', recipes[name], re.MULTILINE):
                names += [word for word in words.split() if word != "\\"]
        found.add(name)
    return found


def test_what_the_sdk_imports_on_a_device_comes_with_its_recipe() -> None:
    assert {f"python3-{name}" for name in SDK_WHEELS} - packages_of(list(SDK_PACKAGES)) == set()


def test_the_sdks_recipe_installs_all_of_its_archive() -> None:
    text = next(path for path in RECIPES if path.stem.startswith("python3-cumulet_")).read_text()
    assert set(re.findall(r"handover/(\w+)", text)) == {path.split("/")[1] for path in make_sdk_tree().nodes}


@pytest.mark.parametrize("feature", [name for name in FEATURES if not FEATURES[name]["yocto"].get("unsupported")])
def test_for_every_python_package_of_a_feature_a_layer_has_one(feature: str) -> None:
    asked, packages, wheels = [feature], list[str](), list[str]()
    for name in asked:
        asked += FEATURES[name].get("features", [])
        packages += FEATURES[name]["yocto"].get("packages", [])
        wheels += FEATURES[name].get("pinned_wheels", [])
    assert {STAND_FOR.get(name, f"python3-{name}") for name in wheels} - packages_of(packages) == set()


def test_the_modem_and_the_gpu_inside_a_phones_chip_are_known_to_what_drives_them() -> None:
    text = (ROOT / "meta-cumulet-distro/conf/distro/cumulet.conf").read_text()
    said = dict(re.findall(r'^PACKAGECONFIG(?::append)?:pn-([\w-]+) = "([^"]*)"$', text, re.MULTILINE))
    assert "qrtr" in said["libqmi"].split() and {"qmi", "qrtr", "mbim"} <= set(said["modemmanager"].split())
    assert "freedreno" in said["mesa"].split()


def test_every_machine_has_its_fragments_and_its_disk() -> None:
    bsp = ROOT / "meta-cumulet-bsp"
    assert set(load_machines(ROOT)) >= {
        "qemu-arm64", "oneplus-enchilada", "oneplus-fajita", "fairphone-fp5", "pinephone", "rockpro64"
    }  # fmt: skip
    text = "\n".join(path.read_text() for path in (bsp / "conf/machine").rglob("*.*"))
    for line in re.findall(r'^CUMULET_(?:KERNEL|BOARD)_FRAGMENTS \??= "([^"]*)"', text, re.MULTILINE):
        for name in line.split():
            assert (bsp / f"recipes-kernel/linux/linux-yocto/{name}.cfg").is_file(), name
    for name in re.findall(r'^WKS_FILE \??= "([^"]+)"', text, re.MULTILINE):
        assert (bsp / "files/wic" / name).is_file(), name


@pytest.mark.parametrize("board", load_machines(ROOT))
def test_the_kernel_fragments_have_the_drivers_that_a_board_and_its_features_ask_for(board: str, write: Write) -> None:
    recipe = load_recipe(write("r.yaml", f"version: 1\nimage: x\nboard: {board}\nfeatures: [modem-5g, gpu]\n"))
    machine = load_machines(ROOT)[board].name
    text = (ROOT / f"meta-cumulet-bsp/conf/machine/{machine}.conf").read_text()
    for name in re.findall(r"^require (conf/machine/include/cumulet-\S+)", text, re.MULTILINE):
        text += (ROOT / "meta-cumulet-bsp" / name).read_text()
    own = re.findall(r'^CUMULET_BOARD_FRAGMENTS \??= "([^"]+)"', text, re.MULTILINE)[0].split()
    folder = ROOT / "meta-cumulet-bsp/recipes-kernel/linux/linux-yocto"
    files = [folder / f"{name}.cfg" for name in ("base", "wwan", "gnss", "verity", *own)]
    chosen = re.findall(r"^CONFIG_(\w+)=[my]$", "".join(file.read_text() for file in files), re.MULTILINE)
    modules = {*recipe.board.kernel.modules, *recipe.modules, *FEATURES["gnss-beidou"]["modules"]}
    wanted = {OPTIONS[name] for name in modules - set(QEMU_ONLY)}
    wanted |= set(QEMU_ONLY.values()) if board == "qemu-arm64" else set()
    assert wanted - set(chosen) == set()


def test_the_kernel_fragments_have_all_that_kubernetes_asks_for() -> None:
    folder = ROOT / "meta-cumulet-bsp/recipes-kernel/linux/linux-yocto"
    text = "".join((folder / f"{name}.cfg").read_text() for name in ("base", "containers", "kubernetes"))
    chosen = dict(re.findall(r"^CONFIG_(\w+)=(\w)$", text, re.MULTILINE))
    # Every kernel with a network has it; no fragment of oe-core takes it away.
    chosen |= {"INET": "y"}
    assert [option.name for option in (*K3S.needed, *K3S.wished) if option.name not in chosen] == []


def test_what_the_initramfs_mounts_is_built_in() -> None:
    folder = ROOT / "meta-cumulet-bsp/recipes-kernel/linux/linux-yocto"
    base = (folder / "base.cfg").read_text()
    for option in (
        "EROFS_FS",
        "EROFS_FS_ZIP",
        "EROFS_FS_ZIP_ZSTD",
        "EXT4_FS",
        "OVERLAY_FS",
        "EFI_PARTITION",
        "RD_ZSTD",
    ):
        assert f"CONFIG_{option}=y\n" in base
    for board, disk in (("qemu-virt", "VIRTIO_BLK"), ("qcom", "SCSI_UFS_QCOM"), ("sunxi", "MMC_SUNXI")):
        assert f"CONFIG_{disk}=y\n" in (folder / f"{board}.cfg").read_text()


def test_every_variable_of_a_document_is_one_that_the_layers_read() -> None:
    text = "\n".join(path.read_text() for path in ROOT.glob("meta-*/**/*") if path.suffix in (".bbclass", ".bb", ".in"))
    golden = Path(__file__).parents[1] / "golden/test_yocto_data/k3s.yaml"
    names = re.findall(r"^ +(CUMULET_\w+) = ", golden.read_text(), re.MULTILINE)
    assert len(names) > 15
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def test_a_boot_image_has_its_parts_where_the_header_says(layer_module: Import) -> None:
    bootimg = layer_module("meta-cumulet-bsp", "cumulet_bsp.bootimg")
    layout = bootimg.Layout(base=0, kernel=0x8000, ramdisk=0x01000000, tags=0x100)
    parts = bootimg.Parts(b"K" * 5000, b"R" * 10, b"T" * 100, "console=ttyMSM0 " + "x" * 600)
    image = bootimg.make_boot_image(parts, layout)
    numbers = struct.unpack_from("<10I", image, 8)
    assert numbers[:4] == (5100, 0x8000, 10, 0x01000000)
    assert numbers[5:9] == (0x00F00000, 0x100, 4096, 0)
    assert image[:8] == b"ANDROID!" and len(image) % 4096 == 0
    assert image[4096 : 4096 + 5100] == b"K" * 5000 + b"T" * 100
    assert image[4096 * 3 : 4096 * 3 + 10] == b"R" * 10
    line = image[64:576].rstrip(b"\0") + image[608:1632].rstrip(b"\0")
    assert line.decode() == parts.command_line
    assert bootimg.make_boot_image(parts, layout) == image


def test_header_version_two_carries_the_device_tree_by_itself(layer_module: Import) -> None:
    bootimg = layer_module("meta-cumulet-bsp", "cumulet_bsp.bootimg")
    layout = bootimg.Layout(
        base=0, kernel=0x8000, ramdisk=0x01000000, tags=0x100, version=2, second=0, device_tree=0x01F00000
    )
    image = bootimg.make_boot_image(bootimg.Parts(b"K", b"R", b"T" * 100, "quiet"), layout)
    assert struct.unpack_from("<I", image, 8)[0] == 1
    assert struct.unpack_from("<IIQ", image, 1644) == (1660, 100, 0x01F00000)
    assert image[4096 * 3 : 4096 * 3 + 100] == b"T" * 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "header version 3"),
        ({"ramdisk": 0x8001}, "only 1 lie before the initramfs"),
        ({}, "the command line has 1600 bytes, a boot image holds 1535"),
    ],
)
def test_what_a_boot_loader_could_not_take_is_refused(
    layer_module: Import, change: dict[str, int], message: str
) -> None:
    bootimg = layer_module("meta-cumulet-bsp", "cumulet_bsp.bootimg")
    layout = bootimg.Layout(**{"base": 0, "kernel": 0x8000, "ramdisk": 0x01000000, "tags": 0x100, **change})
    line = "quiet" if change else "x" * 1600
    with pytest.raises(ValueError, match=message):
        bootimg.make_boot_image(bootimg.Parts(b"KK", b"R", b"T", line), layout)


def unpack_sparse(data: bytes) -> bytes:
    magic, _, _, header, chunk_header, block, blocks, chunks, _ = struct.unpack_from("<I4H4I", data)
    assert (magic, header, chunk_header) == (0xED26FF3A, 28, 12)
    content, position = b"", header
    for _ in range(chunks):
        kind, _, count, size = struct.unpack_from("<2H2I", data, position)
        content += data[position + 12 : position + size] if kind == 0xCAC1 else bytes(count * block)
        position += size
    assert (len(content), position) == (blocks * block, len(data))
    return content


def test_a_sparse_image_leaves_out_the_holes_and_nothing_else(layer_module: Import, tmp_path: Path) -> None:
    sparse = layer_module("meta-cumulet-bsp", "cumulet_bsp.sparse")
    disk, packed = tmp_path / "disk.img", tmp_path / "disk.simg"
    with disk.open("wb") as stream:
        stream.truncate(64 * 4096)
        stream.seek(5 * 4096)
        stream.write(b"a" * 5000)
        stream.seek(40 * 4096)
        stream.write(b"b" * 4096)
    sparse.write_sparse(disk, packed)
    assert unpack_sparse(packed.read_bytes()) == disk.read_bytes()
    assert packed.stat().st_size < 32 * 4096
    with disk.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ValueError, match="not whole blocks"):
        sparse.write_sparse(disk, packed)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    modules = folder / "usr/lib/modules/6.18.39"
    lists = {
        "modules.dep": (
            "kernel/fs/overlay.ko:\nkernel/net/br_netfilter.ko: kernel/net/bridge.ko kernel/net/llc.ko\n"
            "kernel/net/bridge.ko: kernel/net/llc.ko\nkernel/net/llc.ko:\nkernel/net/nft_ct.ko:\nkernel/sound/snd.ko:\n"
        ),
        "modules.builtin": "kernel/fs/ext4/ext4.ko\n",
    }
    for name in re.findall(r"^(\S+):", lists["modules.dep"], re.MULTILINE):
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_text("")
    for name, text in lists.items():
        (modules / name).write_text(text)
    for name in ("usr/share/games/chess/board", "usr/share/games/go", "usr/bin/tool"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def test_of_the_modules_those_stay_that_are_named_with_what_they_need(layer_module: Import, root: Path) -> None:
    trim = layer_module("meta-cumulet-distro", "cumulet_image.trim")
    kept, unknown = trim.keep_modules(root, ["br-netfilter", "nft_*", "ext4", "none", "no_*"])
    assert kept == ["br_netfilter", "bridge", "llc", "nft_ct"]
    assert unknown == ["no_*", "none"]
    assert not (root / "usr/lib/modules/6.18.39/kernel/sound").exists()
    assert trim.keep_modules(root, ["br-netfilter", "nft_*", "ext4"]) == (kept, [])


def test_paths_go_by_pattern_and_what_is_kept_stays_with_its_folder(layer_module: Import, root: Path) -> None:
    trim = layer_module("meta-cumulet-distro", "cumulet_image.trim")
    gone = trim.drop_paths(root, ["/usr/share/games", "/usr/share/games/*"], ["/usr/share/games/chess/*"])
    assert gone == ["/usr/share/games/go"]
    assert (root / "usr/share/games/chess/board").exists()
    assert trim.drop_paths(root, ["/usr/share/games"]) == ["/usr/share/games"]
    assert trim.drop_paths(root, ["/usr/share/games"]) == []


def test_what_the_images_class_writes_is_what_the_builder_reads(layer_module: Import, tmp_path: Path) -> None:
    facts = layer_module("meta-cumulet-distro", "cumulet_image.facts")
    data = {
        "PN": "zlib", "PV": "1.3", "PKGV": "1.3", "LICENSE:libz1": "Zlib",
        "FILES_INFO:libz1": json.dumps({"/usr/lib/libz.so.1": 90}),
    }  # fmt: skip
    package = facts.make_package("libz1", {"ver": "1.3-r0", "arch": "cortexa72"}, data)
    document = facts.make_document([package], {"recipe": "linux-yocto", "release": "6.18.39"})
    (tmp_path / "facts.json").write_text(document)
    read = deploy.load_facts(tmp_path / "facts.json")
    assert read.packages[0].model_dump() == {
        "name": "libz1", "version": "1.3-r0", "architecture": "cortexa72", "recipe": "zlib", "recipe_version": "1.3",
        "layer": "", "licence": "Zlib", "files": ("/usr/lib/libz.so.1",),
    }  # fmt: skip
    assert read.kernel.release == "6.18.39"
