"""Running the packages' own scripts, fast: native programs over a foreign root.

Maintainer scripts are shell and perl. Run under an emulator they take minutes.
Here every program of the target root is covered by the same program of the tools
tree (same release, host architecture) with a bind mount, so that the scripts run
at full speed on the target's files. Libraries of two architectures live in two
folders and do not meet. Only dpkg itself, which must believe that it is on the
target, and ldconfig run under the emulator, called by name: nothing needs to be
registered with the kernel.

Runs inside a private mount namespace, as root there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet_builder import sandbox
from cumulet_builder.toolbox import FULL

LIBRARY_FOLDERS = {"amd64": "usr/lib/x86_64-linux-gnu", "arm64": "usr/lib/aarch64-linux-gnu"}
LOADERS = {"amd64": "usr/lib64", "arm64": None}
EMULATORS = {"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}
DPKG_ERROR = "dpkg: error processing "
TAIL = 12
ELF = b"\x7fELF"
AID = "/run/cumulet"
ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "SYSTEMD_OFFLINE": "1",
    "HOME": "/root",
    "PATH": "/usr/sbin:/usr/bin",
    "TMPDIR": "/tmp",
    "PYTHONDONTWRITEBYTECODE": "",
}
# dpkg's answer to a script that asks for the architecture must be the target's.
DPKG = """#!/bin/sh
case "$1" in
--print-architecture) echo {architecture} ;;
*) exec {aid}/dpkg-native "$@" ;;
esac
"""
NOTHING = "#!/bin/sh\nexit 0\n"


@dataclass(frozen=True)
class Mixture:
    """A target root of one architecture and a tools tree of another (or the same)."""

    root: Path
    tools: Path
    target: str
    host: str

    @property
    def foreign(self) -> bool:
        """Whether the target's programs cannot run here by themselves."""
        return self.target != self.host


def configure(mixture: Mixture, packages: Sequence[str], epoch: int, log: IO[str]) -> None:
    """Run preinst scripts of `packages` (dpkg did not unpack them), then dpkg --configure of everything.

    Raises ToolError with the last lines of the log's program if a script fails.
    """
    covers = _cover(mixture)
    try:
        for name in packages:
            _run_preinst(mixture.root, name, log)
        dated = {"SOURCE_DATE_EPOCH": str(epoch)}
        _run(mixture.root, _dpkg(mixture, "--configure", "--pending", "--force-confold"), log, dated)
        _run(mixture.root, _emulated(mixture, "/usr/sbin/ldconfig"), log, dated)
    finally:
        _uncover(mixture, covers)


def _cover(mixture: Mixture) -> list[str]:
    """Put the native programs over the target's; returns what was mounted, in order."""
    root = str(mixture.root)
    sandbox.mount_system(root)
    aid = Path(root + AID)
    aid.mkdir(parents=True, exist_ok=True)
    sandbox.mount("tmpfs", str(aid), "tmpfs", data="mode=755")
    mounted = [str(aid)]
    _stand_in(mixture, mounted, "usr/sbin/start-stop-daemon", NOTHING, "")
    if not mixture.foreign:
        return mounted
    for folder in (LIBRARY_FOLDERS[mixture.host], LOADERS[mixture.host]):
        if folder and (mixture.tools / folder).is_dir():
            (mixture.root / folder).mkdir(parents=True, exist_ok=True)
            sandbox.bind(str(mixture.tools / folder), f"{root}/{folder}")
            mounted.append(f"{root}/{folder}")
    loader = LOADERS[mixture.host]
    if loader and not (mixture.root / "lib64").exists():
        (mixture.root / "lib64").symlink_to(loader)
    sandbox.bind_new(str(mixture.tools / "usr/bin" / EMULATORS[mixture.target]), str(aid / "emulator"))
    mounted.append(str(aid / "emulator"))
    _stand_in(mixture, mounted, "usr/bin/dpkg", DPKG.format(architecture=mixture.target, aid=AID), "dpkg")
    _stand_in(mixture, mounted, "usr/sbin/ldconfig", NOTHING, "ldconfig")
    done = set(mounted)
    for path in _programs(mixture):
        target = f"{root}/{path}"
        if target not in done:
            sandbox.bind(str(mixture.tools / path), target)
            mounted.append(target)
    return mounted


def _stand_in(mixture: Mixture, mounted: list[str], path: str, text: str, keep: str) -> None:
    """Cover a program with a script; with `keep`, the target's and the native one stay reachable under AID."""
    target = mixture.root / path
    if not target.exists():
        return
    aid = Path(f"{mixture.root}{AID}")
    if keep:
        for source, name in ((target, keep), (mixture.tools / path, f"{keep}-native")):
            sandbox.bind_new(str(source), str(aid / name))
            mounted.append(str(aid / name))
    script = aid / f"{target.name}.sh"
    script.write_text(text)
    script.chmod(0o755)
    sandbox.bind(str(script), str(target))
    mounted.append(str(target))


def _programs(mixture: Mixture) -> list[str]:
    """Paths of native ELF programs in the tools tree that the target has too."""
    found = []
    skip = {f"{mixture.tools}/{folder}" for folder in (LIBRARY_FOLDERS[mixture.host], LOADERS[mixture.host])}
    for folder, folders, files in os.walk(mixture.tools / "usr"):
        folders[:] = [name for name in folders if f"{folder}/{name}" not in skip]
        for name in files:
            path = Path(folder, name)
            other = mixture.root / path.relative_to(mixture.tools)
            if not path.is_symlink() and other.is_file() and not other.is_symlink() and _is_elf(path):
                found.append(str(path.relative_to(mixture.tools)))
    return found


def _is_elf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == ELF


def _uncover(mixture: Mixture, mounted: Sequence[str]) -> None:
    for target in reversed(mounted):
        sandbox.unmount(target)
    sandbox.unmount_system(str(mixture.root))
    Path(f"{mixture.root}{AID}").rmdir()
    if mixture.foreign:
        link = mixture.root / "lib64"
        if LOADERS[mixture.host] and not LOADERS[mixture.target] and link.is_symlink():
            link.unlink()
        for folder in (LIBRARY_FOLDERS[mixture.host], LOADERS[mixture.host]):
            if folder and not any((mixture.root / folder).iterdir()):
                (mixture.root / folder).rmdir()


def _dpkg(mixture: Mixture, *words: str) -> list[str]:
    if not mixture.foreign:
        return ["/usr/bin/dpkg", *words]
    return [f"{AID}/emulator", "-0", "/usr/bin/dpkg", f"{AID}/dpkg", *words]


def _emulated(mixture: Mixture, program: str) -> list[str]:
    if not mixture.foreign:
        return [program]
    return [f"{AID}/emulator", f"{AID}/{Path(program).name}"]


def _run_preinst(root: Path, name: str, log: IO[str]) -> None:
    script = root / f"var/lib/dpkg/info/{name}.preinst"
    if script.exists():
        plain = name.partition(":")[0]
        more = {"DPKG_MAINTSCRIPT_PACKAGE": plain, "DPKG_MAINTSCRIPT_NAME": "preinst", "DPKG_ROOT": ""}
        _run(root, [f"/var/lib/dpkg/info/{name}.preinst", "install"], log, more)


def _run(root: Path, argv: Sequence[str], log: IO[str], more: dict[str, str]) -> None:
    env = {**ENVIRONMENT, **more}
    result = proc.run(["chroot", str(root), *argv], env=env, check=False)
    log.write(f"+ {proc.quote(argv)}\n{result.out}{result.err}")
    log.flush()
    if result.code != 0:
        if FULL in result.out or FULL in result.err:
            raise OSError(errno.ENOSPC, FULL, str(root))
        words = [word for word in argv if word.startswith("/") and not word.endswith("/emulator")]
        raise ToolError(
            f"{Path(words[0]).name} {proc.describe_exit(result.code)}\n{find_failure(result.out, result.err)}"
        )


def find_failure(out: str, err: str) -> str:
    """The last lines before the first package that failed: the many after it only depend on that one."""
    lines = err.strip().splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith(DPKG_ERROR)), None)
    if first is None:
        return "\n".join([*out.strip().splitlines(), *lines][-TAIL:])
    return "\n".join(lines[max(0, first + 2 - TAIL) : first + 2])
