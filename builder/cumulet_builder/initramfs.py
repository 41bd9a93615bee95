"""The stage `initramfs`: busybox, a few kernel modules and one script, packed by us.

No program of the image runs for it, so that it takes a second on any computer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from cumulet.core.documents import make_error
from cumulet.core.errors import ToolError
from cumulet.core.files import sha256_text
from cumulet_builder.copyrights import write_copyrights
from cumulet_builder.elf import with_libraries
from cumulet_builder.formats import verity
from cumulet_builder.modules import find_modules, make_index, make_load_order
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.render import render
from cumulet_builder.tree import Node, Tree, merge, read_tar

if TYPE_CHECKING:
    from cumulet_builder.toolbox import Toolbox

CODE = "5"
PACKAGES = ("busybox-static",)
TOOL_PACKAGES = ("zstd",)
TEMPLATE = "initramfs/init.sh.j2"
BASE_MODULES = ("erofs", "ext4", "overlay")
APPLETS = (
    "sh", "[", "mount", "umount", "insmod", "mkdir", "sleep", "switch_root", "reboot", "dd", "tr", "head", "wc",
    "chroot", "setsid", "cttyhack", "sync",
)  # fmt: skip
FOLDERS = ("/bin", "/dev", "/modules", "/proc", "/run", "/sys", "/sysroot")
Compression = Literal["none", "zstd"]


@dataclass(frozen=True)
class InitramfsChoice:
    """What the initramfs does. `binds`: folder of /data/state -> mount point, used where the root has it.

    `inside`: the partition that holds the whole disk, or "" for a disk by itself; `sector`: bytes of its sectors.
    `verity`: the root is opened only by the hash on the command line.
    `growth_slack`: sectors of 512 bytes after the data partition that are not worth growing for.
    `wait`: seconds until a root partition that does not appear is given up.
    """

    asker: str
    modules: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ("etc", "var")
    binds: tuple[tuple[str, str], ...] = (
        ("containerd", "/var/lib/containerd"),
        ("kubelet", "/var/lib/kubelet"),
        ("etcd", "/var/lib/etcd"),
        ("rancher", "/var/lib/rancher"),
    )
    data_label: str = "data"
    growth_slack: int = 16384
    wait: int = 30
    compression: Compression = "zstd"
    inside: str = ""
    sector: int = 512
    verity: bool = False

    @property
    def programs(self) -> tuple[str, ...]:
        """Programs of the base packages that go in, with their libraries."""
        # busybox has a losetup, but it cannot set the size of sectors.
        return (*(("/usr/sbin/losetup",) if self.inside else ()), *((verity.PROGRAM,) if self.verity else ()))


def make_stage(
    choice: InitramfsChoice,
    busybox: Path,
    digest: str,
    toolbox: Callable[[], Toolbox],
    needs: tuple[str, ...] = ("kernel",),
) -> Stage:
    """The stage: needs `kernel`, and the package file `busybox` of busybox-static with SHA-256 `digest`."""

    def make(workshop: Workshop) -> None:
        kernel = read_tar(workshop.needs["kernel"] / "kernel.tar")
        facts = json.loads((workshop.needs["kernel"] / "kernel.json").read_text())
        tree = make_initramfs(choice, kernel, facts["version"], load_busybox(busybox))
        if choice.programs:
            # As in the root: a program names its loader by a path below one of these.
            tree.link("/lib", "usr/lib")
            tree.link("/lib64", "usr/lib64")
            tree = merge([tree, with_libraries(read_tar(workshop.needs["base"] / "root.tar"), choice.programs)])
        write_initramfs(tree, choice.compression, toolbox(), workshop)
        write_copyrights([busybox], workshop.folder)

    inputs = {"code": CODE, "busybox": digest, "script": sha256_text(make_script(choice, ())), "choice": repr(choice)}
    return Stage("initramfs", inputs, make, (*needs, *(("base",) if choice.programs else ())))


def make_initramfs(choice: InitramfsChoice, kernel: Tree, version: str, busybox: bytes) -> Tree:
    """The content of the initramfs, from the layer that the stage `kernel` made."""
    base = f"/usr/lib/modules/{version}/"
    order = find_order((*choice.modules, *BASE_MODULES), kernel, version, choice.asker)
    tree = make_busybox_tree(busybox, APPLETS)
    names = [path.rsplit("/", 1)[-1] for path in order]
    for path, name in zip(order, names, strict=True):
        tree.nodes[f"/modules/{name}"] = kernel.nodes[base + path]
    tree.file("/init", make_script(choice, names), 0o755)
    return tree


def find_order(modules: Iterable[str], kernel: Tree, version: str, asker: str) -> list[str]:
    """The paths of the modules and of all they need, in load order, by the lists in the kernel's tree.

    Raises UsageError with every module that the kernel lacks.
    """
    base = f"/usr/lib/modules/{version}/"
    lists = {path.removeprefix(base): kernel.read(path) for path in kernel.nodes if path.startswith(f"{base}modules.")}
    index = make_index(lists)
    paths, problems = find_modules(modules, index, asker)
    if problems:
        raise make_error(problems)
    return make_load_order(paths, index)


def make_busybox_tree(busybox: bytes, applets: Iterable[str]) -> Tree:
    """What every initramfs starts from: folders, a console, and busybox under the names of its applets."""
    tree = Tree()
    for folder in FOLDERS:
        tree.folder(folder)
    tree.nodes["/dev/console"] = Node("device", 0o600, device=("c", 5, 1))
    tree.file("/bin/busybox", busybox, 0o755)
    for applet in applets:
        tree.link(f"/bin/{applet}", "busybox")
    return tree


def make_script(choice: InitramfsChoice, modules: Sequence[str]) -> str:
    """The text of /init; `modules` are file names in load order."""
    return render(
        TEMPLATE,
        modules=modules,
        overlays=choice.overlays,
        binds=choice.binds,
        data_label=choice.data_label,
        inside=choice.inside,
        sector=choice.sector,
        growth_slack=choice.growth_slack,
        wait=choice.wait,
        verity=choice.verity,
    )


def load_busybox(deb: Path) -> bytes:
    """The program in a package file of busybox-static."""
    from debian.debfile import DebFile  # noqa: PLC0415  (slow to import)

    with DebFile(str(deb)) as archive:
        data = archive.data.tgz()
        for member in data:
            if str(member.name).endswith("bin/busybox") and member.isfile():
                source = data.extractfile(member)
                return source.read() if source else b""
    raise ToolError(f"{deb.name}: no busybox in it", hint="the package must be busybox-static")


def write_initramfs(tree: Tree, compression: Compression, toolbox: Toolbox, workshop: Workshop) -> None:
    """Write `initrd.img` into the stage's folder."""
    target = workshop.folder / "initrd.img"
    with workshop.cache.scratch("initramfs") as scratch:
        archive = scratch / "initrd.cpio"
        with archive.open("wb") as stream:
            write_cpio(tree, stream, workshop.epoch)
        if compression == "zstd":
            # The kernel takes windows up to 128 MiB; level 19 stays at 8.
            toolbox.run(["zstd", "-q", "-19", "--no-check", archive, "-o", scratch / "initrd.img"], folders=[scratch])
            archive = scratch / "initrd.img"
        shutil.copyfile(archive, target)


def write_cpio(tree: Tree, stream: IO[bytes], epoch: int) -> None:
    """Write a tree as a cpio archive of the kind the kernel unpacks ("newc"): sorted, one time stamp."""
    for number, (path, node) in enumerate(tree.walk(), start=1):
        _write_entry(stream, path[1:], node, _body(tree, path, node), (number, epoch))
    _write_entry(stream, "TRAILER!!!", Node("file", 0), b"", (0, 0))


_TYPES = {"file": 0o100000, "folder": 0o040000, "link": 0o120000}


def _write_entry(stream: IO[bytes], name: str, node: Node, body: bytes, number_epoch: tuple[int, int]) -> None:
    number, epoch = number_epoch
    kind = _TYPES.get(node.kind) or (0o020000 if node.device[0] == "c" else 0o060000)
    encoded = name.encode() + b"\0"
    mode = 0 if name == "TRAILER!!!" else kind | node.mode
    links = 2 if node.kind == "folder" else 1
    fields = (
        number, mode, node.uid, node.gid, links, epoch, len(body), 0, 0, node.device[1], node.device[2], len(encoded), 0
    )  # fmt: skip
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    stream.write(header + b"\0" * (-len(header) % 4))
    stream.write(body + b"\0" * (-len(body) % 4))


def _body(tree: Tree, path: str, node: Node) -> bytes:
    if node.kind == "hardlink":
        raise ToolError(f"initramfs: {path}: a hard link cannot be packed")
    return tree.read(path) if node.kind == "file" else node.target.encode()
