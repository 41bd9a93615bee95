"""The stage `kernel`: of a Debian kernel package only what a board and its recipe ask for.

It leaves in its folder: `kernel.tar` (a layer of the root: modules, unpacked, with
their indexes), `dtbs.tar`, `vmlinuz`, `config`, `firmware-wanted.json` (module ->
firmware files it asks for), `drivers.json` (what there is for the devices of the
device trees) and `kernel.json` (version, module names, built-in names).
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.documents import make_error
from cumulet.core.errors import Problem, ToolError
from cumulet_builder.copyrights import package_of
from cumulet_builder.hardware.devicetree import DeviceTree, read_device_tree
from cumulet_builder.hardware.drivers import (
    DriverIndex,
    make_driver_index,
    make_drivers_text,
    want_module,
    want_modules,
    want_started,
)
from cumulet_builder.modules import ModuleIndex, find_modules, make_index, module_name
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.board import Without
from cumulet_builder.tree import Tree, write_tar

if TYPE_CHECKING:
    from cumulet_builder.toolbox import Toolbox

CODE = "4"
TOOL_PACKAGES = ("kmod",)
PACKED = ".xz"
# Lists that only `depmod` itself and people read.
NOT_SHIPPED = ("modules.builtin.modinfo", "modules.order", "modules.symbols", "modules.weakdep")


@dataclass(frozen=True)
class KernelChoice:
    """What of a kernel package goes in.

    `modules` are names or globs; one with a slash is matched against the path below
    `kernel/`, as `net/netfilter/*`. `device_trees` are names without `.dtb`, as
    `qcom/sdm845-oneplus-enchilada`; with `follow_device_trees` the modules that their
    devices ask for go in too, but for those of `without`. `asker` names the recipe in
    problems.
    """

    asker: str
    modules: tuple[str, ...]
    device_trees: tuple[str, ...] = ()
    follow_device_trees: bool = False
    without: tuple[Without, ...] = ()


@dataclass(frozen=True)
class Package:
    """The files of a kernel package, by absolute path, and the kernel's version."""

    version: str
    files: Mapping[str, bytes]

    def modules(self) -> dict[str, bytes]:
        """Path below /lib/modules/VERSION -> content, as packed in the package."""
        start = f"/lib/modules/{self.version}/"
        return {path.split(start, 1)[1]: data for path, data in self.files.items() if start in path}

    def boot(self, name: str) -> bytes:
        """`/boot/NAME-VERSION`. Raises ToolError if the package lacks it."""
        path = f"/boot/{name}-{self.version}"
        if path not in self.files:
            raise ToolError(f"kernel package: no {path} in it", hint="name another kernel package in the board")
        return self.files[path]


def make_stage(
    choice: KernelChoice, deb: Path, digest: str, toolbox: Callable[[], Toolbox], needs: tuple[str, ...] = ()
) -> Stage:
    """The stage for a kernel package file `deb`, whose SHA-256 is `digest`."""

    def make(workshop: Workshop) -> None:
        write_kernel(choice, deb, toolbox(), workshop)

    inputs = {
        "code": CODE,
        "package": digest,
        "modules": " ".join(sorted(set(choice.modules))),
        "device trees": " ".join(sorted(set(choice.device_trees))),
        "followed": "\n".join(each.model_dump_json() for each in choice.without) if choice.follow_device_trees else "",
    }
    return Stage("kernel", inputs, make, needs)


def write_kernel(choice: KernelChoice, deb: Path, toolbox: Toolbox, workshop: Workshop) -> None:
    """Fill the stage's folder. Raises UsageError with every module or device tree that does not exist."""
    package = load_package(deb)
    everything = package.modules()
    with workshop.cache.scratch("kernel") as scratch:
        index = make_index(write_indexes(everything, package.version, toolbox, scratch / "all"))
        blobs, missing = find_device_trees(choice, package)
        trees = [read_device_tree(blobs.read(path), path[1:]) for path in sorted(blobs.nodes)]
        drivers = make_driver_index(index, package.boot("vmlinuz"), trees)
        kept, problems = choose_modules(choice, index, everything, trees, drivers)
        if problems or missing:
            raise make_error(problems + missing)
        unpacked = {path.removesuffix(PACKED): data for path, data in kept.items()}
        unpacked |= {path: data for path, data in everything.items() if not path.startswith("kernel/")}
        folder = scratch / "kept"
        lists = write_indexes(unpacked, package.version, toolbox, folder)
        wanted = probe_firmware(
            sorted(path for path in unpacked if path.endswith(".ko")), package.version, toolbox, folder
        )
        _publish(package, {**unpacked, **lists}, blobs, workshop)
    _write_facts(package.version, index, list(kept), wanted, workshop.folder)
    (workshop.folder / "drivers.json").write_text(make_drivers_text(drivers))


def choose_modules(
    choice: KernelChoice,
    index: ModuleIndex,
    packed: Mapping[str, bytes],
    trees: Sequence[DeviceTree],
    drivers: DriverIndex,
) -> tuple[dict[str, bytes], list[Problem]]:
    """Path -> unpacked content of every module that goes in, and what is wrong with the choice."""
    patterns = list(choice.modules)
    if choice.follow_device_trees:
        patterns += want_modules(trees, drivers, choice.without)
    kept: dict[str, bytes] = {}
    while True:
        paths, problems = find_modules(patterns, index, choice.asker)
        new = {path: unpack_module(path, packed[path]) for path in paths if path not in kept}
        kept |= new
        if not new or not choice.follow_device_trees or problems:
            return dict(sorted(kept.items())), problems
        # A driver may start parts of its device as devices of their own, which have drivers in turn.
        patterns += [name for name in want_started(new.values(), drivers) if want_module(name, choice.without)]


def load_package(deb: Path) -> Package:
    """Read a kernel package file. Contents are held in memory: about 140 MB."""
    from debian.debfile import DebFile  # noqa: PLC0415  (slow to import)

    files: dict[str, bytes] = {}
    with DebFile(str(deb)) as archive:
        data = archive.data.tgz()
        for member in data:
            source = data.extractfile(member) if member.isfile() else None
            if source is not None:
                files["/" + str(member.name).removeprefix("./").lstrip("/")] = source.read()
    versions = {match[1] for path in files if (match := re.match(r"(?:/usr)?/lib/modules/([^/]+)/kernel/", path))}
    if len(versions) != 1:
        raise ToolError(f"{deb.name}: not a kernel package: it has modules of {len(versions)} kernels")
    return Package(versions.pop(), files)


def find_device_trees(choice: KernelChoice, package: Package) -> tuple[Tree, list[Problem]]:
    """The device trees as `/NAME.dtb`, and a problem for each one the package lacks."""
    from difflib import get_close_matches  # noqa: PLC0415  (only for problems)

    start = f"/usr/lib/linux-image-{package.version}/"
    known = {
        path.removeprefix(start).removesuffix(".dtb"): data
        for path, data in package.files.items()
        if path.startswith(start) and path.endswith(".dtb")
    }
    tree, problems = Tree(), []
    for name in choice.device_trees:
        if name in known:
            tree.file(f"/{name}.dtb", known[name])
            continue
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else "`dpkg -c` on the package lists its device trees"
        problems.append(Problem(choice.asker, 0, 0, f"no device tree {name!r} in kernel {package.version}", hint))
    return tree, problems


def probe_firmware(paths: Sequence[str], version: str, toolbox: Toolbox, folder: Path) -> dict[str, list[str]]:
    """Module name -> firmware files it asks for, of the modules `paths` below `folder`/lib/modules."""
    if not paths:
        return {}
    base = folder / "lib/modules" / version
    result = toolbox.run(["modinfo", "-0", *(base / path for path in paths)], folders=[folder])
    return make_firmware_wanted(result.out)


def make_firmware_wanted(text: str) -> dict[str, list[str]]:
    """Read the output of `modinfo -0`: fields ended by NUL, each module beginning with `filename`."""
    wanted: dict[str, list[str]] = {}
    name = ""
    for entry in text.split("\0"):
        # `filename: PATH`, and after it fields as `firmware=NAME`.
        match = re.match(r"(\w+)[:=]\s*(.*)", entry.strip())
        if match is None:
            continue
        key, value = match.groups()
        if key == "filename":
            name = module_name(value.strip())
        elif key == "firmware":
            wanted.setdefault(name, []).append(value.strip())
    return {name: sorted(set(files)) for name, files in sorted(wanted.items())}


def unpack_module(path: str, data: bytes) -> bytes:
    """A module as it is shipped: not compressed."""
    # The root file system compresses by itself, and a slow CPU loads a plain module three times faster.
    return lzma.decompress(data) if path.endswith(PACKED) else data


def write_indexes(files: Mapping[str, bytes], version: str, toolbox: Toolbox, folder: Path) -> dict[str, bytes]:
    """Put modules into `folder`/lib/modules/VERSION, run depmod there; the lists it made, by name."""
    base = folder / "lib/modules" / version
    for path, data in files.items():
        target = base / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    toolbox.run(["depmod", "-b", folder, version], folders=[folder])
    return {path.name: path.read_bytes() for path in sorted(base.glob("modules.*"))}


def _publish(package: Package, files: Mapping[str, bytes], trees: Tree, workshop: Workshop) -> None:
    layer = Tree()
    for path, data in files.items():
        if path not in NOT_SHIPPED:
            layer.file(f"/usr/lib/modules/{package.version}/{path}", data)
    layer.file("/usr/lib/tmpfiles.d/cumulet-static-nodes.conf", make_static_nodes(files.get("modules.devname", b"")))
    for path, data in package.files.items():
        if package_of(path):
            layer.file(path, data)
    # Programs that check the kernel's options (kubeadm, k3s check-config) look here.
    layer.file(f"/usr/lib/modules/{package.version}/config", package.boot("config"))
    for name, tree in (("kernel.tar", layer), ("dtbs.tar", trees)):
        with (workshop.folder / name).open("wb") as stream:
            write_tar(tree, stream, workshop.epoch)
    for name in ("vmlinuz", "config"):
        (workshop.folder / name).write_bytes(package.boot(name))


def make_static_nodes(devname: bytes) -> str:
    """Settings of systemd-tmpfiles for the device nodes that load a module when opened, from depmod's list.

    Known at build time, so that no program looks for them at every boot.
    """
    lines = ["# Device nodes that load their module when they are opened."]
    for line in devname.decode().splitlines():
        words = line.split()
        if len(words) == 3 and not line.startswith("#"):
            _, node, kind = words
            if "/" in node:
                lines.append(f"d /dev/{node.rpartition('/')[0]} 0755 - - -")
            lines.append(f"{kind[0]}! /dev/{node} 0600 - - - {kind[1:]}")
    return "\n".join(lines) + "\n"


def _write_facts(
    version: str, index: ModuleIndex, kept: Sequence[str], wanted: Mapping[str, list[str]], folder: Path
) -> None:
    facts = {
        "version": version,
        "modules": sorted(module_name(path) for path in kept),
        "builtin": sorted(index.builtin),
    }
    (folder / "kernel.json").write_text(json.dumps(facts, indent=1) + "\n")
    (folder / "firmware-wanted.json").write_text(json.dumps(wanted, indent=1) + "\n")
