"""The repositories of a build: the kas fragments under recipes/kas, and the lock that says which commit of each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet.core.files import sha256_text

BASE = "base"
LOCK = "lock"
SERIES = "wrynose"
EPOCH = re.compile(r'^CUMULET_EPOCH = "(\d+)"$', re.MULTILINE)


class LockedRepository(BaseModel):
    """One repository at one commit. `layers` are folders in it; none is the repository itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    url: str
    branch: str
    commit: str
    layers: dict[str, str | None]


class LayerLock(BaseModel):
    """The lock of one image of the yocto engine. `epoch`: seconds since 1970, of every file in the image."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Literal[1] = 1
    engine: Literal["yocto"] = "yocto"
    image: str
    epoch: int
    repositories: tuple[LockedRepository, ...]

    @property
    def digest(self) -> str:
        """A digest of everything the lock names."""
        return sha256_text(json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")


def load_fragments(recipes: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """The kas fragments of these names, the one that every build has first. Raises UsageError for an unknown one."""
    found = []
    for name in dict.fromkeys([BASE, *names]):
        path = recipes / "kas" / f"{name}.yaml"
        if name == LOCK or not path.is_file():
            raise UsageError(
                f"yocto.layers: {name}: no such fragment in {path.parent}",
                hint=f"known are: {', '.join(known_fragments(recipes))}",
            )
        found.append(yaml.safe_load(path.read_text()))
    return found


def known_fragments(recipes: Path) -> list[str]:
    """The names that `yocto.layers` of a recipe may have."""
    return sorted(path.stem for path in (recipes / "kas").glob("*.yaml") if path.stem not in (BASE, LOCK))


def load_pins(recipes: Path) -> tuple[dict[str, str], int]:
    """Repository -> commit, and the epoch, from the committed lock."""
    document = yaml.safe_load((recipes / "kas" / f"{LOCK}.yaml").read_text())
    commits = {name: each["commit"] for name, each in document["overrides"]["repos"].items()}
    epoch = EPOCH.search("\n".join(document["local_conf_header"].values()))
    if epoch is None:
        raise UsageError(f"{recipes / 'kas' / LOCK}.yaml: sets no CUMULET_EPOCH", hint="install cumulet again")
    return commits, int(epoch[1])


def make_lock(image: str, fragments: Sequence[Mapping[str, Any]], commits: Mapping[str, str], epoch: int) -> LayerLock:
    """The lock of an image: the repositories of its fragments, merged, at the pinned commits. Pure."""
    merged: dict[str, dict[str, Any]] = {}
    for fragment in fragments:
        for name, each in fragment["repos"].items():
            known = merged.setdefault(name, {"url": "", "branch": "", "layers": {}})
            known |= {key: value for key, value in each.items() if key != "layers"}
            known["layers"] = dict(sorted({**known["layers"], **(each.get("layers") or {})}.items()))
    missing = [name for name in merged if name not in commits]
    if missing:
        raise UsageError(f"recipes/kas/lock.yaml: no commit of {', '.join(missing)}", hint="install cumulet again")
    repositories = [LockedRepository(name=name, commit=commits[name], **each) for name, each in merged.items()]
    return LayerLock(image=image, epoch=epoch, repositories=tuple(repositories))


def load_lock(path: Path) -> LayerLock:
    """Read a lock file. Raises UsageError naming the file if it is not one of this engine."""
    try:
        return LayerLock.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a lock", hint="make one: cumulet lock RECIPE") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{path}: not a lock of the yocto engine: {where}: {first['msg']}",
            hint="make it again: cumulet lock RECIPE",
        ) from error


def fetch_heads(lock: LayerLock, now: int) -> LayerLock:
    """The same repositories at the newest commits of their branches; asks each repository over the network."""
    heads = {each.name: _fetch_head(each) for each in lock.repositories}
    if all(heads[each.name] == each.commit for each in lock.repositories):
        return lock
    moved = tuple(each.model_copy(update={"commit": heads[each.name]}) for each in lock.repositories)
    return lock.model_copy(update={"repositories": moved, "epoch": now})


def _fetch_head(repository: LockedRepository) -> str:
    branch = f"refs/heads/{repository.branch}"
    done = proc.run(["git", "ls-remote", "--exit-code", repository.url, branch], check=False, timeout=120)
    if done.code != 0:
        detail = (done.err.strip() or f"no branch {repository.branch}").splitlines()[-1]
        raise ToolError(f"{repository.url}: {detail}", hint="leave --update out to keep the commits that there are")
    return done.out.split()[0]
