"""The board as data: kernel, boot loader, storage, firmware, what goes without, how it is flashed, how QEMU plays it.

Adding a board is a file in recipes/boards and no code. What a board cannot have from Debian it says in `missing`,
with the way to supply it: then a build ends before it starts, with just that.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cumulet_builder.recipe.radio import BoardModem, BoardReceiver
from cumulet_builder.recipe.values import Architecture, ImagePath, Module, Name, Package, Part, Size

Support = Literal["tested", "emulated", "untested"]
BootMethod = Literal["uefi", "extlinux", "android"]


def _check_address(text: str) -> str:
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if not text.startswith("0x") or not 0 <= value < 1 << 32:
        raise ValueError(f"{text!r} is not an address; write it like 0x00008000")
    return text


Address = Annotated[str, AfterValidator(_check_address)]
"""A number of 32 bits in hexadecimal, as `0x00008000`."""


class Qemu(Part):
    """How QEMU plays this board: data, so that a board needs no code."""

    program: str = Field(description="qemu-system-aarch64 or qemu-system-x86_64")
    machine: str
    cpu: str
    memory: Size = "3GiB"
    cpus: int = Field(2, ge=1, le=64)
    console: str = Field("ttyAMA0", description="Serial port of the console")
    disk: tuple[str, ...] = Field(
        ("virtio-blk-pci,drive=disk",), description="-device arguments for the disk; the drive's id is 'disk'"
    )
    network: tuple[str, ...] = Field(
        ("virtio-net-pci,netdev=net",), description="-device arguments for the network; the netdev's id is 'net'"
    )
    devices: tuple[str, ...] = Field(("virtio-rng-pci",), description="More -device arguments")
    ports: dict[Literal["modem", "gnss"], str] = Field(
        {}, description="-device arguments of the ports behind which modem and receiver are simulated"
    )
    firmware: tuple[str, ...] = Field((), description="Candidate UEFI firmware files, code; first found is used")
    firmware_vars: tuple[str, ...] = Field((), description="Candidate UEFI variable store templates")


class Kernel(Part):
    """The kernel package and what of it goes in."""

    package: Package = Field(description="Debian package, such as linux-image-arm64")
    file: str | None = Field(None, description="Or: a kernel package on this computer, such as ./linux-image.deb")
    device_trees: tuple[str, ...] = Field((), description="Device tree files to ship, without .dtb")
    device_tree_modules: bool = Field(
        False, description="Ship every module that an enabled part of the device trees asks for"
    )
    modules: tuple[Module, ...] = Field(
        (), description="Modules to ship, as names or globs; dependencies follow by themselves"
    )
    initramfs_modules: tuple[Module, ...] = Field((), description="Modules needed to reach the root file system")
    command_line: tuple[str, ...] = Field((), description="Kernel arguments that the board needs")


class Android(Part):
    """How an Android boot loader wants its boot image. Offsets count from `base`."""

    header_version: Literal[0, 2] = 0
    page_size: Literal[2048, 4096] = 4096
    base: Address = "0x00000000"
    kernel_offset: Address = "0x00008000"
    ramdisk_offset: Address = "0x01000000"
    second_offset: Address = "0x00f00000"
    tags_offset: Address = "0x00000100"
    dtb_offset: Address | None = Field(None, description="Header version 2: where the device tree goes")
    append_dtb: bool = Field(True, description="Put the device tree behind the kernel, too")
    disable_verification: bool = Field(
        False, description="Make vbmeta.img, which tells the boot loader to check nothing"
    )


class Loader(Part):
    """A boot loader at a raw place of the disk, before the first partition."""

    package: Package | None = Field(None, description="Debian package that has it")
    path: ImagePath | None = Field(None, description="Its path in that package")
    file: str | None = Field(None, description="Or: a file on this computer, such as ./u-boot-rockchip.bin")
    offset: Size = Field(description="From the start of the disk, as 32KiB")


class Boot(Part):
    """How the kernel is started: by UEFI and systemd-boot, by extlinux.conf, or from an Android boot image."""

    method: BootMethod = "uefi"
    loader: Loader | None = None
    android: Android | None = None


class Storage(Part):
    """The storage that the disk image is made for."""

    sector_size: Literal[512, 4096] = 512
    start: Size = Field("1MiB", description="Where the first partition begins")
    inside: Name | None = Field(
        None, description="The partition of the device that holds the whole disk image; none: the device itself"
    )
    controllers: tuple[str, ...] = Field(
        (), description="Device tree compatibles of the controllers that the root may be on"
    )


class Without(Part):
    """Something that the device tree names and the image goes without, and why."""

    drivers: tuple[str, ...] = Field((), description="Compatibles, or globs of them")
    modules: tuple[Module, ...] = Field((), description="Modules that others would pull in, as names or globs")
    firmware: tuple[str, ...] = Field((), description="Firmware files below /usr/lib/firmware, or globs of them")
    why: str = Field(min_length=1)


class Missing(Part):
    """What Debian has not got for this board, and how to supply it."""

    what: Literal["kernel", "boot loader"]
    why: str = Field(min_length=1)
    supply: str = Field(min_length=1, description="How to supply it, in one sentence")


class Write(Part):
    """A published file that is written into a partition of the device."""

    file: Name
    partition: str = Field(description="Name without the slot's suffix")
    slots: Literal["none", "both"] = Field("none", description="both: the partition is there once per slot")


class Flash(Part):
    """How an image gets onto the board: data for `cumulet flash`."""

    method: Literal["fastboot", "uuu", "block"]
    products: tuple[str, ...] = Field((), description="What the boot loader calls the product, any of these")
    unlock: str = Field("", description="The command that unlocks the boot loader, for people")
    erase: tuple[str, ...] = Field((), description="Partitions that are erased first")
    writes: tuple[Write, ...] = Field((), description="fastboot: what is written, in order")
    script: tuple[str, ...] = Field((), description="uuu: the lines of its script; {disk} is the disk image")
    devices: tuple[str, ...] = Field((), description="block: what the storage is called on the board itself")
    notes: tuple[str, ...] = Field((), description="What people must know, one sentence each")


class Board(Part):
    """A board as data. Adding one needs no code."""

    version: Literal[1] = 1
    board: Name
    title: str
    architecture: Architecture
    soc: str = Field("", description="System on chip, such as sdm845")
    gpu: str = Field("", description="Graphics processor, such as adreno-630")
    support: Support = Field(
        "untested",
        description="tested: an image for it has been seen to boot; emulated: its image boots in QEMU with its own "
        "kernel and initramfs, nobody tried the board itself; untested: neither",
    )
    compatibles: tuple[str, ...] = Field((), description="What its device trees call the board, any of these")
    notes: tuple[str, ...] = Field((), description="What works and what does not, one sentence each")
    missing: tuple[Missing, ...] = Field((), description="What must be supplied before an image can be built")
    kernel: Kernel
    boot: Boot = Boot()
    storage: Storage = Storage()
    firmware: tuple[str, ...] = Field((), description="Globs below /usr/lib/firmware to ship")
    firmware_packages: tuple[Package, ...] = Field((), description="Debian packages that hold the firmware")
    firmware_from: Literal["droid-juicer"] | None = Field(
        None, description="What takes the rest of the firmware from the board's own partitions at its first boot"
    )
    without: tuple[Without, ...] = Field((), description="Drivers and firmware that the image goes without")
    packages: tuple[Package, ...] = Field((), description="Debian packages that the board needs")
    flash: Flash | None = None
    modem: BoardModem | None = None
    gnss: BoardReceiver | None = None
    qemu: Qemu | None = None
    include: tuple[str, ...] = Field(
        (), exclude=True, description="Fragments merged in first, relative to the file that names them"
    )
    defaults: dict[str, object] = Field(
        {}, exclude=True, description="Recipe values that this board wants unless a recipe says otherwise"
    )

    @property
    def lacking(self) -> tuple[Missing, ...]:
        """What is still missing, given the files that a recipe has named."""
        loader = self.boot.loader
        supplied = {"kernel": self.kernel.file is not None, "boot loader": loader is not None and bool(loader.file)}
        return tuple(each for each in self.missing if not supplied[each.what])
