"""A root file system from package files: unpack, configure, clean, pack.

Run as a program inside the namespaces of `toolbox.make_namespace`, where it is
root: `python -m cumulet_builder.engines.debian.assemble SPEC.json`. It writes the
tree as a tar archive and the owners of its files, and prints errors as one JSON
object on stderr.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO

from cumulet.core.errors import CumuletError
from cumulet_builder import sandbox
from cumulet_builder.engines.debian.configure import Mixture, configure
from cumulet_builder.engines.debian.trim import want_packed, want_unpacked
from cumulet_builder.engines.debian.unpack import Unpacked, unpack_all, write_database
from cumulet_builder.tree import filter_tree, read_folder, write_tar


@dataclass(frozen=True)
class Assembly:
    """What to assemble. Paths are of this computer; `start` is an earlier result to go on from, or ""."""

    work: str
    debs: tuple[str, ...]
    start: str
    twins: tuple[str, ...]
    tools: str
    target: str
    host: str
    epoch: int
    documentation: bool
    locales: bool
    jobs: int


def assemble(spec: Assembly, log: IO[str]) -> None:
    """Make `root.tar` and `owners.json` (package -> paths) in the folder `spec.work`."""
    root = Path(spec.work, "root")
    root.mkdir()
    clock = _Clock(log)
    owners = _start(spec, root)
    clock.lap("start from the earlier root")
    want = partial(want_unpacked, documentation=spec.documentation, locales=spec.locales)
    packages = unpack_all([Path(deb) for deb in spec.debs], root, want, spec.jobs)
    write_database(packages, root)
    clock.lap(f"unpack {len(packages)} packages")
    mixture = Mixture(root, _make_tools(spec), spec.target, spec.host)
    configure(mixture, _preinst_order(packages), spec.epoch, log)
    clock.lap("configure")
    owners |= {package.name: list(package.paths) for package in packages}
    _pack(spec, root, owners)
    clock.lap("pack")


def _start(spec: Assembly, root: Path) -> dict[str, list[str]]:
    if not spec.start:
        return {}
    with tarfile.open(Path(spec.start, "root.tar"), "r:") as archive:
        archive.extractall(root, numeric_owner=True, filter="fully_trusted")  # noqa: S202 - our own archive
    owners: dict[str, list[str]] = json.loads(Path(spec.start, "owners.json").read_text())
    return owners


def _make_tools(spec: Assembly) -> Path:
    """The tools tree, with the native programs of these packages added to a copy of links."""
    if not spec.twins:
        return Path(spec.tools)
    tools = Path(spec.work, "tools")
    shutil.copytree(spec.tools, tools, symlinks=True, copy_function=os.link)
    want = partial(want_unpacked, documentation=True, locales=True)
    unpack_all([Path(deb) for deb in spec.twins], tools, want, spec.jobs)
    return tools


def _preinst_order(packages: Sequence[Unpacked]) -> list[str]:
    return [package.info_name for package in packages if "preinst" in package.control]


def _pack(spec: Assembly, root: Path, owners: dict[str, list[str]]) -> None:
    tree = filter_tree(read_folder(root), lambda path, node: want_packed(path))
    with Path(spec.work, "root.tar").open("wb") as stream:
        write_tar(tree, stream, spec.epoch)
    Path(spec.work, "owners.json").write_text(json.dumps(owners, sort_keys=True))


@dataclass
class _Clock:
    log: IO[str]

    def __post_init__(self) -> None:
        self.last = time.monotonic()

    def lap(self, what: str) -> None:
        now = time.monotonic()
        self.log.write(f"{what}: {now - self.last:.1f} s\n")
        self.log.flush()
        self.last = now


def write_spec(spec: Assembly, path: Path) -> None:
    """Write the spec file that `main` reads."""
    path.write_text(json.dumps(asdict(spec)))


def main(arguments: Sequence[str]) -> int:
    """Assemble as the spec file says."""
    sandbox.end_at_sigterm()
    # Folders that nobody's package names must not depend on who builds.
    os.umask(0o022)
    values = json.loads(Path(arguments[0]).read_text())
    spec = Assembly(**{**values, "debs": tuple(values["debs"]), "twins": tuple(values["twins"])})
    sandbox.make_private()
    try:
        assemble(spec, sys.stdout)
    except CumuletError as error:
        sys.stderr.write(json.dumps({"message": error.message, "hint": error.hint}))
        return error.exit_code
    except OSError as error:
        told = {
            "message": f"{error.filename}: {error.strerror}" if error.filename else str(error),
            "hint": "",
            "errno": error.errno,
        }
        sys.stderr.write(json.dumps(told))
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
