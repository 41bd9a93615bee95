"""The plain way that we measure ourselves against: mmdebstrap, with the target's programs run by QEMU.

Needs root, and the Debian packages mmdebstrap, arch-test and qemu-user-static.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet_builder.cache import Cache
from cumulet_builder.engines.debian.fetch import Sources, fetch
from cumulet_builder.engines.debian.lock import Lock, LockedPackage
from cumulet_builder.engines.debian.mirror import find_mirror

PACKAGES = ("mmdebstrap", "arch-test", "qemu-user-static")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
EMULATOR = "/usr/bin/qemu-aarch64-static"
# The first 20 bytes of an ELF program for 64-bit ARM, and which bits of them count.
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def check_computer() -> None:
    """Raise ToolError if the plain way cannot be gone on this computer."""
    if os.geteuid() != 0:
        raise ToolError("mmdebstrap with an emulator needs root")
    if any(proc.find(name) is None for name in ("mmdebstrap", "arch-test")) or not Path(EMULATOR).exists():
        words = " ".join(PACKAGES)
        raise ToolError("the baseline's tools are missing", hint=f"apt-get install --no-install-recommends {words}")


@contextlib.contextmanager
def emulator() -> Iterator[None]:
    """Register the emulator with the kernel; what was not there before is taken away again."""
    mounted = not (BINFMT / "register").exists()
    if mounted:
        proc.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT])
    entry = BINFMT / "cumulet-bench"
    known = any(path.name.startswith("qemu-aarch64") for path in BINFMT.iterdir())
    try:
        if not known:
            (BINFMT / "register").write_text(f":{entry.name}:M::{MAGIC}:{MASK}:{EMULATOR}:OCF")
        yield
    finally:
        if entry.exists():
            entry.write_text("-1")
        if mounted:
            proc.run(["umount", BINFMT])


def bring_packages(lock: Lock, packages: tuple[LockedPackage, ...], cache: Cache, folder: Path) -> Path:
    """The package files as apt keeps them in its archive folder, from our cache."""
    fetch(lock, {each.sha256 for each in packages}, cache, Sources(None, None), None)
    folder.mkdir(parents=True)
    for each in packages:
        version = each.version.replace(":", "%3a")
        os.link(cache.file(each.sha256), folder / f"{each.name}_{version}_{each.architecture}.deb")
    return folder


def kept_root(lock: Lock, cache: Cache) -> Path:
    """Where the plain root of a lock's packages is kept, for those who want to boot it."""
    return cache.root / "bench" / f"debian-{lock.digest[:16]}.tar"


def run_mmdebstrap(lock: Lock, packages: tuple[LockedPackage, ...], archives: Path, target: Path) -> float:
    """Make the root of these packages as a tar archive or folder `target`; returns the seconds it took."""
    request = lock.request
    sources = find_mirror(None).sources(request.suite, request.components)
    words = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=essential",
        f"--architectures={request.architecture}",
        f"--include={','.join(each.name for each in packages)}",
        "--skip=download/empty",
        "--skip=essential/unlink",
        '--setup-hook=mkdir -p "$1/var/cache/apt/archives"',
        f'--setup-hook=cp {archives}/*.deb "$1/var/cache/apt/archives/"',
        request.suite,
        str(target),
        "-",
    ]
    start = time.monotonic()
    proc.run(words, input=sources)
    return time.monotonic() - start
