"""What this computer lacks for building, booting and checking images, and what fixes it.

`probe` reads the computer into a value, `evaluate` turns that into findings and is
pure, `install` runs the fixes that are Debian packages.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cumulet.core import proc
from cumulet.core.errors import CumuletError, ToolError
from cumulet_builder.assets import find_assets
from cumulet_builder.cache import default_root
from cumulet_builder.engines.debian.mirror import find_keyring
from cumulet_builder.kubernetes.gomodules import find_go
from cumulet_builder.toolbox import make_namespace

Purpose = Literal["build", "boot", "check"]
State = Literal["fine", "missing", "note"]
PURPOSES: tuple[Purpose, ...] = ("build", "boot", "check")
PYTHON = (3, 11)
GIB = 1 << 30
DISK = 12 * GIB
SHM = 64 << 20
DISTRIBUTION = "cumulet-board"


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is needed, the Debian package that has it, and what it is needed for."""

    name: str
    package: str
    purposes: tuple[Purpose, ...]
    why: str


PROGRAMS = (
    Program("apt-get", "apt", ("build", "check"), "resolves packages and checks their signatures"),
    Program("apt-cache", "apt", ("build", "check"), "describes packages"),
    Program("gpgv", "gpgv", ("build", "check"), "checks the archive's signature"),
    Program("unshare", "util-linux", ("build", "check"), "makes the private namespaces of a build"),
    Program("setpriv", "util-linux", ("build", "boot", "check"), "ends what runs with its starter"),
    Program("qemu-system-aarch64", "qemu-system-arm", ("boot", "check"), "plays arm64 boards"),
    Program("qemu-system-x86_64", "qemu-system-x86", ("check",), "plays amd64 boards"),
    Program("qemu-img", "qemu-utils", ("boot", "check"), "makes disks of images"),
    Program("ssh", "openssh-client", ("boot", "check"), "logs in to a running image"),
    Program("ssh-keygen", "openssh-client", ("boot", "check"), "makes the keys of a check"),
    Program("newuidmap", "uidmap", ("check",), "lets an ordinary user build"),
    Program("sfdisk", "fdisk", ("check",), "reads a finished disk's partitions"),
    Program("sgdisk", "gdisk", ("check",), "checks a finished disk's partitions"),
    Program("fsck.vfat", "dosfstools", ("check",), "checks a finished boot partition"),
    Program("sbverify", "sbsigntool", ("check",), "checks signed EFI programs"),
    Program("mdir", "mtools", ("check",), "reads a finished boot partition"),
    Program("e2fsck", "e2fsprogs", ("check",), "checks a finished data partition"),
    Program("bmaptool", "bmap-tools", ("check",), "writes a finished disk by its block map"),
    Program("veritysetup", "cryptsetup-bin", ("check",), "proves a finished root by its tree of hashes"),
    Program("nft", "nftables", ("check",), "puts a node's firewall in force"),
    Program("fastboot", "fastboot", ("check",), "flashes phones; a simulated one in a check"),
    Program("losetup", "mount", ("check",), "makes the disk that a check flashes"),
    Program("zstd", "zstd", ("check",), "unpacks a finished archive"),
    Program("cpio", "cpio", ("check",), "reads a finished initramfs"),
    Program("fdisk", "fdisk", ("check",), "reads a finished disk with large sectors"),
    Program("unpack_bootimg", "mkbootimg", ("check",), "reads a finished boot image"),
    Program("simg2img", "android-sdk-libsparse-utils", ("check",), "reads a finished sparse image"),
    Program("dtc", "device-tree-compiler", ("check",), "reads a device tree in a boot image"),
    Program("ip", "iproute2", ("check",), "makes the links of a lab"),
    Program("tc", "iproute2", ("check",), "makes a lab's link slow"),
    Program("nsenter", "util-linux", ("check",), "enters a node of a lab"),
    Program("skopeo", "skopeo", ("check",), "reads a finished container image"),
    Program("dbus-daemon", "dbus-daemon", ("check",), "stands for a device's bus"),
    Program("chromium", "chromium", ("check",), "opens the hub's page in a check"),
    Program("docker-registry", "docker-registry", ("check",), "takes and gives packages in a check"),
)
# Firmware for `cumulet boot --firmware`, and U-Boot for its checks: any file of a row will do.
FIRMWARE: tuple[tuple[tuple[str, ...], str, str, tuple[Purpose, ...]], ...] = (
    (
        ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
        *("qemu-efi-aarch64", "UEFI arm64", ("boot", "check")),
    ),
    (("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE.fd"), "ovmf", "UEFI amd64", ("boot", "check")),
    (("/usr/lib/u-boot/qemu_arm64/u-boot.bin",), "u-boot-qemu", "U-Boot arm64", ("check",)),
)
MODULES: tuple[tuple[str, tuple[Purpose, ...]], ...] = (
    ("pexpect", ("boot", "check")),
    ("pytest", ("boot", "check")),
    ("qemu.qmp", ("boot", "check")),
)


@dataclass(frozen=True)
class Computer:
    """What `probe` found. Sizes are bytes; an error is the message of what failed, empty if nothing did."""

    python: tuple[int, int, int]
    root: bool
    user: str
    programs: frozenset[str]
    modules: frozenset[str]
    files: frozenset[str]
    keyring: str
    namespace_error: str
    subordinate_ids: bool
    go: str
    go_error: str
    cache: str
    disk_free: int
    shm_free: int
    emulators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. `fix` is the command that mends it; `packages` are its Debian packages."""

    name: str
    state: State
    message: str
    fix: str = ""
    packages: tuple[str, ...] = ()


def probe(cache: Path | None = None) -> Computer:
    """Look at this computer. Changes nothing; starts a few small programs."""
    folder = (cache or default_root()).absolute()
    go, go_error = _probe_go()
    return Computer(
        python=sys.version_info[:3],
        root=os.geteuid() == 0,
        user=_user(),
        programs=frozenset(program.name for program in PROGRAMS if proc.find(program.name)),
        modules=frozenset(name for name, _ in MODULES if _have_module(name)),
        files=frozenset(name for names, *_ in FIRMWARE for name in names if Path(name).is_file()),
        keyring=find_keyring(),
        namespace_error=_probe_namespace(),
        subordinate_ids=all(_have_ids(Path(name)) for name in ("/etc/subuid", "/etc/subgid")),
        go=go,
        go_error=go_error,
        cache=str(folder),
        disk_free=_free(folder),
        shm_free=_free(Path("/dev/shm")) if os.access("/dev/shm", os.W_OK) else 0,
        emulators=tuple(sorted(path.name for path in Path("/proc/sys/fs/binfmt_misc").glob("qemu-*"))),
    )


def evaluate(computer: Computer, purposes: Iterable[Purpose] = PURPOSES) -> list[Finding]:
    """Every finding that matters for the purposes, in a fixed order. Pure."""
    wanted = set(purposes)
    build, boot = bool(wanted & {"build", "check"}), bool(wanted & {"boot", "check"})
    findings = [_python(computer)]
    findings += [_program(computer, program) for program in PROGRAMS if wanted & set(program.purposes)]
    if build:
        known = {each.name for each in findings}
        findings += [each for each in _namespaces(computer) if each.name not in known]
        findings += [_keyring(computer), _go(computer), _disk(computer)]
    if boot:
        findings += [_module(computer, name) for name, purposes in MODULES if wanted & set(purposes)]
        rows = [(names, package, name) for names, package, name, purposes in FIRMWARE if wanted & set(purposes)]
        findings += [_firmware(computer, row, "check" in wanted) for row in rows]
    findings.append(_shm(computer))
    if build:
        findings.append(_emulators(computer))
    return findings


def missing(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stop something."""
    return [finding for finding in findings if finding.state == "missing"]


def make_fix(findings: Iterable[Finding]) -> str:
    """One command for all that is missing: the Debian packages at once, else the first other fix."""
    lacking = missing(findings)
    packages = sorted({package for finding in lacking for package in finding.packages})
    return _apt(packages) if packages else next((finding.fix for finding in lacking if finding.fix), "")


def install(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Install the Debian packages of what is missing; returns their names. Needs root; run twice does nothing."""
    packages = sorted({package for finding in missing(findings) for package in finding.packages})
    if not packages:
        return ()
    if os.geteuid() != 0:
        raise ToolError("installing packages needs root", hint=f"sudo {_apt(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    # A repository that is down must not stop the others; a package that is not found will say so.
    proc.run(["apt-get", "update", "-q"], env=quiet, check=False)
    proc.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages], env=quiet)
    return tuple(packages)


def _python(computer: Computer) -> Finding:
    version = ".".join(str(number) for number in computer.python)
    if computer.python[:2] >= PYTHON:
        return Finding("python", "fine", f"Python {version}")
    return Finding("python", "missing", f"Python {version} is older than 3.11", _apt(["python3"]), ("python3",))


def _program(computer: Computer, program: Program) -> Finding:
    if program.name in computer.programs:
        return Finding(program.name, "fine", program.why)
    packages = (program.package,)
    return Finding(program.name, "missing", f"no such program; it {program.why}", _apt(packages), packages)


def _keyring(computer: Computer) -> Finding:
    if computer.keyring:
        return Finding("keyring", "fine", computer.keyring)
    packages = ("debian-archive-keyring",)
    return Finding("keyring", "missing", "no keys of the Debian archive", _apt(packages), packages)


def _namespaces(computer: Computer) -> list[Finding]:
    findings = []
    if not computer.root:
        if "newuidmap" not in computer.programs:
            text = "no such program; it lets an ordinary user build"
            findings.append(Finding("newuidmap", "missing", text, _apt(["uidmap"]), ("uidmap",)))
        if not computer.subordinate_ids:
            user = computer.user
            fix = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            findings.append(Finding("subordinate ids", "missing", f"none for {user} in /etc/subuid, /etc/subgid", fix))
    if not computer.namespace_error:
        findings.append(Finding("namespaces", "fine", "as root" if computer.root else "as an ordinary user"))
    elif not findings:
        fix = "run as root, or in a container with CAP_SYS_ADMIN"
        if not computer.root:
            fix = "sysctl kernel.unprivileged_userns_clone=1, or run as root"
        findings.append(Finding("namespaces", "missing", computer.namespace_error, fix))
    return findings


def _go(computer: Computer) -> Finding:
    if computer.go:
        return Finding("go", "fine", computer.go)
    return Finding("go", "missing", computer.go_error, f"pip install '{DISTRIBUTION}[go]'")


def _disk(computer: Computer) -> Finding:
    free = f"{computer.disk_free / GIB:.1f} GiB free for {computer.cache}"
    if computer.disk_free >= DISK:
        return Finding("disk", "fine", free)
    text = f"{free}; a build with Kubernetes takes {DISK // GIB} GiB the first time"
    return Finding("disk", "note", text, "name a bigger disk: --cache FOLDER")


def _module(computer: Computer, name: str) -> Finding:
    if name in computer.modules:
        return Finding(name, "fine", "Python module")
    return Finding(name, "missing", "no such Python module", f"pip install '{DISTRIBUTION}[vm]'")


def _firmware(computer: Computer, row: tuple[tuple[str, ...], str, str], needed: bool) -> Finding:
    names, package, name = row
    found = [each for each in names if each in computer.files]
    if found:
        return Finding(name, "fine", found[0])
    text = "no firmware; `cumulet boot --firmware` needs it"
    return Finding(name, "missing" if needed else "note", text, _apt([package]), (package,))


def _shm(computer: Computer) -> Finding:
    if computer.shm_free >= SHM:
        return Finding("/dev/shm", "fine", f"{computer.shm_free >> 20} MiB free")
    text = "not writable, or full; parallel steps need it"
    return Finding("/dev/shm", "missing", text, "mount -t tmpfs -o mode=1777 tmpfs /dev/shm")


def _emulators(computer: Computer) -> Finding:
    names = ", ".join(computer.emulators)
    text = f"registered: {names}" if names else "no emulator is registered"
    return Finding("binfmt", "fine", f"{text}; builds do not need it")


def _apt(packages: Sequence[str]) -> str:
    return f"apt-get install --no-install-recommends {' '.join(packages)}"


def _probe_go() -> tuple[str, str]:
    try:
        go = find_go(find_assets("recipes") / "kubernetes" / "kubeadm" / "go")
    except CumuletError as error:
        return "", error.message
    return f"{go.program} {go.version}", ""


def _probe_namespace() -> str:
    if proc.find("unshare") is None:
        return "there is no unshare"
    result = proc.run([*make_namespace(), "true"], check=False)
    return "" if result.code == 0 else (result.err.strip() or proc.describe_exit(result.code))


def _have_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _have_ids(path: Path) -> bool:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return False
    return any(line.split(":")[0] in (_user(), str(os.getuid())) for line in lines)


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
