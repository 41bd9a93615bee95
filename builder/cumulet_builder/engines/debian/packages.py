"""The stages of a root file system's packages: tools tree, base packages, the recipe's own on top."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet.core.files import raise_os_error
from cumulet_builder.cache import Cache
from cumulet_builder.engines.debian.assemble import Assembly, write_spec
from cumulet_builder.engines.debian.lock import Group, Lock, LockedPackage
from cumulet_builder.engines.debian.trim import want_unpacked
from cumulet_builder.engines.debian.unpack import unpack_all
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.model import Trim
from cumulet_builder.toolbox import make_namespace, raise_failure, remove_tree

CODE = "2"
RESULTS = ("root.tar", "owners.json")
UNMERGED = ("bookworm",)


def make_tools_stage(lock: Lock) -> Stage:
    """The tools tree, in folder `tree` of the stage."""
    return _make_tree_stage("tools", lock, "tools")


def make_format_tools_stages(lock: Lock) -> list[Stage]:
    """The tools of the formats of some boards, in folder `tree` of the stage `format-tools`; none if nobody asks."""
    return [_make_tree_stage("format-tools", lock, "formats")] if lock.of("formats") else []


def _make_tree_stage(name: str, lock: Lock, group: Group) -> Stage:
    packages = lock.of(group)

    def make(workshop: Workshop) -> None:
        root = workshop.folder / "tree"
        root.mkdir()
        want = partial(want_unpacked, documentation=True, locales=True)
        unpack_all(link_packages(packages, workshop.cache, workshop.folder / "debs"), root, want, jobs())
        for each in packages:
            (workshop.folder / "debs" / each.file_name).unlink()
        (workshop.folder / "debs").rmdir()

    files = tuple(package.sha256 for package in packages)
    inputs = {"code": CODE, "packages": digest_of(packages), **_find_merging(lock)}
    return Stage(name, inputs, make, files=files)


def make_package_stages(trim: Trim, lock: Lock) -> list[Stage]:
    """`base`, then `packages` with what the recipe adds, configured on top of it.

    Always in these two steps, so that the result does not depend on what was cached.
    """
    return [
        _make_stage("base", trim, lock, "base", ""),
        _make_stage("packages", trim, lock, "extra", "base"),
    ]


def _make_stage(name: str, trim: Trim, lock: Lock, group: Group, start: str) -> Stage:
    packages = lock.of(group)
    twins = lock.of("twins") if group == "extra" else ()
    inputs = {
        "code": CODE,
        "packages": digest_of(packages),
        "twins": digest_of(twins),
        "epoch": str(lock.epoch),
        "documentation": str(trim.documentation),
        "locales": str(trim.locales),
        **_find_merging(lock),
    }

    def make(workshop: Workshop) -> None:
        if start and not packages:
            for result in RESULTS:
                os.link(workshop.needs[start] / result, workshop.folder / result)
            return
        with workshop.cache.scratch(name) as work:
            spec = Assembly(
                work=str(work),
                debs=tuple(str(path) for path in link_packages(packages, workshop.cache, work / "debs")),
                twins=tuple(str(path) for path in link_packages(twins, workshop.cache, work / "twins")),
                start=str(workshop.needs[start]) if start else "",
                tools=str(workshop.needs["tools"] / "tree"),
                target=lock.request.architecture,
                host=lock.request.host_architecture,
                epoch=lock.epoch,
                documentation=trim.documentation,
                locales=trim.locales,
                jobs=jobs(),
            )
            _run_assembly(spec, work, workshop)

    files = tuple(package.sha256 for package in (*packages, *twins))
    return Stage(name, inputs, make, ("tools", start) if start else ("tools",), files)


def _find_merging(lock: Lock) -> dict[str, str]:
    """Says in a stage's inputs that the links into /usr were made here, where packages do not bring them."""
    return {"merged-usr": "1"} if lock.request.suite in UNMERGED else {}


def _run_assembly(spec: Assembly, work: Path, workshop: Workshop) -> None:
    write_spec(spec, work / "spec.json")
    work.chmod(0o755)
    words: list[str | Path] = [sys.executable, "-m", "cumulet_builder.engines.debian.assemble", work / "spec.json"]
    try:
        result = proc.run([*make_namespace(), *words], check=False)
        workshop.log.write(result.out + result.err)
        if result.code != 0:
            _raise(result, spec)
        for name in RESULTS:
            (work / name).replace(workshop.folder / name)
    finally:
        remove_tree(work)


def _raise(result: proc.Result, spec: Assembly) -> None:
    try:
        error = json.loads(result.err.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise_failure(proc.Result(("assembling",), result.code, result.out, result.err), Path(spec.work))
    if error.get("errno"):
        raise_os_error(OSError(error["errno"], os.strerror(error["errno"])), Path(spec.work))
    raise ToolError(error["message"], hint=error["hint"] or "the whole output is in the build log")


def link_packages(packages: Sequence[LockedPackage], cache: Cache, folder: Path) -> list[Path]:
    """The cached package files under their own names, as links in `folder`."""
    folder.mkdir()
    paths = []
    for package in packages:
        path = folder / package.file_name
        path.symlink_to(cache.file(package.sha256).resolve())
        paths.append(path)
    return paths


def digest_of(packages: Sequence[LockedPackage]) -> str:
    """The packages as one text: name, version and checksum of each."""
    return "\n".join(f"{each.name} {each.version} {each.sha256}" for each in packages)


def jobs() -> int:
    """How many packages to unpack at once."""
    return max(1, len(os.sched_getaffinity(0)))
