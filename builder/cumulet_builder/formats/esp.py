"""The EFI system partition: systemd-boot, one boot entry and one kernel per root slot.

Files of a slot lie in a folder of its name, so that an update writes the other
slot's folder and, last, its entry. The entry of an update is named `root-b+3.conf`:
the boot loader counts three tries down and goes back when none was blessed. A board whose
U-Boot starts the kernel itself has extlinux.conf instead, which knows no tries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet_builder.formats.check import EXTLINUX
from cumulet_builder.formats.inputs import Bench, DiskInputs
from cumulet_builder.formats.secureboot import NAME, SignedBoot, write_signed
from cumulet_builder.recipe.model import Architecture
from cumulet_builder.render import render
from cumulet_builder.tree import Tree, read_tar

PACKAGES = ("systemd-boot-efi",)
TOOL_PACKAGES = ("dosfstools", "mtools")
LABEL = "ESP"
# Package file of the boot loader, and the name that firmware looks for.
BOOT_LOADERS: dict[Architecture, tuple[str, str]] = {
    "arm64": ("usr/lib/systemd/boot/efi/systemd-bootaa64.efi", "BOOTAA64.EFI"),
    "amd64": ("usr/lib/systemd/boot/efi/systemd-bootx64.efi", "BOOTX64.EFI"),
}
# FAT32 needs 65525 clusters: of 2 KiB from 136 MiB on, of 512 bytes from 34 MiB on.
LARGE, SMALL = 136 << 20, 34 << 20


def make_command_line(words: Sequence[str], slot: str, key: str = "root") -> str:
    """The kernel's command line for a root slot; `key` is the word that names the root."""
    return " ".join([f"{key}=PARTLABEL={slot}", "ro", *words])


def make_entry_name(slot: str, tries: int | None = None) -> str:
    """The file name of a slot's boot entry; with `tries`, it is forgotten after so many failed boots."""
    return f"{slot}.conf" if tries is None else f"{slot}+{tries}.conf"


def make_entry(inputs: DiskInputs, slot: str, device_trees: Sequence[str]) -> str:
    """A slot's boot entry. Firmware that describes its board itself needs no device tree in it."""
    return render(
        "boot/entry.conf.j2",
        program=f"/{slot}/{NAME}" if inputs.secure_boot else None,
        image=inputs.image,
        version=inputs.version,
        slot=slot,
        device_tree=device_trees[0] if len(device_trees) == 1 else None,
        options=make_command_line(inputs.command_line, slot),
    )


def make_esp(
    inputs: DiskInputs, device_trees: Tree, slot: str = "root-a", signed: SignedBoot | None = None
) -> dict[str, bytes | Path]:
    """Path on the partition -> content, in the order of writing: what completes a slot comes last."""
    names = sorted(path for path, node in device_trees.nodes.items() if node.kind == "file")
    content: dict[str, bytes | Path] = {}
    extlinux = inputs.boot.method == "extlinux"
    if not extlinux:
        loader = signed.loader if signed else inputs.boot_loader
        content[f"/EFI/BOOT/{BOOT_LOADERS[inputs.architecture][1]}"] = loader
        content["/loader/loader.conf"] = render("boot/loader.conf.j2").encode()
    if signed:
        content[f"/{slot}/{NAME}"] = signed.linux
    else:
        content |= {f"/{slot}/vmlinuz": inputs.kernel, f"/{slot}/initrd.img": inputs.initramfs}
        content |= {f"/{slot}/dtbs{name}": device_trees.read(name) for name in names}
    if extlinux:
        content[EXTLINUX] = make_menu(inputs, [slot], names).encode()
    else:
        content[f"/loader/entries/{make_entry_name(slot)}"] = make_entry(inputs, slot, names).encode()
    return content


def make_menu(inputs: DiskInputs, slots: Sequence[str], device_trees: Sequence[str]) -> str:
    """extlinux.conf for these slots, the first of them the default. Of several device trees U-Boot picks."""
    return render(
        "boot/extlinux.conf.j2",
        image=inputs.image,
        slots=[(slot, make_command_line(inputs.command_line, slot)) for slot in slots],
        device_tree=device_trees[0] if len(device_trees) == 1 else None,
        device_trees=bool(device_trees),
    )


def make_format_arguments(inputs: DiskInputs, target: Path) -> list[str]:
    """The command that makes the empty file system. Raises UsageError if the partition is too small."""
    size = inputs.layout.partition("esp").size
    if size < SMALL:
        raise UsageError(f"disk.esp: {inputs.sizes.esp} is too small for FAT32", hint="disk: {esp: 64MiB}")
    cluster = "4" if size >= LARGE else "1"
    number = inputs.identifier("esp").replace("-", "")[:8]
    return ["mkfs.vfat", "-F", "32", "-s", cluster, "-S", "512", "-n", LABEL, "-i", number, "--invariant", str(target)]


def write_esp(inputs: DiskInputs, target: Path, bench: Bench) -> None:
    """Write the partition into the file `target`. Raises UsageError if it does not hold its content."""
    trees = read_tar(inputs.device_trees)
    signed = sign(inputs, trees, bench) if inputs.secure_boot else None
    content = make_esp(inputs, trees, signed=signed)
    room = inputs.layout.partition("esp").size
    need = sum(each.stat().st_size if isinstance(each, Path) else len(each) for each in content.values())
    if need > room * 0.97:
        raise UsageError(
            f"disk.esp: {inputs.sizes.esp} is too small for kernel and initramfs ({need >> 20} MiB)",
            hint=f"disk: {{esp: {(need * 2 >> 20) + 16}MiB}}",
        )
    with target.open("wb") as stream:
        stream.truncate(room)
    stage = target.parent / "esp"
    _stage(content, stage, inputs.epoch)
    for arguments in [make_format_arguments(inputs, target), *make_copy_arguments(content, stage, target)]:
        bench.toolbox.run(arguments, folders=[target.parent], env=inputs.environment, log=bench.log)


def sign(inputs: DiskInputs, device_trees: Tree, bench: Bench, slot: str = "root-a") -> SignedBoot:
    """The signed programs of a slot. Raises UsageError for a key that is not usable."""
    trees = [(path, device_trees.read(path)) for path, node in device_trees.walk() if node.kind == "file"]
    return write_signed(inputs, make_command_line(inputs.command_line, slot), trees, bench)


def make_copy_arguments(content: Mapping[str, bytes | Path], stage: Path, target: Path) -> list[list[str]]:
    """The mtools commands: every folder first, then one copy per folder, in order."""
    folders = sorted({parent for path in content for parent in map(str, Path(path).parents) if parent != "/"})
    commands = [["mmd", "-i", str(target), *(f"::{folder}" for folder in folders)]]
    groups: dict[str, list[str]] = {}
    for path in content:
        groups.setdefault(str(Path(path).parent), []).append(str(stage / path[1:]))
    commands += [["mcopy", "-m", "-i", str(target), *files, f"::{folder}/"] for folder, files in groups.items()]
    return commands


def _stage(content: Mapping[str, bytes | Path], stage: Path, epoch: int) -> None:
    for path, each in content.items():
        file = stage / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(each.read_bytes() if isinstance(each, Path) else each)
        os.utime(file, (epoch, epoch))
