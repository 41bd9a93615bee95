"""QEMU's command line, made from a published image, the user's options and the run's own files. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cumulet.core.errors import UsageError
from cumulet_qemu.published import Published

SHELL_PORT = "hvc0"
"""The guest's name of the second console, where a root shell is started on request."""
NODE_KEY = "opt/cumulet/node"
PIN_KEY = "opt/cumulet/modem-pin"
DEFAULT_PIN = "40927315"
CONSOLE_KEY = "opt/cumulet/console"


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may choose for one run.

    Sizes in bytes; None takes the board's value. `ssh_port` 0 takes a free one.
    `node` is the text of a node document that wins over the one in the image.
    `keep` is a folder whose disk outlives the run. `disk_size` is the size of
    the disk that the guest sees. `arguments` are more words for the kernel.
    `modem_pin` is the PIN of the simulated SIM, which an image that wants one
    is told.
    """

    firmware: bool = False
    memory: int | None = None
    cpus: int | None = None
    ssh_port: int = 0
    node: str | None = None
    keep: Path | None = None
    disk_size: int | None = None
    accel: Literal["tcg", "kvm"] = "tcg"
    shell: bool = True
    arguments: tuple[str, ...] = ()
    modem_pin: str = DEFAULT_PIN


@dataclass(frozen=True, slots=True)
class Firmware:
    """UEFI code, which is only read, and this machine's own variable store."""

    code: Path
    variables: Path


@dataclass(frozen=True, slots=True)
class Wiring:
    """The run's own files: sockets that QEMU opens, its disk, and the ssh port on this computer."""

    qmp: Path
    console: Path
    shell: Path
    disk: Path
    ssh_port: int
    node: Path | None = None
    firmware: Firmware | None = None
    ports: Mapping[str, Path] = field(default_factory=dict)
    modem_pin: Path | None = None


def make_argv(published: Published, options: Options, wiring: Wiring) -> list[str]:
    """The whole command line. The machine starts paused, so that no byte of its output is missed."""
    board = published.qemu
    memory = options.memory or board.memory
    return [
        board.program,
        *("-name", f"cumulet-{_escape(published.image)}"),
        "-nodefaults",
        "-no-user-config",
        *("-display", "none"),
        "-S",
        *("-machine", board.machine),
        *("-accel", "kvm" if options.accel == "kvm" else "tcg,thread=multi"),
        *("-cpu", "host" if options.accel == "kvm" else board.cpu),
        *("-smp", str(options.cpus or board.cpus)),
        *("-m", f"{memory >> 20}M"),
        *("-rtc", "base=utc"),
        *_make_ports(options, wiring),
        *_make_devices(published, options, wiring),
        *_make_radio(published, wiring),
        *_make_boot(published, options, wiring),
        *_make_fw_cfg(options, wiring),
    ]


def choose_pin(published: Published, environment: Mapping[str, str]) -> str:
    """The PIN for the simulated SIM: the variable that the recipe names, if it is set on this computer.

    Raises UsageError, which does not tell it, if it is no PIN.
    """
    name = published.modem.pin if published.modem is not None else ""
    pin = environment.get(name, DEFAULT_PIN)
    if not re.fullmatch(r"[0-9]{4,8}", pin):
        raise UsageError(f"{name}: the PIN of a SIM is four to eight digits", hint=f"unset {name}, or correct it")
    return pin


def make_kernel_arguments(published: Published, options: Options) -> str:
    """The kernel command line of a direct boot."""
    words = [published.command_line, *_make_extra_arguments(options)]
    consoles = {word.removeprefix("console=").partition(",")[0] for word in published.command_line.split()}
    # A real board's console is another one than QEMU's; the last that is named is the system's.
    if published.qemu.console not in consoles:
        words.insert(1, f"console={published.qemu.console}")
    return " ".join(words)


def make_disk_size(image_size: int, options: Options) -> int:
    """Bytes of the disk that the guest sees: room to grow unless the user says otherwise."""
    return options.disk_size or max(8 << 30, image_size + (2 << 30))


def _make_extra_arguments(options: Options) -> list[str]:
    return [*([f"cumulet.console={SHELL_PORT}"] if options.shell else []), *options.arguments]


def _make_ports(options: Options, wiring: Wiring) -> list[str]:
    ports = [
        *("-chardev", _make_socket("qmp", wiring.qmp)),
        *("-mon", "chardev=qmp,mode=control"),
        *("-chardev", _make_socket("console", wiring.console)),
        *("-serial", "chardev:console"),
    ]
    if options.shell:
        ports += [
            *("-chardev", _make_socket("shell", wiring.shell)),
            *("-device", "virtio-serial-pci,max_ports=1"),
            *("-device", "virtconsole,chardev=shell"),
        ]
    return ports


def _make_devices(published: Published, options: Options, wiring: Wiring) -> list[str]:
    board = published.qemu
    # A throw-away disk need not survive a crash of this computer; a kept one must.
    cache = "writeback" if options.keep else "unsafe"
    disk = f"if=none,id=disk,format=qcow2,cache={cache},discard=unmap,file={_escape(str(wiring.disk))}"
    devices = [*board.disk, *map(_without_rom, board.network), *board.devices]
    return [
        *("-drive", disk),
        *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{wiring.ssh_port}-:22"),
        *(word for device in devices for word in ("-device", device)),
    ]


def _make_radio(published: Published, wiring: Wiring) -> list[str]:
    """The ports behind which devices are simulated, each with the words that the board has for it."""
    words = []
    for name, path in wiring.ports.items():
        words += ["-chardev", _make_socket(name, path), "-device", published.qemu.ports[name]]
    return words


def _without_rom(device: str) -> str:
    """A network card without its boot ROM: nothing boots from the network."""
    name = device.partition(",")[0]
    return f"{device},romfile=" if name.endswith("-pci") and "romfile=" not in device else device


def _make_boot(published: Published, options: Options, wiring: Wiring) -> list[str]:
    if wiring.firmware is None:
        return [
            *("-kernel", str(published.file("vmlinuz"))),
            *("-initrd", str(published.file("initrd.img"))),
            *("-append", make_kernel_arguments(published, options)),
        ]
    words = [
        "-drive",
        f"if=pflash,unit=0,format=raw,readonly=on,file={_escape(str(wiring.firmware.code))}",
        "-drive",
        f"if=pflash,unit=1,format=raw,file={_escape(str(wiring.firmware.variables))}",
    ]
    extra = _escape(" ".join(_make_extra_arguments(options)))
    # The boot loader owns the kernel's command line; systemd's loader and stub take more words from SMBIOS.
    for reader in ("boot", "stub") if extra else ():
        words += ["-smbios", f"type=11,value=io.systemd.{reader}.kernel-cmdline-extra={extra}"]
    return words


def _make_fw_cfg(options: Options, wiring: Wiring) -> list[str]:
    words = []
    if wiring.node is not None:
        words += ["-fw_cfg", f"name={NODE_KEY},file={_escape(str(wiring.node))}"]
    if wiring.modem_pin is not None:
        words += ["-fw_cfg", f"name={PIN_KEY},file={_escape(str(wiring.modem_pin))}"]
    if options.shell:
        words += ["-fw_cfg", f"name={CONSOLE_KEY},string={SHELL_PORT}"]
    return words


def _make_socket(name: str, path: Path) -> str:
    return f"socket,id={name},server=on,wait=off,path={_escape(str(path))}"


def _escape(text: str) -> str:
    """A value inside a comma-separated option: QEMU reads two commas as one."""
    return text.replace(",", ",,")


def make_candidates(code: Sequence[str], variables: Sequence[str]) -> list[tuple[Path, Path]]:
    """Pairs of UEFI code and variable template, in the board's order: code n goes with template n."""
    return [(Path(first), Path(second)) for first, second in zip(code, variables, strict=False)]
