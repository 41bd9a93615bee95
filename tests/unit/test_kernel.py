"""The stage `kernel`, on a package made here and with a depmod that answers from a table."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from device_trees import make_dtb

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder import kernel
from cumulet_builder.cache import open_cache
from cumulet_builder.copyrights import load_copyrights
from cumulet_builder.firmware import FirmwarePackage, choose_firmware, keep_firmware, make_missing_firmware
from cumulet_builder.firmware import make_stage as make_firmware_stage
from cumulet_builder.kernel import make_static_nodes
from cumulet_builder.opened import load_package_tree
from cumulet_builder.plan import Workshop
from cumulet_builder.recipe.board import Without
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Tree, read_tar

VERSION = "6.12.1-arm64"
PHONE = make_dtb({"/": {"compatible": "acme,phone"}, "/b": {"compatible": "acme,b"}, "/x": {"compatible": "acme,x"}})
BASE = f"./usr/lib/modules/{VERSION}"
FILES = {
    f"./boot/vmlinuz-{VERSION}": b"kernel image\0acme,x\0",
    f"./boot/config-{VERSION}": b"CONFIG_OVERLAY_FS=m\n",
    f"{BASE}/modules.builtin": b"kernel/drivers/virtio/virtio_pci.ko\n",
    f"{BASE}/modules.order": b"kernel/a.ko\n",
    f"{BASE}/kernel/a.ko.xz": lzma.compress(b"module a"),
    f"{BASE}/kernel/b.ko.xz": lzma.compress(b"module b"),
    f"{BASE}/kernel/c.ko.xz": lzma.compress(b"module c\0c-part\0"),
    f"./usr/lib/linux-image-{VERSION}/qcom/phone.dtb": PHONE,
}


def write_deb(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """A package file: an ar archive of three members."""

    def pack(entries: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
            for name, data in entries.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            for name, target in (links or {}).items():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, target
                archive.addfile(info)
        return buffer.getvalue()

    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": pack({"./control": b"Package: x\n"}),
        "data.tar.xz": pack(files),
    }
    text = b"!<arch>\n"
    for name, data in members.items():
        text += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    path.write_bytes(text)
    return path


class FakeTools:
    """Answers as kmod's programs do: `b` needs `c`, and asks for a firmware file."""

    def run(self, argv: Sequence[str | Path], **_: Any) -> proc.Result:
        words = [str(word) for word in argv]
        out = ""
        if words[0] == "depmod":
            base = Path(words[2]) / "lib/modules" / words[3]
            here = {path.name.split(".")[0]: str(path.relative_to(base)) for path in base.glob("kernel/*")}
            lines = [f"{path}:{' ' + here['c'] if name == 'b' else ''}" for name, path in sorted(here.items())]
            (base / "modules.dep").write_text("\n".join(lines) + "\n")
            (base / "modules.alias").write_text("alias of:N*T*Cacme,b b\nalias platform:c-part a\n")
        if words[0] == "modinfo":
            out = "".join(
                f"filename:       {path}\0" + ("license=GPL\0firmware=acme/b.bin\0" if path.endswith("b.ko") else "")
                for path in words[2:]
            )
        return proc.Result(tuple(words), 0, out, "")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    folder = tmp_path / "stage"
    folder.mkdir()
    return Workshop(folder, {}, open_cache(tmp_path / "cache"), io.StringIO(), 1700000000)


def run(choice: kernel.KernelChoice, deb: Path, workshop: Workshop) -> None:
    kernel.write_kernel(choice, deb, cast(Toolbox, FakeTools()), workshop)


def test_only_what_is_asked_for_is_kept(tmp_path: Path, workshop: Workshop) -> None:
    deb = write_deb(tmp_path / "kernel.deb", FILES)
    run(kernel.KernelChoice("edge", ("b", "virtio-pci"), ("qcom/phone",)), deb, workshop)
    layer = read_tar(workshop.folder / "kernel.tar")
    base = f"/usr/lib/modules/{VERSION}"
    assert sorted(path for path in layer.nodes if path.endswith(".ko")) == [
        f"{base}/kernel/b.ko",
        f"{base}/kernel/c.ko",
    ]
    assert layer.read(f"{base}/kernel/b.ko") == b"module b"
    assert f"{base}/modules.order" not in layer.nodes
    assert layer.read(f"{base}/config") == b"CONFIG_OVERLAY_FS=m\n"
    assert read_tar(workshop.folder / "dtbs.tar").read("/qcom/phone.dtb") == PHONE
    assert (workshop.folder / "vmlinuz").read_bytes() == b"kernel image\0acme,x\0"
    facts = json.loads((workshop.folder / "kernel.json").read_text())
    assert facts == {"version": VERSION, "modules": ["b", "c"], "builtin": ["virtio_pci"]}
    assert json.loads((workshop.folder / "firmware-wanted.json").read_text()) == {"b": ["acme/b.bin"]}
    drivers = json.loads((workshop.folder / "drivers.json").read_text())
    assert drivers == {"modules": {"acme,b": ["b"]}, "builtin": ["acme,x"], "known": ["a", "b", "c"]}


def test_the_modules_that_the_device_tree_asks_for_go_in_by_themselves(tmp_path: Path, workshop: Workshop) -> None:
    """`b` by its compatible with `c` that it uses; `a` drives what `c` starts."""
    deb = write_deb(tmp_path / "kernel.deb", FILES)
    run(kernel.KernelChoice("edge", (), ("qcom/phone",), follow_device_trees=True), deb, workshop)
    assert json.loads((workshop.folder / "kernel.json").read_text())["modules"] == ["a", "b", "c"]


def test_a_module_that_the_board_goes_without_stays_out(tmp_path: Path, workshop: Workshop) -> None:
    deb = write_deb(tmp_path / "kernel.deb", FILES)
    without = (Without(modules=("a",), why="nobody needs it"),)
    run(kernel.KernelChoice("edge", (), ("qcom/phone",), True, without), deb, workshop)
    assert json.loads((workshop.folder / "kernel.json").read_text())["modules"] == ["b", "c"]


def test_what_is_no_device_tree_is_said(tmp_path: Path, workshop: Workshop) -> None:
    files = {**FILES, f"./usr/lib/linux-image-{VERSION}/qcom/phone.dtb": b"device tree"}
    with pytest.raises(ToolError) as caught:
        run(kernel.KernelChoice("edge", (), ("qcom/phone",)), write_deb(tmp_path / "kernel.deb", files), workshop)
    assert caught.value.message == "qcom/phone.dtb: not a device tree blob"


def test_all_that_is_missing_is_said_at_once(tmp_path: Path, workshop: Workshop) -> None:
    deb = write_deb(tmp_path / "kernel.deb", FILES)
    with pytest.raises(UsageError) as caught:
        run(kernel.KernelChoice("edge", ("bb", "zz"), ("qcom/phome",)), deb, workshop)
    messages = [problem.message for problem in caught.value.problems]
    assert messages == [
        "no kernel module 'bb'", "no kernel module 'zz'", f"no device tree 'qcom/phome' in kernel {VERSION}"
    ]  # fmt: skip
    assert caught.value.problems[2].hint == "did you mean 'qcom/phone'?"
    assert list(workshop.folder.iterdir()) == []


def test_a_package_without_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"other\.deb: not a kernel package"):
        kernel.load_package(write_deb(tmp_path / "other.deb", {"./usr/bin/x": b""}))


def test_a_kernel_package_without_an_image_is_refused(tmp_path: Path, workshop: Workshop) -> None:
    files = {name: data for name, data in FILES.items() if "vmlinuz" not in name}
    with pytest.raises(ToolError, match=f"no /boot/vmlinuz-{VERSION}"):
        run(kernel.KernelChoice("edge", ("a",)), write_deb(tmp_path / "kernel.deb", files), workshop)


def test_firmware_comes_with_what_its_links_point_to(tmp_path: Path) -> None:
    deb = write_deb(
        tmp_path / "firmware.deb",
        {"./lib/firmware/acme/b-1.bin": b"1", "./usr/lib/firmware/acme/other.bin": b"2", "./usr/share/doc/x": b""},
        {"./usr/lib/firmware/acme/b.bin": "b-1.bin"},
    )
    tree = choose_firmware(keep_firmware(load_package_tree(deb)), ["acme/b.*"], "board phone")
    files = {path for path, node in tree.nodes.items() if node.kind != "folder"}
    assert files == {"/usr/lib/firmware/acme/b.bin", "/usr/lib/firmware/acme/b-1.bin"}


def test_a_firmware_glob_that_matches_nothing_is_a_problem(tmp_path: Path) -> None:
    deb = write_deb(tmp_path / "firmware.deb", {"./usr/lib/firmware/a": b""})
    with pytest.raises(UsageError) as caught:
        choose_firmware(keep_firmware(load_package_tree(deb)), ["b*"], "board phone")
    assert str(caught.value.problems[0]).startswith("board phone: no firmware matches 'b*'")


def test_firmware_that_modules_ask_for_and_nobody_brings_is_listed() -> None:
    tree = Tree()
    tree.file("/usr/lib/firmware/acme/a.bin.xz", b"")
    assert make_missing_firmware({"m": ["acme/a.bin", "acme/b.bin"], "n": ["acme/a.bin"]}, tree) == {
        "m": ["acme/b.bin"]
    }


def test_the_firmware_stage_keeps_what_the_board_asks_for_and_who_brought_it(tmp_path: Path) -> None:
    one = write_deb(tmp_path / "one.deb", {"./lib/firmware/acme/b.bin": b"1", "./usr/share/doc/one/copyright": b"MIT"})
    two = write_deb(tmp_path / "two.deb", {"./usr/lib/firmware/acme/c.bin": b"2"})
    packages = [FirmwarePackage("one", one, "1" * 64), FirmwarePackage("two", two, "2" * 64)]
    stage = make_firmware_stage(packages, ["acme/b.*"], "board phone")
    folder = tmp_path / "result"
    folder.mkdir()
    stage.make(Workshop(folder, {}, open_cache(tmp_path / "cache"), io.StringIO(), 0))
    tree = read_tar(folder / "firmware.tar")
    assert [path for path, node in tree.walk() if node.kind == "file"] == ["/usr/lib/firmware/acme/b.bin"]
    assert json.loads((folder / "owners.json").read_text()) == {"one": ["/usr/lib/firmware/acme/b.bin"], "two": []}
    assert load_copyrights([folder]) == {"one": "MIT"}
    assert stage.files == ("1" * 64, "2" * 64)


def test_nodes_that_load_a_module_when_opened_are_known_at_build_time() -> None:
    text = make_static_nodes(b"# Device nodes\nfuse fuse c10:229\ntun net/tun c10:200\nloop loop0 b7:0\n")
    assert text.splitlines()[1:] == [
        "c! /dev/fuse 0600 - - - 10:229",
        "d /dev/net 0755 - - -",
        "c! /dev/net/tun 0600 - - - 10:200",
        "b! /dev/loop0 0600 - - - 7:0",
    ]
