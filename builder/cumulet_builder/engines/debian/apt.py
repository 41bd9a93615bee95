"""apt's own resolver and signature check, in a private root that knows nothing of this computer."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Deb822

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet.core.files import write_text
from cumulet_builder.engines.debian.lock import Group, LockedPackage
from cumulet_builder.engines.debian.mirror import HINT, Mirror

# How this computer reaches the network is its own affair and is kept; nothing else is.
FRESH = 3600
KEPT = re.compile(r"^Acquire::(http|https|ftp)::.*;$")


@dataclass(frozen=True)
class AptRoot:
    """A private apt root in `folder`, for one mirror and suite. Made by `open_apt`."""

    folder: Path
    mirror: Mirror
    suite: str
    components: tuple[str, ...]

    def update(self, architectures: Sequence[str]) -> None:
        """Fetch the package lists and check their signatures. Raises ToolError if any part fails."""
        result = self._run("apt-get", architectures, ["update", "-o", "APT::Update::Error-Mode=any"])
        if result.code != 0:
            raise ToolError(
                f"package lists of {self.suite}: {_first_error(result)}",
                hint=f"is the mirror reachable and does it carry {self.suite}? {HINT}",
            )
        write_text(self.folder / "updated", " ".join(architectures))

    def have_lists(self, architectures: Sequence[str]) -> bool:
        """Whether package lists of these architectures are here and less than an hour old."""
        stamp = self.folder / "updated"
        try:
            known, age = stamp.read_text().split(), time.time() - stamp.stat().st_mtime
        except OSError:
            return False
        return age < FRESH and set(architectures) <= set(known)

    def pin(self, versions: Mapping[str, str]) -> None:
        """Prefer these versions (name -> version) to newer ones, as long as the mirror has them."""
        stanzas = [
            f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n" for name, version in versions.items()
        ]
        write_text(self.folder / "preferences", "\n".join(stanzas))

    def resolve(self, names: Sequence[str], architecture: str) -> list[tuple[str, str]]:
        """(name, version) of everything that must be installed for `names`, by apt's resolver."""
        words = ["install", "--simulate", "--no-install-recommends", "--yes", *names]
        result = self._run("apt-get", [architecture], words)
        if result.code != 0:
            raise UsageError(
                f"packages for {architecture}: {_first_error(result)}",
                hint=f"looked for in {self.suite} {' '.join(self.components)}; check the names in the recipe",
            )
        return re.findall(r"^Inst (\S+) \((\S+) ", result.out, re.MULTILINE)

    def names(self, architecture: str) -> set[str]:
        """Every package name of an architecture."""
        return set(self._run("apt-cache", [architecture], ["pkgnames"]).out.split())

    def show(self, wanted: Iterable[str], architecture: str) -> list[Deb822]:
        """The records of packages given as `name` (newest) or `name=version`."""
        names = list(wanted)
        if not names:
            return []
        result = self._run("apt-cache", [architecture], ["show", "--no-all-versions", *names])
        if result.code != 0:
            raise UsageError(f"packages for {architecture}: {_first_error(result)}")
        return list(Deb822.iter_paragraphs(result.out, use_apt_pkg=False))

    def lock(self, wanted: Sequence[tuple[str, str]], architecture: str, group: Group) -> list[LockedPackage]:
        """The packages as they go into a lock."""
        records = self.show([f"{name}={version}" for name, version in wanted], architecture)
        unique = {(str(record["Package"]), str(record["Version"])): record for record in records}
        missing = [name for name, version in wanted if (name.split(":")[0], version) not in unique]
        if missing:
            raise ToolError(f"package lists: no record of {', '.join(missing)}")
        return [_locked(unique[name.split(":")[0], version], group) for name, version in wanted]

    def epoch(self) -> int:
        """The newest date in the signed release files, seconds since 1970."""
        dates = []
        for path in (self.folder / "lists").glob("*Release"):
            match = re.search(r"^Date: (.*)$", path.read_text(errors="replace"), re.MULTILINE)
            if match:
                dates.append(int(email.utils.parsedate_to_datetime(match[1]).timestamp()))
        if not dates:
            raise ToolError("package lists: no release file has a date")
        return max(dates)

    def _run(self, program: str, architectures: Sequence[str], words: Sequence[str]) -> proc.Result:
        options = [f"-oAPT::Architecture={architectures[0]}"]
        options += [f"-oAPT::Architectures::={architecture}" for architecture in architectures]
        env = {"APT_CONFIG": str(self.folder / "apt.conf")}
        return proc.run([program, *options, *words], env=env, check=False)


def open_apt(folder: Path, mirror: Mirror, suite: str, components: tuple[str, ...]) -> AptRoot:
    """Make the private root in `folder`. Needs apt on this computer."""
    if proc.find("apt-get") is None:
        raise ToolError("this computer has no apt", hint="use a Debian computer or container")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_text(folder / "status", "")
    write_text(folder / "sources.list", mirror.sources(suite, components))
    write_text(folder / "apt.conf", _make_config(folder, proc.run(["apt-config", "dump"], check=False).out))
    return AptRoot(folder, mirror, suite, components)


def _make_config(folder: Path, host: str) -> str:
    lines = [line for line in host.splitlines() if KEPT.match(line)]
    places = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": f"{folder}/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": f"{folder}/preferences",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": f"{folder}/state",
        "Dir::State::lists": f"{folder}/lists",
        "Dir::State::status": f"{folder}/status",
        "Dir::State::extended_states": f"{folder}/extended_states",
        "Dir::Cache": f"{folder}/cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::PDiffs": "false",
        "Acquire::Retries": "3",
    }
    return "\n".join([*lines, *(f'{key} "{value}";' for key, value in places.items())]) + "\n"


def _locked(record: Deb822, group: Group) -> LockedPackage:
    source = str(record.get("Source", record["Package"])).split()[0]
    version = str(record["Version"])
    match = re.search(r"\((.*)\)", str(record.get("Source", "")))
    path = str(record["Filename"])
    return LockedPackage(
        name=str(record["Package"]),
        version=version,
        architecture=str(record["Architecture"]),
        sha256=str(record["SHA256"]),
        size=int(record["Size"]),
        source=f"{source} {match[1] if match else version}",
        section=str(record.get("Section", "misc")),
        path=path,
        # The security archive's pool has its own top folder.
        security=path.startswith("pool/updates/"),
        group=group,
    )


def _first_error(result: proc.Result) -> str:
    lines = [line[3:].strip() for line in result.err.splitlines() if line.startswith("E: ")]
    broken = [line.strip() for line in result.out.splitlines() if re.match(r"\s+\S+ : [A-Z]", line)]
    if broken:
        return "; ".join(broken[:3])
    return lines[0] if lines else (result.err.strip().splitlines() or [proc.describe_exit(result.code)])[-1]
