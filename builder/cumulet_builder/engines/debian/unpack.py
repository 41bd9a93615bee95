"""Packages onto a folder without running anything of theirs: files, and dpkg's database by hand."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from debian.deb822 import Deb822
from debian.debfile import DebFile

from cumulet_builder.tree import follow

# Scripts and lists that dpkg keeps of a package.
SCRIPTS = ("preinst", "postinst", "config")
KEPT = (*SCRIPTS, "templates", "triggers", "conffiles", "md5sums", "shlibs", "symbols", "prerm", "postrm")
DATABASE = "var/lib/dpkg"
# Folders whose files are all below /usr, and the same of single architectures.
MERGED = ("bin", "sbin", "lib")
ALSO_MERGED = {"amd64": ("lib64",)}


@dataclass(frozen=True)
class Unpacked:
    """One unpacked package: its control fields, its files (absolute paths), the control files it brings."""

    name: str
    fields: dict[str, str]
    paths: tuple[str, ...]
    control: dict[str, bytes]

    @property
    def needs_configuring(self) -> bool:
        """Whether any program of the package wants to run."""
        return any(script in self.control for script in SCRIPTS)

    @property
    def info_name(self) -> str:
        """The package's name in dpkg's info folder."""
        same = self.fields.get("Multi-Arch") == "same"
        return f"{self.name}:{self.fields['Architecture']}" if same else self.name


def unpack_all(debs: Sequence[Path], root: Path, want: Callable[[str], bool], jobs: int) -> list[Unpacked]:
    """Unpack package files below `root`, `jobs` at a time; files that `want` refuses stay out.

    The caller is root (of a namespace at least), so owners are kept.
    """
    # The package with the top-level links comes first: /bin is one of them.
    first = [deb for deb in debs if deb.name.startswith("base-files_")]
    rest = [deb for deb in debs if deb not in first]
    done = [unpack(deb, root, want) for deb in first]
    for package in done:
        merge_usr(root, package.fields["Architecture"])
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        done += pool.map(partial(unpack, root=root, want=want), rest, chunksize=1)
    return sorted(done, key=lambda each: each.name)


def merge_usr(root: Path, architecture: str) -> None:
    """Make /bin and its like links into /usr, after base-files was unpacked; most often they are.

    Until Debian 12 that package has empty folders there, and whoever sets a system up makes the links.
    """
    if (root / "bin").is_symlink():
        return
    for name in (*MERGED, *ALSO_MERGED.get(architecture, ())):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if (root / name).is_dir():
            (root / name).rmdir()
        (root / name).symlink_to(f"usr/{name}")


def unpack(deb: Path, root: Path, want: Callable[[str], bool]) -> Unpacked:
    """Unpack one package file."""
    with DebFile(str(deb)) as package:
        fields = {str(key): str(value) for key, value in package.debcontrol().items()}
        control = {name: _control_file(package, name) for name in KEPT if package.control.has_file(name)}
        archive = package.data.tgz()
        paths = _extract(archive, root, want)
    return Unpacked(fields["Package"], fields, tuple(paths), control)


def _control_file(package: DebFile, name: str) -> bytes:
    content = package.control.get_content(name)
    return content if isinstance(content, bytes) else str(content or "").encode()


def write_database(packages: Sequence[Unpacked], root: Path) -> None:
    """Add the packages to dpkg's database below `root`: unpacked where scripts want to run, else installed."""
    base = root / DATABASE
    for name in ("info", "updates", "triggers", "alternatives", "parts"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for name in ("available", "diversions", "statoverride", "triggers/Unincorp", "triggers/Lock", "lock"):
        (base / name).touch()
    (base / "info/format").write_text("1\n")
    with (base / "status").open("a") as status:
        for package in packages:
            status.write(_stanza(package) + "\n")
            _write_info(package, base / "info")


def _write_info(package: Unpacked, folder: Path) -> None:
    (folder / f"{package.info_name}.list").write_text("\n".join(["/.", *package.paths]) + "\n")
    for name, content in package.control.items():
        path = folder / f"{package.info_name}.{name}"
        path.write_bytes(content)
        path.chmod(0o755 if name in (*SCRIPTS, "prerm", "postrm") else 0o644)


def _stanza(package: Unpacked) -> str:
    state = "unpacked" if package.needs_configuring else "installed"
    fields = Deb822()
    fields["Package"] = package.name
    fields["Status"] = f"install ok {state}"
    for key, value in package.fields.items():
        if key not in ("Package", "Filename", "Size", "SHA256"):
            fields[key] = value
    return str(fields.dump())


def _extract(archive: tarfile.TarFile, root: Path, want: Callable[[str], bool]) -> list[str]:
    paths = []
    links: list[tuple[tarfile.TarInfo, Path]] = []
    for member in archive:
        path = _path_of(member.name)
        if path == "/" or not want(path):
            continue
        paths.append(path)
        place = root / _place(root, path)
        if member.isdir() and (place.is_symlink() or place.is_dir()):
            continue
        if not member.isdir():
            _clear(place)
        if member.islnk() and not want(_path_of(member.linkname)):
            links.append((member, place))
            continue
        target = _place(root, _path_of(member.linkname)) if member.islnk() else member.linkname
        placed = member.replace(name=_place(root, path), linkname=target, deep=False)
        archive.extract(placed, root, numeric_owner=True, filter="fully_trusted")
    for member, place in links:
        # Its first name was refused: take the content from the archive instead.
        source = archive.extractfile(archive.getmember(member.linkname))
        place.write_bytes(source.read() if source else b"")
        place.chmod(member.mode)
    return paths


def _path_of(name: str) -> str:
    return "/" + name.removeprefix("./").strip("/")


def _place(root: Path, path: str) -> str:
    """Where a path of the root is, relative to it: links on the way start at the root, not at this computer's."""

    def link_at(folder: str) -> str | None:
        try:
            return os.readlink(root / folder[1:])  # noqa: PTH115 - a text: pathlib would drop what `normpath` needs
        except OSError:
            return None

    return follow(path, link_at)[1:]


def _clear(path: Path) -> None:
    # The same path in two packages (or a second run): the later one wins, as with dpkg's --force-overwrite.
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
